//! A run that moves while it is followed.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::*;
use crate::clock::Millis;
use crate::run::{FailureKind, RunState, Trigger};

fn run(id: RunId, state: RunState) -> Run {
    let over = state.is_final().then_some(Millis(2000));
    Run {
        id,
        repo: "app".parse().unwrap(),
        ref_name: "refs/heads/main".parse().unwrap(),
        sha: "1".repeat(40).parse().unwrap(),
        previous_sha: None,
        event_id: None,
        trigger: Trigger::Push,
        source: "quire/push".to_owned(),
        pusher: None,
        only_job: None,
        retry_of: None,
        only_failed: false,
        params: None,
        group_name: None,
        supersede: true,
        unexamined: false,
        keep: false,
        superseded_by: None,
        stop_requested: None,
        state,
        failure_kind: (state == RunState::Failed).then_some(FailureKind::Orphaned),
        message: None,
        pushed_at_ms: Millis(0),
        queued_at_ms: Millis(0),
        started_at_ms: over.map(|_| Millis(1000)),
        finished_at_ms: over,
        executor: None,
        container_id: None,
        image_tag: None,
        build_started_at_ms: None,
        build_finished_at_ms: None,
        container_started_at_ms: None,
        container_stopped_at_ms: None,
        workspace_path: None,
        logs_removed_at_ms: None,
        artifacts_removed_at_ms: None,
    }
}

fn step(id: RunId, seq: u32, job: &str, command: &str) -> StepRow {
    let job_id = job.parse().unwrap();
    StepRow {
        run_id: id,
        seq,
        job_id,
        command: command.to_owned(),
        exit_code: Some(0),
        started_at_ms: Millis(0),
        finished_at_ms: Some(Millis(1)),
    }
}

fn line(of: Option<(u32, &str)>, stream: Stream, text: &str, partial: bool) -> LogLine {
    let (seq, job) = of.map_or((None, None), |(seq, job)| {
        (Some(seq), Some(job.parse().unwrap()))
    });
    LogLine {
        seq,
        job,
        time: Millis(0),
        stream,
        partial,
        text: text.as_bytes().to_vec(),
    }
}

/// Gives one state after the other, with the lines that come in it.
struct Script {
    states: RefCell<VecDeque<(Run, Vec<LogLine>)>>,
    now: RefCell<Vec<LogLine>>,
    steps: Vec<StepRow>,
    successor: Option<RunId>,
    listens: bool,
}

impl Script {
    fn new(states: Vec<(Run, Vec<LogLine>)>, steps: Vec<StepRow>) -> Self {
        Self {
            states: RefCell::new(states.into()),
            now: RefCell::default(),
            steps,
            successor: None,
            listens: true,
        }
    }
}

impl Source for Script {
    fn run(&self, id: RunId) -> Result<Run, Failure> {
        let (run, lines) = self
            .states
            .borrow_mut()
            .pop_front()
            .expect("asked again after the end");
        assert_eq!(run.id, id);
        *self.now.borrow_mut() = lines;
        Ok(run)
    }

    fn jobs(&self, id: RunId) -> Result<Vec<JobRow>, Failure> {
        let job = |name: &str| JobRow {
            reused_from: None,
            run_id: id,
            job_id: name.parse().unwrap(),
            position: 0,
            inputs: vec![],
            state: JobState::Complete,
            exit_code: None,
            message: None,
            output: None,
            started_at_ms: None,
            finished_at_ms: None,
        };
        Ok(vec![job("test"), job("idle")])
    }

    fn steps(&self, _id: RunId, known: &mut Vec<StepRow>) -> Result<(), Failure> {
        self.steps.clone_into(known);
        Ok(())
    }

    fn successor(&self, _id: RunId) -> Result<Option<RunId>, Failure> {
        Ok(self.successor)
    }

    fn lines(&mut self, _run: &Run, _steps: &[StepRow]) -> Result<Vec<LogLine>, Failure> {
        Ok(std::mem::take(&mut self.now.borrow_mut()))
    }

    fn pause(&mut self) -> bool {
        self.listens
    }
}

fn printed(
    script: &mut Script,
    id: RunId,
    job: Option<&str>,
    format: LogFormat,
) -> (Result<Run, Failure>, String) {
    let mut text = Vec::new();
    let job: Option<JobName> = job.map(|job| job.parse().unwrap());
    let run = logs(
        script,
        id,
        job.as_ref(),
        true,
        format,
        Cleaning::default(),
        &mut Out::test(&mut text, false, Millis(0)),
    );
    (run, String::from_utf8(text).unwrap())
}

fn two_steps(id: RunId) -> Script {
    use Stream::{Stderr, Stdout};
    let states = vec![
        (run(id, RunState::Pending), vec![]),
        (
            run(id, RunState::Active),
            vec![
                line(None, Stdout, "pulling", false),
                line(Some((1, "test")), Stdout, "o", true),
            ],
        ),
        (
            run(id, RunState::Active),
            vec![
                line(Some((1, "test")), Stdout, "ne", false),
                line(Some((1, "test")), Stderr, "oops", false),
            ],
        ),
        (
            run(id, RunState::Complete),
            vec![
                line(Some((2, "test")), Stdout, "two", false),
                line(None, Stdout, "done", false),
            ],
        ),
    ];
    Script::new(
        states,
        vec![
            step(id, 1, "test", "make\ncheck"),
            step(id, 2, "test", "ls"),
        ],
    )
}

