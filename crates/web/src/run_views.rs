//! The fragments of a run's page, which the page and the live stream share.

use askama::Template;

use super::html as pieces;
use super::run_data::{RunData, RunNames};
use super::state::WebConfig;
use quire_server::forge::landings;
use quire_store::KeptContainer;
use quire_types::clock::Millis;
use quire_types::names::RunId;
use quire_types::run::{FailureKind, Run, RunJob, RunState, RunStep, StopReason, Trigger};
use quire_types::text::format_elapsed;

/// The upper part of the page: what the run is and how it stands.
#[derive(Template)]
#[template(path = "run_head.html")]
pub(super) struct RunHeader<'a> {
    pub(super) run: &'a Run,
    successor: Option<RunId>,
    kept: Option<&'a KeptContainer>,
    /// How far its commit has come, if it is to land on a branch.
    landing: Option<String>,
    names: &'a RunNames,
    /// The command that opens a shell in its container.
    attach: String,
    /// Whether the reader may cancel and retry it.
    may_act: bool,
    pub(super) now: Millis,
}

impl<'a> RunHeader<'a> {
    pub(super) fn new(rows: &'a RunData, config: &WebConfig, now: Millis, may_act: bool) -> Self {
        let attach = config.ssh_command(&format!("run attach {}", rows.run.name()));
        Self {
            run: &rows.run,
            successor: rows.successor,
            kept: rows.kept.as_ref(),
            landing: rows.landing.as_ref().map(landings::sentence),
            names: &rows.names,
            attach,
            may_act,
            now,
        }
    }

    /// The run that goes on where this one was cut off.
    fn second_try(&self) -> Option<RunId> {
        self.successor
            .filter(|_| self.run.failure_kind == Some(FailureKind::Orphaned))
    }

    /// The run of a newer push that takes this one's place.
    fn replaced_by(&self) -> Option<RunId> {
        let replaced = self.run.state == RunState::Superseded
            || self.run.stop_requested == Some(StopReason::Superseded);
        self.run.superseded_by.filter(|_| replaced)
    }

    /// Whether only the jobs that did not complete can be retried.
    fn may_retry_failed(&self) -> bool {
        matches!(self.run.state, RunState::Failed | RunState::Canceled)
            && self.run.started_at_ms.is_some()
    }

    /// How long it waited in the queue, where that is worth a word.
    fn waited(&self) -> Option<String> {
        let waited = self.run.started_at_ms?.since(self.run.queued_at_ms);
        (waited >= 1000).then(|| format_elapsed(waited))
    }
}

/// A job's line.
#[derive(Template)]
#[template(path = "run_job.html")]
pub(super) struct JobLine<'a> {
    pub(super) job: &'a RunJob,
    pub(super) names: &'a RunNames,
    pub(super) now: Millis,
}

impl JobLine<'_> {
    /// The jobs that it waits for; sources are not worth a word.
    fn after(&self) -> String {
        self.job
            .inputs
            .iter()
            .filter(|i| !i.contains('/'))
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// A step's line.
#[derive(Template)]
#[template(path = "run_step.html")]
pub(super) struct StepLine<'a> {
    pub(super) step: &'a RunStep,
    pub(super) now: Millis,
    /// The run has ended: a step without an end was cut.
    pub(super) over: bool,
}

impl StepLine<'_> {
    pub(super) fn word(&self) -> &'static str {
        match (self.step.finished_at_ms, self.step.exit_code) {
            (_, Some(0)) => "complete",
            (_, Some(_)) => "failed",
            (None, None) if !self.over => "active",
            _ => "aborted",
        }
    }

    /// Whether the page shows its log from the start.
    pub(super) fn is_open(&self) -> bool {
        self.word() != "complete"
    }

    /// The first line of the command; the rest stands in the tooltip and above the log.
    fn first_line(&self) -> &str {
        self.step.command.trim().lines().next().unwrap_or_default()
    }

    fn took(&self) -> String {
        pieces::took(
            &Some(self.step.started_at_ms),
            &self.step.finished_at_ms,
            &self.now,
        )
    }

    pub(super) fn is_long(&self) -> bool {
        self.step.command.trim().lines().nth(1).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_types::run::ExecutorName;

    fn orphaned_run() -> Run {
        Run {
            id: "0197a1b2-0000-7000-8000-000000000001".parse().unwrap(),
            repo: "work/app".parse().unwrap(),
            number: 14,
            ref_name: "refs/heads/main".parse().unwrap(),
            sha: "1111111111111111111111111111111111111111".parse().unwrap(),
            subject: Some("Add a test".to_owned()),
            previous_sha: None,
            event_id: None,
            trigger: Trigger::Push,
            source: "push".to_owned(),
            pusher: Some("laptop".to_owned()),
            only_job: None,
            retry_of: None,
            only_failed: false,
            params: None,
            group_name: Some("deploy".to_owned()),
            supersede: true,
            group_unknown: false,
            keep: true,
            rebuild: false,
            superseded_by: None,
            stop_requested: None,
            state: RunState::Failed,
            failure_kind: Some(FailureKind::Orphaned),
            message: Some("quire stopped while `build` was running".to_owned()),
            pushed_at_ms: Millis(0),
            queued_at_ms: Millis(0),
            started_at_ms: Some(Millis(5_000)),
            finished_at_ms: Some(Millis(9_000)),
            executor: Some(ExecutorName::HOST),
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

    #[test]
    fn header_of_an_orphaned_run() {
        let run = orphaned_run();
        let kept = KeptContainer {
            run_id: run.id,
            container_id: "c1".to_owned(),
            until_ms: Millis(90_000),
        };
        let header = RunHeader {
            run: &run,
            successor: Some("0197a1b2-0000-7000-8000-000000000002".parse().unwrap()),
            kept: Some(&kept),
            landing: None,
            names: &RunNames::default(),
            attach: "ssh git@nas run attach 0197a1b2".to_owned(),
            may_act: true,
            now: Millis(60_000),
        };
        insta::assert_snapshot!(header.render().unwrap());
    }
}
