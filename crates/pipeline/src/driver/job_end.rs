//! Decides how a job ends from what its function returned or raised.

use mlua::{Function, MultiValue, Table, Value};

use super::lua_api::LuaApi;
use super::protocol::JobEnd;
use super::running_job::{RunningJob, ShCall};
use crate::fennel::{LuaError, ValueLimits, to_json};
use crate::{Location, Source};
use quire_types::text::excerpt_name;

/// The most bytes of a command's output that are stored if a job returns the command's result.
const MAX_STORED_OUTPUT: usize = 512 << 10;

impl JobEnd {
    /// A failure that no command caused.
    pub(super) fn failed(message: String, location: Option<Location>) -> Self {
        Self::Failed {
            message,
            exit_code: None,
            location,
        }
    }
}

impl LuaApi {
    /// The value that a call through runtime.lua's `xpcall` returned, or the error that it raised.
    pub(super) fn protected_result(&self, values: &MultiValue) -> Result<Value, LuaError> {
        let value = values.get(1).cloned().unwrap_or(Value::Nil);
        if matches!(values.front(), Some(Value::Boolean(true))) {
            return Ok(value);
        }
        let mut error = match &value {
            Value::String(text) => LuaError::parse(&text.to_string_lossy()),
            Value::Error(error) => LuaError::from(&**error),
            other => LuaError::new(format!("it raised a {}", other.type_name())),
        };
        let raised = self.raised.take();
        if error.line.is_none()
            && let Some((chunk, line)) = raised
        {
            error.chunk = Some(chunk);
            error.line = Some(line);
        }
        Err(self.vm.with_last_line(error))
    }

    /// How a job ends that raised an error.
    pub(super) fn raised_end(&self, id: &str, error: LuaError) -> JobEnd {
        let mut diagnostic = self
            .modules
            .take_rejected()
            .unwrap_or_else(|| self.sources.diagnose(error));
        if diagnostic
            .message
            .starts_with("attempt to index a nil value")
        {
            let is_lua = diagnostic
                .location
                .as_ref()
                .is_some_and(Location::is_in_lua);
            let explained = self.other_source(id, is_lua);
            diagnostic.message.extend(explained);
        }
        JobEnd::failed(diagnostic.message, diagnostic.location)
    }

    /// Why a value that a job asked for may be nil: the run started from another source.
    fn other_source(&self, id: &str, is_lua: bool) -> Option<String> {
        let jobs = self.jobs.borrow();
        let name = jobs.get(id)?.other_sources.first()?;
        let values = self.values.borrow();
        let started_from = values
            .keys()
            .find(|name| Source::from_name(name).is_some())?;
        let call = if is_lua {
            format!("jobs(\"{name}\")")
        } else {
            format!("(jobs :{name})")
        };
        Some(format!(
            "; `{call}` is nil because this run started from `{started_from}`"
        ))
    }

    /// How a job ends whose function returned or raised. `fields` is runtime.lua's function of that
    /// name.
    pub(super) fn end_of(&self, id: &str, values: &MultiValue, fields: &Function) -> JobEnd {
        let value = match self.protected_result(values) {
            Ok(value) => value,
            Err(error) => return self.raised_end(id, error),
        };
        let jobs = self.jobs.borrow();
        let Some(job) = jobs.get(id) else {
            return JobEnd::Skipped;
        };
        if let Some(failure) = job.unchecked_failure() {
            return failure;
        }
        if let Value::Table(table) = &value
            && let Some(failure) = self.returned_failure(job, table, fields)
        {
            return failure;
        }
        if value.is_nil() && !job.ran_command {
            return JobEnd::Skipped;
        }
        match to_json(&value, &ValueLimits::default(), &|table| {
            self.stored_fields(table, fields)
        }) {
            Ok(output) => JobEnd::Complete { output },
            Err(error) => JobEnd::failed(
                format!("the value that it returned cannot be stored: {error}"),
                self.last_location(),
            ),
        }
    }

    pub(super) fn last_location(&self) -> Option<Location> {
        let (chunk, line) = self.monitor().last_line()?;
        Some(self.sources.location(&chunk, line))
    }

    /// The failure of a job that returned a table whose `:exit` is not 0.
    fn returned_failure(
        &self,
        job: &RunningJob,
        table: &Table,
        fields: &Function,
    ) -> Option<JobEnd> {
        let exit: Value = match result_fields(table, fields) {
            Some((call, _)) if job.failed.contains_key(&call) => {
                return job.failed.get(&call).map(ShCall::failure);
            }
            Some((_, fields)) => fields.raw_get("exit").ok()?,
            None => table.raw_get("exit").ok()?,
        };
        let (shown, exit_code) = match exit {
            Value::Nil | Value::Integer(0) => return None,
            Value::Number(0.0) => return None,
            Value::Integer(exit) => (exit.to_string(), i32::try_from(exit).ok()),
            other => (other.to_string().unwrap_or_default(), None),
        };
        Some(JobEnd::Failed {
            message: format!("it returned :exit {}", excerpt_name(&shown)),
            exit_code,
            location: self.last_location(),
        })
    }

    /// The fields of a command's result as they are stored: invalid UTF-8 is replaced and long
    /// output is cut.
    fn stored_fields(&self, table: &Table, fields: &Function) -> Option<Table> {
        let (_, fields) = result_fields(table, fields)?;
        for name in ["stdout", "stderr"] {
            let text: mlua::LuaString = fields.raw_get(name).ok()?;
            let bytes = text.as_bytes();
            // Redacted before it is cut: nothing could recognize half of a secret.
            let bytes = self.secrets.redact_bytes(&bytes);
            let stored = &bytes[..bytes.len().min(MAX_STORED_OUTPUT)];
            fields.raw_set(name, String::from_utf8_lossy(stored)).ok()?;
        }
        Some(fields)
    }
}

/// The call and a copy of the fields of a command's result. `None` if the table is not one.
fn result_fields(table: &Table, fields: &Function) -> Option<(u64, Table)> {
    let (call, fields): (Option<u64>, Option<Table>) = fields.call(table).ok()?;
    call.zip(fields)
}
