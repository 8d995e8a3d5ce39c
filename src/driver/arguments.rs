//! What the author's code hands to a tool, from Lua values to checked plain data. What is refused
//! comes back as a sentence.

use mlua::{Table, Value};

use super::protocol::{ShCommand, ShOptions, Text};
use crate::pipeline::{nearest, parse_duration};
use crate::secret::Redactor;

/// The most text of one command: arguments, variables, folder.
const MAX_COMMAND: usize = 1 << 20;
/// The most text that is fed to a command.
const MAX_STDIN: usize = 4 << 20;
/// The longest path, in bytes; Linux knows none that is longer.
const MAX_PATH: usize = 4096;
/// The longest line of a log; a longer one is split.
const MAX_LOG_LINE: usize = 64 << 10;
/// How much of a command is repeated in messages, in characters.
const MAX_SHOWN: usize = 160;

/// Either a value, or a sentence for the author.
pub(super) type Answer<T> = Result<T, String>;

/// Text out of Lua, in UTF-8 and without NUL.
pub(super) fn text(value: Option<&Value>, what: &str) -> Answer<String> {
    let text = match value {
        Some(Value::String(text)) => text
            .to_str()
            .map(|text| text.to_owned())
            .map_err(|_| format!("{what} is not valid UTF-8"))?,
        Some(Value::Integer(number)) => number.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        other => {
            return Err(format!(
                "{what} is text, not {}",
                other.map_or("nil", Value::type_name)
            ));
        }
    };
    if text.contains('\0') {
        Err(format!("{what} contains a NUL byte"))
    } else {
        Ok(text)
    }
}

/// The items of a sequence.
fn sequence(table: &Table, what: &str) -> Answer<Vec<Value>> {
    let length = table.raw_len();
    if length == 0 && !table.is_empty() {
        return Err(format!(
            "{what} is a sequence like [\"cargo\" \"test\"], not a table with keys"
        ));
    }
    if length > 100_000 {
        return Err(format!("{what} is too long"));
    }
    (1..=length)
        .map(|index| table.raw_get(index).map_err(|error| error.to_string()))
        .collect()
}

pub(super) fn command(value: &Value) -> Answer<ShCommand> {
    let (command, size) = match value {
        Value::String(_) => {
            let text = text(Some(value), "a command")?;
            if text.trim().is_empty() {
                return Err("the command is empty".to_owned());
            }
            let size = text.len();
            (ShCommand::Shell(text), size)
        }
        Value::Table(table) => {
            let items = sequence(table, "a command")?;
            let argv: Vec<String> = items
                .iter()
                .map(|item| text(Some(item), "each part of a command"))
                .collect::<Result<_, _>>()?;
            if argv.first().is_none_or(String::is_empty) {
                return Err("the command is empty".to_owned());
            }
            let size = argv.iter().map(String::len).sum();
            (ShCommand::Argv(argv), size)
        }
        other => {
            return Err(format!(
                "`sh` takes a command as text or as a sequence, not {}",
                other.type_name()
            ));
        }
    };
    if size > MAX_COMMAND {
        Err("the command is longer than 1 MiB".to_owned())
    } else {
        Ok(command)
    }
}

pub(super) fn sh_options(value: &Value) -> Answer<ShOptions> {
    let table = match value {
        Value::Nil => return Ok(ShOptions::default()),
        Value::Table(table) => table,
        other => {
            return Err(format!(
                "the options of `sh` are a table, not {}",
                other.type_name()
            ));
        }
    };
    let mut options = ShOptions::default();
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair.map_err(|error| error.to_string())?;
        let key = text(Some(&key), "an option's name")?;
        match key.as_str() {
            "env" => options.env = variables(&value)?,
            "cwd" => options.cwd = Some(folder(text(Some(&value), ":cwd")?)?),
            "timeout" => {
                options.timeout_ms = Some(
                    parse_duration(&text(Some(&value), ":timeout")?)
                        .map_err(|error| error.to_string())?,
                )
            }
            "stdin" => {
                let Value::String(input) = &value else {
                    return Err(format!(":stdin is text, not {}", value.type_name()));
                };
                if input.as_bytes().len() > MAX_STDIN {
                    return Err(":stdin is longer than 4 MiB".to_owned());
                }
                options.stdin = Some(Text::new(input.as_bytes().to_vec()));
            }
            other => {
                let known = ["env", "cwd", "timeout", "stdin"];
                let hint = nearest(other, known.into_iter()).map_or_else(
                    || "it knows :env, :cwd, :timeout and :stdin".to_owned(),
                    |near| format!("did you mean :{near}?"),
                );
                return Err(format!("`sh` has no option :{}: {hint}", excerpt(other)));
            }
        }
    }
    Ok(options)
}

