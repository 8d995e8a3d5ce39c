//! A message: what is told of the end of a run, as data.

use serde::Serialize;

use super::policy::Reason;
use quire_types::clock::Millis;
use quire_types::run::Run;

/// A message to a target.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// The same for all attempts to deliver it, and for all targets.
    pub(super) id: String,
    /// When what it tells of happened.
    pub(super) time: Millis,
    /// When this attempt is made.
    pub(super) sent_at: Millis,
    /// The page of the run, or the first page.
    pub(super) url: String,
    /// `None` for a test.
    pub(super) event: Option<RunEnded>,
}

/// The end of a run.
#[derive(Debug, Clone)]
pub(super) struct RunEnded {
    pub(super) run: Run,
    pub(super) reason: Reason,
    /// Failures in a row: up to this run, or directly before it if it is complete.
    pub(super) failures: u32,
    pub(super) failed_jobs: Vec<FailedJobReport>,
}

/// A job that failed.
#[derive(Debug, Clone, Serialize)]
pub(super) struct FailedJobReport {
    pub(super) job: String,
    pub(super) message: Option<String>,
    /// The first line of the command that failed.
    pub(super) command: Option<String>,
    pub(super) exit_code: Option<i32>,
    /// The last lines of its log, without any secret.
    pub(super) lines: Vec<String>,
}

#[cfg(test)]
pub(super) mod sample {
    //! Messages for tests.

    use super::*;
    use quire_types::run::{FailureKind, RunState, Trigger};

    fn at(seconds: i64) -> Millis {
        Millis(1_700_000_000_000 + seconds * 1000)
    }

    pub(in crate::notify) fn run() -> Run {
        Run {
            id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            repo: "group/shop".parse().unwrap(),
            number: 14,
            ref_name: "refs/heads/main".parse().unwrap(),
            sha: "1".repeat(40).parse().unwrap(),
            subject: Some("Add a test".to_owned()),
            previous_sha: None,
            event_id: None,
            trigger: Trigger::Push,
            source: "quire/push".to_owned(),
            pusher: Some("laptop".to_owned()),
            only_job: None,
            retry_of: None,
            only_failed: false,
            params: None,
            group_name: None,
            supersede: true,
            group_unknown: false,
            keep: false,
            rebuild: false,
            superseded_by: None,
            stop_requested: None,
            state: RunState::Failed,
            failure_kind: Some(FailureKind::Job),
            message: Some("job `test` failed".to_owned()),
            pushed_at_ms: at(0),
            queued_at_ms: at(1),
            started_at_ms: Some(at(2)),
            finished_at_ms: Some(at(65)),
            executor: Some("docker".parse().unwrap()),
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

    pub(in crate::notify) fn failed() -> Message {
        Message {
            id: run().id.to_string(),
            time: at(65),
            sent_at: at(66),
            url: "https://git.example.org/runs/01890a5d-ac96-774b-bcce-b302099a8057".to_owned(),
            event: Some(RunEnded {
                run: run(),
                reason: Reason::Failed,
                failures: 2,
                failed_jobs: vec![FailedJobReport {
                    job: "test".to_owned(),
                    message: Some("`make test` failed with exit code 2".to_owned()),
                    command: Some("make test".to_owned()),
                    exit_code: Some(2),
                    lines: vec![
                        "test parse ... FAILED".to_owned(),
                        "make: *** [test] Error 1".to_owned(),
                    ],
                }],
            }),
        }
    }

    pub(in crate::notify) fn test() -> Message {
        Message {
            event: None,
            url: "https://git.example.org".to_owned(),
            ..failed()
        }
    }
}
