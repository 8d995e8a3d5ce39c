//! What is fed with foreign bytes, and what must hold of it whatever they are. The fuzz targets
//! call one function each; `tests/integration/corpus.rs` calls all of them with the corpus.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each target uses one function; a failure is a finding"
)]

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use quire::driver::protocol::{FromDriver, Language, PipelineSource, Text, ToDriver};
use quire::driver::register_here;
use quire::logs::Cursor;
use quire::logs::line::{MAX_TEXT_BYTES, Parser, Stamp, encode};
use quire::names::{EventId, JobName, ObjectId, RefName, RepoName, RunId};
use quire::pipeline::{Pipeline, PipelineText, Schedule};
use quire::run::event::{PushEvent, SocketAnswer, SocketRequest};
use quire::ssh::command::{SshCommand, parse};

/// Takes bytes, and panics where what must hold of them does not.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const ALL: [(&str, Target); 8] = [
    ("driver_line", driver_line),
    ("hook_input", hook_input),
    ("log_line", log_line),
    ("names", names),
    ("pipeline_source", pipeline_source),
    ("socket_line", socket_line),
    ("spool_event", spool_event),
    ("ssh_command", ssh_command),
];

/// `SSH_ORIGINAL_COMMAND`: an answer from the closed set, or one printable line.
pub fn ssh_command(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match parse(Some(text)) {
        Ok(SshCommand::Transport(_, repo)) => stays_inside(&repo),
        Ok(SshCommand::Manage(words)) => assert!(!words.is_empty()),
        Ok(SshCommand::Greeting) => {}
        Err(refusal) => {
            let line = refusal.to_string();
            assert!(
                !line.contains(char::is_control) && line.len() < 1000,
                "{line:?}"
            );
        }
    }
}

fn stays_inside(repo: &RepoName) {
    let name = repo.as_str();
    assert!(
        !name.starts_with(['/', '.', '-']) && !name.contains("..") && name.split('/').count() <= 2,
        "{name:?}"
    );
    assert!(
        name.split('/')
            .all(|part| !part.is_empty() && part.len() <= 100 && !part.ends_with(".lock")),
        "{name:?}"
    );
}

/// A spool file: an event that is the same when it is written and read again, or damage in words.
pub fn spool_event(data: &[u8]) {
    match quire::intake::parse_event(data) {
        Ok(event) => {
            stays_inside(&event.repo);
            let again: PushEvent =
                serde_json::from_slice(&serde_json::to_vec(&event).unwrap()).unwrap();
            assert_eq!(again, event);
        }
        Err(damage) => assert!(!damage.to_string().is_empty()),
    }
}

/// A text that is a name is spelled in one way.
fn one_spelling<T: FromStr + Display>(text: &str) -> Option<T> {
    let name: T = text.parse().ok()?;
    assert_eq!(name.to_string(), text);
    Some(name)
}

/// Names of all kinds.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(repo) = text.parse::<RepoName>() {
        stays_inside(&repo);
        assert_eq!(repo.as_str().parse(), Ok(repo));
    }
    if let Some(name) = one_spelling::<RefName>(text) {
        assert!(!name.as_str().contains("..") && !name.short().is_empty());
    }
    if let Some(id) = one_spelling::<ObjectId>(text) {
        assert_eq!(id.short().len(), 12);
    }
    if let Some(job) = one_spelling::<JobName>(text) {
        assert!(!job.as_str().contains('/') && !job.as_str().starts_with('.'));
    }
    one_spelling::<RunId>(text);
    one_spelling::<EventId>(text);
    one_spelling::<Cursor>(text);
}

/// Lines of a log file, and positions in it.
pub fn log_line(data: &[u8]) {
    let mut parser = Parser::default();
    for line in data.split(|byte| *byte == b'\n') {
        let Some(parsed) = parser.parse(line) else {
            continue;
        };
        // Another parser, that remembers no time, reads the same.
        assert_eq!(Parser::default().parse(line), Some(parsed));
        if parsed.text.len() <= MAX_TEXT_BYTES {
            let mut written = Vec::new();
            encode(
                &mut written,
                &Stamp::new(parsed.time),
                parsed.stream,
                parsed.partial,
                parsed.text,
            );
            assert_eq!(written.pop(), Some(b'\n'));
            let again = Parser::default().parse(&written).unwrap();
            assert_eq!(
                (again.stream, again.partial, again.text),
                (parsed.stream, parsed.partial, parsed.text)
            );
        }
    }
}

