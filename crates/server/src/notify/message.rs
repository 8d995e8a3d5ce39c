//! A message: what is told of the end of a run, of a ref that was pushed or of the health of the appliance, as data.

use serde::Serialize;

use super::alternation::Alternation;
use super::policy::Reason;
use quire_git::PushedCommits;
use quire_store::{HealthReport, OutboxPush};
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
    /// The page of the run, of the repository or of the health, or the first page.
    pub(super) url: String,
    pub(super) event: MessageEvent,
}

/// What is told.
#[derive(Debug, Clone)]
pub(super) enum MessageEvent {
    Test,
    RunEnded(Box<RunEnded>),
    Pushed(Box<PushReport>),
    Health(Box<HealthReport>),
}

impl Message {
    /// The end of a run; `None` if something else is told.
    pub(super) fn run_ended(&self) -> Option<&RunEnded> {
        match &self.event {
            MessageEvent::RunEnded(event) => Some(event),
            MessageEvent::Test | MessageEvent::Pushed(_) | MessageEvent::Health(_) => None,
        }
    }

    /// A finding; `None` if something else is told.
    pub(super) fn health(&self) -> Option<&HealthReport> {
        match &self.event {
            MessageEvent::Health(report) => Some(report),
            MessageEvent::Test | MessageEvent::Pushed(_) | MessageEvent::RunEnded(_) => None,
        }
    }
}

/// A ref that was pushed.
#[derive(Debug, Clone)]
pub(super) struct PushReport {
    pub(super) pushed: OutboxPush,
    pub(super) commits: PushedCommits,
    /// The short name of the default branch.
    pub(super) default_branch: Option<String>,
    /// The address from which the repository is cloned over SSH.
    pub(super) ssh_url: String,
}

/// The end of a run.
#[derive(Debug, Clone)]
pub(super) struct RunEnded {
    pub(super) run: Run,
    pub(super) reason: Reason,
    /// Failures in a row: up to this run, or directly before it if it is complete.
    pub(super) failures: u32,
    pub(super) failed_jobs: Vec<FailedJobReport>,
    /// Of a schedule that alternates.
    pub(super) alternation: Option<Alternation>,
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
    use quire_git::{ChangedFiles, CommitPerson, PushedCommit};
    use quire_types::finding::{FindingLevel, FindingPhase};
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
            event: MessageEvent::RunEnded(Box::new(RunEnded {
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
                alternation: None,
            })),
        }
    }

    impl Message {
        pub(in crate::notify) fn run_ended_mut(&mut self) -> &mut RunEnded {
            match &mut self.event {
                MessageEvent::RunEnded(event) => event,
                event => panic!("{event:?}"),
            }
        }
    }

    pub(in crate::notify) fn pushed_ref() -> OutboxPush {
        OutboxPush {
            seq: 1,
            event_id: "01890a5d-ac96-774b-bcce-b302099a8058".parse().unwrap(),
            position: 0,
            repo: "group/shop".parse().unwrap(),
            ref_name: "refs/heads/main".parse().unwrap(),
            old_sha: Some("2".repeat(40).parse().unwrap()),
            new_sha: Some("1".repeat(40).parse().unwrap()),
            pusher: Some("laptop".to_owned()),
            pushed_at_ms: at(0),
        }
    }

    pub(in crate::notify) fn pushed() -> Message {
        let person = |name: &str| CommitPerson {
            name: name.to_owned(),
            email: "a@example.org".to_owned(),
        };
        let commit = PushedCommit {
            id: "1".repeat(40).parse().unwrap(),
            tree: "3".repeat(40),
            author: person("A. N. Other"),
            committer: person("Größe"),
            time: "2023-11-14T22:13:00+01:00".to_owned(),
            message: "Add a test\n\nIt failed before.".to_owned(),
            files: ChangedFiles {
                added: vec!["tests/new.rs".to_owned()],
                removed: vec!["tests/old.rs".to_owned()],
                modified: vec!["src/lib.rs".to_owned()],
            },
        };
        let report = PushReport {
            pushed: pushed_ref(),
            commits: PushedCommits {
                commits: vec![commit.clone()],
                head: Some(commit),
                forced: false,
            },
            default_branch: Some("main".to_owned()),
            ssh_url: "ssh://git@git.example.org:2222/group/shop.git".to_owned(),
        };
        Message {
            id: pushed_ref().event_id.to_string(),
            time: at(0),
            sent_at: at(1),
            url: "https://git.example.org/group/shop".to_owned(),
            event: MessageEvent::Pushed(Box::new(report)),
        }
    }

    pub(in crate::notify) fn health_report(phase: FindingPhase) -> HealthReport {
        HealthReport {
            id: "01890a5d-ac96-774b-bcce-b302099a8059".to_owned(),
            part: "mirrors".to_owned(),
            subject: "group/shop nas".to_owned(),
            phase,
            level: FindingLevel::Degraded,
            text: "mirror `nas` of group/shop: not in sync for 12 min: there was no answer"
                .to_owned(),
            began_at_ms: at(0),
            at_ms: at(120),
        }
    }

    pub(in crate::notify) fn health(phase: FindingPhase) -> Message {
        let report = health_report(phase);
        Message {
            id: report.id.clone(),
            time: report.at_ms,
            sent_at: at(121),
            url: "https://git.example.org/-/health".to_owned(),
            event: MessageEvent::Health(Box::new(report)),
        }
    }

    pub(in crate::notify) fn test() -> Message {
        Message {
            event: MessageEvent::Test,
            url: "https://git.example.org".to_owned(),
            ..failed()
        }
    }
}
