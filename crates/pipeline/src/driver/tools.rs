//! The tools of a job: `sh`, `secret`, `jobs` and so on. Each checks its arguments and returns a
//! value or a message; the Lua side raises the message as an ordinary error.

use std::collections::{BTreeSet, HashMap};

use mlua::{Lua, MultiValue, Value};

use super::arguments::{
    ToolResult, artifact_name, command, content, display_command, path, secret_options, sh_options,
    split_log_line, text,
};
use super::locations::calling_frame;
use super::lua_api::LuaApi;
use super::protocol::{FromDriver, ShCommand};
use super::running_job::{Pending, PendingReply, ShCall};
use super::stdio;
use crate::fennel::{ValueLimits, from_json, to_json};
use crate::{Location, Source, closest_match};
use quire_types::text::excerpt_name;

impl LuaApi {
    /// Starts a command and returns its call number, or `None` if the job has failed instead.
    pub(super) fn sh(&self, lua: &Lua, arguments: MultiValue) -> ToolResult<Option<u64>> {
        let mut arguments = arguments.into_iter();
        let cmd = command(&arguments.next().unwrap_or(Value::Nil))?;
        let opts = sh_options(
            &arguments.next().unwrap_or(Value::Nil),
            !self.modules.tells_streams_apart(),
        )?;
        let location = self.location_of_sh(lua, &cmd);
        let call = self.next_call();
        self.with_current_job(|id, job| {
            if job.pending.is_some() {
                return Err("a job can wait for one command at a time: use more jobs to run commands side by side".to_owned());
            }
            if let Some(failure) = job.unchecked_failure() {
                job.failure = Some(failure);
                return Ok(None);
            }
            job.ran_command = true;
            job.pending = Some(Pending::Command(
                call,
                ShCall {
                    text: display_command(&cmd, &self.secrets),
                    location,
                    exit: 0,
                },
            ));
            send(&FromDriver::Sh {
                call,
                job: id.to_owned(),
                cmd,
                opts,
            })?;
            Ok(Some(call))
        })
    }

    fn location_of_sh(&self, lua: &Lua, command: &ShCommand) -> Option<Location> {
        let first_argument = match command {
            ShCommand::Shell(line) => line.as_str(),
            ShCommand::Argv(_) => "",
        };
        let (chunk, line) = calling_frame(lua, self.monitor())?;
        Some(
            self.sources
                .location_of_tool_call(&chunk, line, "sh", first_argument),
        )
    }

    /// Sends a request to the runner and returns its call number.
    fn request(
        &self,
        reply: PendingReply,
        message: impl FnOnce(u64, String) -> FromDriver,
    ) -> ToolResult<u64> {
        let call = self.next_call();
        self.with_current_job(|id, job| {
            if job.pending.is_some() {
                return Err("a job can wait for one thing at a time: use more jobs to do things side by side".to_owned());
            }
            send(&message(call, id.to_owned()))?;
            job.pending = Some(Pending::Reply(call, reply));
            Ok(call)
        })
    }

    pub(super) fn secret(&self, arguments: &MultiValue) -> ToolResult<u64> {
        let name = text(arguments.front(), "the name of a secret")?;
        let json = secret_options(arguments.get(1))?;
        let reply = if json {
            PendingReply::SecretJson(name.clone())
        } else {
            PendingReply::Secret(name.clone())
        };
        self.request(reply, |call, job| FromDriver::Secret {
            call,
            job,
            name,
            json,
        })
    }

    pub(super) fn read_file(&self, arguments: &MultiValue) -> ToolResult<u64> {
        let path = path(arguments.front())?;
        self.request(PendingReply::Text, |call, job| FromDriver::ReadFile {
            call,
            job,
            path,
        })
    }

    pub(super) fn read_json(&self, arguments: &MultiValue) -> ToolResult<u64> {
        let path = path(arguments.front())?;
        self.request(PendingReply::Json(path.clone()), |call, job| {
            FromDriver::ReadFile { call, job, path }
        })
    }

    pub(super) fn write_file(&self, arguments: &MultiValue) -> ToolResult<u64> {
        let path = path(arguments.front())?;
        let content = content(arguments.get(1))?;
        self.request(PendingReply::Done, |call, job| FromDriver::WriteFile {
            call,
            job,
            path,
            content,
        })
    }

