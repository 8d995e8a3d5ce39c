//! Fennel's compiler in a state of its own: text in, Lua text out, line for line.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use mlua::{Function, MultiValue, Value};

use super::error::{LuaFault, diagnose, lua_fault};
use super::vm::{MEMORY_LIMIT, Vm};
use crate::pipeline::{Diagnostic, PipelineText};

/// The compiler, as the build script left it.
static FENNEL: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/fennel.luac"));
/// What stands in for a Lua installation around it.
static SHIM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/compiler.luac"));

/// How long compiling one file may take unless said otherwise; only a macro that loops takes long.
const COMPILE_TIME: Duration = Duration::from_secs(5);

/// A loaded compiler.
#[derive(Debug)]
pub struct Compiler {
    vm: Vm,
    compile: Function,
    helpers: Rc<RefCell<Vec<(String, String)>>>,
    limit: Duration,
}

impl Compiler {
    /// Loads the compiler.
    ///
    /// # Errors
    /// Only for want of memory.
    pub fn new() -> Result<Self, LuaFault> {
        Self::load().map_err(|error| lua_fault(&error))
    }

    fn load() -> mlua::Result<Self> {
        let vm = Vm::for_compiler(MEMORY_LIMIT)?;
        let helpers = Rc::<RefCell<Vec<(String, String)>>>::default();
        let among = Rc::clone(&helpers);
        let helper = vm.lua().create_function(move |lua, path: String| {
            let wanted = path.strip_prefix("./").unwrap_or(&path);
            let among = among.borrow();
            let found = among.iter().find(|(path, _)| helper_name(path) == wanted);
            found.map(|(_, text)| lua.create_string(text)).transpose()
        })?;
        let compile = vm
            .own_bytecode(SHIM)?
            .call((vm.own_bytecode(FENNEL)?, helper))?;
        Ok(Self {
            vm,
            compile,
            helpers,
            limit: COMPILE_TIME,
        })
    }

    /// The same, but macro modules are looked for among these: path within the commit, text.
    #[must_use]
    pub fn with_helpers(self, helpers: Vec<(String, String)>) -> Self {
        self.helpers.replace(helpers);
        self
    }

    /// The same, but compiling one file may take at most so long.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Compiles a file to Lua whose lines are the lines of the file. `globals` are the names the
    /// file may use without binding them.
    ///
    /// # Errors
    /// What is wrong with the file, and where.
    pub fn compile(&self, source: &PipelineText, globals: &[String]) -> Result<String, Diagnostic> {
        self.try_compile(source, globals).map_err(|mut fault| {
            // A macro module goes by the name that the compiler looked for.
            let helpers = self.helpers.borrow();
            let named = |chunk: &str| {
                helpers.iter().find(|(path, _)| {
                    chunk
                        .strip_prefix("./")
                        .is_some_and(|name| name == helper_name(path))
                })
            };
            let Some((path, text)) = fault.chunk.as_deref().and_then(named) else {
                return diagnose(source, fault);
            };
            fault.chunk = Some(path.clone());
            diagnose(
                &PipelineText {
                    file: path.clone(),
                    text: text.clone(),
                },
                fault,
            )
        })
    }

    fn try_compile(&self, source: &PipelineText, globals: &[String]) -> Result<String, LuaFault> {
        let fault = |error: mlua::Error| lua_fault(&error);
        let thread = self
            .vm
            .lua()
            .create_thread(self.compile.clone())
            .map_err(fault)?;
        self.vm.watch().set_deadline(Some(self.limit));
        let result = thread.resume::<MultiValue>((
            source.text.as_str(),
            source.file.as_str(),
            globals.to_vec(),
        ));
        if self.vm.watch().expired() || thread.is_resumable() {
            return Err(LuaFault::new(
                "the file takes too long to compile: does a macro loop, or is it nested very deeply?",
            ));
        }
        let mut values = result.map_err(fault)?.into_iter();
        match (values.next(), values.next()) {
            (Some(Value::Boolean(true)), Some(Value::String(text))) => Ok(text.to_string_lossy()),
            (_, Some(Value::String(message))) => Err(LuaFault::parse_compiler(
                &message.to_string_lossy(),
                globals,
            )),
            (_, Some(Value::Error(error))) => Err(lua_fault(&error)),
            (_, other) => Err(LuaFault::new(format!(
                "the file does not compile: {}",
                describe(other.as_ref())
            ))),
        }
    }
}

/// The name under which a helper file is found: its path without the folder of the pipeline.
fn helper_name(path: &str) -> &str {
    path.strip_prefix(".quire/").unwrap_or(path)
}

/// An error value that is no text, which only a macro can raise.
fn describe(value: Option<&Value>) -> String {
    value.map_or_else(
        || "for no reason given".to_owned(),
        |value| format!("a macro raised a {}", value.type_name()),
    )
}
