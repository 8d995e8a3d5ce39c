//! Fennel's compiler in a Lua state of its own. The Lua text that it returns has the line numbers
//! of the Fennel text.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use mlua::{Function, MultiValue, Value};

use super::error::LuaError;
use super::limits::MEMORY_LIMIT;
use super::vm::Vm;
use crate::{Diagnostic, SourceFile};

/// Fennel's compiler as Lua bytecode, made by the build script.
static FENNEL: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/fennel.luac"));
/// The bytecode of compiler.lua, which replaces the parts of a Lua installation that Fennel needs.
static SHIM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/compiler.luac"));

/// The default time limit for one file. Only a macro that loops comes near it.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(5);

/// A loaded compiler.
#[derive(Debug)]
pub struct Compiler {
    vm: Vm,
    compile: Function,
    helpers: Rc<RefCell<Vec<(String, String)>>>,
    timeout: Duration,
}

impl Compiler {
    /// # Errors
    /// Fails only if memory runs out.
    pub fn new() -> Result<Self, LuaError> {
        Self::load().map_err(|error| LuaError::from(&error))
    }

    fn load() -> mlua::Result<Self> {
        let vm = Vm::for_compiler(MEMORY_LIMIT)?;
        let helpers = Rc::<RefCell<Vec<(String, String)>>>::default();
        let known_helpers = Rc::clone(&helpers);
        let helper = vm.lua().create_function(move |lua, path: String| {
            let wanted = path.strip_prefix("./").unwrap_or(&path);
            let known_helpers = known_helpers.borrow();
            let found = known_helpers
                .iter()
                .find(|(path, _)| helper_name(path) == wanted);
            found.map(|(_, text)| lua.create_string(text)).transpose()
        })?;
        let compile = vm
            .load_bytecode(SHIM)?
            .call((vm.load_bytecode(FENNEL)?, helper))?;
        Ok(Self {
            vm,
            compile,
            helpers,
            timeout: COMPILE_TIMEOUT,
        })
    }

    /// Sets the files that macro modules are loaded from, as pairs of path within the commit and
    /// text.
    #[must_use]
    pub fn with_helpers(self, helpers: Vec<(String, String)>) -> Self {
        self.helpers.replace(helpers);
        self
    }

    /// Sets the time limit for compiling one file.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Compiles a file to Lua that keeps the file's line numbers. `globals` are the names that the
    /// file may use without binding them.
    ///
    /// # Errors
    /// Returns what is wrong with the file, and where.
    pub fn compile(&self, source: &SourceFile, globals: &[String]) -> Result<String, Diagnostic> {
        self.try_compile(source, globals).map_err(|mut error| {
            // Fennel names a macro module by the path that it looked up, not by its path in the
            // commit.
            let helpers = self.helpers.borrow();
            let named = |chunk: &str| {
                helpers.iter().find(|(path, _)| {
                    chunk
                        .strip_prefix("./")
                        .is_some_and(|name| name == helper_name(path))
                })
            };
            let Some((path, text)) = error.chunk.as_deref().and_then(named) else {
                if error.message.contains("expected closing delimiter")
                    && let Some((line, column, form)) = source.unclosed_form()
                {
                    error.hint = Some(format!("the form that begins here is not closed: `{form}`"));
                    (error.line, error.column) = (Some(line), Some(column));
                }
                return error.into_diagnostic(source);
            };
            error.chunk = Some(path.clone());
            error.into_diagnostic(&SourceFile {
                file: path.clone(),
                text: text.clone(),
            })
        })
    }

    fn try_compile(&self, source: &SourceFile, globals: &[String]) -> Result<String, LuaError> {
        let thread = self
            .vm
            .lua()
            .create_thread(self.compile.clone())
            .map_err(|error| LuaError::from(&error))?;
        self.vm.monitor().set_deadline(Some(self.timeout));
        let result = thread.resume::<MultiValue>((
            source.text.as_str(),
            source.file.as_str(),
            globals.to_vec(),
        ));
        if self.vm.monitor().expired() || thread.is_resumable() {
            return Err(LuaError::new(
                "the file takes too long to compile: does a macro loop, or is it nested very deeply?",
            ));
        }
        let mut values = result.map_err(|error| LuaError::from(&error))?.into_iter();
        match (values.next(), values.next()) {
            (Some(Value::Boolean(true)), Some(Value::String(text))) => Ok(text.to_string_lossy()),
            (_, Some(Value::String(message))) => Err(LuaError::parse_compiler(
                &message.to_string_lossy(),
                globals,
            )),
            (_, Some(Value::Error(error))) => Err(LuaError::from(&*error)),
            (_, other) => Err(LuaError::new(format!(
                "the file does not compile: {}",
                describe(other.as_ref())
            ))),
        }
    }
}

/// The name that `import-macros` uses for a helper file: its path without the pipeline's folder.
fn helper_name(path: &str) -> &str {
    path.strip_prefix(".quire/").unwrap_or(path)
}

/// Describes an error value that is not text. Only a macro can raise one.
fn describe(value: Option<&Value>) -> String {
    value.map_or_else(
        || "no reason was given".to_owned(),
        |value| format!("a macro raised a {}", value.type_name()),
    )
}
