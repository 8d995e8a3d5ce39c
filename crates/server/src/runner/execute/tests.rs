//! Drivers that violate the protocol: their messages are foreign input, and fail only their own run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Map;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::job_loop::{RunContext, execute_jobs};
use crate::runner::job_recorder::{RecordError, Recorder};
use crate::runner::prepare;
use quire_executor::{
    CommandEnd, CommandSpec, ExecutorError, FileError, FileProblem, OutputSink, TarStream,
    Workspace,
};
use quire_pipeline::driver::DriverHandle;
use quire_pipeline::driver::protocol::{FromDriver, Language, PipelineSource};
use quire_pipeline::{JobOptions, JobRegistration, Location, Registration};
use quire_run_files::artifacts::{ArtifactStore, StoredArtifact};
use quire_run_files::logs::RunLog;
use quire_runtime::changes::ChangeNotifier;
use quire_store::JobResult;
use quire_types::clock::Clock;
use quire_types::names::{JobName, RunId};
use quire_types::run::{FailureKind, JobState, Outcome};
use quire_types::secret::{Redactor, Secret};

/// Records nothing.
struct NullRecorder;

impl Recorder for NullRecorder {
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
    fn artifact_kept(&self, _: &JobName, _: &StoredArtifact) -> Result<(), RecordError> {
        Ok(())
    }
    fn artifacts_discarded(&self, _: &JobName) -> Result<(), RecordError> {
        Ok(())
    }
}

/// Runs no command; every file has the same content.
struct NullWorkspace;

impl Workspace for NullWorkspace {
    fn run_command(
        &self,
        _: CommandSpec,
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
    fn export_archive<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<TarStream, ExecutorError>> {
        Box::pin(async {
            Err(ExecutorError::File(FileError {
                path: "x".to_owned(),
                problem: FileProblem::Missing,
            }))
        })
    }
    fn stop(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        Box::pin(async { Ok(()) })
    }
    fn remove(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        Box::pin(async { Ok(()) })
    }
}

/// A driver that registers one job, `a`, and then does what the script says.
fn driver(folder: &std::path::Path, script: &str) -> PathBuf {
    let job = JobRegistration {
        id: "a".to_owned(),
        inputs: vec!["quire/push".to_owned()],
        options: JobOptions::default(),
        location: Location {
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

/// Runs such a driver; returns the outcome and how many secrets it received.
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
        DriverHandle::spawn(&program).unwrap(),
        source,
        false,
        "quire/push",
        None,
    )
    .await;
    let prepared = prepared.unwrap_or_else(|error| panic!("{:?}", error.outcome));
    let given = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = given.clone();
    let redactor = Redactor::new(std::iter::empty::<(String, &Secret)>());
    let log = RunLog::create(
        folder.path().join("run"),
        redactor,
        1 << 20,
        Clock::system(),
        ChangeNotifier::default(),
        RunId::new(),
    )
    .unwrap();
    let context = RunContext {
        recorder: Arc::new(NullRecorder),
        log,
        workspace: Arc::new(NullWorkspace),
        values: Map::new(),
        env: Vec::new(),
        secrets: Arc::new(move |_| {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(Secret::new("x".repeat(secret_bytes)))
        }),
        artifacts: ArtifactStore::new(folder.path().join("artifacts"), 1 << 20),
        started_at: Instant::now(),
        timeout: Duration::from_secs(600),
    };
    let outcome = execute_jobs(prepared, context, CancellationToken::new()).await;
    (outcome, given.load(std::sync::atomic::Ordering::Relaxed))
}

/// Sends requests without end and reads no reply; each has another call id.
fn flood(what: &str) -> String {
    format!(
        "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); echo '{{\"say\":\"{what}\",\"call\":'$i',\"job\":\"a\",\"name\":\"t\",\"path\":\"p\"}}'; done; exec sleep 60"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_do_not_pile_up_for_a_driver_that_does_not_read() {
    for what in ["secret", "read-file"] {
        let (outcome, given) = outcome(&flood(what), 60_000).await;
        let Some(Outcome::Failed(FailureKind::Internal, message)) = outcome else {
            panic!("{what}: {outcome:?}")
        };
        assert!(
            message.contains("while another request is pending"),
            "{what}: {message}"
        );
        // The pipe holds one or two; a few are under way.
        assert!(given < 10, "{what}: {given}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_active_jobs_get_secrets() {
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
async fn a_driver_that_reads_may_send_many_requests() {
    let ask = "i=0; read -r x; while [ $i -lt 300 ]; do i=$((i+1)); echo '{\"say\":\"secret\",\"call\":'$i',\"job\":\"a\",\"name\":\"t\"}'; read -r x; done
echo '{\"say\":\"job-ended\",\"job\":\"a\",\"end\":{\"end\":\"skipped\"}}'; read -r x";
    let (outcome, given) = outcome(ask, 10).await;
    assert!(matches!(outcome, Some(Outcome::Complete)), "{outcome:?}");
    assert_eq!(given, 300);
}
