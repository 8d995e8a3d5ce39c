//! Parses the error messages of Lua and Fennel into message, location and hint, and turns them
//! into a [`Diagnostic`].

use crate::{Diagnostic, Language, SourceFile, closest_match};

/// A parsed error message of Lua or of Fennel's compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LuaError {
    /// The message, without location and traceback.
    pub message: String,
    /// The chunk's name, which is a path within the commit.
    pub chunk: Option<String>,
    /// Counted from 1.
    pub line: Option<u32>,
    /// Counted from 1, in characters. Only the compiler reports it.
    pub column: Option<u32>,
    pub hint: Option<String>,
    out_of_memory: bool,
}

impl LuaError {
    /// An error without a location.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            chunk: None,
            line: None,
            column: None,
            hint: None,
            out_of_memory: false,
        }
    }

    fn out_of_memory(what: &str, limit: usize) -> Self {
        let limit = limit >> 20;
        Self {
            out_of_memory: true,
            ..Self::new(format!(
                "it needs more memory than {what} may use ({limit} MiB)"
            ))
        }
    }

    /// The error of code that is no pipeline and has another memory limit.
    pub(super) fn with_memory_limit(self, what: &str, limit: usize) -> Self {
        if self.out_of_memory {
            Self::out_of_memory(what, limit)
        } else {
            self
        }
    }

    /// Parses `file:line: message`. Any other text becomes the message.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text
            .split("\nstack traceback:")
            .next()
            .unwrap_or(text)
            .trim_end();
        if text.ends_with("not enough memory") || text.ends_with("resulting string too large") {
            return Self::out_of_memory("a pipeline", super::limits::MEMORY_LIMIT);
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

    /// Parses a message of Fennel's compiler: `file:line:column: Compile error: message`, then the
    /// source line, then lines that begin with `* Try`.
    pub(super) fn parse_compiler(text: &str, globals: &[String]) -> Self {
        let (head, rest) = text.split_once('\n').unwrap_or((text, ""));
        // An error raised by the compiler itself carries one of these empty locations.
        let head = head
            .strip_prefix("?:-1: ")
            .or_else(|| head.strip_prefix("?: "))
            .unwrap_or(head);
        if head.contains("chain too long") || head.contains("stack overflow") {
            return Self::new("the file does not compile: it is nested too deeply");
        }
        // An error in a macro module follows the location that imported the module.
        if let Some((_, inner)) = head.split_once(": Compile error: ./") {
            return Self::parse_compiler(&format!("./{inner}\n{rest}"), globals);
        }
        let mut error = Self::parse(head);
        if let Some((column, message)) = error.message.split_once(": ")
            && (column == "?" || column == "-1" || column.bytes().all(|b| b.is_ascii_digit()))
        {
            // Fennel counts columns from 0.
            error.column = column
                .parse::<u32>()
                .ok()
                .map(|column| column.saturating_add(1));
            error.message = message.to_owned();
        }
        for (prefix, replacement) in [
            ("Compile error: ", "the file does not compile: "),
            ("Parse error: ", "the file cannot be parsed: "),
        ] {
            if let Some(message) = error.message.strip_prefix(prefix) {
                error.message = format!("{replacement}{message}");
            }
        }
        error.hint = compiler_hint(&error.message, rest, globals);
        error
    }

    /// Converts the error to a diagnostic of `source`. The diagnostic quotes the source line if
    /// the location is in that file.
    #[must_use]
    pub fn into_diagnostic(self, source: &SourceFile) -> Diagnostic {
        let line = self.line.unwrap_or(1);
        let mut diagnostic = match self.chunk {
            Some(chunk) if !source.is_named(&chunk) => SourceFile {
                file: chunk,
                text: String::new(),
            }
            .diagnostic(self.message, line, self.column.unwrap_or(1)),
            _ => source.diagnostic(
                self.message,
                line,
                self.column.unwrap_or_else(|| source.indent(line)),
            ),
        };
        diagnostic.hint = self.hint;
        diagnostic
    }
}

