//! The settings of the whole run: image, variables, time limit, caches, group, network, resources
//! and schedules.

use mlua::Value;

use super::call::{MAX_CALLS, MAX_NAME, RegistrationCall, describe};
use crate::{
    CRON_SOURCE, Cache, CheckoutOptions, Cron, Group, History, Location, Resources, parse_cpus,
    parse_size,
};
use quire_types::text::excerpt_name;

/// The most variables of a run.
const MAX_VARIABLES: usize = 1_000;
/// The most processes that a run can ask for.
const MAX_PIDS: u32 = 4_194_304;
/// The most commits that a pipeline can ask for by their number.
const MAX_HISTORY: u32 = 1_000_000;

/// Records a call, unless [`MAX_CALLS`] of the same function are recorded already.
pub(super) fn push_limited<T>(calls: &mut Vec<(T, Location)>, value: T, location: &Location) {
    if calls.len() < MAX_CALLS {
        calls.push((value, location.clone()));
    }
}

/// `(ci.image reference)`
pub(super) fn image(call: &mut RegistrationCall<'_>) -> Option<String> {
    let image = call.text(
        call.argument(0),
        "an image",
        "write it like (ci.image \"debian:trixie-slim\")",
    )?;
    push_limited(
        &mut call.api.registration.borrow_mut().images,
        image,
        &call.location,
    );
    None
}

/// `(ci.env {:NAME "value"})`
pub(super) fn env(call: &mut RegistrationCall<'_>) -> Option<String> {
    let variables = call.variables("`ci.env`", call.argument(0).unwrap_or(&Value::Nil))?;
    let api = call.api;
    if api.registration.borrow().env.len() + variables.len() > MAX_VARIABLES {
        call.problem(format!("`ci.env` sets more than {MAX_VARIABLES} variables"));
        return None;
    }
    api.registration.borrow_mut().env.extend(variables);
    None
}

/// `(ci.timeout "30m")`
pub(super) fn timeout(call: &mut RegistrationCall<'_>) -> Option<String> {
    let value = call.argument(0);
    if !value.is_some_and(Value::is_string) {
        call.problem_with_hint(
            format!(
                "the argument of `ci.timeout` must be a duration, not {}",
                describe(value)
            ),
            "write it like (ci.timeout \"30m\")",
        );
        return None;
    }
    let millis = call.duration("`ci.timeout`", value?)?;
    push_limited(
        &mut call.api.registration.borrow_mut().timeouts,
        millis,
        &call.location,
    );
    None
}

/// `(ci.cache name path)`
pub(super) fn cache(call: &mut RegistrationCall<'_>) -> Option<String> {
    const SIGNATURE: &str = "write it like (ci.cache :cargo \"/usr/local/cargo/registry\")";
    let name = call.text(call.argument(0), "a cache's name", SIGNATURE)?;
    let path = call.text(
        call.argument(1),
        &format!("the path of cache `{}`", excerpt_name(&name)),
        SIGNATURE,
    )?;
    push_limited(
        &mut call.api.registration.borrow_mut().caches,
        Cache { name, path },
        &call.location,
    );
    None
}

/// `(ci.group name {:supersede false})`
pub(super) fn group(call: &mut RegistrationCall<'_>) -> Option<String> {
    let name = call.text(
        call.argument(0),
        "a group's name",
        "write it like (ci.group :deploy)",
    )?;
    let of = format!("group `{}`", excerpt_name(&name));
    let options = call.options(&of, call.argument(1), &["supersede"]);
    let supersede = call
        .option(&options, &of, "supersede", RegistrationCall::flag)
        .unwrap_or_default();
    push_limited(
        &mut call.api.registration.borrow_mut().groups,
        Group { name, supersede },
        &call.location,
    );
    None
}

/// `(ci.network false)`
pub(super) fn network(call: &mut RegistrationCall<'_>) -> Option<String> {
    let network = call.flag(
        "the argument of `ci.network`",
        call.argument(0).unwrap_or(&Value::Nil),
    )?;
    push_limited(
        &mut call.api.registration.borrow_mut().networks,
        network,
        &call.location,
    );
    None
}