#[test]
fn a_log_is_followed_to_its_end() {
    let id = RunId::new();
    let (end, text) = printed(&mut two_steps(id), id, None, LogFormat::Text);
    assert_eq!(end.unwrap().state, RunState::Complete);
    assert_eq!(
        text,
        "pulling\n── test · make…\none\noops\n── test · ls\ntwo\n── run\ndone\n"
    );
    let (_, text) = printed(&mut two_steps(id), id, Some("other"), LogFormat::Text);
    assert_eq!(text, "");
}

#[test]
fn a_line_left_open_is_closed_before_a_heading() {
    let id = RunId::new();
    let lines = vec![
        line(Some((1, "test")), Stream::Stdout, "no end", true),
        line(Some((2, "test")), Stream::Stdout, "two", false),
    ];
    let mut script = Script::new(vec![(run(id, RunState::Complete), lines)], vec![]);
    assert_eq!(
        printed(&mut script, id, None, LogFormat::Text).1,
        "── test · \nno end\n── test · \ntwo\n"
    );
}

#[test]
fn a_run_that_was_cut_off_goes_on_as_its_repetition() {
    let (first, second) = (RunId::new(), RunId::new());
    let lines = |text| vec![line(None, Stream::Stdout, text, false)];
    let states = vec![
        (run(first, RunState::Failed), lines("before")),
        (run(second, RunState::Complete), lines("after")),
    ];
    let mut script = Script::new(states, vec![]);
    script.successor = Some(second);
    let (end, text) = printed(&mut script, first, None, LogFormat::Text);
    assert_eq!(
        (end.unwrap().id, text.as_str()),
        (second, "before\nafter\n")
    );
    // Not queued again: that is the end.
    let mut script = Script::new(vec![(run(first, RunState::Failed), vec![])], vec![]);
    assert_eq!(
        printed(&mut script, first, None, LogFormat::Text)
            .0
            .unwrap()
            .state,
        RunState::Failed
    );
}

#[test]
fn nobody_listens_any_more() {
    let id = RunId::new();
    let mut script = Script::new(vec![(run(id, RunState::Active), vec![])], vec![]);
    script.listens = false;
    assert!(printed(&mut script, id, None, LogFormat::Text).0.is_err());
}

#[test]
fn what_a_terminal_would_act_on_is_not_printed_unless_asked_for() {
    let id = RunId::new();
    let lines = || {
        vec![
            line(
                Some((1, "test")),
                Stream::Stdout,
                "\u{1b}]0;title\u{7}\u{1b}[2J\u{1b}[31mred",
                false,
            ),
            line(Some((1, "test")), Stream::Stdout, "10%", true),
            line(Some((1, "test")), Stream::Stdout, "\r50%\r100%", false),
            line(Some((1, "test")), Stream::Stdout, "\u{1b}[1mlast", true),
            line(None, Stream::Stdout, "done", false),
        ]
    };
    let print = |cleaning: Cleaning| {
        let mut text = Vec::new();
        let mut script = Script::new(
            vec![(run(id, RunState::Complete), lines())],
            vec![step(id, 1, "test", "make")],
        );
        logs(
            &mut script,
            id,
            None,
            true,
            LogFormat::Text,
            cleaning,
            &mut Out::test(&mut text, false, Millis(0)),
        )
        .unwrap();
        String::from_utf8(text).unwrap()
    };
    assert_eq!(
        print(Cleaning::new(false)),
        "── test · make\n\u{1b}[31mred\n10%\n100%\n\u{1b}[1mlast\u{1b}[0m\n── run\ndone\n"
    );
    assert!(
        print(Cleaning::new(true))
            .contains("\n\u{1b}]0;title\u{7}\u{1b}[2J\u{1b}[31mred\n10%\r50%\r100%\n")
    );
}

#[test]
fn json_has_no_control_characters_in_it() {
    let mut text = Vec::new();
    Out::test(&mut text, true, Millis(0))
        .json(&"a\u{9b}2J\u{7f}\u{1b}")
        .unwrap();
    assert_eq!(
        String::from_utf8(text).unwrap(),
        "\"a\\u009b2J\\u007f\\u001b\"\n"
    );
}

#[test]
fn documents() {
    let id = RunId::new();
    let (_, text) = printed(&mut two_steps(id), id, None, LogFormat::Json);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["log"], "pulling\ndone\n");
    assert_eq!(json["run"]["id"], id.to_string());
    assert_eq!(json["jobs"][0]["steps"][0]["stdout"], "one\n");
    assert_eq!(json["jobs"][0]["steps"][0]["stderr"], "oops\n");
    assert_eq!(json["jobs"][1]["steps"], serde_json::json!([]));
    let (_, text) = printed(&mut two_steps(id), id, Some("test"), LogFormat::Yaml);
    let expected = "\"test\":\n  - command: |-\n      make\n      check\n    exit: 0\n    stdout: |\n      one\n    stderr: |\n      oops\n  - command: \"ls\"\n    exit: 0\n    stdout: |\n      two\n    stderr: \"\"\n";
    assert_eq!(text, expected);
}

#[test]
fn yaml_strings() {
    for (text, expected) in [
        ("", "\"\""),
        ("a: b # c", "\"a: b # c\""),
        ("a\n\nb\n\n", "|+\n      a\n\n      b\n"),
        (" a\nb\n", "\" a\\nb\\n\""),
        ("a\u{1b}[0m\nb\n", "\"a\\u001b[0m\\nb\\n\""),
        ("\n\n", "\"\\n\\n\""),
        ("a \"b\" \\\nc", "|-\n      a \"b\" \\\n      c"),
    ] {
        assert_eq!(scalar(text), expected, "{text:?}");
    }
}
