//! `(ci.job id inputs options? run)`

use mlua::{Function, Value};

use super::super::arguments::excerpt;
use super::super::host::Host;
use super::call::{Call, MAX_NAME, kind};
use crate::pipeline::{JobOptions, JobRegistration, MAX_EDGES, MAX_INPUTS};

const FORM: &str = "write it like (ci.job :test [:quire/push] (fn [{: sh}] …))";
const OPTIONS: [&str; 4] = ["timeout", "allow-failure", "retry", "env"];
/// How often a job may be tried again.
const MAX_RETRY: u32 = 10;

/// A job is registered even where something of it is wrong: so nothing else is wrong because of it.
pub(super) fn job(call: &mut Call<'_>) -> Option<String> {
    let Some(Value::String(id)) = call.argument(0) else {
        call.advise(
            format!("a job's id is text, not {}", kind(call.argument(0))),
            FORM,
        );
        return None;
    };
    let Ok(id) = id.to_str().map(|id| id.to_owned()) else {
        call.problem("a job's id is not valid UTF-8".to_owned());
        return None;
    };
    let shown = excerpt(&id);
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
        // The inputs were left out; that is said below.
        (None, None) if call.argument(1).is_some_and(Value::is_function) => (None, None),
        (options, last) => {
            let what = kind(last.or(options));
            call.advise(
                format!("job `{shown}` has no function: its last argument is {what}"),
                FORM,
            );
            (options.filter(|options| options.is_table()), None)
        }
    };
    let inputs = inputs(call, &shown);
    let options = job_options(call, &shown, options);
    let host = call.host;
    host.edges.set(host.edges.get() + inputs.len());
    if host.edges.get() > MAX_EDGES {
        call.problem(format!(
            "the jobs of the pipeline have more than {MAX_EDGES} inputs together"
        ));
        return None;
    }
    if let Some(run) = run {
        keep(host, &id, run);
    }
    host.registration.borrow_mut().jobs.push(JobRegistration {
        place: call.place.clone(),
        id,
        inputs,
        options,
    });
    None
}

/// The first function of an id counts; a second one is a problem that the checks report.
fn keep(host: &Host, id: &str, run: &Function) {
    host.functions
        .borrow_mut()
        .entry(id.to_owned())
        .or_insert_with(|| run.clone());
}

/// The inputs, as far as they are names.
fn inputs(call: &mut Call<'_>, job: &str) -> Vec<String> {
    let value = call.argument(1);
    let Some(Value::Table(table)) = value else {
        let hint = match value {
            Some(Value::String(name)) => format!("write [:{}]", excerpt(&name.to_string_lossy())),
            _ => "write a list of names, such as [:quire/push]".to_owned(),
        };
        call.advise(
            format!("the inputs of job `{job}` are a list, not {}", kind(value)),
            hint,
        );
        return Vec::new();
    };
    let length = table.raw_len();
    if length == 0 && !table.is_empty() {
        call.advise(
            format!("the inputs of job `{job}` are a list, not a table with keys"),
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
                "input {index} of job `{job}` is longer than any name can be"
            )),
            Ok(other) => call.problem(format!(
                "input {index} of job `{job}` is {}, not a name",
                kind(Some(&other))
            )),
            Err(error) => {
                call.problem(format!("the inputs of job `{job}` cannot be read: {error}"))
            }
        }
    }
    inputs
}

fn job_options(call: &mut Call<'_>, job: &str, value: Option<&Value>) -> JobOptions {
    let of = format!("job `{job}`");
    let options = call.options(&of, value, &OPTIONS);
    JobOptions {
        timeout_ms: call.option(&options, &of, "timeout", Call::duration),
        allow_failure: call
            .option(&options, &of, "allow-failure", Call::flag)
            .unwrap_or_default(),
        retry: call
            .option(&options, &of, "retry", |call, what, value| {
                call.number(what, value, 0, MAX_RETRY)
            })
            .unwrap_or_default(),
        env: call
            .option(&options, &of, "env", Call::variables)
            .unwrap_or_default(),
    }
}
