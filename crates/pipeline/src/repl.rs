//! The text of an interactive session: where an entry ends, which of its definitions stay, and the job that the
//! entries add up to.

use serde_json::Value;

use crate::registration::Language;
use crate::tokens::{Token, TokenKind, tokens};

/// The forms that define a name for the rest of the text that they are in.
const DEFINITIONS: [&str; 2] = ["local", "var"];
/// The forms that define a function, which is local to the text that it is in.
const FUNCTIONS: [&str; 3] = ["fn", "lambda", "λ"];

/// The tools that an entry can use.
pub const TOOLS: [&str; 7] = [
    "sh",
    "read-file",
    "read-json",
    "write-file",
    "secret",
    "env",
    "log",
];

/// How much of an entry has been typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryState {
    /// Only white space and comments.
    Empty,
    /// A form or a string is not closed.
    Open,
    Complete,
}

/// Whether a text in Fennel is complete. A text with a parenthesis too many is: the compiler says what is wrong with it.
#[must_use]
pub fn entry_state(text: &str) -> EntryState {
    let tokens = tokens(text, Language::Fennel);
    let Some(last) = tokens.last() else {
        return EntryState::Empty;
    };
    let mut depth = 0_usize;
    for token in &tokens {
        match token.kind {
            TokenKind::Open | TokenKind::OpenTable => depth += 1,
            TokenKind::Close => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return EntryState::Complete,
            },
            _ => {}
        }
    }
    if depth > 0 || is_open_string(text, last) {
        EntryState::Open
    } else {
        EntryState::Complete
    }
}

/// Whether the last token of a text is a string without its closing quote.
fn is_open_string(text: &str, last: &Token<'_>) -> bool {
    let Some(string) = text[last.start..].strip_prefix('"') else {
        return false;
    };
    let mut escaped = false;
    for c in string.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return false,
            _ => {}
        }
    }
    true
}

/// The entry as it is evaluated: names that it defines outside of any other form become global, since each entry is a
/// text of its own.
#[must_use]
pub fn with_lasting_names(text: &str) -> String {
    let tokens = tokens(text, Language::Fennel);
    let mut lasting = String::with_capacity(text.len() + 32);
    let mut copied = 0;
    // For each open form, what is to be written behind it.
    let mut open: Vec<&str> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::Open | TokenKind::OpenTable => {
                let mut behind = "";
                if open.is_empty() && text[token.start..].starts_with('(') {
                    let head = tokens.get(at + 1);
                    let name = tokens.get(at + 2);
                    if let Some(head) = head.filter(|head| is_symbol(head, &DEFINITIONS)) {
                        lasting.push_str(&text[copied..head.start]);
                        lasting.push_str("global");
                        copied = head.start + head.text.len();
                    } else if head.is_some_and(|head| is_symbol(head, &FUNCTIONS))
                        && let Some(name) = name.filter(|name| is_plain_name(name))
                    {
                        lasting.push_str(&text[copied..token.start]);
                        lasting.push_str("(global ");
                        lasting.push_str(name.text);
                        lasting.push(' ');
                        copied = token.start;
                        behind = ")";
                    }
                }
                open.push(behind);
            }
            TokenKind::Close => {
                let behind = open.pop().unwrap_or_default();
                let end = token.start + token.text.len();
                lasting.push_str(&text[copied..end]);
                lasting.push_str(behind);
                copied = end;
            }
            _ => {}
        }
    }
    lasting.push_str(&text[copied..]);
    lasting
}

fn is_symbol(token: &Token<'_>, among: &[&str]) -> bool {
    token.kind == TokenKind::Symbol && among.contains(&token.text)
}

/// Whether a token is a name that a function can be bound to; `t.name` is a field of a table that exists.
fn is_plain_name(token: &Token<'_>) -> bool {
    token.kind == TokenKind::Symbol && !token.text.contains(['.', ':'])
}

/// A value as a literal of Fennel.
#[must_use]
pub fn to_fennel(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => string_literal(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(to_fennel).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                let is_word = !name.is_empty()
                    && name
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || "-_?!".contains(c));
                let name = if is_word {
                    format!(":{name}")
                } else {
                    string_literal(name)
                };
                format!("{name} {}", to_fennel(value))
            };
            let fields: Vec<String> = fields.iter().map(field).collect();
            format!("{{{}}}", fields.join(" "))
        }
    }
}

