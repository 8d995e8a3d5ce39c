//! A working tree for `ci check`, and a scripted runner for the driver.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quire_pipeline::driver::protocol::{
    EncodedBytes, FromDriver, JobEnd, Language, PipelineSource, ShCommand, ShOptions, ShResult,
    ToDriver,
};
use quire_pipeline::driver::{DriverError, DriverHandle};
use quire_pipeline::{Pipeline, Registration};
use quire_types::secret::Secret;
use serde_json::{Value, json};

use crate::QUIRE;

/// The binary under test.
pub(crate) fn program() -> PathBuf {
    PathBuf::from(QUIRE)
}

/// What `quire ci check` says about a tree.
pub(crate) struct Checked {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `quire ci check` in a fresh tree with these files.
pub(crate) fn check(files: &[(&str, &str)], arguments: &[&str]) -> Checked {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    check_in(folder.path(), arguments)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test starts the binary as a person would"
)]
pub(crate) fn check_in(folder: &Path, arguments: &[&str]) -> Checked {
    let output = std::process::Command::new(program())
        .args(["ci", "check"])
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    Checked {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The errors of a pipeline, each as `line: message (hint)`.
pub(crate) fn errors(text: &str) -> Vec<String> {
    let checked = check(&[(".quire/ci.fnl", text)], &["--format", "json"]);
    assert_eq!(checked.code, 1, "{} {}", checked.stdout, checked.stderr);
    let found: Value = serde_json::from_str(&checked.stdout).unwrap();
    let shown = |error: &Value| {
        let hint = error["hint"]
            .as_str()
            .map(|hint| format!(" ({hint})"))
            .unwrap_or_default();
        format!(
            "{}: {}{hint}",
            error["place"]["line"],
            error["message"].as_str().unwrap()
        )
    };
    found["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(shown)
        .collect()
}

pub(crate) fn fennel(text: &str) -> PipelineSource {
    PipelineSource {
        language: Language::Fennel,
        file: ".quire/ci.fnl".to_owned(),
        text: text.to_owned(),
        helpers: Vec::new(),
    }
}

pub(crate) fn lua(text: &str) -> PipelineSource {
    PipelineSource {
        language: Language::Lua,
        file: ".quire/ci.lua".to_owned(),
        ..fennel(text)
    }
}

/// What a command answers: exit code and standard output.
pub(crate) type Script = fn(&str) -> (i32, &'static str);

/// What happened while jobs ran, in order.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) ends: BTreeMap<String, JobEnd>,
    /// Commands as `job: command`.
    pub(crate) commands: Vec<String>,
    pub(crate) options: Vec<ShOptions>,
    pub(crate) logs: Vec<String>,
}

impl Story {
    /// How a job ended, in one line.
    pub(crate) fn end(&self, job: &str) -> String {
        match &self.ends[job] {
            JobEnd::Complete { output } => format!("complete {output}"),
            JobEnd::Skipped => "skipped".to_owned(),
            JobEnd::Failed {
                message,
                exit_code,
                location,
            } => {
                let location = location
                    .as_ref()
                    .map(|location| format!("{}:{}: ", location.line, location.column))
                    .unwrap_or_default();
                let exit = exit_code
                    .map(|exit| format!(" [{exit}]"))
                    .unwrap_or_default();
                format!("{location}{message}{exit}")
            }
            JobEnd::TimedOut { message, location } => {
                let location = location
                    .as_ref()
                    .map(|location| format!("{}:{}: ", location.line, location.column))
                    .unwrap_or_default();
                format!("timed out: {location}{message}")
            }
        }
    }
}

/// A driver with a registered pipeline.
pub(crate) struct Session {
    pub(crate) driver: DriverHandle,
    pub(crate) registration: Registration,
}

impl Session {
    pub(crate) async fn start(source: PipelineSource) -> Result<Self, DriverError> {
        Self::start_within(source, Duration::from_secs(5)).await
    }

    pub(crate) async fn start_within(
        source: PipelineSource,
        limit: Duration,
    ) -> Result<Self, DriverError> {
        let mut driver = DriverHandle::spawn(&program())?;
        let registration = driver.register_within(source, limit).await?;
        Ok(Self {
            driver,
            registration,
        })
    }

    /// Starts a job, after saying what `(jobs name)` gives.
    pub(crate) async fn begin(&mut self, job: &str, inputs: &Value, timeout: Option<Duration>) {
        for (name, value) in inputs.as_object().unwrap() {
            self.driver
                .send(&ToDriver::Value {
                    name: name.clone(),
                    value: value.clone(),
                })
                .await
                .unwrap();
        }
        let timeout_ms = timeout.map(|timeout| timeout.as_millis() as u64);
        let env = [
            ("QUIRE_SHA", "0123"),
            ("NAME", "the run's"),
            ("NAME", "the job's"),
        ];
        let env = env
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        self.driver
            .send(&ToDriver::RunJob {
                job: job.to_owned(),
                timeout_ms,
                env,
            })
            .await
            .unwrap();
    }

    pub(crate) async fn hear(&mut self) -> FromDriver {
        let heard = tokio::time::timeout(Duration::from_secs(30), self.driver.recv()).await;
        heard
            .expect("the driver answers")
            .expect("the driver lives")
            .expect("the driver goes on")
    }

    pub(crate) async fn answer(&mut self, call: u64, exit: i32, stdout: &str) {
        let result = ShResult {
            exit,
            stdout: EncodedBytes::Plain(stdout.to_owned()),
            stderr: EncodedBytes::Plain(String::new()),
            error: None,
        };
        self.driver
            .send(&ToDriver::ShEnded { call, result })
            .await
            .unwrap();
    }

    /// Runs these jobs side by side until all have ended, each command answered at once. What else
    /// happens meanwhile is in the story too.
    pub(crate) async fn run(&mut self, jobs: &[&str], inputs: &Value, script: Script) -> Story {
        for job in jobs {
            self.begin(job, inputs, Some(Duration::from_secs(20))).await;
        }
        let mut story = Story::default();
        while !jobs.iter().all(|job| story.ends.contains_key(*job)) {
            match self.hear().await {
                FromDriver::Sh {
                    call,
                    job,
                    cmd,
                    opts,
                } => {
                    let text = shown(&cmd);
                    let (exit, stdout) = script(&text);
                    story.commands.push(format!("{job}: {text}"));
                    story.options.push(opts);
                    self.answer(call, exit, stdout).await;
                }
                FromDriver::Secret { call, name, .. } => {
                    let value = if name.ends_with("token") {
                        Ok(Secret::new("s3cret".to_owned()))
                    } else if name == "account" {
                        Ok(Secret::new(
                            r#"{"user": "deployment-user", "token": "t0ken-of-the-account"}"#
                                .to_owned(),
                        ))
                    } else {
                        Err(format!("there is no secret `{name}`"))
                    };
                    self.driver
                        .send(&ToDriver::SecretValue { call, value })
                        .await
                        .unwrap();
                }
                FromDriver::ReadFile { call, .. } => {
                    let content = Ok(EncodedBytes::Plain(
                        r#"{"version": "1", "name": "n", "scripts": {}}"#.to_owned(),
                    ));
                    self.driver
                        .send(&ToDriver::FileRead { call, content })
                        .await
                        .unwrap();
                }
                FromDriver::WriteFile { call, .. } | FromDriver::Artifact { call, .. } => {
                    self.driver
                        .send(&ToDriver::Done { call, done: Ok(()) })
                        .await
                        .unwrap();
                }
                FromDriver::Log { job, text } => story.logs.push(format!("{job}: {text}")),
                FromDriver::JobEnded { job, end } => {
                    assert!(story.ends.insert(job, end).is_none(), "a job ends once");
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        story
    }

    /// The driver still answers, and goes in order once nobody speaks to it.
    pub(crate) async fn close(self) {
        let (sender, mut receiver) = self.driver.split();
        drop(sender);
        assert_eq!(receiver.recv().await.unwrap(), None);
    }
}

pub(crate) fn shown(cmd: &ShCommand) -> String {
    match cmd {
        ShCommand::Shell(text) => text.clone(),
        ShCommand::Argv(argv) => format!("{argv:?}"),
    }
}

/// Runs the body of one job `a` (its tools: sh, jobs, env, secret, log) and says how it ended.
pub(crate) async fn job(body: &str, script: Script) -> Story {
    let text = format!(
        "(local ci (require :quire.ci))\n(ci.job :a [:quire/push] (fn [{{: sh : jobs : env : secret : log}}]\n{body}))"
    );
    let mut session = Session::start(fennel(&text))
        .await
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    let story = session
        .run(
            &["a"],
            &json!({"quire/push": {"branch": "main", "files-changed": ["a", "b"]}}),
            script,
        )
        .await;
    session.close().await;
    story
}

/// How that job ended, with a script that fails whatever begins with `false` or `exit N`.
pub(crate) async fn end(body: &str) -> String {
    job(body, usual).await.end("a")
}

/// `false` exits 1, `exit N` exits N, everything else 0; each prints `out`.
pub(crate) fn usual(command: &str) -> (i32, &'static str) {
    match command.strip_prefix("exit ") {
        Some(code) => (code.parse().unwrap(), "out"),
        None if command.starts_with("false") => (1, "out"),
        None => (0, "out"),
    }
}

/// Whether a registration makes a pipeline.
pub(crate) fn pipeline(
    registration: Registration,
    source: &PipelineSource,
) -> Result<Pipeline, String> {
    Pipeline::check(registration, &source.pipeline_text(), false)
        .map_err(|problems| problems[0].to_string())
}
