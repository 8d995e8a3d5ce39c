//! The module `quire.ci`: the functions by which a pipeline's file registers jobs and settings.
//!
//! An invalid call is recorded as a problem and the file goes on, so that one check reports all
//! problems. An error is raised only if it makes no sense to go on. Only a call's own arguments are
//! checked here. Everything else (names used twice, paths, schedules) is checked by
//! the crate root, outside of the process that ran untrusted code.

mod call;
mod container;
mod job;
mod service;
mod settings;

use std::rc::Rc;

use mlua::{Lua, MultiValue, Table, Value};

use self::call::{MAX_NAME, RegistrationCall};
use super::locations::calling_frame;
use super::lua_api::LuaApi;
use crate::{Location, MAX_JOBS};

/// Handles one call, and returns the text that the call returns to the pipeline.
type Register = fn(&mut RegistrationCall<'_>) -> Option<String>;

const FUNCTIONS: [(&str, Register); 13] = [
    ("job", job::job),
    ("image", settings::image),
    ("env", settings::env),
    ("timeout", settings::timeout),
    ("cache", settings::cache),
    ("service", service::service),
    ("group", settings::group),
    ("network", settings::network),
    ("checkout", settings::checkout),
    ("resources", settings::resources),
    ("container", container::container),
    ("docker", container::docker),
    ("cron", settings::cron),
];

/// Creates the table of the module's functions.
pub(super) fn module(api: &Rc<LuaApi>) -> mlua::Result<Table> {
    let lua = api.vm.lua();
    let module = lua.create_table()?;
    for (name, register) in FUNCTIONS {
        let api = Rc::clone(api);
        let function = move |lua: &Lua, arguments: MultiValue| {
            if !api.registering.get() {
                let message = format!(
                    "`ci.{name}` can only be called while the file is evaluated: the job graph is fixed once a job runs"
                );
                return Err(mlua::Error::RuntimeError(api.with_location(lua, &message)));
            }
            let is_full = || api.registration.borrow().jobs.len() > MAX_JOBS;
            let mut returned = None;
            if !is_full() {
                let (location, end) = location(lua, &api, name, &arguments);
                let mut call = RegistrationCall::new(&api, &arguments, location, end);
                returned = register(&mut call);
                call.record_problems();
            }
            if is_full() {
                return Err(mlua::Error::RuntimeError(api.with_location(
                    lua,
                    &format!("the pipeline registers more than {MAX_JOBS} jobs"),
                )));
            }
            returned.map(|text| lua.create_string(text)).transpose()
        };
        module.raw_set(name, lua.create_function(function)?)?;
    }
    Ok(module)
}

/// The location of the running call of `name`, and the line on which the call ends.
fn location(lua: &Lua, api: &LuaApi, name: &str, arguments: &MultiValue) -> (Location, u32) {
    let first_line = arguments
        .iter()
        .find_map(Value::as_function)
        .and_then(|run| run.info().line_defined);
    let first_line = first_line.and_then(|line| u32::try_from(line).ok());
    let literal = arguments
        .front()
        .and_then(Value::as_string)
        .filter(|id| id.as_bytes().len() <= MAX_NAME);
    let literal = literal.map(|id| id.to_string_lossy());
    match calling_frame(lua, api.monitor()) {
        Some((chunk, line)) => (
            api.sources.location_of_registration(
                &chunk,
                line,
                name,
                literal.as_deref(),
                first_line,
            ),
            line,
        ),
        None => (
            Location {
                file: api.sources.main().file.clone(),
                line: 1,
                column: 1,
            },
            1,
        ),
    }
}
