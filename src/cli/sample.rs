//! Rows for the tests of output.

use quire_types::clock::Millis;
use quire_types::names::RunId;
use quire_types::run::{FailureKind, Run, RunState, Trigger};

/// A run in this state; one that failed is orphaned.
pub(super) fn run(id: RunId, state: RunState) -> Run {
    let over = state.is_final().then_some(Millis(2000));
    Run {
        id,
        repo: "app".parse().unwrap(),
        number: 14,
        ref_name: "refs/heads/main".parse().unwrap(),
        sha: "1".repeat(40).parse().unwrap(),
        subject: Some("Add a test".to_owned()),
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
        group_unknown: false,
        keep: false,
        rebuild: false,
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
