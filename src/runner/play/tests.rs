//! A driver that has gone wild: what it says is foreign, and costs nothing but its own run.

use std::path::PathBuf;

use futures_util::future::BoxFuture;

use super::super::prepare;
use super::*;
use crate::artifacts::Kept;
use crate::clock::Clock;
use crate::driver::Driver;
use crate::driver::protocol::{Language, PipelineSource};
use crate::executor::{Command, OutputSink, TarStream};
use crate::live::Live;
use crate::names::RunId;
use crate::pipeline::{JobOptions, JobRegistration, Place, Registration};
use crate::secret::{Redactor, Secret};

/// Takes note of nothing.
struct Nobody;

impl Recorder for Nobody {
    fn jobs_registered(&self, _: &[(JobName, Vec<String>)]) -> Result<(), RecordError> {
        Ok(())
    }
    fn job_started(&self, _: &JobName) -> Result<(), RecordError> {
        Ok(())
    }
    fn job_ended(&self, _: &JobName, _: JobState, _: &JobResult<'_>) -> Result<(), RecordError> {
        Ok(())
    }
    fn step_started(&self, _: u32, _: &JobName, _: &str) -> Result<(), RecordError> {
        Ok(())
    }
    fn step_ended(&self, _: u32, _: Option<i32>) -> Result<(), RecordError> {
        Ok(())
    }
    fn artifact_kept(&self, _: &JobName, _: &Kept) -> Result<(), RecordError> {
        Ok(())
    }
    fn artifacts_discarded(&self, _: &JobName) -> Result<(), RecordError> {
        Ok(())
    }
}

/// Runs nothing; every file holds a few bytes.
struct Nowhere;

impl Workspace for Nowhere {
    fn run(
        &self,
        _: Command,
        _: Box<dyn OutputSink>,
        _: CancellationToken,
    ) -> BoxFuture<'_, Result<CommandEnd, ExecutorError>> {
        Box::pin(async { Ok(CommandEnd::Exited(0)) })
    }
    fn read_file<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<u8>, ExecutorError>> {
        Box::pin(async { Ok(b"content".to_vec()) })
    }
    fn write_file<'a>(
        &'a self,
        _: &'a str,
        _: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), ExecutorError>> {
        Box::pin(async { Ok(()) })
    }
    fn export<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<TarStream, ExecutorError>> {
        Box::pin(async { Err(ExecutorError::File("there is none".to_owned())) })
    }
    fn stop(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        Box::pin(async { Ok(()) })
    }
}

/// A driver that registers one job, `a`, and then does what the script says.
fn driver(folder: &std::path::Path, script: &str) -> PathBuf {
    let job = JobRegistration {
        id: "a".to_owned(),
        inputs: vec!["quire/push".to_owned()],
        options: JobOptions::default(),
        place: Place {
            file: ".quire/ci.fnl".to_owned(),
            line: 1,
            column: 1,
        },
    };
    let registered = FromDriver::Registered(Registration {
        jobs: vec![job],
        ..Registration::default()
    });
    let registered = serde_json::to_string(&registered).unwrap();
    let path = folder.join("driver");
    std::fs::write(
        &path,
        format!("#!/bin/sh\nread -r x\ncat <<'END'\n{registered}\nEND\n{script}\n"),
    )
    .unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path
}

/// Plays a run with such a driver; gives how it came out and how often it was given a secret.
async fn outcome(script: &str, secret_bytes: usize) -> (Option<Outcome>, u64) {
    let folder = tempfile::tempdir().unwrap();
    let program = driver(folder.path(), script);
    let source = PipelineSource {
        language: Language::Fennel,
        file: ".quire/ci.fnl".into(),
        text: String::new(),
        helpers: Vec::new(),
    };
    let prepared = prepare::prepare(
        Driver::spawn(&program).unwrap(),
        source,
        false,
        "quire/push",
        None,
    )
    .await;
    let prepared = prepared.unwrap_or_else(|unprepared| panic!("{:?}", unprepared.outcome));
    let given = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = given.clone();
    let redactor = Redactor::new(std::iter::empty::<(String, &Secret)>());
    let log = RunLog::create(
        folder.path().join("run"),
        redactor,
        1 << 20,
        Clock::system(),
        Live::default(),
        RunId::new(),
    )
    .unwrap();
    let scene = Scene {
        recorder: Arc::new(Nobody),
        log,
        workspace: Arc::new(Nowhere),
        values: Map::new(),
        env: Vec::new(),
        secrets: Arc::new(move |_| {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(Secret::new("x".repeat(secret_bytes)))
        }),
        artifacts: Keeper::new(folder.path().join("artifacts"), 1 << 20),
        began: Instant::now(),
        timeout: Duration::from_secs(600),
    };
    let outcome = play(prepared, scene, CancellationToken::new()).await;
    (outcome, given.load(std::sync::atomic::Ordering::Relaxed))
}

/// Asks without end and reads no answer; each time by another call.
fn flood(what: &str) -> String {
    format!(
        "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); echo '{{\"say\":\"{what}\",\"call\":'$i',\"job\":\"a\",\"name\":\"t\",\"path\":\"p\"}}'; done; exec sleep 60"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_not_piled_up_for_a_driver_that_does_not_read_them() {
    for what in ["secret", "read-file"] {
        let (outcome, given) = outcome(&flood(what), 60_000).await;
        let Some(Outcome::Failed(FailureKind::Internal, message)) = outcome else {
            panic!("{what}: {outcome:?}")
        };
        assert!(
            message.contains("before it took the last answer"),
            "{what}: {message}"
        );
        // The pipe takes one or two; a few are on their way.
        assert!(given < 10, "{what}: {given}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_given_to_jobs_that_run_only() {
    let (outcome, given) = outcome(
        "echo '{\"say\":\"secret\",\"call\":1,\"job\":\"b\",\"name\":\"t\"}'; exec sleep 60",
        10,
    )
    .await;
    assert!(
        matches!(outcome, Some(Outcome::Failed(FailureKind::Internal, _))),
        "{outcome:?}"
    );
    assert_eq!(given, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_reads_may_ask_as_often_as_it_likes() {
    let ask = "i=0; read -r x; while [ $i -lt 300 ]; do i=$((i+1)); echo '{\"say\":\"secret\",\"call\":'$i',\"job\":\"a\",\"name\":\"t\"}'; read -r x; done
echo '{\"say\":\"job-ended\",\"job\":\"a\",\"end\":{\"end\":\"skipped\"}}'; read -r x";
    let (outcome, given) = outcome(ask, 10).await;
    assert!(matches!(outcome, Some(Outcome::Complete)), "{outcome:?}");
    assert_eq!(given, 300);
}
