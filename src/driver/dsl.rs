//! The module `quire.ci`: what a pipeline's file registers.
//!
//! A call that is wrong in itself is noted as a problem and the file goes on, so that one check
//! shows everything; only what makes going on pointless is raised. What a call means beyond its
//! own arguments (names used twice, paths, schedules) is checked by [`crate::pipeline`], outside
//! of the process that ran foreign code.

mod call;
mod job;
mod run;
mod service;

use std::rc::Rc;

use mlua::{Lua, MultiValue, Table, Value};

use self::call::{Call, MAX_NAME};
use super::host::Host;
use super::place::caller;
use crate::pipeline::{MAX_JOBS, Place};

/// Reads one call; gives what the call gives back.
type Form = fn(&mut Call<'_>) -> Option<String>;

/// The forms by name.
const FORMS: [(&str, Form); 10] = [
    ("job", job::job),
    ("image", run::image),
    ("env", run::env),
    ("timeout", run::timeout),
    ("cache", run::cache),
    ("service", service::service),
    ("group", run::group),
    ("network", run::network),
    ("resources", run::resources),
    ("cron", run::cron),
];

/// The module's functions.
pub(super) fn module(host: &Rc<Host>) -> mlua::Result<Table> {
    let lua = host.vm.lua();
    let module = lua.create_table()?;
    for (name, form) in FORMS {
        let host = Rc::clone(host);
        let function = move |lua: &Lua, arguments: MultiValue| {
            if !host.registering.get() {
                let message = format!(
                    "`ci.{name}` works only while the file is read: the graph is fixed once a job runs"
                );
                return Err(mlua::Error::RuntimeError(host.at(lua, &message)));
            }
            let full = || host.registration.borrow().jobs.len() > MAX_JOBS;
            let mut given = None;
            if !full() {
                let (place, end) = place(lua, &host, name, &arguments);
                let mut call = Call::new(&host, &arguments, place, end);
                given = form(&mut call);
                call.note();
            }
            if full() {
                return Err(mlua::Error::RuntimeError(host.at(
                    lua,
                    &format!("the pipeline registers more than {MAX_JOBS} jobs"),
                )));
            }
            given.map(|given| lua.create_string(given)).transpose()
        };
        module.raw_set(name, lua.create_function(function)?)?;
    }
    Ok(module)
}

/// Where the running call begins, and the line on which it ends.
fn place(lua: &Lua, host: &Host, form: &str, arguments: &MultiValue) -> (Place, u32) {
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
    match caller(lua, host.vm.watch()) {
        Some((chunk, line)) => (
            host.sources
                .place_of_form(&chunk, line, form, literal.as_deref(), first_line),
            line,
        ),
        None => (
            Place {
                file: host.sources.main().file.clone(),
                line: 1,
                column: 1,
            },
            1,
        ),
    }
}
