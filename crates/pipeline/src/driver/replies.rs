//! The replies of the runner as values of Lua.

use mlua::{Lua, MultiValue, Value};

use super::protocol::EncodedBytes;
use super::running_job::PendingReply;
use crate::fennel::from_json;
use quire_types::text::excerpt_name;

/// Converts the runner's reply to what runtime.lua expects: a value, or nil and a message.
pub(super) fn resume_values(
    lua: &Lua,
    pending: &PendingReply,
    reply: Result<EncodedBytes, String>,
) -> mlua::Result<MultiValue> {
    let value = reply.and_then(|text| {
        let bytes = text
            .into_bytes()
            .map_err(|_| "the reply is not valid base64".to_owned())?;
        reply_value(lua, pending, &bytes)
    });
    match value {
        Ok(value) => Ok(MultiValue::from_iter([value?])),
        Err(message) => {
            let message = lua.create_string(message)?;
            Ok(MultiValue::from_iter([Value::Nil, Value::String(message)]))
        }
    }
}

/// The value of a reply, or a message for the job. The inner error is an error of Lua.
fn reply_value(
    lua: &Lua,
    pending: &PendingReply,
    bytes: &[u8],
) -> Result<mlua::Result<Value>, String> {
    match pending {
        PendingReply::Secret(_) | PendingReply::Text => {
            Ok(lua.create_string(bytes).map(Value::String))
        }
        PendingReply::Done => Ok(Ok(Value::Nil)),
        // What is wrong with the text is not said: the message could quote it.
        PendingReply::SecretJson(name) => match serde_json::from_slice(bytes) {
            Ok(value) => Ok(from_json(lua, &value)),
            Err(_) => Err(format!("the secret `{}` is not JSON", excerpt_name(name))),
        },
        PendingReply::Json(path) => match serde_json::from_slice::<serde_json::Value>(bytes) {
            Ok(value) => Ok(from_json(lua, &value)),
            Err(error) => Err(format!("`{}` is not JSON: {error}", excerpt_name(path))),
        },
    }
}
