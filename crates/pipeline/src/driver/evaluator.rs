//! Evaluates a pipeline's file and runs the functions of its jobs, as threads of one Lua state.
//!
//! There is one loop and no async runtime. A thread runs until it waits, ends, or has used its time
//! slice. Then the next thread runs, after the messages that the runner sent in the meantime. A
//! command that is running costs nothing here.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mlua::{Function, Lua, MultiValue, Table, Value};

use super::compiled::CompiledFiles;
use super::dsl;
use super::functions;
use super::lua_api::LuaApi;
use super::modules::{ENVIRONMENT, global_key};
use super::protocol::{EncodedBytes, FromDriver, JobEnd, PipelineSource, ShResult, ToDriver};
use super::replies::resume_values;
use super::running_job::{Pending, PendingReply, RunningJob};
use super::stdio;
use crate::fennel::{Compiler, LuaError, MEMORY_LIMIT, Vm};
use crate::{Diagnostic, Registration, SourceFile, format_duration};
use quire_types::secret::Secret;
use quire_types::text::excerpt_name;

/// The bytecode of runtime.lua, made by the build script.
static RUNTIME: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/runtime.luac"));

/// How long a job's function may run before the other jobs get their turn.
const TIME_SLICE: Duration = Duration::from_millis(20);
/// How many seconds a single call of a built-in function may take. The hook cannot interrupt such a
/// call, so the kernel ends this process by SIGALRM.
const BUILTIN_CALL_LIMIT_SECS: u32 = 30;

/// What messages call a text that is evaluated for itself.
const ENTRY_NAME: &str = "input";

/// The Lua states that every pipeline needs. They are loaded before the pipeline is known.
pub(super) struct LuaStates {
    pipeline: Vm,
    compiler: Compiler,
}

impl LuaStates {
    pub(super) fn new() -> Result<Self, LuaError> {
        Ok(Self {
            pipeline: Vm::for_pipeline(MEMORY_LIMIT).map_err(|error| LuaError::from(&error))?,
            compiler: Compiler::new()?,
        })
    }

    pub(super) fn pipeline_lua(&self) -> Lua {
        self.pipeline.lua().clone()
    }
}

/// What runtime.lua returns.
struct LuaRuntime {
    /// Calls the pipeline's file.
    register: Function,
    /// Calls a job's function with the tools.
    run: Function,
    /// Returns the call and the fields of a command's result.
    fields: Function,
    /// The tools by name.
    tools: Table,
    /// Marks a yield that waits for a reply.
    call: Table,
}

impl LuaRuntime {
    fn load(api: &Rc<LuaApi>) -> mlua::Result<Self> {
        let runtime: Table = api
            .vm
            .load_bytecode(RUNTIME)?
            .call((functions::functions(api)?, dsl::module(api)?))?;
        let environment: Table = runtime.raw_get("env")?;
        *api.tool_names.borrow_mut() = runtime.raw_get("tool_names")?;
        api.vm
            .lua()
            .set_named_registry_value(ENVIRONMENT, environment)?;
        Ok(Self {
            register: runtime.raw_get("register")?,
            run: runtime.raw_get("run")?,
            fields: runtime.raw_get("fields")?,
            tools: runtime.raw_get("tools")?,
            call: runtime.raw_get("call")?,
        })
    }
}

/// A job whose thread can be resumed, and the values to resume it with: none for a new or preempted
/// thread, or the reply that it waited for.
type Resumption = (String, MultiValue);

pub(super) struct Evaluator {
    api: Rc<LuaApi>,
    runtime: LuaRuntime,
    runnable: VecDeque<Resumption>,
}

impl Drop for Evaluator {
    fn drop(&mut self) {
        // Functions of the Lua state hold the API, and the API holds these functions.
        self.api.functions.borrow_mut().clear();
        self.api.jobs.borrow_mut().clear();
    }
}

