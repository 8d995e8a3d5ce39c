//! The table of functions that runtime.lua is called with. A function that can fail returns
//! `value, message` to Lua, and runtime.lua raises the message.

use std::rc::Rc;

use mlua::{FromLuaMulti, IntoLuaMulti, Lua, MultiValue, Table, Value};

use super::arguments::{ToolResult, text};
use super::locations::calling_frame;
use super::lua_api::LuaApi;
use crate::closest_match;
use crate::fennel::{ValueLimits, to_json};
use quire_types::text::excerpt_name;

/// A function of the table, called with the API, the state and the arguments.
struct FunctionTable<'a> {
    api: &'a Rc<LuaApi>,
    table: Table,
}

impl FunctionTable<'_> {
    fn add<A, R>(
        &self,
        name: &str,
        function: impl Fn(&LuaApi, &Lua, A) -> R + 'static,
    ) -> mlua::Result<()>
    where
        A: FromLuaMulti,
        R: IntoLuaMulti,
    {
        let lua = self.api.vm.lua();
        let api = Rc::clone(self.api);
        let function = move |lua: &Lua, arguments: A| Ok(function(&api, lua, arguments));
        self.table.raw_set(name, lua.create_function(function)?)
    }

    /// Adds a tool. Its error message is prefixed with the location of the call.
    fn add_tool<T: mlua::IntoLua>(
        &self,
        name: &str,
        tool: impl Fn(&LuaApi, &Lua, MultiValue) -> ToolResult<Option<T>> + 'static,
    ) -> mlua::Result<()> {
        self.add(name, move |api, lua, arguments: MultiValue| {
            let result = tool(api, lua, arguments);
            into_lua_result(result.map_err(|message| api.with_location(lua, &message)))
        })
    }
}

pub(super) fn functions(api: &Rc<LuaApi>) -> mlua::Result<Table> {
    let functions = FunctionTable {
        api,
        table: api.vm.lua().create_table()?,
    };
    functions.add_tool("sh", LuaApi::sh)?;
    type Request = fn(&LuaApi, &MultiValue) -> ToolResult<u64>;
    let requests: [(&str, Request); 5] = [
        ("secret", LuaApi::secret),
        ("read_file", LuaApi::read_file),
        ("read_json", LuaApi::read_json),
        ("write_file", LuaApi::write_file),
        ("artifact", LuaApi::artifact),
    ];
    for (name, request) in requests {
        functions.add_tool(name, move |api, _, arguments| {
            request(api, &arguments).map(Some)
        })?;
    }
    functions.add_tool("jobs", |api, lua, arguments| {
        api.jobs(lua, &arguments).map(Some)
    })?;
    functions.add_tool("env", |api, _, arguments| api.env(&arguments))?;
    functions.add_tool("log", |api, _, arguments| {
        api.log(&arguments).map(|()| None::<bool>)
    })?;
    functions.add("mark_checked", |api, _, call: u64| api.mark_checked(call))?;
    functions.add("with_location", |api, lua, message: String| {
        api.with_location(lua, &message)
    })?;
    functions.add("load_module", |api, lua, name: Value| {
        let module = text(Some(&name), "the name of a module")
            .and_then(|name| api.modules.require(&api.vm, &api.sources, &name));
        // An error inside the helper file has its own location already.
        let located = module.map_err(|message| {
            if api.modules.has_rejected() {
                message
            } else {
                api.with_location(lua, &message)
            }
        });
        into_lua_result(located.map(Some))
    })?;
    functions.add("unknown_field", unknown_field)?;
    functions.add("record_raised", |api, lua, error: Value| {
        *api.raised.borrow_mut() = calling_frame(lua, api.monitor());
        error_text(&error)
    })?;
    Ok(functions.table)
}

/// The message for a name that a table does not have.
fn unknown_field(
    api: &LuaApi,
    lua: &Lua,
    (table, name, known): (String, Value, Vec<String>),
) -> String {
    let name = text(Some(&name), "a name").unwrap_or_else(|_| name.type_name().to_owned());
    let is_lua =
        calling_frame(lua, api.monitor()).is_some_and(|(chunk, _)| chunk.ends_with(".lua"));
    let hint = unknown_field_hint(&name, &known, is_lua);
    api.with_location(
        lua,
        &format!("{table} has no `{}`: {hint}", excerpt_name(&name)),
    )
}

/// The hint for a name that is not among those of a table.
pub(super) fn unknown_field_hint(name: &str, known: &[String], is_lua: bool) -> String {
    let known = || known.iter().map(String::as_str);
    // In Lua `t.read-file` is a difference, and what is looked up is `read`.
    let begins_alike =
        |known: &&str| known.split('-').next() == Some(name) || name.starts_with(known);
    let near = closest_match(name, known()).or_else(|| known().find(begins_alike));
    match near {
        Some(near) if is_lua && near.contains('-') => format!("did you mean t[\"{near}\"]?"),
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let known: Vec<String> = known().map(|name| format!("`{name}`")).collect();
            format!("it has {}", known.join(", "))
        }
    }
}

/// Converts a result to Lua's `value, message`.
fn into_lua_result<T>(result: ToolResult<Option<T>>) -> (Option<T>, Option<String>) {
    match result {
        Ok(value) => (value, None),
        Err(message) => (None, Some(message)),
    }
}

/// Converts an error value, which can be of any type, to text.
fn error_text(error: &Value) -> String {
    match error {
        Value::String(text) => text.to_string_lossy(),
        Value::Error(error) => innermost_message(error),
        Value::Table(table) => match to_json(error, &ValueLimits::default(), &|_| None) {
            Ok(value) if table.metatable().is_none() => format!("raised {value}"),
            _ => error
                .to_string()
                .unwrap_or_else(|_| "raised a table".to_owned()),
        },
        Value::Nil => "raised nil".to_owned(),
        other => other
            .to_string()
            .unwrap_or_else(|_| format!("raised a {}", other.type_name())),
    }
}

/// The message that a function of this program raised, without the text that mlua adds.
fn innermost_message(error: &mlua::Error) -> String {
    match error {
        mlua::Error::CallbackError { cause, .. } => innermost_message(cause),
        mlua::Error::RuntimeError(message) | mlua::Error::MemoryError(message) => message.clone(),
        other => other.to_string(),
    }
}
