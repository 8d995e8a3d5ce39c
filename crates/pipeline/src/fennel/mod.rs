//! Evaluates untrusted Lua and Fennel text. Only this module and the driver use mlua.
//!
//! Invariants:
//! - No Lua state that runs untrusted code has `io`, `os`, `debug`, `package`, a way to load
//!   bytecode, or access to the file system.
//! - Each state has a memory limit, and a deadline that the code in it cannot catch.
//! - The compiler and the code that it compiled never share a state.
//! - Only plain JSON data leaves a state, or a [`Diagnostic`] that shows the author's line.

mod bytecode;
mod compiler;
mod error;
mod limits;
mod value;
mod vm;

use std::time::Duration;

use crate::{Diagnostic, Language, SourceFile};

pub use bytecode::{UsedName, fields_of_parameter, globals};
pub use compiler::Compiler;
pub use error::LuaError;
pub use limits::MEMORY_LIMIT;
pub use value::{ValueError, ValueLimits, from_json, to_json};
pub use vm::{Interrupt, Monitor, Vm};

/// A diagnostic of the first name that Lua text uses and that is not among `known`.
pub(crate) fn undefined_global(
    source: &SourceFile,
    used: &[UsedName],
    known: &[String],
) -> Option<Diagnostic> {
    let name = used.iter().find(|used| !known.contains(&used.name))?;
    let column = source.find_name(name.line, &name.name).unwrap_or(1);
    let shown = quire_types::text::excerpt_name(&name.name);
    let hint = error::unknown_name_hint(&shown, known, Language::Lua);
    let message = format!("`{shown}` is not defined");
    Some(
        source
            .diagnostic(message, name.line, column)
            .with_hint(hint),
    )
}

/// How long a configuration file may take to evaluate.
const DATA_TIMEOUT: Duration = Duration::from_secs(2);
/// The memory limit of a configuration file, in bytes.
const DATA_MEMORY_LIMIT: usize = 64 << 20;

/// Evaluates a configuration file, which returns one table of data, in a state without libraries.
///
/// # Errors
/// Returns a diagnostic with the location in the file if the text does not compile, raises an
/// error, takes too long or returns anything but plain data.
pub fn eval_data(
    text: &str,
    file: &str,
    language: Language,
) -> Result<serde_json::Value, Diagnostic> {
    let source = SourceFile {
        file: file.to_owned(),
        text: text.to_owned(),
    };
    let lua_text = match language {
        Language::Lua => text.to_owned(),
        Language::Fennel => Compiler::new()
            .map_err(|error| error.into_diagnostic(&source))?
            .compile(&source, &[])?,
    };
    let located = |error: LuaError| {
        error
            .with_memory_limit("a configuration file", DATA_MEMORY_LIMIT)
            .into_diagnostic(&source)
    };
    let diagnostic = |error: mlua::Error| located(LuaError::from(&error));
    let vm = Vm::without_globals(DATA_MEMORY_LIMIT).map_err(diagnostic)?;
    let chunk = vm.load_text(&lua_text, file, None).map_err(diagnostic)?;
    vm.monitor().set_deadline(Some(DATA_TIMEOUT));
    let value = vm.call_to_completion(chunk).map_err(located)?;
    if !value.is_table() {
        let hint = match language {
            Language::Lua => "start it with `return {`",
            Language::Fennel => "write one table: {:key value …}",
        };
        let message = format!(
            "the file must return a table of data, not {}",
            article(value.type_name())
        );
        return Err(Diagnostic {
            hint: Some(hint.to_owned()),
            ..source.diagnostic(message, 1, 1)
        });
    }
    to_json(&value, &ValueLimits::default(), &|_| None)
        .map_err(|error| source.diagnostic(format!("the file is not plain data: {error}"), 1, 1))
}

/// The name of a Lua type with its article.
fn article(type_name: &str) -> String {
    match type_name {
        "nil" => "nothing".to_owned(),
        "integer" | "error" => format!("an {type_name}"),
        _ => format!("a {type_name}"),
    }
}

#[cfg(test)]
pub(crate) use value::ValuePath;

#[cfg(test)]
mod tests;
