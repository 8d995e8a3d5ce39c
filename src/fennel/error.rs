//! From what Lua and Fennel say to a [`Diagnostic`]: message, place in the author's file, hint.

use crate::pipeline::{Diagnostic, PipelineText, nearest};

/// What went wrong in a Lua state, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LuaFault {
    /// The message, without position and traceback.
    pub message: String,
    /// The chunk's name, where known: a path within the commit.
    pub chunk: Option<String>,
    /// From 1.
    pub line: Option<u32>,
    /// From 1, in characters; only the compiler knows it.
    pub column: Option<u32>,
    /// What to do about it, where the compiler has an idea.
    pub hint: Option<String>,
}

impl LuaFault {
    /// A fault without a place.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            chunk: None,
            line: None,
            column: None,
            hint: None,
        }
    }

    /// Takes `file:line: message` apart; anything else stays as it is.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text
            .split("\nstack traceback:")
            .next()
            .unwrap_or(text)
            .trim_end();
        if text.ends_with("not enough memory") || text.ends_with("resulting string too large") {
            let limit = super::MEMORY_LIMIT >> 20;
            return Self::new(format!(
                "it needs more memory than a pipeline may have ({limit} MiB)"
            ));
        }
        match position(text) {
            Some((chunk, line, rest)) => Self {
                chunk: Some(chunk.to_owned()),
                line: Some(line),
                ..Self::new(shorten_overflow(rest))
            },
            None => Self::new(shorten_overflow(text)),
        }
    }

    /// Takes apart what Fennel's compiler says: `file:line:column: Compile error: message`, the
    /// source line, and lines that begin with `* Try`.
    pub(super) fn parse_compiler(text: &str, globals: &[String]) -> Self {
        let (head, rest) = text.split_once('\n').unwrap_or((text, ""));
        // The compiler's own frames have no lines.
        let head = head
            .strip_prefix("?:-1: ")
            .or_else(|| head.strip_prefix("?: "))
            .unwrap_or(head);
        if head.contains("chain too long") || head.contains("stack overflow") {
            return Self::new("the file does not compile: it is nested too deeply");
        }
        // What is wrong in a macro module stands behind the place that asked for it.
        if let Some((_, inner)) = head.split_once(": Compile error: ./") {
            return Self::parse_compiler(&format!("./{inner}\n{rest}"), globals);
        }
        let mut fault = Self::parse(head);
        if let Some((column, message)) = fault.message.split_once(": ")
            && (column == "?" || column == "-1" || column.bytes().all(|b| b.is_ascii_digit()))
        {
            // Fennel counts columns from 0.
            fault.column = column
                .parse::<u32>()
                .ok()
                .map(|column| column.saturating_add(1));
            fault.message = message.to_owned();
        }
        for (noise, word) in [
            ("Compile error: ", "does not compile: "),
            ("Parse error: ", "cannot be parsed: "),
        ] {
            if let Some(message) = fault.message.strip_prefix(noise) {
                fault.message = format!("the file {word}{message}");
            }
        }
        fault.hint = compiler_hint(&fault.message, rest, globals);
        fault
    }
}

/// Splits `file:line: message`, where the file looks like one of ours.
fn position(text: &str) -> Option<(&str, u32, &str)> {
    let end = text.find(".fnl:").or_else(|| text.find(".lua:"))? + 4;
    let (chunk, rest) = (&text[..end], &text[end + 1..]);
    if chunk.contains(char::is_whitespace) {
        return None;
    }
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let message = rest[digits..].strip_prefix(':')?;
    Some((
        chunk,
        rest[..digits].parse().ok()?,
        message.strip_prefix(' ').unwrap_or(message),
    ))
}

/// Lua explains a stack overflow with a sample of the stack.
fn shorten_overflow(message: &str) -> String {
    if message.contains("stack overflow") {
        return "it calls itself too deeply (stack overflow)".to_owned();
    }
    message.to_owned()
}