/// `(ci.checkout {:history :full :submodules true})`
pub(super) fn checkout(call: &mut RegistrationCall<'_>) -> Option<String> {
    let of = "`ci.checkout`";
    let hint = "write it like (ci.checkout {:history :full :submodules true})";
    let options = call.only_options(of, &["history", "submodules", "lfs"], hint)?;
    let checkout = CheckoutOptions {
        history: call.option(&options, of, "history", history),
        submodules: call.option(&options, of, "submodules", RegistrationCall::flag),
        lfs: call
            .option(&options, of, "lfs", RegistrationCall::flag)
            .unwrap_or(false),
    };
    push_limited(
        &mut call.api.registration.borrow_mut().checkouts,
        checkout,
        &call.location,
    );
    None
}

fn history(call: &mut RegistrationCall<'_>, what: &str, value: &Value) -> Option<History> {
    let found = match value {
        Value::Integer(count) => u32::try_from(*count)
            .ok()
            .filter(|count| (1..=MAX_HISTORY).contains(count))
            .map(History::Commits),
        Value::String(text) if text.to_string_lossy() == "full" => Some(History::Full),
        _ => None,
    };
    if found.is_none() {
        call.problem_with_hint(
            format!(
                "{what} must be :full or a number of commits, not {}",
                describe(Some(value))
            ),
            "write it like {:history 1} or {:history :full}",
        );
    }
    found
}

/// `(ci.resources {:memory "2g" :cpus 2 :pids 500})`
pub(super) fn resources(call: &mut RegistrationCall<'_>) -> Option<String> {
    const SIGNATURE: &str = "write it like (ci.resources {:memory \"2g\" :cpus 2})";
    let of = "`ci.resources`";
    let options = call.only_options(of, &["memory", "cpus", "pids"], SIGNATURE)?;
    let resources = Resources {
        memory: call.option(&options, of, "memory", size),
        milli_cpus: call.option(&options, of, "cpus", cpus),
        pids: call.option(&options, of, "pids", |call, what, value| {
            call.number(what, value, 1..=MAX_PIDS)
        }),
    };
    push_limited(
        &mut call.api.registration.borrow_mut().resources,
        resources,
        &call.location,
    );
    None
}

pub(super) fn size(call: &mut RegistrationCall<'_>, what: &str, value: &Value) -> Option<u64> {
    let bytes = match value {
        Value::Integer(bytes) => u64::try_from(*bytes).ok(),
        Value::String(text) => parse_size(&text.to_string_lossy()),
        _ => None,
    };
    if bytes.is_none() {
        call.problem_with_hint(
            format!("{what} must be a size, not {}", describe(Some(value))),
            "write it like \"512m\" or \"2g\"",
        );
    }
    bytes
}

fn cpus(call: &mut RegistrationCall<'_>, what: &str, value: &Value) -> Option<u64> {
    let milli = match value {
        Value::Integer(count) => parse_cpus(&count.to_string()),
        Value::Number(count) => parse_cpus(&count.to_string()),
        _ => None,
    };
    if milli.is_none() {
        call.problem_with_hint(
            format!(
                "{what} must be a number of CPUs, not {}",
                describe(Some(value))
            ),
            "write it like 2 or 0.5",
        );
    }
    milli
}

/// `(ci.cron name "0 3 * * *")` returns the name of the schedule's source.
pub(super) fn cron(call: &mut RegistrationCall<'_>) -> Option<String> {
    const SIGNATURE: &str = "write it like (ci.cron :nightly \"0 3 * * *\")";
    let name = call.text(call.argument(0), "a schedule's name", SIGNATURE)?;
    let source = format!("{CRON_SOURCE}{name}");
    // Anything but text becomes an empty schedule, which the check reports. It stays registered, so
    // that the jobs that wait for it are not reported as well.
    let schedule = call
        .argument(1)
        .and_then(Value::as_string)
        .map(|text| text.to_string_lossy());
    // The check rejects what is still longer than a schedule may be.
    let schedule = schedule.map_or_else(String::new, |text| {
        text[..text.floor_char_boundary(MAX_NAME)].to_owned()
    });
    push_limited(
        &mut call.api.registration.borrow_mut().crons,
        Cron { name, schedule },
        &call.location,
    );
    Some(source)
}
