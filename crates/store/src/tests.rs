//! The store over a real SQLite file.

mod access_tokens;
mod change_commits;
mod health_findings;
mod hook_deliveries;
mod landings;
mod mirrors;
mod model;
mod open;
mod operations;
mod outbox;
mod overwritten_refs;
mod push_events;
mod queue;
mod redirects;
mod repo_rows;
mod retries;
mod runs;
mod scale;
mod schedules;
mod secrets;
mod sessions;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use quire_types::clock::{Clock, Millis};
use quire_types::names::{EventId, JobName, RefName, RepoName, RunId};
use quire_types::push_event::{EventType, PushEvent, RefUpdate};
use quire_types::run::{
    ExecutorName, FailureKind, JobState, Outcome, Run, RunState, StopReason, Trigger,
};
use quire_types::supersede;

struct Fixture {
    store: Store,
    clock: Arc<AtomicI64>,
    folder: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicI64::new(1_700_000_000_000));
    let store = open(&folder, &clock).unwrap();
    Fixture {
        store,
        clock,
        folder,
    }
}

fn open(folder: &tempfile::TempDir, clock: &Arc<AtomicI64>) -> Result<Store, StoreError> {
    Store::open(
        &folder.path().join("quire.db"),
        &folder.path().join("backups"),
        Journal::Wal,
        Clock::manual(clock.clone()),
    )
}

fn repo(name: &str) -> RepoName {
    name.parse().unwrap()
}

fn branch(name: &str) -> RefName {
    format!("refs/heads/{name}").parse().unwrap()
}

/// Each push goes to a commit of its own.
fn push(repo_name: &str, branches: &[&str]) -> (PushEvent, Vec<NewRun>) {
    push_to(
        repo_name,
        branches,
        &RunId::new().to_string().replace('-', ""),
    )
}

fn push_to(repo_name: &str, branches: &[&str], id: &str) -> (PushEvent, Vec<NewRun>) {
    let refs: Vec<RefUpdate> = branches
        .iter()
        .map(|name| RefUpdate {
            ref_name: branch(name),
            old_sha: "0".repeat(40).parse().unwrap(),
            new_sha: format!("{id:0>40}").parse().unwrap(),
        })
        .collect();
    let event = PushEvent {
        id: EventId::new(),
        event_type: EventType::Push,
        repo: repo(repo_name),
        pusher: Some("laptop".into()),
        pushed_at: Millis(1_600_000_000_000),
        options: vec![],
        refs,
    };
    let runs = event
        .refs
        .iter()
        .map(|update| NewRun {
            pusher: event.pusher.clone(),
            ..NewRun::of_push(
                event.repo.clone(),
                update.ref_name.clone(),
                update.new_sha.clone(),
                event.pushed_at,
            )
        })
        .collect();
    (event, runs)
}

fn claim(f: &Fixture) -> Option<RunId> {
    let claimed = f.store.queue().claim_next(&ExecutorName::HOST).unwrap();
    claimed.map(|run| run.id)
}

/// Claims the next run, which there must be.
#[track_caller]
fn claimed(store: &Store) -> RunId {
    let claimed = store.queue().claim_next(&ExecutorName::HOST).unwrap();
    claimed.expect("no run can be claimed").id
}

/// Retries what failed of a run.
#[track_caller]
fn retry_failed(store: &Store, run: RunId) -> RunId {
    let options = RetryOptions {
        only_failed: true,
        keep: false,
    };
    let retry = store.runs().retry(run, options, supersede::superseded_runs);
    retry.unwrap().id
}

#[track_caller]
fn record_event(store: &Store, event: &PushEvent, runs: &[NewRun]) -> RecordedEvent {
    let (now, decide) = (CurrentRefs::new(), supersede::superseded_runs);
    store.events().record(event, runs, &now, decide).unwrap()
}

fn record(store: &Store, repo_name: &str, branches: &[&str]) -> Vec<RunId> {
    let (event, runs) = push(repo_name, branches);
    record_event(store, &event, &runs)
        .runs
        .into_iter()
        .map(|(id, _)| id)
        .collect()
}
