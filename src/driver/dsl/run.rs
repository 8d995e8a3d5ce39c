//! What is registered for the whole run: image, variables, time limit, caches, group, network,
//! resources, schedules.

use mlua::Value;

use super::super::arguments::excerpt;
use super::call::{Call, MAX_KEPT, MAX_NAME, kind};
use crate::pipeline::{CRON_SOURCE, Cache, Cron, Group, Place, Resources, parse_cpus, parse_size};

/// The most variables for a run.
const MAX_VARIABLES: usize = 1_000;
/// The most processes that a run can ask for.
const MAX_PIDS: u32 = 4_194_304;

/// Keeps one more of a form, unless there are far too many already.
fn keep<T>(kept: &mut Vec<(T, Place)>, value: T, place: &Place) {
    if kept.len() < MAX_KEPT {
        kept.push((value, place.clone()));
    }
}

/// `(ci.image reference)`
pub(super) fn image(call: &mut Call<'_>) -> Option<String> {
    let image = call.text(
        call.argument(0),
        "an image",
        "write it like (ci.image \"debian:trixie-slim\")",
    )?;
    keep(
        &mut call.host.registration.borrow_mut().images,
        image,
        &call.place,
    );
    None
}

/// `(ci.env {:NAME "value"})`
pub(super) fn env(call: &mut Call<'_>) -> Option<String> {
    let variables = call.variables("`ci.env`", call.argument(0).unwrap_or(&Value::Nil))?;
    let host = call.host;
    if host.registration.borrow().env.len() + variables.len() > MAX_VARIABLES {
        call.problem(format!("`ci.env` sets more than {MAX_VARIABLES} variables"));
        return None;
    }
    host.registration.borrow_mut().env.extend(variables);
    None
}

/// `(ci.timeout "30m")`
pub(super) fn timeout(call: &mut Call<'_>) -> Option<String> {
    let value = call.argument(0);
    if !value.is_some_and(Value::is_string) {
        call.advise(
            format!("a time limit is text, not {}", kind(value)),
            "write it like (ci.timeout \"30m\")",
        );
        return None;
    }
    let millis = call.duration("`ci.timeout`", value?)?;
    keep(
        &mut call.host.registration.borrow_mut().timeouts,
        millis,
        &call.place,
    );
    None
}

/// `(ci.cache name path)`
pub(super) fn cache(call: &mut Call<'_>) -> Option<String> {
    const FORM: &str = "write it like (ci.cache :cargo \"/usr/local/cargo/registry\")";
    let name = call.text(call.argument(0), "a cache's name", FORM)?;
    let path = call.text(
        call.argument(1),
        &format!("the path of cache `{}`", excerpt(&name)),
        FORM,
    )?;
    keep(
        &mut call.host.registration.borrow_mut().caches,
        Cache { name, path },
        &call.place,
    );
    None
}

/// `(ci.group name {:supersede false})`
pub(super) fn group(call: &mut Call<'_>) -> Option<String> {
    let name = call.text(
        call.argument(0),
        "a group's name",
        "write it like (ci.group :deploy)",
    )?;
    let of = format!("group `{}`", excerpt(&name));
    let options = call.options(&of, call.argument(1), &["supersede"]);
    let supersede = call
        .option(&options, &of, "supersede", Call::flag)
        .unwrap_or_default();
    keep(
        &mut call.host.registration.borrow_mut().groups,
        Group { name, supersede },
        &call.place,
    );
    None
}

/// `(ci.network false)`
pub(super) fn network(call: &mut Call<'_>) -> Option<String> {
    let network = call.flag(
        "`ci.network`: whether the run has a network",
        call.argument(0).unwrap_or(&Value::Nil),
    )?;
    keep(
        &mut call.host.registration.borrow_mut().networks,
        network,
        &call.place,
    );
    None
}

/// `(ci.resources {:memory "2g" :cpus 2 :pids 500})`
pub(super) fn resources(call: &mut Call<'_>) -> Option<String> {
    const FORM: &str = "write it like (ci.resources {:memory \"2g\" :cpus 2})";
    let of = "`ci.resources`";
    let value = call.argument(0);
    if !value.is_some_and(Value::is_table) {
        call.advise(
            format!("what a run asks for is a table, not {}", kind(value)),
            FORM,
        );
        return None;
    }
    let options = call.options(of, value, &["memory", "cpus", "pids"]);
    let resources = Resources {
        memory: call.option(&options, of, "memory", memory),
        milli_cpus: call.option(&options, of, "cpus", cpus),
        pids: call.option(&options, of, "pids", |call, what, value| {
            call.number(what, value, 1, MAX_PIDS)
        }),
    };
    keep(
        &mut call.host.registration.borrow_mut().resources,
        resources,
        &call.place,
    );
    None
}

fn memory(call: &mut Call<'_>, what: &str, value: &Value) -> Option<u64> {
    let bytes = match value {
        Value::Integer(bytes) => u64::try_from(*bytes).ok(),
        Value::String(text) => parse_size(&text.to_string_lossy()),
        _ => None,
    };
    if bytes.is_none() {
        call.advise(
            format!("{what} is {}, not a size", kind(Some(value))),
            "write it like \"512m\" or \"2g\"",
        );
    }
    bytes
}

fn cpus(call: &mut Call<'_>, what: &str, value: &Value) -> Option<u64> {
    let milli = match value {
        Value::Integer(count) => parse_cpus(&count.to_string()),
        Value::Number(count) => parse_cpus(&count.to_string()),
        _ => None,
    };
    if milli.is_none() {
        call.advise(
            format!("{what} is {}, not a number of CPUs", kind(Some(value))),
            "write it like 2 or 0.5",
        );
    }
    milli
}

/// `(ci.cron name "0 3 * * *")` gives the name of the source that it makes.
pub(super) fn cron(call: &mut Call<'_>) -> Option<String> {
    const FORM: &str = "write it like (ci.cron :nightly \"0 3 * * *\")";
    let name = call.text(call.argument(0), "a schedule's name", FORM)?;
    let source = format!("{CRON_SOURCE}{name}");
    // What is no text is no schedule either: the check says so, and whoever waits for it is not blamed.
    let schedule = call
        .argument(1)
        .and_then(Value::as_string)
        .map(|text| text.to_string_lossy());
    let schedule = schedule
        .filter(|text| text.len() <= MAX_NAME)
        .unwrap_or_default();
    keep(
        &mut call.host.registration.borrow_mut().crons,
        Cron { name, schedule },
        &call.place,
    );
    Some(source)
}
