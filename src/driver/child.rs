//! The child process: reads the pipeline, then runs its jobs' functions as threads of one Lua state.
//!
//! One loop, no async runtime: a thread runs until it waits, ends, or used up its time slice; then
//! the next one, and whatever the runner sent in between. A command in flight costs nothing here.

use std::collections::VecDeque;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mlua::{Function, MultiValue, Table, Value};

use super::arguments::excerpt;
use super::compiled::CompiledFiles;
use super::host::{self, ENVIRONMENT, Host};
use super::job::{JobRun, Wait, Wanted};
use super::protocol::{FromDriver, JobEnd, PipelineSource, ShResult, Text, ToDriver};
use super::wire::{self, Incoming, Reader};
use super::{dsl, sandbox};
use crate::fennel::{Compiler, Limits, LuaFault, MEMORY_LIMIT, Vm, from_json, lua_fault, to_json};
use crate::pipeline::{Diagnostic, Place, Registration, format_duration};
use crate::secret::Secret;

/// The Lua side, as the build script compiled it.
static RUNTIME: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/runtime.luac"));

/// How long a job's function may run before the others get their turn.
const SLICE: Duration = Duration::from_millis(20);
/// How long a single call of a built-in function, which nothing can interrupt, may take, in
/// seconds; then the kernel ends this process.
const STUCK_SECONDS: u32 = 30;
/// How much nicer a gentle child is.
const GENTLE: i32 = 10;
/// How much of a command's output is kept where its result is returned.
const MAX_KEPT_OUTPUT: usize = 512 << 10;

/// How a child is started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// With less of a claim to the processor than what somebody waits for.
    pub gently: bool,
    /// Also where the kernel takes no filter of system calls.
    pub unconfined: bool,
}

/// The exit code of a child that could not be confined.
pub(super) const UNCONFINED: u8 = 77;

/// Runs the child: everything from the first line to the end of standard input.
#[must_use]
pub fn child_main(manner: Manner) -> ExitCode {
    if manner.gently {
        // Where it may not, it is only quicker.
        let _ = rustix::process::nice(GENTLE);
    }
    if let Err(error) = sandbox::enter()
        && !manner.unconfined
    {
        eprintln!("{error}");
        return ExitCode::from(UNCONFINED);
    }
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quire driver: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Evaluates a pipeline's file in this very process, without a sandbox around it: for programs that
/// test the evaluation itself. Everybody else starts a [`super::Driver`].
///
/// # Errors
/// What is wrong with the file.
pub fn register_here(
    source: PipelineSource,
    limit: Duration,
) -> Result<Registration, Vec<Diagnostic>> {
    let states = States::new();
    let lua = states
        .as_ref()
        .ok()
        .map(|states| states.pipeline.lua().clone());
    let registered = Driver::register(states, source, limit, CompiledFiles::new())
        .map(|(_, registration)| registration);
    // The host's functions live in the state that the host holds. A driver's own process takes both
    // with it; here they are let go.
    if let Some(lua) = lua {
        let _ = lua.unset_named_registry_value(ENVIRONMENT);
        let _ = lua.gc_collect().and_then(|()| lua.gc_collect());
    }
    registered
}

fn serve() -> io::Result<()> {
    // Loaded while the runner still reads the repository.
    let states = States::new();
    let mut reader = Reader::new(io::stdin());
    let (source, limit, compiled) = match reader.next(true)? {
        Incoming::Message(message) => match *message {
            ToDriver::Register {
                source,
                limit_ms,
                compiled,
            } => (source, Duration::from_millis(limit_ms), compiled),
            _ => {
                return Err(io::Error::other(
                    "the first message must register a pipeline",
                ));
            }
        },
        _ => return Ok(()),
    };
    let mut driver = match Driver::register(states, source, limit, compiled) {
        Ok((driver, registration)) => {
            let files = driver.host.take_compiled();
            if !files.is_empty() {
                // Too much to be reported is merely not kept.
                wire::say(&FromDriver::Compiled { files })?;
            }
            if !wire::say(&FromDriver::Registered(registration))? {
                let message = "the pipeline registers more than can be reported".to_owned();
                let diagnostics = vec![driver.host.sources.main().diagnostic(message, 1, 1)];
                return wire::say(&FromDriver::Rejected { diagnostics }).map(|_| ());
            }
            driver
        }
        Err(diagnostics) => return wire::say(&FromDriver::Rejected { diagnostics }).map(|_| ()),
    };
    loop {
        match reader.next(driver.runnable.is_empty())? {
            Incoming::Message(message) => driver.handle(*message)?,
            Incoming::Nothing => driver.step()?,
            Incoming::End => return Ok(()),
        }
    }
}

/// What resumes a thread: nothing (a new or preempted one), or the answer it waited for.
type Resumption = (String, MultiValue);

struct Driver {
    host: Rc<Host>,
    /// Wraps a job's function: `(job) -> thread body`.
    run: Function,
    /// The fields of a command's result.
    fields: Function,
    /// Marks a yield that waits for an answer.
    call: Table,
    runnable: VecDeque<Resumption>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Functions of the state hold the host, and the host holds these.
        self.host.functions.borrow_mut().clear();
        self.host.jobs.borrow_mut().clear();
    }
}

