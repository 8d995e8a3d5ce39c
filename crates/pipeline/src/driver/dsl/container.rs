//! The container of a run: `(ci.container options)` and `(ci.docker yes)`.

use mlua::{Table, Value};

use super::super::arguments::sorted_entries;
use super::call::{RegistrationCall, describe};
use super::settings::{push_limited, size};
use crate::ContainerOptions;
use crate::registration::ALL_PRIVILEGES;

/// `(ci.container {:user "node" :shm-size "1g" :tmpfs ["/tmp"] :privileges ["SYS_PTRACE"]})`
pub(super) fn container(call: &mut RegistrationCall<'_>) -> Option<String> {
    const SIGNATURE: &str = "write it like (ci.container {:user \"node\" :shm-size \"1g\"})";
    let of = "`ci.container`";
    let known = ["user", "shm-size", "tmpfs", "privileges"];
    let options = call.only_options(of, &known, SIGNATURE)?;
    let container = ContainerOptions {
        user: call.option(&options, of, "user", |call, what, value| {
            call.text(Some(value), what, "write it like \"node\" or \"1000:1000\"")
        }),
        shm_size: call.option(&options, of, "shm-size", size),
        tmpfs: call
            .option(&options, of, "tmpfs", tmpfs)
            .unwrap_or_default(),
        privileges: call
            .option(&options, of, "privileges", privileges)
            .unwrap_or_default(),
    };
    push_limited(
        &mut call.api.registration.borrow_mut().containers,
        container,
        &call.location,
    );
    None
}

/// A list of paths, or a table with sizes by path.
fn tmpfs(
    call: &mut RegistrationCall<'_>,
    what: &str,
    value: &Value,
) -> Option<Vec<(String, Option<u64>)>> {
    const EXAMPLE: &str = "write it like [\"/tmp\"], or {\"/tmp\" \"512m\"}";
    let mut folders = Vec::new();
    for (key, value) in entries(call, what, value, EXAMPLE)? {
        folders.push(match key {
            Value::Integer(_) => (
                call.text(Some(&value), &format!("a path in {what}"), EXAMPLE)?,
                None,
            ),
            key => (
                call.text(Some(&key), &format!("a path in {what}"), EXAMPLE)?,
                Some(size(call, &format!("a size in {what}"), &value)?),
            ),
        });
    }
    folders.sort();
    Some(folders)
}

/// A list of capabilities, or true for all.
fn privileges(call: &mut RegistrationCall<'_>, what: &str, value: &Value) -> Option<Vec<String>> {
    const EXAMPLE: &str = "write it like [\"SYS_PTRACE\"], or true for all";
    if let Value::Boolean(all) = value {
        return Some(if *all {
            vec![ALL_PRIVILEGES.to_owned()]
        } else {
            Vec::new()
        });
    }
    let names = entries(call, what, value, EXAMPLE)?;
    names
        .iter()
        .map(|(_, name)| call.text(Some(name), &format!("each part of {what}"), EXAMPLE))
        .collect()
}

fn entries(
    call: &mut RegistrationCall<'_>,
    what: &str,
    value: &Value,
    example: &str,
) -> Option<Vec<(Value, Value)>> {
    let entries = value
        .as_table()
        .map(|table: &Table| sorted_entries(table, what));
    match entries {
        Some(Ok(entries)) => Some(entries),
        Some(Err(problem)) => {
            call.problem(problem);
            None
        }
        None => {
            let message = format!("{what} must be a table, not {}", describe(Some(value)));
            call.problem_with_hint(message, example);
            None
        }
    }
}

/// `(ci.docker true)`
pub(super) fn docker(call: &mut RegistrationCall<'_>) -> Option<String> {
    let docker = call.flag(
        "the argument of `ci.docker`",
        call.argument(0).unwrap_or(&Value::Nil),
    )?;
    push_limited(
        &mut call.api.registration.borrow_mut().dockers,
        docker,
        &call.location,
    );
    None
}
