//! The functions that the runtime's Lua side calls: a job's tools, and what both sides need of
//! each other. Each checks what it is given and answers with a value or with a sentence that
//! carries its place; the Lua side raises the sentence as an ordinary error.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use mlua::{Function, Lua, MultiValue, Table, Value};

use super::arguments::{
    Answer, artifact_name, command, content, excerpt, parts, path, sh_options, shown, text,
};
use super::compiled::CompiledFiles;
use super::job::{Command, JobRun, Wait, Wanted};
use super::place::{Sources, caller};
use super::protocol::{FromDriver, Language, PipelineSource, ShCommand};
use super::wire;
use crate::fennel::{Compiler, Vm, Watch, from_json, to_json};
use crate::pipeline::{Diagnostic, PipelineText, Place, Registration, nearest};
use crate::secret::Redactor;

/// What the host functions and the loop share.
pub(super) struct Host {
    /// The pipeline's state.
    pub(super) vm: Vm,
    /// Its files, to point into.
    pub(super) sources: Sources,
    /// What the file registered so far.
    pub(super) registration: RefCell<Registration>,
    /// How many inputs its jobs have together.
    pub(super) edges: Cell<usize>,
    /// The job's functions, by id.
    pub(super) functions: RefCell<HashMap<String, Function>>,
    /// The inputs of its jobs, by id.
    graph: RefCell<HashMap<String, Vec<String>>>,
    /// What sources and ended jobs gave, by name.
    pub(super) values: RefCell<HashMap<String, serde_json::Value>>,
    /// Whether the file is being read.
    pub(super) registering: Cell<bool>,
    /// Jobs whose functions were called and have not ended, by id.
    pub(super) jobs: RefCell<BTreeMap<String, JobRun>>,
    /// The job whose thread runs now.
    pub(super) current: RefCell<Option<String>>,
    /// Where the last error that reached the top was raised.
    pub(super) raised: RefCell<Option<(String, u32)>>,
    /// The secrets that its jobs asked for, so that what is shortened or split here is redacted first:
    /// the runner redacts everything, but knows half a secret no more.
    pub(super) secrets: Redactor,
    /// What is wrong with a helper file that was required.
    pub(super) rejected: RefCell<Option<Diagnostic>>,
    /// The compiler, while something may still have to be compiled.
    compiler: RefCell<Option<Compiler>>,
    /// Files whose Lua was known before.
    known: CompiledFiles,
    /// Files that were compiled here.
    compiled: RefCell<CompiledFiles>,
    source: PipelineSource,
    calls: Cell<u64>,
}

impl Host {
    /// A host for one pipeline.
    pub(super) fn new(
        vm: Vm,
        compiler: Compiler,
        source: PipelineSource,
        known: CompiledFiles,
    ) -> Self {
        Self {
            vm,
            sources: Sources::new(&source),
            registration: RefCell::default(),
            edges: Cell::new(0),
            functions: RefCell::default(),
            graph: RefCell::default(),
            values: RefCell::default(),
            registering: Cell::new(true),
            jobs: RefCell::default(),
            current: RefCell::default(),
            raised: RefCell::default(),
            secrets: Redactor::default(),
            rejected: RefCell::default(),
            compiler: RefCell::new(Some(compiler.with_helpers(source.helpers.clone()))),
            known,
            compiled: RefCell::default(),
            source,
            calls: Cell::new(0),
        }
    }

    fn watch(&self) -> &Watch {
        self.vm.watch()
    }

    /// The place of the author's code that called, as Lua writes it: `file:line: `.
    pub(super) fn at(&self, lua: &Lua, message: &str) -> String {
        match caller(lua, self.watch()) {
            Some((chunk, line)) => format!("{chunk}:{line}: {message}"),
            None => message.to_owned(),
        }
    }

    /// The place of the tool's call that is running.
    fn place_of_call(&self, lua: &Lua, tool: &str, first: &str) -> Option<Place> {
        caller(lua, self.watch())
            .map(|(chunk, line)| self.sources.place_of_call(&chunk, line, tool, first))
    }