impl Evaluator {
    /// Evaluates the pipeline's file.
    pub(super) fn register(
        states: Result<LuaStates, LuaError>,
        source: PipelineSource,
        limit: Duration,
        compiled: CompiledFiles,
    ) -> Result<(Self, Registration), Vec<Diagnostic>> {
        let started = Instant::now();
        let language = source.language;
        let LuaStates { pipeline, compiler } = states.map_err(without_location)?;
        let api = Rc::new(LuaApi::new(
            pipeline,
            compiler.with_timeout(limit),
            source,
            compiled,
        ));
        let runtime =
            LuaRuntime::load(&api).map_err(|error| without_location(LuaError::from(&error)))?;
        let evaluator = Self {
            api,
            runtime,
            runnable: VecDeque::new(),
        };
        let api = &evaluator.api;
        let chunk = api
            .load(api.sources.main(), language)
            .map_err(|diagnostic| vec![diagnostic])?;
        let remaining = limit.saturating_sub(started.elapsed());
        let result = evaluator.evaluate(chunk, remaining, limit);
        api.registering.set(false);
        let mut registration = api.registration.take();
        api.remember_inputs(&registration);
        match result {
            Ok(()) => {
                api.modules.unload_compiler();
                Ok((evaluator, registration))
            }
            Err(diagnostic) => {
                registration.problems.push(diagnostic);
                Err(registration.problems)
            }
        }
    }

    /// Calls the pipeline's file, which has `remaining` of its time `limit` left.
    fn evaluate(
        &self,
        chunk: Function,
        remaining: Duration,
        limit: Duration,
    ) -> Result<(), Diagnostic> {
        let api = &self.api;
        let diagnostic = |error: LuaError| api.sources.diagnose(api.vm.with_last_line(error));
        let thread = api
            .vm
            .lua()
            .create_thread(self.runtime.register.clone())
            .map_err(|error| diagnostic(LuaError::from(&error)))?;
        api.monitor().set_deadline(Some(remaining));
        let result = thread.resume::<MultiValue>(chunk);
        if api.monitor().expired() {
            let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            let message = format!(
                "the file ran for longer than {} and was stopped",
                format_duration(millis)
            );
            return Err(diagnostic(LuaError::new(message))
                .with_hint("the file only registers jobs: move the work into a job's function"));
        }
        let values = result.map_err(|error| diagnostic(LuaError::from(&error)))?;
        if thread.is_resumable() {
            return Err(diagnostic(LuaError::new(
                "the file yielded outside of a coroutine",
            )));
        }
        match api.protected_result(&values) {
            Ok(_) => Ok(()),
            Err(raised) => Err(api
                .modules
                .take_rejected()
                .unwrap_or_else(|| api.sources.diagnose(raised))),
        }
    }

    pub(super) fn take_compiled(&self) -> CompiledFiles {
        self.api.modules.take_compiled()
    }

    /// A diagnostic of the pipeline's file as a whole.
    pub(super) fn diagnostic(&self, message: &str) -> Diagnostic {
        self.api.sources.main().diagnostic(message, 1, 1)
    }

    /// Whether a thread can be resumed. If not, there is nothing to do until a message arrives.
    pub(super) fn has_runnable(&self) -> bool {
        !self.runnable.is_empty()
    }

    pub(super) fn handle(&mut self, message: ToDriver) -> io::Result<()> {
        match message {
            ToDriver::Register { .. } => Err(io::Error::other("a pipeline is registered already")),
            ToDriver::Value { name, value } => {
                self.api.values.borrow_mut().insert(name, value);
                Ok(())
            }
            ToDriver::RunJob {
                job,
                timeout_ms,
                env,
            } => self.start(job, env, timeout_ms),
            ToDriver::Evaluate { job, text, env } => match self.load_entry(text) {
                Ok(entry) => self.call(job, entry, env, None),
                Err(diagnostic) => {
                    report_end(job, JobEnd::failed(diagnostic.message, diagnostic.location))
                }
            },
            ToDriver::Interrupt { job } => {
                let runs = self.api.jobs.borrow().contains_key(&job);
                if runs {
                    self.finish(&job, JobEnd::failed("interrupted".to_owned(), None))?;
                }
                Ok(())
            }
            ToDriver::ShEnded { call, result } => self.command_ended(call, result),
            ToDriver::SecretValue { call, value } => self.replied(
                call,
                value.map(|secret| EncodedBytes::Plain(secret.expose().to_owned())),
            ),
            ToDriver::FileRead { call, content } => self.replied(call, content),
            ToDriver::Done { call, done } => {
                self.replied(call, done.map(|()| EncodedBytes::Plain(String::new())))
            }
        }
    }