impl From<&mlua::Error> for LuaError {
    fn from(error: &mlua::Error) -> Self {
        match error {
            mlua::Error::CallbackError { cause, .. } => Self::from(&**cause),
            mlua::Error::SyntaxError { message, .. } => {
                let mut error = Self::parse(message);
                if error.message.starts_with("too many local variables") {
                    let hint = "a function among a call's arguments takes one of Lua's 200 locals: put some of the jobs into a (do …) block, a loop or a helper file";
                    error.hint = Some(hint.to_owned());
                }
                error.message = format!("the file does not compile: {}", error.message);
                error
            }
            mlua::Error::RuntimeError(message) | mlua::Error::MemoryError(message) => {
                Self::parse(message)
            }
            other => Self::parse(&other.to_string()),
        }
    }
}

/// Splits `file:line: message`. Returns `None` unless the file name ends in `.fnl` or `.lua`.
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

/// Removes the sample of the stack that Lua adds to a stack overflow.
fn shorten_overflow(message: &str) -> String {
    if message.contains("stack overflow") {
        return "it calls itself too deeply (stack overflow)".to_owned();
    }
    message.to_owned()
}

/// The hint for a message of the compiler, from the name that it did not know or from its own
/// `* Try` lines.
fn compiler_hint(message: &str, rest: &str, globals: &[String]) -> Option<String> {
    if let Some((_, name)) = message.split_once("unknown identifier: ") {
        return Some(unknown_name_hint(name, globals, Language::Fennel));
    }
    if message.contains("quoting prefix") {
        return Some("text is written in double quotes, as in (sh \"make\")".to_owned());
    }
    let advice: Vec<&str> = rest
        .lines()
        .filter_map(|line| line.strip_prefix("* Try "))
        .map(|line| line.trim_end_matches('.'))
        .take(2)
        .collect();
    (!advice.is_empty()).then(|| format!("try {}", advice.join(", or ")))
}

/// The hint for a name that is not defined. `globals` are the names that are.
pub(super) fn unknown_name_hint(name: &str, globals: &[String], language: Language) -> String {
    match name {
        "print" => "a job writes to its log with `log`".to_owned(),
        "io" | "os" | "debug" | "package" | "load" | "loadfile" | "dofile" | "collectgarbage" => {
            "a pipeline reaches the outside only through the table that each job's function gets"
                .to_owned()
        }
        _ => match (
            closest_match(name, globals.iter().map(String::as_str)),
            language,
        ) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Language::Fennel) => format!(
                "bind `{name}` first, or look for a typo; a job's tools are destructured in its parameters: (fn [{{: sh}}] …)"
            ),
            (None, Language::Lua) => format!(
                "define `{name}` first, or look for a typo; a job's tools are fields of its parameter: function(t) t.sh(…) end"
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_and_line_is_parsed_as_a_location() {
        let error = LuaError::parse(
            ".quire/ci.fnl:12: attempt to index a nil value\nstack traceback:\n\t[C]: in ?",
        );
        assert_eq!(
            (error.chunk.as_deref(), error.line, error.message.as_str()),
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
            assert_eq!(LuaError::parse(text), LuaError::new(text), "{text}");
        }
    }

    #[test]
    fn compiler_messages_are_stripped_of_prefixes() {
        let text = ".quire/ci.fnl:2:5: Compile error: expected parameters\n\n(fn)\n* Try adding parameters.\n* Try b.\n* Try c.";
        let error = LuaError::parse_compiler(text, &[]);
        assert_eq!(
            error.message,
            "the file does not compile: expected parameters"
        );
        assert_eq!((error.line, error.column), (Some(2), Some(6)));
        assert_eq!(error.hint.as_deref(), Some("try adding parameters, or b"));
        let deep = LuaError::parse_compiler("?:-1: '__index' chain too long; possible loop", &[]);
        assert_eq!(
            deep.message,
            "the file does not compile: it is nested too deeply"
        );
        let error = LuaError::parse_compiler(
            "a.fnl:?:?: Compile error: unknown identifier: tabel",
            &["table".to_owned()],
        );
        assert_eq!(error.hint.as_deref(), Some("did you mean `table`?"));
    }
}
