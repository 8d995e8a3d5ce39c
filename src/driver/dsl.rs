//! The module `quire.ci`: what a pipeline's file registers.
//!
//! A call that is wrong in itself is noted as a problem and the file goes on, so that one check
//! shows everything; only what makes going on pointless is raised.

use std::rc::Rc;

use mlua::{Function, Lua, MultiValue, Table, Value};

use super::arguments::{excerpt, variables};
use super::host::Host;
use super::place::caller;
use crate::pipeline::{JobOptions, JobRegistration, MAX_EDGES, MAX_INPUTS, MAX_JOBS, Place, nearest, parse_duration};

/// The most problems that are noted.
const MAX_PROBLEMS: usize = 100;
/// The longest name that is kept as it is; a longer one is refused here.
const MAX_NAME: usize = 512;
/// The most variables for a run.
const MAX_VARIABLES: usize = 1_000;
/// The options of a job.
const OPTIONS: [&str; 3] = ["timeout", "allow-failure", "retry"];

/// A problem with a call: message and hint.
type Problem = (String, Option<String>);

fn problem<T>(message: impl Into<String>) -> Result<T, Problem> {
    Err((message.into(), None))
}

fn advised<T>(message: impl Into<String>, hint: impl Into<String>) -> Result<T, Problem> {
    Err((message.into(), Some(hint.into())))
}

/// The module's functions.
pub(super) fn module(host: &Rc<Host>) -> mlua::Result<Table> {
    let lua = host.vm.lua();
    let module = lua.create_table()?;
    type Form = fn(&Host, &MultiValue, &Place) -> Result<(), Problem>;
    let forms: [(&str, Form); 4] = [("job", job), ("image", image), ("env", env), ("timeout", timeout)];
    for (name, form) in forms {
        let host = Rc::clone(host);
        let function = move |lua: &Lua, arguments: MultiValue| {
            if !host.registering.get() {
                let message = format!("`ci.{name}` works only while the file is read: the graph is fixed once a job runs");
                return Err(mlua::Error::RuntimeError(host.at(lua, &message)));
            }
            let at = caller(lua, host.vm.watch());
            let first_line = arguments.iter().find_map(Value::as_function).and_then(|run| run.info().line_defined);
            let first_line = first_line.and_then(|line| u32::try_from(line).ok());
            let literal = arguments.front().and_then(Value::as_string).filter(|id| id.as_bytes().len() <= MAX_NAME);
            let literal = literal.map(|id| id.to_string_lossy());
            let place = match &at {
                Some((chunk, line)) => host.sources.place_of_form(chunk, *line, name, literal.as_deref(), first_line),
                None => Place { file: host.sources.main().file.clone(), line: 1, column: 1 },
            };
            let full = || host.registration.borrow().jobs.len() > MAX_JOBS;
            if !full()
                && let Err((message, hint)) = form(&host, &arguments, &place)
            {
                note(&host, message, hint, place);
            }
            if full() {
                return Err(mlua::Error::RuntimeError(host.at(lua, &format!("the pipeline registers more than {MAX_JOBS} jobs"))));
            }
            Ok(())
        };
        module.raw_set(name, lua.create_function(function)?)?;
    }
    Ok(module)
}

fn note(host: &Host, message: String, hint: Option<String>, place: Place) {
    let mut registration = host.registration.borrow_mut();
    if registration.problems.len() < MAX_PROBLEMS {
        let mut diagnostic = host.sources.diagnostic(message, place);
        diagnostic.hint = hint;
        registration.problems.push(diagnostic);
    }
}

/// `(ci.job id inputs options? run)`
fn job(host: &Host, arguments: &MultiValue, place: &Place) -> Result<(), Problem> {
    const FORM: &str = "write it like (ci.job :test [:quire/push] (fn [{: sh}] …))";
    let Some(Value::String(id)) = arguments.front() else {
        return advised(format!("a job's id is text, not {}", kind(arguments.front())), FORM);
    };
    let Ok(id) = id.to_str().map(|id| id.to_owned()) else { return problem("a job's id is not valid UTF-8") };
    let shown = excerpt(&id);
    if id.len() > MAX_NAME {
        return problem(format!("`{shown}` is not a job id: it is {} bytes long, the longest allowed is 128", id.len()));
    }
    let (options, run) = match (arguments.get(2), arguments.get(3)) {
        (options, Some(Value::Function(run))) => (options, run),
        (Some(Value::Function(run)), None) => (None, run),
        (_, last) => {
            let what = kind(last.or(arguments.get(2)));
            return advised(format!("job `{shown}` has no function: its last argument is {what}"), FORM);
        }
    };
    let inputs = inputs(&shown, arguments.get(1))?;
    let options = match options {
        Some(options) => job_options(&shown, options)?,
        None => JobOptions::default(),
    };
    host.edges.set(host.edges.get() + inputs.len());
    if host.edges.get() > MAX_EDGES {
        return problem(format!("the jobs of the pipeline have more than {MAX_EDGES} inputs together"));
    }
    let mut registration = host.registration.borrow_mut();
    keep(host, &id, run);
    registration.jobs.push(JobRegistration { place: place.clone(), id, inputs, options });
    Ok(())
}

/// The first function of an id counts; a second one is a problem that the checks report.
fn keep(host: &Host, id: &str, run: &Function) {
    host.functions.borrow_mut().entry(id.to_owned()).or_insert_with(|| run.clone());
}

