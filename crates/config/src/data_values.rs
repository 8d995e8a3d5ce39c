//! Values of an evaluated configuration: as tables, and as text for messages.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// The longest value that a message quotes, in characters.
const MAX_QUOTED_VALUE: usize = 40;

/// The fields of a table. Lua's empty table may have become an empty list.
pub(super) fn table(value: &Value) -> Option<Cow<'_, Map<String, Value>>> {
    match value {
        Value::Object(fields) => Some(Cow::Borrowed(fields)),
        Value::Array(items) if items.is_empty() => Some(Cow::Owned(Map::new())),
        _ => None,
    }
}

/// Describes a value for a message.
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a table".to_owned(),
    }
}

pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", quire_types::text::excerpt(text, MAX_QUOTED_VALUE))
}