/// The Lua states that every pipeline needs, whatever it says.
struct States {
    pipeline: Vm,
    compiler: Compiler,
}

impl States {
    fn new() -> Result<Self, LuaFault> {
        let pipeline = Vm::for_pipeline(MEMORY_LIMIT).map_err(|error| lua_fault(&error))?;
        Ok(Self {
            pipeline,
            compiler: Compiler::new()?,
        })
    }
}

impl Driver {
    fn register(
        states: Result<States, LuaFault>,
        source: PipelineSource,
        limit: Duration,
        compiled: CompiledFiles,
    ) -> Result<(Self, Registration), Vec<Diagnostic>> {
        let language = source.language;
        let environment_fault = |fault: LuaFault| {
            vec![Diagnostic {
                message: fault.message,
                place: None,
                source_line: None,
                hint: None,
            }]
        };
        let started = Instant::now();
        let States { pipeline, compiler } = states.map_err(environment_fault)?;
        let host = Rc::new(Host::new(
            pipeline,
            compiler.with_limit(limit),
            source,
            compiled,
        ));
        let assembled =
            Self::assemble(Rc::clone(&host)).map_err(|error| environment_fault(lua_fault(&error)));
        let (driver, register, environment) = assembled?;
        let chunk = host
            .load(host.sources.main(), language, environment)
            .map_err(|diagnostic| vec![diagnostic])?;
        let left = limit.saturating_sub(started.elapsed());
        let result = driver.evaluate(&register, chunk, left, limit);
        host.registering.set(false);
        let mut registration = host.registration.take();
        host.remember_graph(&registration);
        match result {
            Ok(()) => {
                host.drop_compiler();
                Ok((driver, registration))
            }
            Err(diagnostic) => {
                registration.problems.push(diagnostic);
                Err(registration.problems)
            }
        }
    }

    fn assemble(host: Rc<Host>) -> mlua::Result<(Self, Function, Table)> {
        let runtime: Table = host
            .vm
            .own_bytecode(RUNTIME)?
            .call((host::functions(&host)?, dsl::module(&host)?))?;
        let environment: Table = runtime.raw_get("env")?;
        host.vm
            .lua()
            .set_named_registry_value(ENVIRONMENT, &environment)?;
        let (run, fields, call) = (
            runtime.raw_get("run")?,
            runtime.raw_get("fields")?,
            runtime.raw_get("call")?,
        );
        let register = runtime.raw_get("register")?;
        Ok((
            Self {
                host,
                run,
                fields,
                call,
                runnable: VecDeque::new(),
            },
            register,
            environment,
        ))
    }

    /// Runs the pipeline's file.
    fn evaluate(
        &self,
        register: &Function,
        chunk: Function,
        left: Duration,
        limit: Duration,
    ) -> Result<(), Diagnostic> {
        let host = &self.host;
        let fault = |fault: LuaFault| host.sources.diagnose(host.vm.at_last_line(fault));
        let thread = host
            .vm
            .lua()
            .create_thread(register.clone())
            .map_err(|error| fault(lua_fault(&error)))?;
        host.vm.watch().set_deadline(Some(left));
        let result = thread.resume::<MultiValue>(chunk);
        if host.vm.watch().expired() {
            let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            let message = format!(
                "the file ran for longer than {} and was stopped",
                format_duration(millis)
            );
            return Err(fault(LuaFault::new(message))
                .with_hint("the file only registers jobs: move the work into a job's function"));
        }
        let values = result.map_err(|error| fault(lua_fault(&error)))?;
        if thread.is_resumable() {
            return Err(fault(LuaFault::new(
                "the file yielded outside of a coroutine",
            )));
        }
        match self.outcome(&values) {
            Ok(_) => Ok(()),
            Err(raised) => Err(host
                .rejected
                .take()
                .unwrap_or_else(|| host.sources.diagnose(raised))),
        }
    }