/// A table of variables; in the order of their names, for a table has none.
pub(super) fn variables(value: &Value) -> Answer<Vec<(String, String)>> {
    let Value::Table(table) = value else {
        return Err(format!(
            "variables are a table {{:NAME \"value\"}}, not {}",
            value.type_name()
        ));
    };
    let mut variables = Vec::new();
    let mut size = 0;
    for pair in table.pairs::<Value, Value>() {
        let (name, value) = pair.map_err(|error| error.to_string())?;
        let Value::String(_) = name else {
            return Err("variables are a table {:NAME \"value\"}: a name is missing".to_owned());
        };
        let name = text(Some(&name), "the name of a variable")?;
        if name.is_empty() || name.contains('=') {
            return Err(format!(
                "`{}` is not the name of a variable",
                excerpt(&name)
            ));
        }
        let value = text(Some(&value), &format!("the variable {}", excerpt(&name)))?;
        size += name.len() + value.len();
        if size > MAX_COMMAND {
            return Err("the variables are longer than 1 MiB together".to_owned());
        }
        variables.push((name, value));
    }
    variables.sort();
    Ok(variables)
}

/// A folder that stays within the workspace.
fn folder(path: String) -> Answer<String> {
    let leaves = path.starts_with('/') || path.split('/').any(|part| part == "..");
    if leaves {
        Err(format!(":cwd `{}` leaves the workspace", excerpt(&path)))
    } else {
        Ok(path)
    }
}

/// A path within the workspace, as written.
pub(super) fn path(value: Option<&Value>) -> Answer<String> {
    let path = text(value, "the path of a file")?;
    match path.len() {
        0 => Err("the path of a file is empty".to_owned()),
        length if length > MAX_PATH => Err("the path of a file is too long".to_owned()),
        _ => Ok(path),
    }
}

/// What a file shall hold: any bytes.
pub(super) fn content(value: Option<&Value>) -> Answer<Text> {
    match value {
        Some(Value::String(content)) if content.as_bytes().len() > MAX_STDIN => {
            Err("the content of a file is longer than 4 MiB".to_owned())
        }
        Some(Value::String(content)) => Ok(Text::new(content.as_bytes().to_vec())),
        Some(Value::Integer(number)) => Ok(Text::Plain(number.to_string())),
        Some(Value::Number(number)) => Ok(Text::Plain(number.to_string())),
        other => Err(format!(
            "the content of a file is text, not {}",
            other.map_or("nil", Value::type_name)
        )),
    }
}

/// The name that the options of an artifact give it.
pub(super) fn artifact_name(value: Option<&Value>) -> Answer<Option<String>> {
    let table = match value {
        None | Some(Value::Nil) => return Ok(None),
        Some(Value::Table(table)) => table,
        Some(other) => {
            return Err(format!(
                "the options of `artifact` are a table, not {}",
                other.type_name()
            ));
        }
    };
    let mut name = None;
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair.map_err(|error| error.to_string())?;
        match text(Some(&key), "an option's name")?.as_str() {
            "name" => name = Some(text(Some(&value), ":name")?),
            other => {
                return Err(format!(
                    "`artifact` has no option :{}: it knows :name",
                    excerpt(other)
                ));
            }
        }
    }
    Ok(name)
}

/// A command as a person would type it: its first line, redacted, shortened.
pub(super) fn shown(command: &ShCommand, secrets: &Redactor) -> String {
    let text = match command {
        ShCommand::Shell(text) => secrets.redact_text(text.trim()),
        ShCommand::Argv(argv) => secrets.redact_text(&shell_words::join(argv)),
    };
    let line = text.lines().next().unwrap_or_default();
    let mut short: String = line
        .chars()
        .take(MAX_SHOWN)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// A line in parts of at most [`MAX_LOG_LINE`] bytes.
pub(super) fn parts(line: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = line;
    while rest.len() > MAX_LOG_LINE {
        let (part, more) = rest.split_at(rest.floor_char_boundary(MAX_LOG_LINE));
        parts.push(part);
        rest = more;
    }
    parts.push(rest);
    parts
}

/// A foreign name, short and printable enough for a sentence.
pub(super) fn excerpt(name: &str) -> String {
    let mut short: String = name
        .chars()
        .take(60)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if name.chars().nth(60).is_some() {
        short.push('…');
    }
    short
}
