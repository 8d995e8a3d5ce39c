//! Reads what is told: of a run its failed jobs, of a ref that was pushed its commits. A report of a finding has all.

use super::delivery_error::DeliveryError;
use super::deps::NotifyDeps;
use super::failed_jobs;
use super::message::{Message, MessageEvent, PushReport, RunEnded};
use super::policy::{ToldEnd, ToldEvent};
use super::settings::NotifySettings;
use quire_git::Git;
use quire_store::{EndedRun, OutboxPush, Store, StoreError};
use quire_types::run::RunState;
use uuid::Uuid;

/// Why a message could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum ComposeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
}

/// Reads what a message tells; `None` if there is nothing left to tell.
pub(super) async fn compose(
    deps: &NotifyDeps,
    told: ToldEvent<'_>,
    settings: &NotifySettings,
) -> Result<Option<Message>, ComposeError> {
    match told {
        ToldEvent::Ended(ended, how) => Ok(Some(compose_ended(deps, ended, how, settings).await?)),
        ToldEvent::Pushed(pushed) => {
            let composed = compose_pushed(deps, pushed, settings).await;
            Ok(composed.map_err(|source| DeliveryError::Push {
                repo: pushed.repo.clone(),
                source,
            })?)
        }
        ToldEvent::Reported(report) => Ok(Some(Message {
            id: report.id.clone(),
            time: report.at_ms,
            sent_at: deps.store.clock().now(),
            url: format!("{}/-/health", base_url(settings)),
            event: MessageEvent::Health(Box::new(report.clone())),
        })),
    }
}

async fn compose_ended(
    deps: &NotifyDeps,
    ended: &EndedRun,
    told: ToldEnd,
    settings: &NotifySettings,
) -> Result<Message, StoreError> {
    let run = ended.run.clone();
    let paths = deps.paths.clone();
    let failed_jobs = match run.state {
        RunState::Failed => {
            let run = run.clone();
            let redactor = settings.redactor.clone();
            let read = move |store: &Store| failed_jobs::read(store, &paths, &run, &redactor());
            deps.store.call(read).await?
        }
        _ => Vec::new(),
    };
    let now = deps.store.clock().now();
    let is_failure = run.state == RunState::Failed;
    let event = RunEnded {
        reason: told.reason,
        failures: ended.streak.failures + u32::from(is_failure),
        failed_jobs,
        alternation: told.alternation,
        run,
    };
    Ok(Message {
        // A run ends once, so the id of the run is that of the message.
        id: event.run.id.to_string(),
        time: event.run.finished_at_ms.unwrap_or(now),
        sent_at: now,
        url: format!("{}/runs/{}", base_url(settings), event.run.id),
        event: MessageEvent::RunEnded(Box::new(event)),
    })
}

/// `None` if the repository does not exist any more.
async fn compose_pushed(
    deps: &NotifyDeps,
    pushed: &OutboxPush,
    settings: &NotifySettings,
) -> Result<Option<Message>, quire_git::GitError> {
    let repo = pushed.repo.clone();
    let find = move |git: &Git| match git.exists_or_redirects(&repo)? {
        true => {
            let repo = git.resolve(&repo);
            let branch = git.default_branch(&repo)?;
            Ok(Some((git.paths().repo(&repo), branch)))
        }
        false => Ok(None),
    };
    let Some((folder, default_branch)) = deps.git.call(find).await? else {
        return Ok(None);
    };
    let (old, new) = (pushed.old_sha.as_ref(), pushed.new_sha.as_ref());
    let commits = deps
        .git
        .pushed_commits(&folder, &pushed.ref_name, old, new)
        .await?;
    let report = PushReport {
        pushed: pushed.clone(),
        commits,
        default_branch,
        ssh_url: (settings.clone_url)(&pushed.repo),
    };
    Ok(Some(Message {
        id: id_of(pushed),
        time: pushed.pushed_at_ms,
        sent_at: deps.store.clock().now(),
        url: format!("{}/{}", base_url(settings), pushed.repo),
        event: MessageEvent::Pushed(Box::new(report)),
    }))
}

/// The id of the message of a ref: that of the push, plus the place of the ref in it.
fn id_of(pushed: &OutboxPush) -> String {
    let id = pushed.event_id.to_string();
    let with_place = |id: Uuid| Uuid::from_u128(id.as_u128().wrapping_add(pushed.position.into()));
    Uuid::parse_str(&id).map_or(id, |id| with_place(id).to_string())
}

fn base_url(settings: &NotifySettings) -> String {
    let base = settings.url.for_reader(None);
    base.trim_end_matches('/').to_owned()
}