    /// What a protected call gave: its first value, or what it raised with its place.
    fn outcome(&self, values: &MultiValue) -> Result<Value, LuaFault> {
        let value = values.get(1).cloned().unwrap_or(Value::Nil);
        if matches!(values.front(), Some(Value::Boolean(true))) {
            return Ok(value);
        }
        let mut fault = match &value {
            Value::String(text) => LuaFault::parse(&text.to_string_lossy()),
            Value::Error(error) => lua_fault(error),
            other => LuaFault::new(format!("it raised a {}", other.type_name())),
        };
        let raised = self.host.raised.take();
        if fault.line.is_none()
            && let Some((chunk, line)) = raised
        {
            (fault.chunk, fault.line) = (Some(chunk), Some(line));
        }
        Err(self.host.vm.at_last_line(fault))
    }

    fn handle(&mut self, message: ToDriver) -> io::Result<()> {
        match message {
            ToDriver::Register { .. } => Err(io::Error::other("a pipeline is registered already")),
            ToDriver::Value { name, value } => {
                self.host.values.borrow_mut().insert(name, value);
                Ok(())
            }
            ToDriver::RunJob {
                job,
                timeout_ms,
                env,
            } => self.start(job, env, timeout_ms),
            ToDriver::ShEnded { call, result } => self.command_ended(call, result),
            ToDriver::SecretValue { call, value } => self.answered(
                call,
                value.map(|secret| Text::Plain(secret.expose().to_owned())),
            ),
            ToDriver::FileRead { call, content } => self.answered(call, content),
            ToDriver::Done { call, done } => {
                self.answered(call, done.map(|()| Text::Plain(String::new())))
            }
        }
    }

    fn start(
        &mut self,
        id: String,
        env: Vec<(String, String)>,
        timeout_ms: Option<u64>,
    ) -> io::Result<()> {
        let function = self.host.functions.borrow().get(&id).cloned();
        let fault = |message: String| JobEnd::Failed {
            message,
            exit_code: None,
            place: None,
        };
        if self.host.jobs.borrow().contains_key(&id) {
            return Err(io::Error::other(format!(
                "job `{}` runs already",
                excerpt(&id)
            )));
        }
        let Some(function) = function else {
            return ended(
                id.clone(),
                fault(format!("there is no job `{}`", excerpt(&id))),
            );
        };
        let thread = match self.host.vm.lua().create_thread(self.run.clone()) {
            Ok(thread) => thread,
            Err(error) => return ended(id, fault(lua_fault(&error).message)),
        };
        let deadline =
            timeout_ms.and_then(|millis| Instant::now().checked_add(Duration::from_millis(millis)));
        let limit = timeout_ms.map(format_duration).unwrap_or_default();
        self.host
            .jobs
            .borrow_mut()
            .insert(id.clone(), JobRun::new(thread, env, deadline, limit));
        self.runnable
            .push_back((id, MultiValue::from_iter([Value::Function(function)])));
        Ok(())
    }

    /// The job that waits for a call, no longer waiting for it.
    fn waiter(&self, wanted: u64) -> Option<(String, Wait)> {
        let mut jobs = self.host.jobs.borrow_mut();
        let waits = |job: &JobRun| matches!(job.wait, Some(Wait::Command(call, _) | Wait::Answer(call, _)) if call == wanted);
        let (id, job) = jobs.iter_mut().find(|(_, job)| waits(job))?;
        job.wait.take().map(|wait| (id.clone(), wait))
    }

    fn command_ended(&mut self, call: u64, result: ShResult) -> io::Result<()> {
        // A job that ended meanwhile has no use for an answer.
        let Some((id, Wait::Command(_, command))) = self.waiter(call) else {
            return Ok(());
        };
        if let Some(message) = result.error {
            let message = format!("`{}`: {message}", command.text);
            return self.finish(
                &id,
                JobEnd::Failed {
                    message,
                    exit_code: None,
                    place: command.place,
                },
            );
        }
        match self.result_fields(&command.text, &result) {
            Ok(fields) => {
                if let Some(job) = self.host.jobs.borrow_mut().get_mut(&id) {
                    job.command_ended(call, command, result.exit);
                }
                // Ahead of those that only compute: it will soon wait again.
                self.runnable
                    .push_front((id, MultiValue::from_iter([Value::Table(fields)])));
                Ok(())
            }
            Err(error) => {
                let message = format!(
                    "the output of `{}` could not be taken: {}",
                    command.text,
                    lua_fault(&error).message
                );
                self.finish(
                    &id,
                    JobEnd::Failed {
                        message,
                        exit_code: None,
                        place: command.place,
                    },
                )
            }
        }
    }