/// One sentence of advice for a compiler's message.
fn compiler_hint(message: &str, rest: &str, globals: &[String]) -> Option<String> {
    if let Some((_, name)) = message.split_once("unknown identifier: ") {
        let hint = match name {
            "print" => "a job writes to its log with `log`".to_owned(),
            "io" | "os" | "debug" | "package" | "load" | "loadfile" | "dofile" | "collectgarbage" => {
                "a pipeline reaches the outside only through the table that each job's function gets".to_owned()
            }
            _ => match nearest(name, globals.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    format!("bind `{name}` first, or look for a typo; a job's tools are destructured in its parameters: (fn [{{: sh}}] …)")
                }
            },
        };
        return Some(hint);
    }
    let advice: Vec<&str> = rest
        .lines()
        .filter_map(|line| line.strip_prefix("* Try "))
        .map(|line| line.trim_end_matches('.'))
        .take(2)
        .collect();
    (!advice.is_empty()).then(|| format!("try {}", advice.join(", or ")))
}

/// What mlua reports, taken apart.
#[must_use]
pub fn lua_fault(error: &mlua::Error) -> LuaFault {
    match error {
        mlua::Error::CallbackError { cause, .. } => lua_fault(cause),
        mlua::Error::SyntaxError { message, .. } => {
            let mut fault = LuaFault::parse(message);
            if fault.message.starts_with("too many local variables") {
                let hint = "a function among a call's arguments takes one of Lua's 200 locals: put some of the jobs into a (do …) block, a loop or a helper file";
                fault.hint = Some(hint.to_owned());
            }
            fault.message = format!("the file does not compile: {}", fault.message);
            fault
        }
        mlua::Error::RuntimeError(message) | mlua::Error::MemoryError(message) => {
            LuaFault::parse(message)
        }
        other => LuaFault::parse(&other.to_string()),
    }
}

/// A fault as a diagnostic of `source`, with the source line where the place lies in that file.
#[must_use]
pub fn diagnose(source: &PipelineText, fault: LuaFault) -> Diagnostic {
    let line = fault.line.unwrap_or(1);
    let mut diagnostic = match fault.chunk {
        Some(chunk) if !source.is_named(&chunk) => PipelineText {
            file: chunk,
            text: String::new(),
        }
        .diagnostic(fault.message, line, fault.column.unwrap_or(1)),
        _ => source.diagnostic(
            fault.message,
            line,
            fault.column.unwrap_or_else(|| source.indent(line)),
        ),
    };
    diagnostic.hint = fault.hint;
    diagnostic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_only_taken_from_what_looks_like_one() {
        let fault = LuaFault::parse(
            ".quire/ci.fnl:12: attempt to index a nil value\nstack traceback:\n\t[C]: in ?",
        );
        assert_eq!(
            (fault.chunk.as_deref(), fault.line, fault.message.as_str()),
            (
                Some(".quire/ci.fnl"),
                Some(12),
                "attempt to index a nil value"
            )
        );
        for text in [
            "cannot read x.fnl:12: gone",
            "plain",
            "x.fnl:: y",
            "ü.lua",
            "x.lua:99999999999: y",
        ] {
            assert_eq!(LuaFault::parse(text), LuaFault::new(text), "{text}");
        }
    }

    #[test]
    fn compiler_messages_lose_their_noise() {
        let text = ".quire/ci.fnl:2:5: Compile error: expected parameters\n\n(fn)\n* Try adding parameters.\n* Try b.\n* Try c.";
        let fault = LuaFault::parse_compiler(text, &[]);
        assert_eq!(
            fault.message,
            "the file does not compile: expected parameters"
        );
        assert_eq!((fault.line, fault.column), (Some(2), Some(6)));
        assert_eq!(fault.hint.as_deref(), Some("try adding parameters, or b"));
        let deep = LuaFault::parse_compiler("?:-1: '__index' chain too long; possible loop", &[]);
        assert_eq!(
            deep.message,
            "the file does not compile: it is nested too deeply"
        );
        let fault = LuaFault::parse_compiler(
            "a.fnl:?:?: Compile error: unknown identifier: tabel",
            &["table".to_owned()],
        );
        assert_eq!(fault.hint.as_deref(), Some("did you mean `table`?"));
    }
}