    /// Does something with the running job.
    fn with_job<T>(&self, act: impl FnOnce(&str, &mut JobRun) -> Answer<T>) -> Answer<T> {
        let current = self.current.borrow();
        let id = current
            .as_deref()
            .ok_or("this works only inside a job's function")?;
        let mut jobs = self.jobs.borrow_mut();
        let job = jobs
            .get_mut(id)
            .ok_or("this works only inside a job's function")?;
        act(id, job)
    }

    fn next_call(&self) -> u64 {
        self.calls.set(self.calls.get() + 1);
        self.calls.get()
    }

    /// Begins a command: gives the call, or nothing where the job has failed instead.
    fn sh(&self, lua: &Lua, arguments: MultiValue) -> Answer<Option<u64>> {
        let mut arguments = arguments.into_iter();
        let cmd = command(&arguments.next().unwrap_or(Value::Nil))?;
        let opts = sh_options(&arguments.next().unwrap_or(Value::Nil))?;
        let first = match &cmd {
            ShCommand::Shell(line) => line.as_str(),
            ShCommand::Argv(_) => "",
        };
        let place = self.place_of_call(lua, "sh", first);
        let call = self.next_call();
        self.with_job(|id, job| {
            if job.wait.is_some() {
                return Err("a job can wait for one command at a time: use more jobs to run commands side by side".to_owned());
            }
            if let Some(failure) = job.unread_failure() {
                job.failure = Some(failure);
                return Ok(None);
            }
            job.ran = true;
            job.wait = Some(Wait::Command(call, Command { text: shown(&cmd, &self.secrets), place, exit: 0 }));
            tell(&FromDriver::Sh { call, job: id.to_owned(), cmd, opts })?;
            Ok(Some(call))
        })
    }

    /// Asks the runner for something; gives the call.
    fn ask(&self, wanted: Wanted, message: impl FnOnce(u64, String) -> FromDriver) -> Answer<u64> {
        let call = self.next_call();
        self.with_job(|id, job| {
            if job.wait.is_some() {
                return Err("a job can wait for one thing at a time: use more jobs to do things side by side".to_owned());
            }
            tell(&message(call, id.to_owned()))?;
            job.wait = Some(Wait::Answer(call, wanted));
            Ok(call)
        })
    }

    fn secret(&self, arguments: &MultiValue) -> Answer<u64> {
        let name = text(arguments.front(), "the name of a secret")?;
        self.ask(Wanted::Secret(name.clone()), |call, job| {
            FromDriver::Secret { call, job, name }
        })
    }

    fn read_file(&self, arguments: &MultiValue) -> Answer<u64> {
        let path = path(arguments.front())?;
        self.ask(Wanted::Text, |call, job| FromDriver::ReadFile {
            call,
            job,
            path,
        })
    }

    fn read_json(&self, arguments: &MultiValue) -> Answer<u64> {
        let path = path(arguments.front())?;
        self.ask(Wanted::Json(path.clone()), |call, job| {
            FromDriver::ReadFile { call, job, path }
        })
    }

    fn write_file(&self, arguments: &MultiValue) -> Answer<u64> {
        let (path, content) = (path(arguments.front())?, content(arguments.get(1))?);
        self.ask(Wanted::Nothing, |call, job| FromDriver::WriteFile {
            call,
            job,
            path,
            content,
        })
    }

    fn artifact(&self, arguments: &MultiValue) -> Answer<u64> {
        let (path, name) = (path(arguments.front())?, artifact_name(arguments.get(1))?);
        self.ask(Wanted::Nothing, |call, job| FromDriver::Artifact {
            call,
            job,
            path,
            name,
        })
    }

