//! A run whose state changes while it is followed.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::super::sample::run;
use super::*;
use quire_run_files::logs::Stream;
use quire_types::clock::Millis;
use quire_types::run::{JobState, RunJob, RunState};

fn step(id: RunId, seq: u32, job: &str, command: &str) -> RunStep {
    let job_id = job.parse().unwrap();
    RunStep {
        run_id: id,
        seq,
        job_id,
        command: command.to_owned(),
        exit_code: Some(0),
        started_at_ms: Millis(10 * i64::from(seq)),
        finished_at_ms: Some(Millis(10 * i64::from(seq) + 5)),
    }
}

fn line(of: Option<(u32, &str)>, stream: Stream, text: &str, partial: bool) -> LogLine {
    let (seq, job) = of.map_or((None, None), |(seq, job)| {
        (Some(seq), Some(job.parse().unwrap()))
    });
    LogLine {
        seq,
        job,
        time: Millis(match seq {
            Some(seq) => 10 * i64::from(seq) + 1,
            None if text == "done" => 100,
            None => 0,
        }),
        stream,
        partial,
        text: text.as_bytes().to_vec(),
    }
}

/// Returns one state after the other, each with the log lines that it adds.
struct Script {
    states: RefCell<VecDeque<(Run, Vec<LogLine>)>>,
    now: RefCell<Vec<LogLine>>,
    /// The last step that has begun, and whether the run has ended.
    reached: Cell<(u32, bool)>,
    steps: Vec<RunStep>,
    successor: Option<RunId>,
    reader_connected: bool,
}

impl Script {
    fn new(states: Vec<(Run, Vec<LogLine>)>, steps: Vec<RunStep>) -> Self {
        Self {
            states: RefCell::new(states.into()),
            now: RefCell::default(),
            reached: Cell::default(),
            steps,
            successor: None,
            reader_connected: true,
        }
    }
}

impl RunReader for Script {
    fn run(&self, id: RunId) -> Result<Run, CommandError> {
        let (run, lines) = self
            .states
            .borrow_mut()
            .pop_front()
            .expect("asked again after the end");
        assert_eq!(run.id, id);
        let last = lines.iter().filter_map(|line| line.seq).max();
        let reached = last.unwrap_or(0).max(self.reached.get().0);
        self.reached.set((reached, run.state.is_final()));
        *self.now.borrow_mut() = lines;
        Ok(run)
    }

    fn jobs(&self, id: RunId) -> Result<Vec<RunJob>, CommandError> {
        let job = |name: &str| RunJob {
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

    fn steps(&self, _id: RunId, known: &mut Vec<RunStep>) -> Result<(), CommandError> {
        let (last, ended) = self.reached.get();
        self.steps.clone_into(known);
        known.retain(|step| step.seq <= last);
        for step in known.iter_mut().filter(|step| step.seq == last && !ended) {
            (step.exit_code, step.finished_at_ms) = (None, None);
        }
        Ok(())
    }

    fn successor(&self, _id: RunId) -> Result<Option<RunId>, CommandError> {
        Ok(self.successor)
    }

    fn lines(&mut self, _run: &Run, _steps: &[RunStep]) -> Result<Vec<LogLine>, CommandError> {
        Ok(std::mem::take(&mut self.now.borrow_mut()))
    }

    fn pause(&mut self) -> bool {
        self.reader_connected
    }
}

fn printed(
    script: &mut Script,
    id: RunId,
    job: Option<&str>,
    format: LogFormat,
) -> (Result<Run, CommandError>, String) {
    let mut text = Vec::new();
    let job: Option<JobName> = job.map(|job| job.parse().unwrap());
    let options = LogOptions {
        job: job.as_ref(),
        follow: true,
        format,
        raw: false,
        fold_build: false,
    };
    let run = print_run_log(
        script,
        id,
        options,
        &mut Output::test(&mut text, false, Millis(0)),
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
        "pulling\n── test · make…\none\noops\n✓ test · make… · 5 ms\n── test · ls\ntwo\n✓ test · ls · 5 ms\n── run\ndone\n"
    );
    let (_, text) = printed(&mut two_steps(id), id, Some("other"), LogFormat::Text);
    assert_eq!(text, "");
}

#[test]
fn each_step_is_shown_with_its_end_also_without_output() {
    let id = RunId::new();
    let failed = RunStep {
        exit_code: Some(2),
        ..step(id, 2, "test", "make")
    };
    let interrupted = RunStep {
        exit_code: None,
        ..step(id, 3, "other", "sleep 9")
    };
    let steps = vec![step(id, 1, "test", "true"), failed, interrupted];
    let lines = vec![line(Some((3, "other")), Stream::Stdout, "zz", true)];
    let script = || {
        Script::new(
            vec![(run(id, RunState::Failed), lines.clone())],
            steps.clone(),
        )
    };
    assert_eq!(
        printed(&mut script(), id, None, LogFormat::Text).1,
        "── test · true\n✓ test · true · 5 ms\n── test · make\n✗ test · make · exit 2 · 5 ms\n── other · sleep 9\nzz\n✗ other · sleep 9 · interrupted · 5 ms\n"
    );
    let (_, text) = printed(&mut script(), id, Some("other"), LogFormat::Text);
    assert_eq!(
        text,
        "── other · sleep 9\nzz\n✗ other · sleep 9 · interrupted · 5 ms\n"
    );
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
        "── test\nno end\n── test\ntwo\n"
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
fn a_closed_output_ends_the_command() {
    let id = RunId::new();
    let mut script = Script::new(vec![(run(id, RunState::Active), vec![])], vec![]);
    script.reader_connected = false;
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
    let print = |raw: bool| {
        let mut text = Vec::new();
        let mut script = Script::new(
            vec![(run(id, RunState::Complete), lines())],
            vec![step(id, 1, "test", "make")],
        );
        let options = LogOptions {
            job: None,
            follow: true,
            format: LogFormat::Text,
            raw,
            fold_build: false,
        };
        print_run_log(
            &mut script,
            id,
            options,
            &mut Output::test(&mut text, false, Millis(0)),
        )
        .unwrap();
        String::from_utf8(text).unwrap()
    };
    assert_eq!(
        print(false),
        "── test · make\n\u{1b}[31mred\n10%\n100%\n\u{1b}[1mlast\u{1b}[0m\n✓ test · make · 5 ms\n── run\ndone\n"
    );
    assert!(print(true).contains("\n\u{1b}]0;title\u{7}\u{1b}[2J\u{1b}[31mred\n10%\r50%\r100%\n"));
}

#[test]
fn json_has_no_control_characters_in_it() {
    let mut text = Vec::new();
    Output::test(&mut text, true, Millis(0))
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
    insta::assert_snapshot!(text);
}