    fn result_fields(&self, command: &str, result: &ShResult) -> mlua::Result<Table> {
        let lua = self.host.vm.lua();
        let bytes = |text: &Text| match text {
            Text::Plain(text) => lua.create_string(text),
            encoded @ Text::Encoded { .. } => lua.create_string(
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

    /// A tool beside `sh` has its answer: a value for the job, or a sentence that it raises.
    fn answered(&mut self, call: u64, answer: Result<Text, String>) -> io::Result<()> {
        let Some((id, Wait::Answer(_, wanted))) = self.waiter(call) else {
            return Ok(());
        };
        if let (Wanted::Secret(name), Ok(Text::Plain(value))) = (&wanted, &answer) {
            self.host.secrets.add(name, &Secret::new(value.clone()));
        }
        let lua = self.host.vm.lua();
        let given = answer.and_then(|text| {
            text.into_bytes()
                .map_err(|_| "the answer cannot be understood".to_owned())
        });
        let values = match given.and_then(|bytes| value_of(lua, &wanted, &bytes)) {
            Ok(value) => value.map(|value| MultiValue::from_iter([value])),
            Err(why) => lua
                .create_string(why)
                .map(|why| MultiValue::from_iter([Value::Nil, Value::String(why)])),
        };
        match values {
            Ok(values) => self.runnable.push_front((id, values)),
            Err(error) => {
                let message = lua_fault(&error).message;
                return self.finish(
                    &id,
                    JobEnd::Failed {
                        message,
                        exit_code: None,
                        place: None,
                    },
                );
            }
        }
        Ok(())
    }

    /// Lets the next thread run until it waits, ends, or its slice is over.
    fn step(&mut self) -> io::Result<()> {
        let Some((id, arguments)) = self.runnable.pop_front() else {
            return Ok(());
        };
        let Some((thread, deadline)) = self
            .host
            .jobs
            .borrow()
            .get(&id)
            .map(|job| (job.thread.clone(), job.deadline))
        else {
            return Ok(());
        };
        let watch = self.host.vm.watch();
        watch.set_deadline_at(deadline);
        watch.set_slice(Some(SLICE));
        *self.host.current.borrow_mut() = Some(id.clone());
        nix::unistd::alarm::set(STUCK_SECONDS);
        let result = thread.resume::<MultiValue>(arguments);
        nix::unistd::alarm::cancel();
        *self.host.current.borrow_mut() = None;

        let failure = self
            .host
            .jobs
            .borrow_mut()
            .get_mut(&id)
            .and_then(|job| job.failure.take());
        if let Some(failure) = failure {
            return self.finish(&id, failure);
        }
        if watch.expired() {
            let limit = self
                .host
                .jobs
                .borrow()
                .get(&id)
                .map(|job| job.limit.clone())
                .unwrap_or_default();
            let message =
                format!("it ran for longer than its time limit of {limit} and was stopped");
            return self.finish(
                &id,
                JobEnd::TimedOut {
                    message,
                    place: self.last_place(),
                },
            );
        }
        match result {
            Ok(values) if thread.is_resumable() => self.suspended(id, &values),
            Ok(values) => {
                let end = self.end_of(&id, &values);
                self.finish(&id, end)
            }
            Err(error) => {
                let end = self.raised(self.host.vm.at_last_line(lua_fault(&error)));
                self.finish(&id, end)
            }
        }
    }

    /// A thread yielded: it waits for an answer, or its slice was over.
    fn suspended(&mut self, id: String, values: &MultiValue) -> io::Result<()> {
        match values.front() {
            None => self.runnable.push_back((id, MultiValue::new())),
            Some(Value::Table(mark)) if *mark == self.call => {}
            Some(_) => {
                let end = self.raised(
                    self.host
                        .vm
                        .at_last_line(LuaFault::new("it yielded outside of a coroutine")),
                );
                return self.finish(&id, end);
            }
        }
        Ok(())
    }

    fn raised(&self, fault: LuaFault) -> JobEnd {
        let diagnostic = self
            .host
            .rejected
            .take()
            .unwrap_or_else(|| self.host.sources.diagnose(fault));
        JobEnd::Failed {
            message: diagnostic.message,
            exit_code: None,
            place: diagnostic.place,
        }
    }

    fn last_place(&self) -> Option<Place> {
        let (chunk, line) = self.host.vm.watch().last_line()?;
        Some(self.host.sources.place(&chunk, line))
    }

    /// A job's function returned or raised: what that makes of the job.
    fn end_of(&self, id: &str, values: &MultiValue) -> JobEnd {
        let value = match self.outcome(values) {
            Ok(value) => value,
            Err(fault) => return self.raised(fault),
        };
        let jobs = self.host.jobs.borrow();
        let Some(job) = jobs.get(id) else {
            return JobEnd::Skipped;
        };
        if let Some(failure) = job.unread_failure() {
            return failure;
        }
        if let Value::Table(table) = &value
            && let Some(failure) = self.returned_failure(job, table)
        {
            return failure;
        }
        if value.is_nil() && !job.ran {
            return JobEnd::Skipped;
        }
        match to_json(&value, &Limits::default(), &|table| {
            self.stored_fields(table)
        }) {
            Ok(output) => JobEnd::Complete { output },
            Err(error) => {
                let place = self.last_place();
                JobEnd::Failed {
                    message: format!("what it returns cannot be stored: {error}"),
                    exit_code: None,
                    place,
                }
            }
        }
    }

    /// The failure of a job that returns a table whose `:exit` is not 0.
    fn returned_failure(&self, job: &JobRun, table: &Table) -> Option<JobEnd> {
        let result: Option<(u64, Table)> = self
            .fields
            .call(table)
            .ok()
            .filter(|(call, _): &(Option<u64>, Option<Table>)| call.is_some())
            .and_then(|(call, fields)| call.zip(fields));
        let exit: Value = match &result {
            Some((call, _)) if job.failed.contains_key(call) => {
                return job.failed.get(call).map(super::job::Command::failure);
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
            message: format!("it returned :exit {}", excerpt(&shown)),
            exit_code,
            place: self.last_place(),
        })
    }

    /// The fields of a command's result as they are stored: text that is not UTF-8 loses what is
    /// not, and long output its end.
    fn stored_fields(&self, table: &Table) -> Option<Table> {
        let (_, fields): (Option<u64>, Option<Table>) = self.fields.call(table).ok()?;
        let fields = fields?;
        for name in ["stdout", "stderr"] {
            let text: mlua::LuaString = fields.raw_get(name).ok()?;
            let bytes = text.as_bytes();
            // Before it is cut: half a secret would be known to nobody.
            let bytes = self.host.secrets.redact_bytes(&bytes);
            let kept = &bytes[..bytes.len().min(MAX_KEPT_OUTPUT)];
            fields.raw_set(name, String::from_utf8_lossy(kept)).ok()?;
        }
        Some(fields)
    }

    fn finish(&mut self, id: &str, end: JobEnd) -> io::Result<()> {
        self.host.jobs.borrow_mut().remove(id);
        self.runnable.retain(|(other, _)| other != id);
        ended(id.to_owned(), end)
    }
}

/// An answer as the value that the job sees; or a sentence on what is wrong with it. The inner error is Lua's own.
fn value_of(lua: &mlua::Lua, wanted: &Wanted, bytes: &[u8]) -> Result<mlua::Result<Value>, String> {
    match wanted {
        Wanted::Secret(_) | Wanted::Text => Ok(lua.create_string(bytes).map(Value::String)),
        Wanted::Nothing => Ok(Ok(Value::Nil)),
        Wanted::Json(path) => match serde_json::from_slice::<serde_json::Value>(bytes) {
            Ok(value) => Ok(from_json(lua, &value)),
            Err(error) => Err(format!("`{}` is not JSON: {error}", excerpt(path))),
        },
    }
}

/// Reports a job's end; an output that is too long for the protocol fails it.
fn ended(job: String, end: JobEnd) -> io::Result<()> {
    if wire::say(&FromDriver::JobEnded {
        job: job.clone(),
        end,
    })? {
        return Ok(());
    }
    let message = "what it returns is too long to be stored".to_owned();
    wire::say(&FromDriver::JobEnded {
        job,
        end: JobEnd::Failed {
            message,
            exit_code: None,
            place: None,
        },
    })
    .map(|_| ())
}