    /// What an ancestor or a source gave.
    fn jobs(&self, lua: &Lua, arguments: &MultiValue) -> Answer<Value> {
        let name = text(arguments.front(), "the name of a job or source")?;
        self.with_job(|id, _| {
            let graph = self.graph.borrow();
            let ancestors = ancestors(&graph, id, &name);
            if ancestors.contains(name.as_str()) {
                let values = self.values.borrow();
                return values
                    .get(&name)
                    .map_or(Ok(Value::Nil), |value| from_json(lua, value))
                    .map_err(|error| error.to_string());
            }
            let known = || ancestors.iter().copied();
            let hint = match nearest(&name, known()) {
                Some(near) => format!("; did you mean :{near}?"),
                None if self.functions.borrow().contains_key(&name) => {
                    format!("; add :{name} to its inputs")
                }
                None => format!(
                    "; it can ask for {}",
                    known()
                        .map(|name| format!(":{name}"))
                        .collect::<Vec<_>>()
                        .join(" ")
                ),
            };
            Err(format!(
                "job `{id}` asks for `{}`, which is not among the jobs and sources before it{hint}",
                excerpt(&name)
            ))
        })
    }

    /// A variable that the job's commands see; nothing where there is none of that name.
    fn env(&self, arguments: &MultiValue) -> Answer<Option<String>> {
        let name = text(arguments.front(), "the name of a variable")?;
        // The last one of a name counts, as it does for a command.
        self.with_job(|_, job| {
            Ok(job
                .env
                .iter()
                .rev()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.clone()))
        })
    }

    /// Lines for the job's log.
    fn log(&self, arguments: &MultiValue) -> Answer<()> {
        let message = match arguments.front() {
            Some(Value::String(text)) => text.to_string_lossy(),
            Some(Value::Integer(number)) => number.to_string(),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Boolean(value)) => value.to_string(),
            Some(value @ Value::Table(_)) => {
                let value = to_json(value, &crate::fennel::Limits::default(), &|_| None);
                value.map_or_else(
                    |error| format!("(a table: {error})"),
                    |value| value.to_string(),
                )
            }
            other => {
                return Err(format!(
                    "`log` takes text, not {}",
                    other.map_or("nothing", Value::type_name)
                ));
            }
        };
        let message = self.secrets.redact_text(&message);
        self.with_job(|id, _| {
            for line in message.lines() {
                for part in parts(line) {
                    tell(&FromDriver::Log {
                        job: id.to_owned(),
                        text: part.to_owned(),
                    })?;
                }
            }
            Ok(())
        })
    }

    /// The exit code of a command's result was read.
    fn seen(&self, call: u64) {
        let mut jobs = self.jobs.borrow_mut();
        if let Some(job) = self
            .current
            .borrow()
            .as_deref()
            .and_then(|id| jobs.get_mut(id))
            && job.unread.remove(&call).is_some()
        {
            return;
        }
        // A result that another job handed over.
        for job in jobs.values_mut() {
            job.unread.remove(&call);
        }
    }

    /// A helper file beside the pipeline, as a function.
    fn module(&self, name: &str) -> Answer<Function> {
        let path = name.replace('.', "/");
        let wanted = [
            format!("{path}.fnl"),
            format!("{path}/init.fnl"),
            format!("{path}.lua"),
            format!("{path}/init.lua"),
        ];
        let folder = self
            .source
            .file
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder);
        let inside = |file: &str| {
            file.strip_prefix(folder)
                .map(|file| file.trim_start_matches('/').to_owned())
        };
        let helper = wanted.iter().find_map(|wanted| {
            self.source
                .helpers
                .iter()
                .find(|(file, _)| inside(file).as_ref() == Some(wanted))
        });
        let Some((file, text)) = helper else {
            let hint = nearest(name, ["quire.ci"].into_iter())
                .map_or_else(String::new, |near| format!("; did you mean :{near}?"));
            return Err(format!(
                "there is no module `{}`: a helper is a file beside the pipeline, such as {folder}/{}{hint}",
                excerpt(name),
                wanted[0]
            ));
        };
        let language = if file.ends_with(".lua") {
            Language::Lua
        } else {
            Language::Fennel
        };
        let text = PipelineText {
            file: file.clone(),
            text: text.clone(),
        };
        self.load(
            &text,
            language,
            self.environment().map_err(|error| error.to_string())?,
        )
        .map_err(|diagnostic| {
            let message = diagnostic.to_string();
            *self.rejected.borrow_mut() = Some(diagnostic);
            message
        })
    }

    fn environment(&self) -> mlua::Result<Table> {
        self.vm.lua().named_registry_value(ENVIRONMENT)
    }

    /// A file as a function of the pipeline's state.
    pub(super) fn load(
        &self,
        text: &PipelineText,
        language: Language,
        environment: Table,
    ) -> Result<Function, Diagnostic> {
        let lua_text = match language {
            Language::Lua => text.text.clone(),
            Language::Fennel => self.compile(text, &environment)?,
        };
        self.vm
            .chunk(&lua_text, &text.file, Some(environment))
            .map_err(|error| self.sources.diagnose(crate::fennel::lua_fault(&error)))
    }

    /// Gives away what was compiled here so far.
    pub(super) fn take_compiled(&self) -> CompiledFiles {
        self.compiled.take()
    }

    fn compile(&self, text: &PipelineText, environment: &Table) -> Result<String, Diagnostic> {
        if let Some((_, lua_text)) = self.known.iter().find(|(file, _)| *file == text.file) {
            return Ok(lua_text.clone());
        }
        let globals: Vec<String> = environment
            .pairs::<String, Value>()
            .filter_map(|pair| pair.ok().map(|(name, _)| name))
            .collect();
        match self.compiler.borrow().as_ref() {
            Some(compiler) => {
                let lua_text = compiler.compile(text, &globals)?;
                if self.registering.get() {
                    self.compiled
                        .borrow_mut()
                        .push((text.file.clone(), lua_text.clone()));
                }
                Ok(lua_text)
            }
            None => Err(text.diagnostic("the compiler is not there", 1, 1)),
        }
    }

    /// Keeps which job waits for which, for when they ask.
    pub(super) fn remember_graph(&self, registration: &Registration) {
        let mut graph = self.graph.borrow_mut();
        for job in &registration.jobs {
            graph
                .entry(job.id.clone())
                .or_insert_with(|| job.inputs.clone());
        }
    }

    /// Lets the compiler go, where no helper can need it any more.
    pub(super) fn drop_compiler(&self) {
        if self.source.helpers.is_empty() {
            *self.compiler.borrow_mut() = None;
        }
    }
}

