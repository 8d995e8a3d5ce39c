//! The JSON of each row.

use super::*;
use crate::forge::landing_json::LandingJson;
use quire_store::{Landing, MirrorFailure, MirrorState};
use quire_types::landing::{LandingMethod, LandingState};
use quire_types::mirror::MirrorFailureKind;

fn run_id() -> RunId {
    "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap()
}

fn at(seconds: i64) -> Millis {
    Millis(1_700_000_000_000 + seconds * 1000)
}

/// The view as JSON, which the documentation must have.
fn pretty(view: &impl Serialize) -> String {
    const PAGE: &str = include_str!("../../../../../docs/json.md");
    let text = serde_json::to_string_pretty(view).unwrap();
    assert!(PAGE.contains(&text), "docs/json.md has not:\n{text}");
    text
}

fn run() -> Run {
    Run {
        id: run_id(),
        repo: "group/shop".parse().unwrap(),
        number: 14,
        ref_name: "refs/heads/main".parse().unwrap(),
        sha: "1".repeat(40).parse().unwrap(),
        subject: Some("Add a test".to_owned()),
        previous_sha: Some("2".repeat(40).parse().unwrap()),
        event_id: None,
        trigger: Trigger::Manual,
        source: "quire/manual".to_owned(),
        pusher: Some("laptop".to_owned()),
        only_job: Some("test".to_owned()),
        retry_of: Some(run_id()),
        only_failed: true,
        params: Some(Map::from_iter([("to".to_owned(), "live".into())])),
        group_name: Some("deploy".to_owned()),
        supersede: false,
        group_unknown: false,
        keep: true,
        rebuild: true,
        superseded_by: Some(run_id()),
        stop_requested: Some(StopReason::Canceled),
        state: RunState::Canceled,
        failure_kind: None,
        message: Some("canceled while it ran".to_owned()),
        pushed_at_ms: at(0),
        queued_at_ms: at(1),
        started_at_ms: Some(at(2)),
        finished_at_ms: Some(at(9)),
        executor: Some("docker".parse().unwrap()),
        container_id: Some("c0ffee".to_owned()),
        image_tag: Some("quire/shop:1".to_owned()),
        build_started_at_ms: Some(at(3)),
        build_finished_at_ms: Some(at(4)),
        container_started_at_ms: Some(at(5)),
        container_stopped_at_ms: Some(at(8)),
        workspace_path: None,
        logs_removed_at_ms: Some(at(10)),
        artifacts_removed_at_ms: Some(at(11)),
    }
}

#[test]
fn json_of_a_run() {
    let run = run();
    insta::assert_snapshot!(pretty(&RunJson::from(&run)));
}

#[test]
fn json_of_a_job() {
    let job = RunJob {
        run_id: run_id(),
        job_id: "test".parse().unwrap(),
        position: 1,
        inputs: vec!["build".to_owned()],
        state: JobState::Failed,
        exit_code: Some(2),
        message: Some("`make test` failed with exit code 2".to_owned()),
        output: Some(Value::Bool(true)),
        reused_from: Some(run_id()),
        started_at_ms: Some(at(5)),
        finished_at_ms: Some(at(6)),
    };
    insta::assert_snapshot!(pretty(&JobJson::from(&job)));
}

#[test]
fn json_of_a_step() {
    let step = RunStep {
        run_id: run_id(),
        seq: 3,
        job_id: "test".parse().unwrap(),
        command: "make test".to_owned(),
        exit_code: Some(2),
        started_at_ms: at(5),
        finished_at_ms: Some(at(6)),
    };
    insta::assert_snapshot!(pretty(&StepJson::from(&step)));
}

#[test]
fn json_of_an_artifact() {
    let artifact = RunArtifact {
        run_id: run_id(),
        name: "site".to_owned(),
        job_id: "build".parse().unwrap(),
        is_folder: true,
        files: 2,
        bytes: 300,
        created_at_ms: at(6),
    };
    insta::assert_snapshot!(pretty(&ArtifactJson::from(&artifact)));
}

#[test]
fn json_of_a_schedule() {
    let schedule = RepoSchedule {
        repo: "group/shop".parse().unwrap(),
        name: "nightly".to_owned(),
        schedule: "0 3 * * *".to_owned(),
        next_at_ms: at(60),
        ref_name: "refs/heads/main".parse().unwrap(),
        problem: Some("the pipeline has a syntax error".to_owned()),
    };
    insta::assert_snapshot!(pretty(&ScheduleJson::from(&schedule)));
}

#[test]
fn json_of_a_kept_container() {
    let kept = KeptContainer {
        run_id: run_id(),
        container_id: "c0ffee".to_owned(),
        until_ms: at(600),
    };
    insta::assert_snapshot!(pretty(&KeptContainerJson::from(&kept)));
}

#[test]
fn json_of_a_landing() {
    let landing = Landing {
        id: 7,
        repo: "group/shop".parse().unwrap(),
        branch: "refs/heads/main".parse().unwrap(),
        method: LandingMethod::Rebase,
        pusher: Some("laptop".to_owned()),
        pushed_sha: "1".repeat(40).parse().unwrap(),
        tested_sha: "2".repeat(40).parse().unwrap(),
        event_id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        state: LandingState::Failed,
        base_sha: None,
        move_event_id: None,
        message: Some("its run failed".to_owned()),
        created_at_ms: at(0),
        ended_at_ms: Some(at(60)),
    };
    insta::assert_snapshot!(pretty(&LandingJson::from(&landing)));
}

#[test]
fn json_of_a_notification_target() {
    let target = TargetProgress {
        name: "ops".to_owned(),
        waiting: 2,
        failures: 3,
        problem: Some("there was no answer within 30 seconds".to_owned()),
        next_attempt_ms: Some(at(20)),
        given_up: 1,
        delivered_ms: Some(at(-60)),
    };
    insta::assert_snapshot!(pretty(&NotificationTargetJson::from(&target)));
}

#[test]
fn json_of_a_mirror() {
    let mirror = ListedMirror {
        state: MirrorState {
            repo: "work/app".parse().unwrap(),
            name: "nas".to_owned(),
            url: "ssh://git@nas/app".to_owned(),
            host_key: Some("ssh-ed25519 AAAA".to_owned()),
            in_sync_ms: Some(at(-60)),
            lfs_problem: None,
            failure: Some(MirrorFailure {
                kind: MirrorFailureKind::Rejected,
                problem: "1 of 1 refs was not accepted".to_owned(),
                since_ms: at(-5),
                attempts: 2,
                next_attempt_ms: Some(at(60)),
            }),
            equal: 3,
            waiting: 1,
            rejected: 1,
            waiting_since_ms: Some(at(-6)),
            has_new: false,
            is_pull: false,
        },
        host_key: Some("SHA256:abc".to_owned()),
        differing: vec![MirrorRef {
            ref_name: "refs/heads/main".parse().unwrap(),
            wanted: Some("1".repeat(40).parse().unwrap()),
            remote: None,
            waiting_since_ms: Some(at(-6)),
            failed_since_ms: Some(at(-5)),
            problem: Some("[remote rejected] (pre-receive hook declined)".to_owned()),
        }],
    };
    insta::assert_snapshot!(pretty(&MirrorJson::from(&mirror)));
}
