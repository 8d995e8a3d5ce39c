//! Loads the author's files into the pipeline's Lua state: the pipeline itself, and the helper
//! files that it requires.

use std::cell::{Cell, RefCell};

use mlua::{Function, Table, Value};

use super::arguments::ToolResult;
use super::compiled::CompiledFiles;
use super::locations::SourceMap;
use super::protocol::{Language, PipelineSource};
use crate::fennel::{Compiler, LuaError, Vm, globals, undefined_global};
use crate::{Diagnostic, SourceFile, closest_match};
use quire_types::text::excerpt_name;

/// The key of the author's global environment in Lua's registry.
pub(super) const ENVIRONMENT: &str = "quire.environment";

/// The words of a pipeline that reads the outputs of a command separately.
const STREAM_WORDS: [&str; 2] = ["stdout", "stderr"];

pub(super) struct ModuleLoader {
    source: PipelineSource,
    /// Whether one of the author's files has one of [`STREAM_WORDS`].
    tells_streams_apart: Cell<bool>,
    /// `None` once no file can need compiling any more.
    compiler: RefCell<Option<Compiler>>,
    /// Files whose Lua text the parent process sent along.
    known: CompiledFiles,
    /// Files that were compiled here. `None` once the parent has received them: it accepts only
    /// what was compiled before the jobs' code could run.
    compiled: RefCell<Option<CompiledFiles>>,
    /// What is wrong with a helper file that the pipeline required.
    rejected: RefCell<Option<Diagnostic>>,
}

impl ModuleLoader {
    pub(super) fn new(compiler: Compiler, source: PipelineSource, known: CompiledFiles) -> Self {
        let texts = source.helpers.iter().map(|(_, text)| text);
        let tells_streams_apart = texts
            .chain([&source.text])
            .any(|text| has_stream_word(text));
        Self {
            tells_streams_apart: Cell::new(tells_streams_apart),
            compiler: RefCell::new(Some(compiler.with_helpers(source.helpers.clone()))),
            source,
            known,
            compiled: RefCell::new(Some(CompiledFiles::new())),
            rejected: RefCell::default(),
        }
    }

    /// Whether the author's code may read standard output and standard error of a command
    /// separately. Code that reads neither gets the exact order of both.
    pub(super) fn tells_streams_apart(&self) -> bool {
        self.tells_streams_apart.get()
    }

    /// Loads the helper file that `(require name)` means.
    pub(super) fn require(&self, vm: &Vm, sources: &SourceMap, name: &str) -> ToolResult<Function> {
        let text = self.find_helper(name)?;
        let language = if text.file.ends_with(".lua") {
            Language::Lua
        } else {
            Language::Fennel
        };
        self.load(vm, sources, &text, language)
            .map_err(|diagnostic| {
                let message = diagnostic.to_string();
                *self.rejected.borrow_mut() = Some(diagnostic);
                message
            })
    }

