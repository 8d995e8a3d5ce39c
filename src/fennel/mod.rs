//! Lua and Fennel, as a way to evaluate foreign text safely. Together with the driver's DSL this
//! is the only user of mlua.
//!
//! Invariants: no state that sees foreign code has `io`, `os`, `debug`, `package`, a way to load
//! bytecode, or a file system; each has a memory limit and a deadline that the code in it cannot
//! catch; the compiler and the code it compiled never share a state. What leaves a state is plain
//! JSON data or a [`Diagnostic`] that shows the line the author wrote.

mod compiler;
mod error;
mod value;
mod vm;

use std::time::Duration;

use crate::pipeline::{Diagnostic, Language, PipelineText};

pub use compiler::Compiler;
pub use error::{LuaFault, diagnose, lua_fault};
pub use value::{Limits, ValueError, from_json, to_json};
pub use vm::{Halt, MEMORY_LIMIT, Vm, Watch};

/// How long a configuration file may take to evaluate.
const DATA_TIME: Duration = Duration::from_secs(2);
/// The memory it may take.
const DATA_MEMORY: usize = 64 << 20;

/// Evaluates a configuration file: one table of data, in a state without any library.
///
/// # Errors
/// A diagnostic with the place in the file, where the text does not compile, fails, takes too
/// long or gives something that is not plain data.
pub fn eval_data(
    text: &str,
    file: &str,
    language: Language,
) -> Result<serde_json::Value, Diagnostic> {
    let source = PipelineText {
        file: file.to_owned(),
        text: text.to_owned(),
    };
    let lua_text = match language {
        Language::Lua => text.to_owned(),
        Language::Fennel => Compiler::new()
            .map_err(|fault| diagnose(&source, fault))?
            .compile(&source, &[])?,
    };
    let fault = |fault: LuaFault| diagnose(&source, fault);
    let vm = Vm::bare(DATA_MEMORY).map_err(|error| fault(lua_fault(&error)))?;
    let chunk = vm
        .chunk(&lua_text, file, None)
        .map_err(|error| fault(lua_fault(&error)))?;
    vm.watch().set_deadline(Some(DATA_TIME));
    let value = vm.run_to_end(chunk).map_err(fault)?;
    if !value.is_table() {
        let hint = match language {
            Language::Lua => "start it with `return {`",
            Language::Fennel => "write one table: {:key value …}",
        };
        let message = format!(
            "the file gives {}, not a table of data",
            article(value.type_name())
        );
        return Err(Diagnostic {
            hint: Some(hint.to_owned()),
            ..source.diagnostic(message, 1, 1)
        });
    }
    to_json(&value, &Limits::default(), &|_| None)
        .map_err(|error| source.diagnostic(format!("the file is not plain data: {error}"), 1, 1))
}

/// A Lua type's name as part of a sentence.
fn article(type_name: &str) -> String {
    match type_name {
        "nil" => "nothing".to_owned(),
        "integer" | "error" => format!("an {type_name}"),
        _ => format!("a {type_name}"),
    }
}

#[cfg(test)]
mod tests;