    fn start(
        &mut self,
        id: String,
        env: Vec<(String, String)>,
        timeout_ms: Option<u64>,
    ) -> io::Result<()> {
        let Some(function) = self.api.functions.borrow().get(&id).cloned() else {
            let message = format!("there is no job `{}`", excerpt_name(&id));
            return report_end(id, JobEnd::failed(message, None));
        };
        self.call(id, function, env, timeout_ms)
    }

    /// Loads a text that is evaluated for itself.
    fn load_entry(&self, text: String) -> Result<Function, Diagnostic> {
        let text = SourceFile {
            file: ENTRY_NAME.to_owned(),
            text,
        };
        let api = &self.api;
        self.runtime
            .tools
            .pairs::<String, Value>()
            .try_for_each(|tool| {
                let (name, tool) = tool?;
                let environment = api.modules.environment(&api.vm)?;
                environment.raw_set(global_key(&name), tool)
            })
            .map_err(|error| api.sources.diagnose(LuaError::from(&error)))?;
        api.modules.load_entry(&api.vm, &api.sources, &text)
    }

    /// Calls a function as that of a job.
    fn call(
        &mut self,
        id: String,
        function: Function,
        env: Vec<(String, String)>,
        timeout_ms: Option<u64>,
    ) -> io::Result<()> {
        if self.api.jobs.borrow().contains_key(&id) {
            return Err(io::Error::other(format!(
                "job `{}` is running already",
                excerpt_name(&id)
            )));
        }
        let thread = match self.api.vm.lua().create_thread(self.runtime.run.clone()) {
            Ok(thread) => thread,
            Err(error) => {
                let message = LuaError::from(&error).message;
                return report_end(id, JobEnd::failed(message, None));
            }
        };
        let deadline =
            timeout_ms.and_then(|millis| Instant::now().checked_add(Duration::from_millis(millis)));
        let limit = timeout_ms.map(format_duration).unwrap_or_default();
        self.api
            .jobs
            .borrow_mut()
            .insert(id.clone(), RunningJob::new(thread, env, deadline, limit));
        self.runnable
            .push_back((id, MultiValue::from_iter([Value::Function(function)])));
        Ok(())
    }

    /// The job that waits for a call. It waits no longer. `None` if the job has ended meanwhile.
    fn take_pending(&self, call: u64) -> Option<(String, Pending)> {
        let mut jobs = self.api.jobs.borrow_mut();
        jobs.iter_mut().find_map(|(id, job)| {
            let pending = job.pending.take_if(|pending| pending.call() == call)?;
            Some((id.clone(), pending))
        })
    }

    fn command_ended(&mut self, call: u64, result: ShResult) -> io::Result<()> {
        let Some((id, Pending::Command(_, command))) = self.take_pending(call) else {
            return Ok(());
        };
        if let Some(message) = result.error {
            let message = format!("`{}`: {message}", command.text);
            return self.finish(&id, JobEnd::failed(message, command.location));
        }
        match self.result_fields(&command.text, &result) {
            Ok(fields) => {
                if let Some(job) = self.api.jobs.borrow_mut().get_mut(&id) {
                    job.command_ended(call, command, result.exit);
                }
                self.resume_soon(id, MultiValue::from_iter([Value::Table(fields)]));
                Ok(())
            }
            Err(error) => {
                let message = format!(
                    "the output of `{}` cannot be loaded: {}",
                    command.text,
                    LuaError::from(&error).message
                );
                self.finish(&id, JobEnd::failed(message, command.location))
            }
        }
    }

    fn result_fields(&self, command: &str, result: &ShResult) -> mlua::Result<Table> {
        let lua = self.api.vm.lua();
        let bytes = |text: &EncodedBytes| match text {
            EncodedBytes::Plain(text) => lua.create_string(text),
            encoded @ EncodedBytes::Encoded { .. } => lua.create_string(
                encoded
                    .clone()
                    .into_bytes()
                    .map_err(mlua::Error::external)?,
            ),
        };
        let fields = lua.create_table()?;
        fields.raw_set("exit", result.exit)?;
        fields.raw_set("stdout", bytes(&result.stdout)?)?;
        fields.raw_set("stderr", bytes(&result.stderr)?)?;
        fields.raw_set("cmd", command)?;
        Ok(fields)
    }

