//! Converts the arguments of a tool from Lua values to checked plain data. An invalid argument is a
//! message for the pipeline's author.

use mlua::{Table, Value};

use super::protocol::{EncodedBytes, ShCommand, ShOptions};
use crate::{closest_match, parse_duration};
use quire_types::secret::Redactor;
use quire_types::text::excerpt_name;
use quire_types::text::first_line;

/// The largest command, and the largest sum of a command's variables, in bytes.
const MAX_COMMAND: usize = 1 << 20;
/// The largest standard input of a command, and the largest file that is written, in bytes.
const MAX_STDIN: usize = 4 << 20;
/// The longest path, in bytes. This is the limit of Linux.
const MAX_PATH: usize = 4096;
/// The longest line of a log, in bytes. A longer line is split.
const MAX_LOG_LINE: usize = 64 << 10;
/// How much of a command is quoted in messages, in characters.
const MAX_DISPLAYED_COMMAND: usize = 160;
/// The most items of a list.
const MAX_LIST_ITEMS: usize = 100_000;

/// The value of a tool or of an argument, or a message for the pipeline's author.
pub(super) type ToolResult<T> = Result<T, String>;

/// EncodedBytes in UTF-8 and without NUL bytes.
pub(super) fn text(value: Option<&Value>, what: &str) -> ToolResult<String> {
    let text = match value {
        Some(Value::String(text)) => text
            .to_str()
            .map(|text| text.to_owned())
            .map_err(|_| format!("{what} is not valid UTF-8"))?,
        Some(Value::Integer(number)) => number.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        other => {
            return Err(format!(
                "{what} must be text, not {}",
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

/// The entries of a table, sorted by key. Lua iterates over a table in an order that differs from
/// state to state, and the first problem of a table must be the same each time.
pub(super) fn sorted_entries(table: &Table, what: &str) -> ToolResult<Vec<(Value, Value)>> {
    let mut entries = Vec::new();
    for pair in table.pairs::<Value, Value>() {
        if entries.len() == MAX_LIST_ITEMS {
            return Err(format!("{what} has more than {MAX_LIST_ITEMS} entries"));
        }
        entries.push(pair.map_err(|error| error.to_string())?);
    }
    entries.sort_by_cached_key(|(key, _)| match key {
        Value::Integer(number) => (0, *number, Vec::new()),
        Value::String(text) => (1, 0, text.as_bytes().to_vec()),
        other => (2, 0, other.type_name().into()),
    });
    Ok(entries)
}

fn list_items(table: &Table, what: &str) -> ToolResult<Vec<Value>> {
    let length = table.raw_len();
    if length == 0 && !table.is_empty() {
        return Err(format!(
            "{what} must be a list such as [\"cargo\" \"test\"], not a table with keys"
        ));
    }
    if length > MAX_LIST_ITEMS {
        return Err(format!("{what} has more than {MAX_LIST_ITEMS} items"));
    }
    (1..=length)
        .map(|index| table.raw_get(index).map_err(|error| error.to_string()))
        .collect()
}

pub(super) fn command(value: &Value) -> ToolResult<ShCommand> {
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
            let items = list_items(table, "a command")?;
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
                "`sh` takes a command as text or as a list, not {}",
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

/// The options of a command; `merge` counts for one that does not say it.
pub(super) fn sh_options(value: &Value, merge: bool) -> ToolResult<ShOptions> {
    let mut options = ShOptions {
        merge,
        ..ShOptions::default()
    };
    let table = match value {
        Value::Nil => return Ok(options),
        Value::Table(table) => table,
        other => {
            return Err(format!(
                "the options of `sh` must be a table, not {}",
                other.type_name()
            ));
        }
    };
    for (key, value) in sorted_entries(table, "the options of `sh`")? {
        let key = text(Some(&key), "an option's name")?;
        match key.as_str() {
            "env" => options.env = variables(&value)?,
            "cwd" => options.cwd = Some(workspace_folder(text(Some(&value), ":cwd")?)?),
            "timeout" => {
                options.timeout_ms = Some(
                    parse_duration(&text(Some(&value), ":timeout")?)
                        .map_err(|error| error.to_string())?,
                )
            }
            "stdin" => {
                let Value::String(input) = &value else {
                    return Err(format!(":stdin must be text, not {}", value.type_name()));
                };
                if input.as_bytes().len() > MAX_STDIN {
                    return Err(":stdin is longer than 4 MiB".to_owned());
                }
                options.stdin = Some(EncodedBytes::new(input.as_bytes().to_vec()));
            }
            "merge" => {
                let Value::Boolean(merge) = &value else {
                    return Err(format!(
                        ":merge must be true or false, not {}",
                        value.type_name()
                    ));
                };
                options.merge = *merge;
            }
            "errexit" => match value {
                Value::Boolean(errexit) => options.errexit = Some(errexit),
                other => {
                    return Err(format!(
                        ":errexit must be true or false, not {}",
                        other.type_name()
                    ));
                }
            },
            other => {
                let known = ["env", "cwd", "timeout", "stdin", "merge", "errexit"];
                let hint = closest_match(other, known.into_iter()).map_or_else(
                    || {
                        "its options are :env, :cwd, :timeout, :stdin, :merge and :errexit"
                            .to_owned()
                    },
                    |near| format!("did you mean :{near}?"),
                );
                return Err(format!(
                    "`sh` has no option :{}: {hint}",
                    excerpt_name(other)
                ));
            }
        }
    }
    Ok(options)
}

/// A table of variables, sorted by name, because the entries of a table have no order.
pub(super) fn variables(value: &Value) -> ToolResult<Vec<(String, String)>> {
    let Value::Table(table) = value else {
        return Err(format!(
            "variables must be a table {{:NAME \"value\"}}, not {}",
            value.type_name()
        ));
    };
    let mut variables = Vec::new();
    let mut size = 0;
    for (name, value) in sorted_entries(table, "the table of variables")? {
        let Value::String(_) = name else {
            return Err(
                "variables must be a table {:NAME \"value\"}: a name is missing".to_owned(),
            );
        };
        let name = text(Some(&name), "the name of a variable")?;
        if name.is_empty() || name.contains('=') {
            return Err(format!(
                "`{}` is not a valid variable name",
                excerpt_name(&name)
            ));
        }
        let value = text(
            Some(&value),
            &format!("the variable {}", excerpt_name(&name)),
        )?;
        size += name.len() + value.len();
        if size > MAX_COMMAND {
            return Err("the variables together are longer than 1 MiB".to_owned());
        }
        variables.push((name, value));
    }
    variables.sort();
    Ok(variables)
}

/// A folder that is inside the workspace.
fn workspace_folder(path: String) -> ToolResult<String> {
    let leaves = path.starts_with('/') || path.split('/').any(|part| part == "..");
    if leaves {
        Err(format!(
            ":cwd `{}` is outside the workspace",
            excerpt_name(&path)
        ))
    } else {
        Ok(path)
    }
}

/// A path in the workspace, as written.
pub(super) fn path(value: Option<&Value>) -> ToolResult<String> {
    let path = text(value, "the path of a file")?;
    match path.len() {
        0 => Err("the path of a file is empty".to_owned()),
        length if length > MAX_PATH => Err("the path of a file is too long".to_owned()),
        _ => Ok(path),
    }
}

/// The content of a file, which may be any bytes.
pub(super) fn content(value: Option<&Value>) -> ToolResult<EncodedBytes> {
    match value {
        Some(Value::String(content)) if content.as_bytes().len() > MAX_STDIN => {
            Err("the content of a file is longer than 4 MiB".to_owned())
        }
        Some(Value::String(content)) => Ok(EncodedBytes::new(content.as_bytes().to_vec())),
        Some(Value::Integer(number)) => Ok(EncodedBytes::Plain(number.to_string())),
        Some(Value::Number(number)) => Ok(EncodedBytes::Plain(number.to_string())),
        other => Err(format!(
            "the content of a file must be text, not {}",
            other.map_or("nil", Value::type_name)
        )),
    }
}

/// The `:name` in the options of `artifact`.
pub(super) fn artifact_name(value: Option<&Value>) -> ToolResult<Option<String>> {
    let table = match value {
        None | Some(Value::Nil) => return Ok(None),
        Some(Value::Table(table)) => table,
        Some(other) => {
            return Err(format!(
                "the options of `artifact` must be a table, not {}",
                other.type_name()
            ));
        }
    };
    let mut name = None;
    for (key, value) in sorted_entries(table, "the options of `artifact`")? {
        match text(Some(&key), "an option's name")?.as_str() {
            "name" => name = Some(text(Some(&value), ":name")?),
            other => {
                return Err(format!(
                    "`artifact` has no option :{}: its only option is :name",
                    excerpt_name(other)
                ));
            }
        }
    }
    Ok(name)
}

/// The first line of a command that is not blank, as a user would type it, redacted and shortened.
pub(super) fn display_command(command: &ShCommand, secrets: &Redactor) -> String {
    let text = match command {
        ShCommand::Shell(text) => secrets.redact_text(text),
        ShCommand::Argv(argv) => secrets.redact_text(&shell_words::join(argv)),
    };
    first_line(&text, MAX_DISPLAYED_COMMAND)
}

/// Splits a line into parts of at most [`MAX_LOG_LINE`] bytes.
pub(super) fn split_log_line(line: &str) -> Vec<&str> {
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
/// Reads the options of `secret`: whether it is parsed as JSON.
pub(super) fn secret_options(options: Option<&Value>) -> ToolResult<bool> {
    let table = match options {
        None | Some(Value::Nil) => return Ok(false),
        Some(Value::Table(table)) => table,
        Some(other) => {
            return Err(format!(
                "the options of `secret` are a table such as {{:json true}}, not a {}",
                other.type_name()
            ));
        }
    };
    let mut json = false;
    for pair in table.pairs::<Value, Value>() {
        let (name, value) = pair.map_err(|error| error.to_string())?;
        match (text(Some(&name), "the name of an option")?.as_str(), value) {
            ("json", Value::Boolean(on)) => json = on,
            ("json", _) => return Err("the option `json` of `secret` is true or false".to_owned()),
            (other, _) => {
                return Err(format!(
                    "`secret` has no option `{}`: it has `json`",
                    excerpt_name(other)
                ));
            }
        }
    }
    Ok(json)
}