fn string_literal(text: &str) -> String {
    let mut literal = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => literal.extend(['\\', c]),
            '\n' => literal.push_str("\\n"),
            '\t' => literal.push_str("\\t"),
            '\r' => literal.push_str("\\r"),
            c if c.is_control() => literal.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => literal.push(c),
        }
    }
    literal.push('"');
    literal
}

/// The entries of a session as a job of a pipeline, which receives the tools that it uses.
#[must_use]
pub fn as_job(entries: &[String]) -> String {
    let is_used = |tool: &&&str| {
        let mut words = entries
            .iter()
            .flat_map(|entry| tokens(entry, Language::Fennel));
        words.any(|token| token.kind == TokenKind::Symbol && token.text == **tool)
    };
    let used: Vec<String> = TOOLS
        .iter()
        .filter(is_used)
        .map(|tool| format!(": {tool}"))
        .collect();
    let mut job = format!(
        "(ci.job :from-repl [:quire/push]\n  (fn [{{{}}}]",
        used.join(" ")
    );
    for entry in entries {
        let entry = entry.trim();
        for (number, line) in entry.lines().enumerate() {
            // The lines of a string stay as they are.
            let is_text = begins_in_string(entry, number);
            job.push_str(if is_text { "\n" } else { "\n    " });
            job.push_str(line);
        }
    }
    job.push_str("))\n");
    job
}

/// Whether a line begins within a string. Lines count from 0.
fn begins_in_string(text: &str, line: usize) -> bool {
    let before: Vec<&str> = text.lines().take(line).collect();
    let before = before.join("\n");
    let tokens = tokens(&before, Language::Fennel);
    tokens
        .last()
        .is_some_and(|last| is_open_string(&before, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_ends_with_its_last_form() {
        for (text, state) in [
            ("", EntryState::Empty),
            ("  ; (a comment\n", EntryState::Empty),
            ("x", EntryState::Complete),
            ("(sh \"make\")", EntryState::Complete),
            ("(sh \"make\"", EntryState::Open),
            ("(sh \"make)", EntryState::Open),
            ("\"a", EntryState::Open),
            (r#""a\""#, EntryState::Open),
            (r#""a\\""#, EntryState::Complete),
            ("[1 {:a", EntryState::Open),
            ("(a) (b", EntryState::Open),
            ("(a))", EntryState::Complete),
            (":key", EntryState::Complete),
        ] {
            assert_eq!(entry_state(text), state, "{text}");
        }
    }

    #[test]
    fn definitions_outside_of_other_forms_become_global() {
        for (text, lasting) in [
            ("(local x 1)", "(global x 1)"),
            ("(var {: exit} (sh \"x\"))", "(global {: exit} (sh \"x\"))"),
            (
                "(fn f [a] (local b a) b)",
                "(global f (fn f [a] (local b a) b))",
            ),
            ("(fn t.f [a] a)", "(fn t.f [a] a)"),
            ("(fn [a] a)", "(fn [a] a)"),
            ("(let [x 1] (local y x))", "(let [x 1] (local y x))"),
            ("(local a 1) (local b 2) b", "(global a 1) (global b 2) b"),
            ("(local local 1)", "(global local 1)"),
            ("[(local x 1)]", "[(local x 1)]"),
            ("(fn f", "(global f (fn f"),
        ] {
            assert_eq!(with_lasting_names(text), lasting);
        }
    }

    #[test]
    fn values_are_literals() {
        let value = serde_json::json!({"a b": ["x\"\\\n", 1.5, null, true], "exit-code": {}});
        assert_eq!(
            to_fennel(&value),
            r#"{"a b" ["x\"\\\n" 1.5 nil true] :exit-code {}}"#
        );
    }

    #[test]
    fn entries_become_a_job_with_the_tools_that_they_use() {
        let entries = [
            "(local built (sh \"make\n  all\"))".to_owned(),
            "(when (= built.exit 0)\n  (log \"sh\"))".to_owned(),
        ];
        insta::assert_snapshot!(as_job(&entries), @r#"
        (ci.job :from-repl [:quire/push]
          (fn [{: sh : log}]
            (local built (sh "make
          all"))
            (when (= built.exit 0)
              (log "sh"))))
        "#);
    }
}