/// A line of the driver's or the runner's; what was registered is checked, and a valid graph can be played.
pub fn driver_line(data: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<ToDriver>(data) {
        assert!(serde_json::from_slice::<ToDriver>(&serde_json::to_vec(&message).unwrap()).is_ok());
    }
    // Bytes of any kind come back as they are; what is no base64 is an error.
    assert_eq!(Text::new(data.to_vec()).into_bytes().unwrap(), data);
    let _ = Text::Encoded {
        base64: String::from_utf8_lossy(data).into_owned(),
    }
    .into_bytes();
    let Ok(message) = serde_json::from_slice::<FromDriver>(data) else {
        return;
    };
    assert!(serde_json::from_slice::<FromDriver>(&serde_json::to_vec(&message).unwrap()).is_ok());
    if let FromDriver::Registered(registration) = message {
        let text = PipelineText {
            file: ".quire/ci.fnl".to_owned(),
            text: "one\ntwo\u{fc}\n\tthree".to_owned(),
        };
        for has_dockerfile in [false, true] {
            match Pipeline::check(registration.clone(), &text, has_dockerfile) {
                Ok(pipeline) => {
                    let Ok(schedule) = Schedule::new(&pipeline, "quire/push", &[]) else {
                        continue;
                    };
                    assert!(
                        !schedule.ready().is_empty() || schedule.verdict().is_some(),
                        "nothing to do and no end"
                    );
                }
                Err(diagnostics) => assert!(!diagnostics.is_empty()),
            }
        }
    }
}

/// A pipeline's file, Lua where it begins like a comment of it, else Fennel: its jobs, or what is
/// wrong with it in printable words; never more than the protocol can carry.
pub fn pipeline_source(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (language, file) = if text.starts_with("--") {
        (Language::Lua, ".quire/ci.lua")
    } else {
        (Language::Fennel, ".quire/ci.fnl")
    };
    let helpers = vec![
        (".quire/h.fnl".to_owned(), "{:twice #(* 2 $)}".to_owned()),
        (
            ".quire/m.fnl".to_owned(),
            "{:same (fn [form] `(do ,form ,form))}".to_owned(),
        ),
    ];
    let source = PipelineSource {
        language,
        file: file.to_owned(),
        text: text.to_owned(),
        helpers,
    };
    let written = source.pipeline_text();
    let checked = register_here(source, Duration::from_secs(2)).and_then(|registration| {
        let line = serde_json::to_vec(&FromDriver::Registered(registration.clone())).unwrap();
        let again = serde_json::from_slice::<FromDriver>(&line).unwrap();
        assert_eq!(again, FromDriver::Registered(registration.clone()));
        Pipeline::check(registration, &written, false)
    });
    match checked {
        Ok(pipeline) => assert!(!pipeline.jobs().is_empty()),
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty());
            for diagnostic in diagnostics {
                assert!(!diagnostic.message.is_empty());
                assert!(
                    diagnostic
                        .place
                        .is_none_or(|place| place.line > 0 && place.column > 0)
                );
                // The line is quoted from the file, and no longer than can be shown.
                assert!(
                    diagnostic
                        .source_line
                        .is_none_or(|line| line.chars().count() <= 400)
                );
            }
        }
    }
}

/// What git tells the hook.
pub fn hook_input(data: &[u8]) {
    if let Ok(moved) = quire::hook::read_refs(data) {
        let lines = data
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .count();
        assert_eq!(moved.refs.len() + moved.unreadable.len(), lines);
    }
}

/// A line on the event socket, in both directions.
pub fn socket_line(data: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<SocketRequest>(data) {
        let again: SocketRequest =
            serde_json::from_slice(&serde_json::to_vec(&request).unwrap()).unwrap();
        assert_eq!(again, request);
    }
    if let Ok(answer) = serde_json::from_slice::<SocketAnswer>(data) {
        let again: SocketAnswer =
            serde_json::from_slice(&serde_json::to_vec(&answer).unwrap()).unwrap();
        assert_eq!(again, answer);
    }
}
