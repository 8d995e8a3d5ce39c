//! `(ci.job id inputs options? run)`

use mlua::{Function, Value};

use super::super::functions::unknown_field_hint;
use super::super::lua_api::LuaApi;
use super::call::{MAX_NAME, RegistrationCall, describe};
use crate::fennel::fields_of_parameter;
use crate::{JobOptions, JobRegistration, MAX_EDGES, MAX_INPUTS};
use quire_types::text::excerpt_name;

const SIGNATURE: &str = "write it like (ci.job :test [:quire/push] (fn [{: sh}] …))";
const OPTIONS: [&str; 4] = ["timeout", "allow-failure", "retry", "env"];
/// The most retries of a job.
const MAX_RETRIES: u32 = 10;

/// Registers a job even if some of it is invalid: otherwise the jobs that wait for it would be
/// reported as well.
pub(super) fn job(call: &mut RegistrationCall<'_>) -> Option<String> {
    let Some(Value::String(id)) = call.argument(0) else {
        call.problem_with_hint(
            format!(
                "a job's id must be text, not {}",
                describe(call.argument(0))
            ),
            SIGNATURE,
        );
        return None;
    };
    let Ok(id) = id.to_str().map(|id| id.to_owned()) else {
        call.problem("a job's id is not valid UTF-8".to_owned());
        return None;
    };
    let shown = excerpt_name(&id);
    if id.len() > MAX_NAME {
        call.problem(format!(
            "`{shown}` is not a job id: it is {} bytes long, the longest allowed is 128",
            id.len()
        ));
        return None;
    }
    let (options, run) = match (call.argument(2), call.argument(3)) {
        (options, Some(Value::Function(run))) => (options, Some(run)),
        (Some(Value::Function(run)), None) => (None, Some(run)),
        // The inputs are missing, which is reported below.
        (None, None) if call.argument(1).is_some_and(Value::is_function) => (None, None),
        (options, last) => {
            let what = describe(last.or(options));
            call.problem_with_hint(
                format!("job `{shown}` has no function: its last argument is {what}"),
                SIGNATURE,
            );
            (options.filter(|options| options.is_table()), None)
        }
    };
    let inputs = inputs(call, &shown);
    let options = job_options(call, &shown, options);
    let api = call.api;
    api.edges.set(api.edges.get() + inputs.len());
    if api.edges.get() > MAX_EDGES {
        call.problem(format!(
            "the jobs of the pipeline have more than {MAX_EDGES} inputs together"
        ));
        return None;
    }
    if let Some(run) = run {
        unknown_tools(call, run);
        keep_function(api, &id, run);
    }
    api.registration.borrow_mut().jobs.push(JobRegistration {
        location: call.location.clone(),
        id,
        inputs,
        options,
    });
    None
}

/// Reports names that a job's function takes from the table of tools and that are no tools.
fn unknown_tools(call: &mut RegistrationCall<'_>, run: &Function) {
    let api = call.api;
    let known = api.tool_names.borrow();
    for used in fields_of_parameter(&run.dump(false)) {
        if known.contains(&used.name) {
            continue;
        }
        let source = run.info().source.unwrap_or_default();
        let chunk = source.trim_start_matches(['@', '=']);
        let location = api.sources.location_of_name(chunk, used.line, &used.name);
        let hint = unknown_field_hint(&used.name, &known, location.is_in_lua());
        let message = format!("the job's table has no `{}`", excerpt_name(&used.name));
        call.problem_at(location, message, Some(hint));
    }
}

/// Keeps the first function of an id. The check reports a second job with the same id.
fn keep_function(api: &LuaApi, id: &str, run: &Function) {
    api.functions
        .borrow_mut()
        .entry(id.to_owned())
        .or_insert_with(|| run.clone());
}

/// The inputs. Those that are not names are left out.
fn inputs(call: &mut RegistrationCall<'_>, job: &str) -> Vec<String> {
    let value = call.argument(1);
    let Some(Value::Table(table)) = value else {
        let hint = match value {
            Some(Value::String(name)) => {
                format!("write [:{}]", excerpt_name(&name.to_string_lossy()))
            }
            _ => "write a list of names, such as [:quire/push]".to_owned(),
        };
        call.problem_with_hint(
            format!(
                "the inputs of job `{job}` must be a list, not {}",
                describe(value)
            ),
            hint,
        );
        return Vec::new();
    };
    let length = table.raw_len();
    if length == 0 && !table.is_empty() {
        call.problem_with_hint(
            format!("the inputs of job `{job}` must be a list, not a table with keys"),
            "write [:quire/push]",
        );
        return Vec::new();
    }
    if length > MAX_INPUTS {
        call.problem(format!("job `{job}` has more than {MAX_INPUTS} inputs"));
        return Vec::new();
    }
    let mut inputs = Vec::with_capacity(length);
    for index in 1..=length {
        match table.raw_get::<Value>(index) {
            Ok(Value::String(name)) if name.as_bytes().len() <= MAX_NAME => {
                inputs.push(name.to_string_lossy())
            }
            Ok(Value::String(_)) => call.problem(format!(
                "input {index} of job `{job}` is longer than {MAX_NAME} bytes"
            )),
            Ok(other) => call.problem(format!(
                "input {index} of job `{job}` must be the name of a job or source, not {}",
                describe(Some(&other))
            )),
            Err(error) => {
                call.problem(format!("the inputs of job `{job}` cannot be read: {error}"))
            }
        }
    }
    inputs
}

fn job_options(call: &mut RegistrationCall<'_>, job: &str, value: Option<&Value>) -> JobOptions {
    let of = format!("job `{job}`");
    let options = call.options(&of, value, &OPTIONS);
    JobOptions {
        timeout_ms: call.option(&options, &of, "timeout", RegistrationCall::duration),
        allow_failure: call
            .option(&options, &of, "allow-failure", RegistrationCall::flag)
            .unwrap_or_default(),
        retry: call
            .option(&options, &of, "retry", |call, what, value| {
                call.number(what, value, 0..=MAX_RETRIES)
            })
            .unwrap_or_default(),
        env: call
            .option(&options, &of, "env", RegistrationCall::variables)
            .unwrap_or_default(),
    }
}
