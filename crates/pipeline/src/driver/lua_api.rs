//! What the functions of the Lua side and the evaluator share: the pipeline's Lua state, what its
//! file registered so far, and the jobs that are running.
//!
//! `tools` adds what a job can call, `modules` loads the author's files, and `functions` makes all
//! of it callable from Lua.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};

use mlua::{Function, Lua};

use super::arguments::ToolResult;
use super::compiled::CompiledFiles;
use super::locations::{SourceMap, calling_frame};
use super::modules::ModuleLoader;
use super::protocol::{Language, PipelineSource};
use super::running_job::RunningJob;
use crate::fennel::{Compiler, Monitor, Vm};
use crate::lua_advice::in_lua;
use crate::{Diagnostic, Registration, SourceFile};
use quire_types::secret::Redactor;

pub(super) struct LuaApi {
    pub(super) vm: Vm,
    pub(super) sources: SourceMap,
    pub(super) modules: ModuleLoader,
    /// What the file registered so far.
    pub(super) registration: RefCell<Registration>,
    /// The total number of inputs of the registered jobs.
    pub(super) edges: Cell<usize>,
    /// Whether the file is still being evaluated.
    pub(super) registering: Cell<bool>,
    /// The jobs' functions, by job id.
    pub(super) functions: RefCell<HashMap<String, Function>>,
    /// The jobs' inputs, by job id.
    pub(super) inputs: RefCell<HashMap<String, Vec<String>>>,
    /// The values of sources and of jobs that ended, by name.
    pub(super) values: RefCell<HashMap<String, serde_json::Value>>,
    /// The jobs whose functions were called and have not ended, by id.
    pub(super) jobs: RefCell<BTreeMap<String, RunningJob>>,
    /// The id of the job whose thread is running now.
    pub(super) current: RefCell<Option<String>>,
    /// Where the last error that reached the top of a thread was raised.
    pub(super) raised: RefCell<Option<(String, u32)>>,
    /// The names of the tools that a job's function receives.
    pub(super) tool_names: RefCell<Vec<String>>,
    /// The secrets that the jobs asked for. Text is redacted here before it is shortened or split:
    /// the runner redacts everything again, but cannot recognize half of a secret.
    pub(super) secrets: Redactor,
    last_call: Cell<u64>,
}

impl LuaApi {
    pub(super) fn new(
        vm: Vm,
        compiler: Compiler,
        source: PipelineSource,
        known: CompiledFiles,
    ) -> Self {
        Self {
            vm,
            sources: SourceMap::new(&source),
            modules: ModuleLoader::new(compiler, source, known),
            registration: RefCell::default(),
            edges: Cell::new(0),
            registering: Cell::new(true),
            functions: RefCell::default(),
            inputs: RefCell::default(),
            values: RefCell::default(),
            jobs: RefCell::default(),
            current: RefCell::default(),
            raised: RefCell::default(),
            tool_names: RefCell::default(),
            secrets: Redactor::default(),
            last_call: Cell::new(0),
        }
    }

    pub(super) fn monitor(&self) -> &Monitor {
        self.vm.monitor()
    }

    /// Prefixes a message with the location of the author's code that called, in Lua's own format:
    /// `file:line: message`.
    pub(super) fn with_location(&self, lua: &Lua, message: &str) -> String {
        match calling_frame(lua, self.monitor()) {
            Some((chunk, line)) if chunk.ends_with(".lua") => {
                format!("{chunk}:{line}: {}", in_lua(message))
            }
            Some((chunk, line)) => format!("{chunk}:{line}: {message}"),
            None => message.to_owned(),
        }
    }

    /// Calls `act` with the id and state of the job that is running now.
    pub(super) fn with_current_job<T>(
        &self,
        act: impl FnOnce(&str, &mut RunningJob) -> ToolResult<T>,
    ) -> ToolResult<T> {
        let outside = "this works only inside a job's function";
        let current = self.current.borrow();
        let id = current.as_deref().ok_or(outside)?;
        let mut jobs = self.jobs.borrow_mut();
        act(id, jobs.get_mut(id).ok_or(outside)?)
    }

    pub(super) fn next_call(&self) -> u64 {
        self.last_call.set(self.last_call.get() + 1);
        self.last_call.get()
    }

    /// Records that the author's code read the exit code of a command's result.
    pub(super) fn mark_checked(&self, call: u64) {
        let mut jobs = self.jobs.borrow_mut();
        let current = self.current.borrow();
        if let Some(job) = current.as_deref().and_then(|id| jobs.get_mut(id))
            && job.unchecked.remove(&call).is_some()
        {
            return;
        }
        // The result may have come from another job, through a variable that both can see.
        for job in jobs.values_mut() {
            job.unchecked.remove(&call);
        }
    }

    /// Loads one of the author's files as a function of the pipeline's state.
    pub(super) fn load(
        &self,
        text: &SourceFile,
        language: Language,
    ) -> Result<Function, Diagnostic> {
        self.modules.load(&self.vm, &self.sources, text, language)
    }

    /// Keeps the inputs of the registered jobs, which decide what a job may ask for.
    pub(super) fn remember_inputs(&self, registration: &Registration) {
        let mut inputs = self.inputs.borrow_mut();
        for job in &registration.jobs {
            inputs
                .entry(job.id.clone())
                .or_insert_with(|| job.inputs.clone());
        }
    }
}
