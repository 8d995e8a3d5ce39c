//! The body of a request as parameters of a run.

use serde_json::{Map, Value};

/// How deep tables of a body may be nested.
const MAX_DEPTH: usize = 32;

/// Why a body cannot be the parameters of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the body is not valid JSON, although its content type says so")]
    Json,
    #[error("the body is nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
    #[error("the body is neither JSON nor UTF-8 text")]
    NotText,
    #[error("the body contains a NUL character")]
    Nul,
}

/// `body`, as data if it is JSON and as text otherwise, with `content-type` and `delivery` where they are known.
pub(super) fn parameters(
    content_type: Option<&str>,
    delivery: Option<&str>,
    body: &[u8],
) -> Result<Map<String, Value>, BodyError> {
    let mut parameters = Map::new();
    for (name, value) in [("content-type", content_type), ("delivery", delivery)] {
        if let Some(value) = value {
            parameters.insert(name.to_owned(), value.into());
        }
    }
    if !body.is_empty() {
        parameters.insert("body".to_owned(), content(content_type, body)?);
    }
    Ok(parameters)
}

fn content(content_type: Option<&str>, body: &[u8]) -> Result<Value, BodyError> {
    let text = std::str::from_utf8(body).map_err(|_| BodyError::NotText)?;
    let value = match is_json(content_type) {
        // serde_json itself ends at 128 levels.
        true => serde_json::from_str(text).map_err(|_| BodyError::Json)?,
        false => Value::from(text),
    };
    check(&value, 0)?;
    Ok(value)
}

fn is_json(content_type: Option<&str>) -> bool {
    let kind = content_type.unwrap_or_default().split(';').next();
    let kind = kind.unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

fn check(value: &Value, depth: usize) -> Result<(), BodyError> {
    if depth > MAX_DEPTH {
        return Err(BodyError::TooDeep);
    }
    match value {
        Value::String(text) if text.contains('\0') => Err(BodyError::Nul),
        Value::Array(items) => items.iter().try_for_each(|item| check(item, depth + 1)),
        Value::Object(fields) => fields.iter().try_for_each(|(name, item)| {
            if name.contains('\0') {
                return Err(BodyError::Nul);
            }
            check(item, depth + 1)
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_data_or_text() {
        let json = Some("application/json; charset=utf-8");
        let show = |content_type: Option<&str>, body: &str| match parameters(
            content_type,
            Some("d1"),
            body.as_bytes(),
        ) {
            Ok(parameters) => Value::from(parameters).to_string(),
            Err(error) => error.to_string(),
        };
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let lines = [
            show(json, r#"{"ref":"refs/heads/main","n":[1,2.5,null]}"#),
            show(Some("application/vnd.x+json"), "[]"),
            show(Some("text/plain"), "{}"),
            show(None, "hello"),
            show(json, ""),
            show(json, "{"),
            show(json, r#"{"a":"\u0000"}"#),
            show(json, &nested(33)).chars().take(60).collect(),
            show(json, &nested(34)),
            show(json, &nested(5000)),
        ];
        insta::assert_snapshot!(lines.join("\n"));
        assert_eq!(parameters(None, None, b"\xff"), Err(BodyError::NotText));
    }
}
