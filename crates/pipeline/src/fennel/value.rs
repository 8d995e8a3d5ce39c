//! Converts Lua values to JSON and back, with limits on the size of untrusted values.
//!
//! A table with the keys 1 to n becomes an array, any other table an object with string keys. An
//! empty table becomes an object. Metatables are ignored. A value that JSON cannot represent is an
//! error with its path; nothing is dropped.

use std::ffi::c_void;
use std::fmt;

use mlua::{Lua, Table, Value};
use quire_types::text::excerpt_name;
use serde_json::{Map, Number};

/// The largest value that [`to_json`] accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueLimits {
    /// Nesting depth of tables.
    pub depth: usize,
    /// Total number of values.
    pub values: usize,
    /// Total bytes of text.
    pub bytes: usize,
}

impl Default for ValueLimits {
    fn default() -> Self {
        Self {
            depth: 64,
            values: 100_000,
            bytes: 4 << 20,
        }
    }
}

/// Why a value cannot be converted to JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("{0} is a {1}")]
    NotData(ValuePath, &'static str),
    #[error("{0} contains itself")]
    Cycle(ValuePath),
    #[error("{0} has a key of type {1}: keys are strings, or numbers from 1 without a gap")]
    Key(ValuePath, &'static str),
    #[error("{0} is not a finite number")]
    Number(ValuePath),
    #[error("{0} is text that is not valid UTF-8")]
    Text(ValuePath),
    #[error("{0} is nested more than {1} tables deep")]
    Depth(ValuePath, usize),
    #[error("it has more than {0} values")]
    Values(usize),
    #[error("it has more than {0} bytes of text")]
    Bytes(usize),
    /// Lua ran out of memory.
    #[error("it cannot be read: {0}")]
    Lua(String),
}

/// The path of a nested value, such as `.jobs[2].name`. Empty for the value itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValuePath(String);

impl ValuePath {
    #[cfg(test)]
    pub(crate) fn of(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for ValuePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            f.write_str("it")
        } else {
            write!(f, "`{}`", self.0.trim_start_matches('.'))
        }
    }
}

/// Returns the table to convert in location of another one, such as the fields of a command's result.
type Resolve<'a> = &'a dyn Fn(&Table) -> Option<Table>;

/// Converts a Lua value to JSON.
pub fn to_json(
    value: &Value,
    limits: &ValueLimits,
    resolve: Resolve<'_>,
) -> Result<serde_json::Value, ValueError> {
    let mut converter = Converter {
        limits,
        resolve,
        values: 0,
        bytes: 0,
        ancestors: Vec::new(),
        path: ValuePath::default(),
    };
    converter.value(value)
}

struct Converter<'a> {
    limits: &'a ValueLimits,
    resolve: Resolve<'a>,
    values: usize,
    bytes: usize,
    /// The tables that the converter is inside of.
    ancestors: Vec<*const c_void>,
    path: ValuePath,
}

impl Converter<'_> {
    fn value(&mut self, value: &Value) -> Result<serde_json::Value, ValueError> {
        self.values += 1;
        if self.values > self.limits.values {
            return Err(ValueError::Values(self.limits.values));
        }
        match value {
            Value::Nil => Ok(serde_json::Value::Null),
            Value::Boolean(value) => Ok((*value).into()),
            Value::Integer(value) => Ok((*value).into()),
            Value::Number(value) => Number::from_f64(*value)
                .map(serde_json::Value::Number)
                .ok_or_else(|| ValueError::Number(self.path.clone())),
            Value::String(text) => self.text(text).map(serde_json::Value::String),
            Value::Table(table) => self.table(table),
            other => Err(ValueError::NotData(self.path.clone(), other.type_name())),
        }
    }

    fn text(&mut self, text: &mlua::LuaString) -> Result<String, ValueError> {
        let bytes = text.as_bytes();
        self.bytes += bytes.len();
        if self.bytes > self.limits.bytes {
            return Err(ValueError::Bytes(self.limits.bytes));
        }
        std::str::from_utf8(&bytes)
            .map(str::to_owned)
            .map_err(|_| ValueError::Text(self.path.clone()))
    }

    fn table(&mut self, table: &Table) -> Result<serde_json::Value, ValueError> {
        let pointer = table.to_pointer();
        if self.ancestors.contains(&pointer) {
            return Err(ValueError::Cycle(self.path.clone()));
        }
        if self.ancestors.len() >= self.limits.depth {
            return Err(ValueError::Depth(self.path.clone(), self.limits.depth));
        }
        self.ancestors.push(pointer);
        let resolved = (self.resolve)(table);
        let table = resolved.as_ref().unwrap_or(table);
        let length = table.raw_len();
        let value = if length > 0 {
            self.array(table, length)
        } else {
            self.object(table)
        };
        self.ancestors.pop();
        value
    }

    fn array(&mut self, table: &Table, length: usize) -> Result<serde_json::Value, ValueError> {
        let mut items = Vec::new();
        for index in 1..=length {
            let item: Value = table
                .raw_get(index)
                .map_err(|error| ValueError::Lua(error.to_string()))?;
            items.push(self.convert_at(&format!("[{index}]"), &item)?);
        }
        // A key besides 1 to n would be lost.
        let mut entries = 0;
        for pair in table.pairs::<Value, Value>() {
            let (key, _) = pair.map_err(|error| ValueError::Lua(error.to_string()))?;
            entries += 1;
            if !matches!(key, Value::Integer(_)) || entries > length {
                return Err(ValueError::Key(self.path.clone(), key.type_name()));
            }
        }
        Ok(serde_json::Value::Array(items))
    }

    fn object(&mut self, table: &Table) -> Result<serde_json::Value, ValueError> {
        let mut map = Map::new();
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair.map_err(|error| ValueError::Lua(error.to_string()))?;
            let Value::String(key) = &key else {
                return Err(ValueError::Key(self.path.clone(), key.type_name()));
            };
            let key = self.text(key)?;
            let value = self.convert_at(&format!(".{}", excerpt_name(&key)), &value)?;
            map.insert(key, value);
        }
        Ok(serde_json::Value::Object(map))
    }

    fn convert_at(&mut self, step: &str, value: &Value) -> Result<serde_json::Value, ValueError> {
        let length = self.path.0.len();
        self.path.0.push_str(step);
        let value = self.value(value);
        self.path.0.truncate(length);
        value
    }
}

/// Converts JSON to a Lua value; null becomes nil. Fails only if memory runs out.
pub fn from_json(lua: &Lua, value: &serde_json::Value) -> mlua::Result<Value> {
    Ok(match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => Value::Boolean(*value),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(integer) => Value::Integer(integer),
            None => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::String(lua.create_string(text)?),
        serde_json::Value::Array(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for (index, item) in items.iter().enumerate() {
                table.raw_set(index + 1, from_json(lua, item)?)?;
            }
            Value::Table(table)
        }
        serde_json::Value::Object(map) => {
            let table = lua.create_table_with_capacity(0, map.len())?;
            for (key, item) in map {
                table.raw_set(key.as_str(), from_json(lua, item)?)?;
            }
            Value::Table(table)
        }
    })
}