    fn find_helper(&self, name: &str) -> ToolResult<SourceFile> {
        let path = name.replace('.', "/");
        let candidates = [
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
        let within_folder = |file: &str| {
            file.strip_prefix(folder)
                .map(|file| file.trim_start_matches('/').to_owned())
        };
        let helper = candidates.iter().find_map(|candidate| {
            self.source
                .helpers
                .iter()
                .find(|(file, _)| within_folder(file).as_ref() == Some(candidate))
        });
        if let Some((file, text)) = helper {
            return Ok(SourceFile {
                file: file.clone(),
                text: text.clone(),
            });
        }
        let hint = closest_match(name, ["quire.ci"].into_iter())
            .map_or_else(String::new, |near| format!("; did you mean :{near}?"));
        Err(format!(
            "there is no module `{}`: a helper is a file beside the pipeline, such as {folder}/{}{hint}",
            excerpt_name(name),
            candidates[0]
        ))
    }

    /// Whether a helper file was rejected whose diagnostic has not been taken yet.
    pub(super) fn has_rejected(&self) -> bool {
        self.rejected.borrow().is_some()
    }

    pub(super) fn take_rejected(&self) -> Option<Diagnostic> {
        self.rejected.take()
    }

    /// The author's global environment.
    pub(super) fn environment(&self, vm: &Vm) -> mlua::Result<Table> {
        vm.lua().named_registry_value(ENVIRONMENT)
    }

    /// Loads a text in Fennel that is not among the author's files.
    pub(super) fn load_entry(
        &self,
        vm: &Vm,
        sources: &SourceMap,
        text: &SourceFile,
    ) -> Result<Function, Diagnostic> {
        if has_stream_word(&text.text) {
            self.tells_streams_apart.set(true);
        }
        if self.compiler.borrow().is_none() {
            let compiler = Compiler::new().map_err(|error| error.into_diagnostic(text))?;
            *self.compiler.borrow_mut() = Some(compiler);
        }
        self.load(vm, sources, text, Language::Fennel)
    }

    /// Loads one of the author's files as a function.
    pub(super) fn load(
        &self,
        vm: &Vm,
        sources: &SourceMap,
        text: &SourceFile,
        language: Language,
    ) -> Result<Function, Diagnostic> {
        let diagnostic = |error: mlua::Error| sources.diagnose(LuaError::from(&error));
        let environment = self.environment(vm).map_err(diagnostic)?;
        let lua_text = match language {
            Language::Lua => text.text.clone(),
            Language::Fennel => self.compile(text, &environment)?,
        };
        let names = global_names(&environment);
        let chunk = vm
            .load_text(&lua_text, &text.file, Some(environment))
            .map_err(diagnostic)?;
        match language {
            Language::Lua => self.check_names(vm, text, &chunk, names).map(|()| chunk),
            // The compiler has checked them.
            Language::Fennel => Ok(chunk),
        }
    }

    /// Fails if a Lua file uses a name that no file defines. Nothing is checked if code may define names in ways that
    /// cannot be seen, by the table `_G` or in Fennel.
    fn check_names(
        &self,
        vm: &Vm,
        text: &SourceFile,
        chunk: &Function,
        mut known: Vec<String>,
    ) -> Result<(), Diagnostic> {
        let Some(own) = globals(&chunk.dump(false)) else {
            return Ok(());
        };
        let mut uses_table = own.uses_table;
        known.extend(own.assigned);
        if undefined_global(text, &own.read, &known).is_none() {
            return Ok(());
        }
        let main = (self.source.file.clone(), self.source.text.clone());
        for (file, text) in self.source.helpers.iter().chain([&main]) {
            if !file.ends_with(".lua") {
                uses_table |= text.contains("global") || text.contains("_G");
            } else if let Ok(helper) = vm.load_text(text, file, None)
                && let Some(found) = globals(&helper.dump(false))
            {
                uses_table |= found.uses_table;
                known.extend(found.assigned);
            }
        }
        match undefined_global(text, &own.read, &known) {
            Some(problem) if !uses_table => Err(problem),
            _ => Ok(()),
        }
    }

    fn compile(&self, text: &SourceFile, environment: &Table) -> Result<String, Diagnostic> {
        if let Some((_, lua_text)) = self.known.iter().find(|(file, _)| *file == text.file) {
            return Ok(lua_text.clone());
        }
        let globals = global_names(environment);
        let compiler = self.compiler.borrow();
        let Some(compiler) = compiler.as_ref() else {
            return Err(text.diagnostic("the compiler has been unloaded", 1, 1));
        };
        let lua_text = compiler.compile(text, &globals)?;
        if let Some(compiled) = self.compiled.borrow_mut().as_mut() {
            compiled.push((text.file.clone(), lua_text.clone()));
        }
        Ok(lua_text)
    }

    /// Returns the files that were compiled so far, for the parent's cache. Files that are compiled
    /// later are not collected.
    pub(super) fn take_compiled(&self) -> CompiledFiles {
        self.compiled.take().unwrap_or_default()
    }

    /// Unloads the compiler, unless a job could still require a helper file.
    pub(super) fn unload_compiler(&self) {
        if self.source.helpers.is_empty() {
            *self.compiler.borrow_mut() = None;
        }
    }
}

fn has_stream_word(text: &str) -> bool {
    STREAM_WORDS.iter().any(|word| text.contains(word))
}

/// What Fennel puts before the name of a global that is no name in Lua.
const FENNEL_GLOBAL: &str = "__fnl_global__";

/// The key of a global in the environment, as Fennel's compiler writes it: in a name that Lua does not have, every
/// character but letters and digits is encoded.
pub(super) fn global_key(name: &str) -> String {
    if name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    {
        return name.to_owned();
    }
    let encoded = name.bytes().map(|byte| {
        if byte.is_ascii_alphanumeric() {
            char::from(byte).to_string()
        } else {
            format!("_{byte:02x}")
        }
    });
    std::iter::once(FENNEL_GLOBAL.to_owned())
        .chain(encoded)
        .collect()
}

/// The name of a global in Fennel.
fn fennel_name(key: String) -> String {
    let Some(encoded) = key.strip_prefix(FENNEL_GLOBAL) else {
        return key;
    };
    let mut parts = encoded.split('_');
    let mut name = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part
            .get(..2)
            .and_then(|code| u8::from_str_radix(code, 16).ok())
        {
            Some(byte) => {
                name.push(byte);
                name.extend(&part.as_bytes()[2..]);
            }
            None => return key,
        }
    }
    String::from_utf8(name).unwrap_or(key)
}

/// The names in the author's environment, sorted.
fn global_names(environment: &Table) -> Vec<String> {
    let mut names: Vec<String> = environment
        .pairs::<String, Value>()
        .filter_map(|pair| pair.ok().map(|(name, _)| fennel_name(name)))
        .collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_globals_in_fennel_have_keys_of_lua() {
        for (name, key) in [
            ("sh", "sh"),
            ("a_b", "a_b"),
            ("read-file", "__fnl_global__read_2dfile"),
            ("ok?_x", "__fnl_global__ok_3f_5fx"),
            ("ü", "__fnl_global___c3_bc"),
        ] {
            assert_eq!(global_key(name), key);
            assert_eq!(fennel_name(key.to_owned()), name);
        }
        assert_eq!(
            fennel_name("__fnl_global__x_zz".into()),
            "__fnl_global__x_zz"
        );
    }
}
