//! `quire status`: the health of each component, and its problems.

use serde_json::Value;

use super::context::Context;
use super::error::CommandError;
use super::health;
use super::output::{Cell, Output};
use quire_server::control::client;
use quire_server::control::protocol::ComponentProblem;

/// Asks the server and prints what it says, part by part.
pub(super) fn status(context: &Context<'_>, out: &mut Output<'_>) -> Result<(), CommandError> {
    let listen = health::server_address(context.paths).listen;
    let answer = health::request_health(listen).map_err(|error| {
        CommandError::failed(format!("the server at {listen} does not respond: {error}"))
            .hint("pushes and fetches work without it, and runs start when it is back; the container's log says what happened to it")
    })?;
    // A server that is just starting does not answer on this socket yet.
    let problems = client::problems(context.paths).unwrap_or_default();
    show(&answer.body, answer.status(), &problems, out)?;
    if answer.code == 200 {
        Ok(())
    } else {
        Err(CommandError::exit_only(super::error::FAILED))
    }
}

fn show(
    body: &Value,
    status: &str,
    problems: &[ComponentProblem],
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    if out.json {
        let mut body = body.clone();
        if let Value::Object(fields) = &mut body {
            fields.insert("findings".to_owned(), serde_json::json!(problems));
        }
        return out.json(&body);
    }
    let version = body
        .get("version")
        .and_then(Value::as_str)
        .map_or_else(String::new, |version| format!(", quire {version}"));
    out.line(&Cell::from(format!("{status}{version}")).plain())?;
    let rows = parts(body);
    if !rows.is_empty() {
        out.table(["PART", "STATUS", ""], &rows)?;
    }
    let plain = |text: &str| Cell::from(text).plain();
    problems.iter().try_for_each(|problem| {
        out.line(&format!(
            "{}: {}",
            plain(&problem.part),
            plain(&problem.text)
        ))
    })
}

/// Every object within the answer that has a status of its own, whatever it is called.
fn parts(body: &Value) -> Vec<[Cell; 3]> {
    let mut rows = Vec::new();
    let Value::Object(fields) = body else {
        return rows;
    };
    for (name, value) in fields {
        match value.get("status").and_then(Value::as_str) {
            Some(status) => {
                let message = value
                    .get("message")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                rows.push([name.as_str().into(), status.into(), message.into()]);
            }
            None if value.is_object() => rows.extend(parts(value)),
            None => {}
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_types::clock::Millis;

    #[test]
    fn parts_are_found_where_they_are() {
        let body = serde_json::json!({"status": "degraded", "version": "1.0", "uptime": 3,
            "parts": {"database": {"status": "ok", "message": "12 MB"}, "docker": {"status": "down", "message": "no\nsocket"}}});
        let mut text = Vec::new();
        let problems = [ComponentProblem {
            part: "schedules".into(),
            text: "those of app\nare old".into(),
        }];
        show(
            &body,
            "degraded",
            &problems,
            &mut Output::test(&mut text, false, Millis(0)),
        )
        .unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(
            text,
            "degraded, quire 1.0\nPART      STATUS\ndatabase  ok      12 MB\ndocker    down    no socket\nschedules: those of app are old\n"
        );
        assert!(parts(&Value::Null).is_empty());
    }
}