    /// Handles the runner's reply to a tool other than `sh`: a value, or a message to raise.
    fn replied(&mut self, call: u64, reply: Result<EncodedBytes, String>) -> io::Result<()> {
        let Some((id, Pending::Reply(_, pending))) = self.take_pending(call) else {
            return Ok(());
        };
        if let Ok(EncodedBytes::Plain(value)) = &reply {
            let secret = Secret::new(value.clone());
            match &pending {
                PendingReply::Secret(name) => self.api.secrets.add(name, &secret),
                PendingReply::SecretJson(name) => self.api.secrets.add_json(name, &secret),
                _ => {}
            }
        }
        match resume_values(self.api.vm.lua(), &pending, reply) {
            Ok(values) => {
                self.resume_soon(id, values);
                Ok(())
            }
            Err(error) => {
                let message = LuaError::from(&error).message;
                self.finish(&id, JobEnd::failed(message, None))
            }
        }
    }

    /// Puts a job ahead of those that only compute: it will soon wait again.
    fn resume_soon(&mut self, id: String, values: MultiValue) {
        self.runnable.push_front((id, values));
    }

    /// Resumes the next thread until it waits, ends, or its time slice is over.
    pub(super) fn step(&mut self) -> io::Result<()> {
        let Some((id, arguments)) = self.runnable.pop_front() else {
            return Ok(());
        };
        let Some((thread, deadline, last_line)) = self
            .api
            .jobs
            .borrow_mut()
            .get_mut(&id)
            .map(|job| (job.thread.clone(), job.deadline, job.last_line.take()))
        else {
            return Ok(());
        };
        let monitor = self.api.monitor();
        monitor.restore_line(last_line);
        monitor.set_deadline_at(deadline);
        monitor.set_slice(Some(TIME_SLICE));
        *self.api.current.borrow_mut() = Some(id.clone());
        nix::unistd::alarm::set(BUILTIN_CALL_LIMIT_SECS);
        let result = thread.resume::<MultiValue>(arguments);
        nix::unistd::alarm::cancel();
        *self.api.current.borrow_mut() = None;
        if let Some(job) = self.api.jobs.borrow_mut().get_mut(&id) {
            job.last_line = monitor.last_line();
        }

        if let Some(end) = self.interrupted_end(&id) {
            return self.finish(&id, end);
        }
        let end = match result {
            Ok(values) if thread.is_resumable() => match values.front() {
                None => {
                    self.runnable.push_back((id, MultiValue::new()));
                    return Ok(());
                }
                Some(Value::Table(mark)) if *mark == self.runtime.call => return Ok(()),
                Some(_) => self.raised_end(&id, LuaError::new("it yielded outside of a coroutine")),
            },
            Ok(values) => self.api.end_of(&id, &values, &self.runtime.fields),
            Err(error) => self.raised_end(&id, LuaError::from(&error)),
        };
        self.finish(&id, end)
    }

    /// How a job ends whose thread must not be resumed: it has failed in a call, or its time is over.
    fn interrupted_end(&self, id: &str) -> Option<JobEnd> {
        let mut jobs = self.api.jobs.borrow_mut();
        let job = jobs.get_mut(id)?;
        if let Some(failure) = job.failure.take() {
            return Some(failure);
        }
        self.api.monitor().expired().then(|| JobEnd::TimedOut {
            message: format!(
                "it ran for longer than its time limit of {} and was stopped",
                job.limit
            ),
            location: self.api.last_location(),
        })
    }

    fn raised_end(&self, id: &str, error: LuaError) -> JobEnd {
        self.api.raised_end(id, self.api.vm.with_last_line(error))
    }

    fn finish(&mut self, id: &str, end: JobEnd) -> io::Result<()> {
        self.api.jobs.borrow_mut().remove(id);
        self.runnable.retain(|(other, _)| other != id);
        report_end(id.to_owned(), end)
    }
}

/// The problem of a Lua state that could not be set up.
fn without_location(error: LuaError) -> Vec<Diagnostic> {
    vec![Diagnostic {
        message: error.message,
        location: None,
        source_line: None,
        hint: None,
    }]
}

/// Reports a job's end. A job whose output is too long for a message fails.
fn report_end(job: String, end: JobEnd) -> io::Result<()> {
    let message = FromDriver::JobEnded {
        job: job.clone(),
        end,
    };
    if !stdio::write_message(&message)? {
        let end = JobEnd::failed(
            "the value that it returned is too long to be stored".to_owned(),
            None,
        );
        stdio::write_message(&FromDriver::JobEnded { job, end })?;
    }
    Ok(())
}