fn inputs(job: &str, value: Option<&Value>) -> Result<Vec<String>, Problem> {
    let Some(Value::Table(table)) = value else {
        let hint = match value {
            Some(Value::String(name)) => format!("write [:{}]", excerpt(&name.to_string_lossy())),
            _ => "write a list of names, such as [:quire/push]".to_owned(),
        };
        return advised(format!("the inputs of job `{job}` are a list, not {}", kind(value)), hint);
    };
    let length = table.raw_len();
    if length == 0 && !table.is_empty() {
        return advised(format!("the inputs of job `{job}` are a list, not a table with keys"), "write [:quire/push]");
    }
    if length > MAX_INPUTS {
        return problem(format!("job `{job}` has more than {MAX_INPUTS} inputs"));
    }
    let mut inputs = Vec::with_capacity(length);
    for index in 1..=length {
        match table.raw_get::<Value>(index) {
            Ok(Value::String(name)) if name.as_bytes().len() <= MAX_NAME => inputs.push(name.to_string_lossy()),
            Ok(Value::String(_)) => return problem(format!("input {index} of job `{job}` is longer than any name can be")),
            Ok(other) => return problem(format!("input {index} of job `{job}` is {}, not a name", kind(Some(&other)))),
            Err(error) => return problem(format!("the inputs of job `{job}` cannot be read: {error}")),
        }
    }
    Ok(inputs)
}

fn job_options(job: &str, value: &Value) -> Result<JobOptions, Problem> {
    let Value::Table(table) = value else {
        return problem(format!("the options of job `{job}` are a table, not {}", kind(Some(value))));
    };
    let mut options = JobOptions::default();
    for pair in table.pairs::<Value, Value>() {
        let Ok((key, value)) = pair else { return problem(format!("the options of job `{job}` cannot be read")) };
        let key = match &key {
            Value::String(key) => key.to_string_lossy(),
            other => return problem(format!("the options of job `{job}` have a key that is {}", kind(Some(other)))),
        };
        match (key.as_str(), &value) {
            ("timeout", Value::String(text)) => match parse_duration(&text.to_string_lossy()) {
                Ok(millis) => options.timeout_ms = Some(millis),
                Err(error) => return problem(format!("the :timeout of job `{job}`: {error}")),
            },
            ("allow-failure", Value::Boolean(allow)) => options.allow_failure = *allow,
            ("retry", Value::Integer(count)) if (0..=10).contains(count) => options.retry = u32::try_from(*count).unwrap_or(0),
            ("timeout", _) => return advised(format!("the :timeout of job `{job}` is {}", kind(Some(&value))), "write it like \"10m\""),
            ("allow-failure", _) => {
                return problem(format!("the :allow-failure of job `{job}` is {}, not true or false", kind(Some(&value))));
            }
            ("retry", _) => return problem(format!("the :retry of job `{job}` is not a whole number from 0 to 10")),
            (other, _) => {
                let known = "a job has the options :timeout, :allow-failure and :retry".to_owned();
                let hint = nearest(other, OPTIONS.into_iter()).map_or(known, |near| format!("did you mean :{near}?"));
                return advised(format!("job `{job}` has an unknown option :{}", excerpt(other)), hint);
            }
        }
    }
    Ok(options)
}

/// `(ci.image reference)`
fn image(host: &Host, arguments: &MultiValue, place: &Place) -> Result<(), Problem> {
    let Some(Value::String(image)) = arguments.front() else {
        return advised(format!("an image is text, not {}", kind(arguments.front())), "write it like (ci.image \"debian:trixie-slim\")");
    };
    let image = image.to_string_lossy();
    if image.len() > MAX_NAME {
        return problem("the image reference is longer than any can be");
    }
    let mut registration = host.registration.borrow_mut();
    if registration.images.len() < MAX_PROBLEMS {
        registration.images.push((image, place.clone()));
    }
    Ok(())
}

/// `(ci.env {:NAME "value"})`
fn env(host: &Host, arguments: &MultiValue, _: &Place) -> Result<(), Problem> {
    let variables = variables(arguments.front().unwrap_or(&Value::Nil)).or_else(|message| problem(format!("`ci.env`: {message}")))?;
    let mut registration = host.registration.borrow_mut();
    if registration.env.len() + variables.len() > MAX_VARIABLES {
        return problem(format!("`ci.env` sets more than {MAX_VARIABLES} variables"));
    }
    registration.env.extend(variables);
    Ok(())
}

/// `(ci.timeout "30m")`
fn timeout(host: &Host, arguments: &MultiValue, place: &Place) -> Result<(), Problem> {
    let Some(Value::String(text)) = arguments.front() else {
        return advised(format!("a time limit is text, not {}", kind(arguments.front())), "write it like (ci.timeout \"30m\")");
    };
    match parse_duration(&text.to_string_lossy()) {
        Ok(millis) => {
            let mut registration = host.registration.borrow_mut();
            if registration.timeouts.len() < MAX_PROBLEMS {
                registration.timeouts.push((millis, place.clone()));
            }
            Ok(())
        }
        Err(error) => problem(format!("`ci.timeout`: {error}")),
    }
}

/// What a value is, in words.
fn kind(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Nil) => "missing (nil)".to_owned(),
        Some(Value::Integer(number)) => format!("the number {number}"),
        Some(Value::Boolean(value)) => format!("`{value}`"),
        Some(Value::String(text)) => format!("the text `{}`", excerpt(&text.to_string_lossy())),
        Some(other) => format!("a {}", other.type_name()),
    }
}
