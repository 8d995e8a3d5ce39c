//! `quire status`: how the appliance is.

use std::time::Duration;

use serde_json::Value;

use super::health;
use super::manage::Context;
use super::output::{Cell, Out};
use super::report::Failure;
use crate::hook;
use crate::run::event::{Finding, SocketAnswer, SocketRequest};

/// How long the server may take to say what it knows already.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks the server and prints what it says, part by part.
pub(super) fn status(context: &Context<'_>, out: &mut Out<'_>) -> Result<(), Failure> {
    let listen = health::endpoint(context.paths).listen;
    let answer = health::ask(listen).map_err(|error| {
        Failure::failed(format!("the server at {listen} does not answer: {error}"))
            .hint("pushes and fetches work without it, and runs start when it is back; the container's log says what happened to it")
    })?;
    show(&answer.body, answer.status(), &findings(context), out)?;
    if answer.code == 200 {
        Ok(())
    } else {
        Err(Failure::silent(super::report::FAILED))
    }
}

/// What the parts say to those who may know the names of repositories. A server that is just starting does not answer yet.
fn findings(context: &Context<'_>) -> Vec<Finding> {
    match hook::ask(context.paths, &SocketRequest::Findings, PATIENCE) {
        Ok(SocketAnswer::Findings { findings }) => findings,
        Ok(_) | Err(_) => Vec::new(),
    }
}

fn show(
    body: &Value,
    status: &str,
    findings: &[Finding],
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    if out.json {
        let mut body = body.clone();
        if let Value::Object(fields) = &mut body {
            fields.insert("findings".to_owned(), serde_json::json!(findings));
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
    findings.iter().try_for_each(|finding| {
        out.line(&format!(
            "{}: {}",
            plain(&finding.part),
            plain(&finding.text)
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
    use crate::clock::Millis;

    #[test]
    fn parts_are_found_where_they_are() {
        let body = serde_json::json!({"status": "degraded", "version": "1.0", "uptime": 3,
            "parts": {"database": {"status": "ok", "message": "12 MB"}, "docker": {"status": "down", "message": "no\nsocket"}}});
        let mut text = Vec::new();
        let findings = [Finding {
            part: "schedules".into(),
            text: "those of app\nare old".into(),
        }];
        show(
            &body,
            "degraded",
            &findings,
            &mut Out::test(&mut text, false, Millis(0)),
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