    pub(super) fn artifact(&self, arguments: &MultiValue) -> ToolResult<u64> {
        let path = path(arguments.front())?;
        let name = artifact_name(arguments.get(1))?;
        self.request(PendingReply::Done, |call, job| FromDriver::Artifact {
            call,
            job,
            path,
            name,
        })
    }

    /// Returns the value of a job or source that the current job depends on.
    pub(super) fn jobs(&self, lua: &Lua, arguments: &MultiValue) -> ToolResult<Value> {
        let name = text(arguments.front(), "the name of a job or source")?;
        self.with_current_job(|id, job| {
            let inputs = self.inputs.borrow();
            let ancestors = ancestors(&inputs, id, &name);
            if ancestors.contains(name.as_str()) {
                let values = self.values.borrow();
                if !values.contains_key(&name) && Source::from_name(&name).is_some() {
                    job.other_sources.retain(|other| *other != name);
                    job.other_sources.push(name.clone());
                }
                return values
                    .get(&name)
                    .map_or(Ok(Value::Nil), |value| from_json(lua, value))
                    .map_err(|error| error.to_string());
            }
            let hint = match closest_match(&name, ancestors.iter().copied()) {
                Some(near) => format!("did you mean :{near}?"),
                None if name == id => "its value is known to the jobs after it".to_owned(),
                None if self.functions.borrow().contains_key(&name) => {
                    format!("add :{name} to its inputs")
                }
                None => {
                    let known: Vec<String> =
                        ancestors.iter().map(|name| format!(":{name}")).collect();
                    format!("it depends on {}", known.join(" "))
                }
            };
            Err(format!(
                "job `{id}` does not depend on `{}`; {hint}",
                excerpt_name(&name)
            ))
        })
    }

    /// Returns a variable of the job's commands, or `None` if it is not set.
    pub(super) fn env(&self, arguments: &MultiValue) -> ToolResult<Option<String>> {
        let name = text(arguments.front(), "the name of a variable")?;
        self.with_current_job(|_, job| {
            // If a name occurs twice the last value counts, as it does for a command.
            let variable = job.env.iter().rev().find(|(known, _)| *known == name);
            Ok(variable.map(|(_, value)| value.clone()))
        })
    }

    /// Writes lines to the job's log.
    pub(super) fn log(&self, arguments: &MultiValue) -> ToolResult<()> {
        let message = match arguments.front() {
            Some(Value::String(text)) => text.to_string_lossy(),
            Some(Value::Integer(number)) => number.to_string(),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Boolean(value)) => value.to_string(),
            Some(value @ Value::Table(_)) => to_json(value, &ValueLimits::default(), &|_| None)
                .map_or_else(
                    |error| format!("(a table: {error})"),
                    |value| value.to_string(),
                ),
            other => {
                return Err(format!(
                    "`log` takes text, not {}",
                    other.map_or("nothing", Value::type_name)
                ));
            }
        };
        let message = self.secrets.redact_text(&message);
        self.with_current_job(|id, _| {
            for text in message.lines().flat_map(split_log_line) {
                send(&FromDriver::Log {
                    job: id.to_owned(),
                    text: text.to_owned(),
                })?;
            }
            Ok(())
        })
    }
}

/// The jobs and sources that a job depends on. The search stops early once `wanted` is among them.
fn ancestors<'a>(
    inputs: &'a HashMap<String, Vec<String>>,
    job: &'a str,
    wanted: &str,
) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open = vec![job];
    while let Some(name) = open.pop() {
        for input in inputs.get(name).into_iter().flatten() {
            if found.insert(input.as_str()) {
                open.push(input);
            }
            if input == wanted {
                return found;
            }
        }
    }
    found
}

/// Sends a message to the runner. If the runner is gone, this process has nothing left to do.
fn send(message: &FromDriver) -> ToolResult<()> {
    match stdio::write_message(message) {
        Ok(true) => Ok(()),
        Ok(false) => Err("this is too much text at once".to_owned()),
        Err(_) => std::process::exit(0),
    }
}