/// The jobs and sources before a job; once `wanted` is found among them, no more are looked for.
fn ancestors<'a>(
    graph: &'a HashMap<String, Vec<String>>,
    job: &'a str,
    wanted: &str,
) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open = vec![job];
    while let Some(inputs) = open.pop().map(|name| graph.get(name)) {
        for input in inputs.into_iter().flatten() {
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

/// Where the registry keeps the author's global environment.
pub(super) const ENVIRONMENT: &str = "quire.environment";

/// The table of host functions that the Lua side is given.
pub(super) fn functions(host: &Rc<Host>) -> mlua::Result<Table> {
    let lua = host.vm.lua();
    let table = lua.create_table()?;
    let with = || Rc::clone(host);

    let host = with();
    let sh = move |lua: &Lua, arguments: MultiValue| {
        Ok(faulty(
            host.sh(lua, arguments)
                .map_err(|fault| host.at(lua, &fault)),
        ))
    };
    table.raw_set("sh", lua.create_function(sh)?)?;
    type Ask = fn(&Host, &MultiValue) -> Answer<u64>;
    let asking: [(&str, Ask); 5] = [
        ("secret", Host::secret),
        ("read_file", Host::read_file),
        ("read_json", Host::read_json),
        ("write_file", Host::write_file),
        ("artifact", Host::artifact),
    ];
    for (name, ask) in asking {
        let host = with();
        let ask = move |lua: &Lua, arguments: MultiValue| {
            Ok(faulty(
                ask(&host, &arguments)
                    .map(Some)
                    .map_err(|fault| host.at(lua, &fault)),
            ))
        };
        table.raw_set(name, lua.create_function(ask)?)?;
    }
    let host = with();
    let jobs = move |lua: &Lua, arguments: MultiValue| {
        Ok(faulty(
            host.jobs(lua, &arguments)
                .map(Some)
                .map_err(|fault| host.at(lua, &fault)),
        ))
    };
    table.raw_set("jobs", lua.create_function(jobs)?)?;
    let host = with();
    let env = move |lua: &Lua, arguments: MultiValue| {
        Ok(faulty(
            host.env(&arguments).map_err(|fault| host.at(lua, &fault)),
        ))
    };
    table.raw_set("env", lua.create_function(env)?)?;
    let host = with();
    let log = move |lua: &Lua, arguments: MultiValue| {
        Ok(host.log(&arguments).err().map(|fault| host.at(lua, &fault)))
    };
    table.raw_set("log", lua.create_function(log)?)?;
    let host = with();
    table.raw_set(
        "seen",
        lua.create_function(move |_, call: u64| {
            host.seen(call);
            Ok(())
        })?,
    )?;
    let host = with();
    table.raw_set(
        "at",
        lua.create_function(move |lua, message: String| Ok(host.at(lua, &message)))?,
    )?;
    let host = with();
    let module = move |lua: &Lua, name: Value| {
        let module = text(Some(&name), "the name of a module").and_then(|name| host.module(&name));
        // What is wrong inside the helper carries the place in it.
        Ok(faulty(module.map(Some).map_err(|fault| {
            if host.rejected.borrow().is_some() {
                fault
            } else {
                host.at(lua, &fault)
            }
        })))
    };
    table.raw_set("module", lua.create_function(module)?)?;
    let host = with();
    let unknown = move |lua: &Lua, (what, name, known): (String, Value, Vec<String>)| {
        let name = text(Some(&name), "a name").unwrap_or_else(|_| name.type_name().to_owned());
        let hint = match nearest(&name, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "it has {}",
                known
                    .iter()
                    .map(|name| format!("`{name}`"))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        };
        Ok(host.at(lua, &format!("{what} has no `{}`: {hint}", excerpt(&name))))
    };
    table.raw_set("unknown", lua.create_function(unknown)?)?;
    let host = with();
    let raised = move |lua: &Lua, error: Value| {
        *host.raised.borrow_mut() = caller(lua, host.watch());
        Ok(error_text(&error))
    };
    table.raw_set("raised", lua.create_function(raised)?)?;
    Ok(table)
}

/// `value, fault` for Lua.
fn faulty<T>(answer: Answer<Option<T>>) -> (Option<T>, Option<String>) {
    match answer {
        Ok(value) => (value, None),
        Err(fault) => (None, Some(fault)),
    }
}

/// Says something to the runner; where nobody listens any more there is nothing left to do.
fn tell(message: &FromDriver) -> Answer<()> {
    match wire::say(message) {
        Ok(true) => Ok(()),
        Ok(false) => Err("this is too much text at once".to_owned()),
        Err(_) => std::process::exit(0),
    }
}

/// An error value as one text.
fn error_text(error: &Value) -> String {
    match error {
        Value::String(text) => text.to_string_lossy(),
        Value::Error(error) => root(error),
        Value::Table(table) => match to_json(error, &crate::fennel::Limits::default(), &|_| None) {
            Ok(value) if table.metatable().is_none() => format!("raised {value}"),
            _ => error
                .to_string()
                .unwrap_or_else(|_| "raised a table".to_owned()),
        },
        Value::Nil => "raised nil".to_owned(),
        other => other
            .to_string()
            .unwrap_or_else(|_| format!("raised a {}", other.type_name())),
    }
}

/// What one of the host's own functions raised, without mlua's words around it.
fn root(error: &mlua::Error) -> String {
    match error {
        mlua::Error::CallbackError { cause, .. } => root(cause),
        mlua::Error::RuntimeError(message) | mlua::Error::MemoryError(message) => message.clone(),
        other => other.to_string(),
    }
}
