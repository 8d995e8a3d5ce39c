//! The worker of one target: reads what the target has not passed, and delivers it in order.
//!
//! It keeps no state of its own: after a crash, or a change of the configuration, it goes on from the position and the
//! time of the next attempt in the database.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::compose::{ComposeError, compose};
use super::delivery::deliver;
use super::delivery_error::DeliveryError;
use super::deps::NotifyDeps;
use super::outgoing_request::MessageConnection;
use super::policy::ToldEvent;
use super::repo_choices::{choices_of_entries, repo_of};
use super::settings::NotifySettings;
use super::targets::TargetService;
use quire_store::{OutboxEntry, Store, StoreError, TargetProgress};
use quire_types::backoff::Backoff;
use quire_types::clock::Millis;
use quire_types::error_chain::{chain, with_sources};
use quire_types::failpoint;

/// The delays between attempts.
const FIRST_DELAY: Duration = Duration::from_secs(5);
pub(super) const MAX_DELAY: Duration = Duration::from_secs(3600);
/// The delays between attempts to record a delivery.
const RECORD_BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
/// How long nothing is asked of the database without a notification.
pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(30);
/// How many rows are looked at in one query.
const BATCH: u32 = 100;

/// What a step of a worker led to.
enum WorkerStep {
    /// There may be more to do.
    Continue,
    /// Nothing is to be done for this time.
    Wait(Duration),
    /// The target is not in the configuration any more.
    Removed,
}

/// Tells a target of runs or pushes until the target is removed.
pub(super) async fn run(deps: Arc<NotifyDeps>, name: String) {
    let mut ends = deps.changes.subscribe_all();
    let mut pushes = deps.changes.subscribe_repos();
    let mut others = deps.changes.subscribe_outbox();
    let mut settings = deps.settings.clone();
    loop {
        ends.mark_unchanged();
        pushes.mark_unchanged();
        others.mark_unchanged();
        let current = settings.borrow_and_update().clone();
        let wait = match step(&deps, &name, &current).await {
            Ok(WorkerStep::Continue) => continue,
            Ok(WorkerStep::Wait(wait)) => wait.min(POLL_INTERVAL),
            Ok(WorkerStep::Removed) => return,
            Err(error) => {
                tracing::error!(
                    target_name = name,
                    error = with_sources(&error),
                    "cannot read or write the outbox"
                );
                POLL_INTERVAL
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = ends.changed() => if changed.is_err() { return },
            changed = pushes.changed() => if changed.is_err() { return },
            changed = others.changed() => if changed.is_err() { return },
            changed = settings.changed() => if changed.is_err() { return },
        }
    }
}

/// Reads the next rows that the target has not passed, and tells it of them in order until an attempt fails.
async fn step(
    deps: &NotifyDeps,
    name: &str,
    settings: &Arc<NotifySettings>,
) -> Result<WorkerStep, StoreError> {
    let Some(target) = settings.targets.get(name) else {
        return Ok(WorkerStep::Removed);
    };
    let asked = name.to_owned();
    let read = move |store: &Store| {
        let progress = store.outbox().target(&asked)?;
        Ok((progress, store.outbox().next(&asked, BATCH)?))
    };
    let (Some(progress), entries) = deps.store.call(read).await? else {
        return Ok(WorkerStep::Removed);
    };
    let Some(last) = entries.last().map(OutboxEntry::seq) else {
        return Ok(WorkerStep::Wait(POLL_INTERVAL));
    };
    let (selection, service) = match &target.settings {
        Ok(settings) => settings,
        // What it is told of is not known, so everything waits until the target is corrected.
        Err(_) => {
            let now = deps.store.clock().now();
            let old = entries
                .iter()
                .take_while(|entry| is_too_old(entry, settings, now));
            return match old.last() {
                Some(old) => skip(deps, name, old.seq()).await,
                None => Ok(WorkerStep::Wait(POLL_INTERVAL)),
            };
        }
    };
    let now = deps.store.clock().now();
    let is_failing = progress.next_attempt_ms.is_some();
    if let (true, Some(wait)) = (is_failing, wait_before_attempt(&progress, now))
        && !entries.iter().any(|entry| is_too_old(entry, settings, now))
    {
        return Ok(WorkerStep::Wait(wait));
    }
    let choices = match selection.chosen_by {
        Some(_) => choices_of_entries(&deps.repo_settings, name, &entries).await,
        None => HashMap::new(),
    };
    let told = entries.iter().filter_map(|entry| {
        let choice = repo_of(entry).and_then(|repo| choices.get(repo));
        let chosen = choice.map(|choice| selection.chosen(choice));
        let told = chosen.as_ref().unwrap_or(selection).told(name, entry)?;
        Some((entry, told))
    });
    match tell(deps, &progress, service, settings, told).await? {
        Some(step) => Ok(step),
        None => skip(deps, name, last).await,
    }
}

/// Tells a target of these rows, in order. Returns what is to be done next if it could not be told of all.
async fn tell(
    deps: &NotifyDeps,
    progress: &TargetProgress,
    service: &TargetService,
    settings: &NotifySettings,
    told: impl Iterator<Item = (&OutboxEntry, ToldEvent<'_>)>,
) -> Result<Option<WorkerStep>, StoreError> {
    let name = &progress.name;
    // After a refusal, or a change of the configuration, the next attempt may succeed.
    let mut failures = progress.failures;
    let mut is_failing = progress.next_attempt_ms.is_some();
    let mut connection = MessageConnection::default();
    for (entry, told) in told {
        let now = deps.store.clock().now();
        // While the target fails, messages that are too old are not attempted. One that succeeds is told of all that waits.
        if is_failing && is_too_old(entry, settings, now) {
            tracing::warn!(target_name = name, message = %described(entry), "a notification was given up after its time");
            give_up(deps, name, entry.seq()).await?;
            continue;
        }
        if is_failing && let Some(wait) = wait_before_attempt(progress, now) {
            return Ok(Some(WorkerStep::Wait(wait)));
        }
        let message = match compose(deps, told, settings).await {
            Ok(Some(message)) => message,
            Ok(None) => continue,
            Err(ComposeError::Store(error)) => return Err(error),
            Err(ComposeError::Delivery(error)) => {
                return record_failure(deps, progress, failures, entry, &error)
                    .await
                    .map(Some);
            }
        };
        failpoint::hit("notify-before-delivery");
        let delivered = deliver(deps, &message, service, settings, &mut connection).await;
        failpoint::hit("notify-delivered");
        match delivered {
            Ok(()) if record_delivered(deps, name, entry.seq()).await => {
                (is_failing, failures) = (false, 0);
            }
            // The target was removed, or removed and added again.
            Ok(()) => return Ok(Some(WorkerStep::Continue)),
            Err(error) => {
                return record_failure(deps, progress, failures, entry, &error)
                    .await
                    .map(Some);
            }
        }
    }
    Ok(None)
}

/// What a message is about, for the log of the server.
fn described(entry: &OutboxEntry) -> String {
    match entry {
        OutboxEntry::Ended(ended) => format!("run {}", ended.run.id),
        OutboxEntry::Pushed(pushed) => format!("push {} of {}", pushed.event_id, pushed.ref_name),
        OutboxEntry::Reported { report, .. } => format!("finding about {}", report.part),
    }
}

fn is_too_old(entry: &OutboxEntry, settings: &NotifySettings, now: Millis) -> bool {
    let age = now.since(entry.time().unwrap_or(now));
    u128::from(age) > settings.give_up_after.as_millis()
}

/// How long the next attempt has to wait. A time that is too far ahead is of a clock that was wrong.
fn wait_before_attempt(progress: &TargetProgress, now: Millis) -> Option<Duration> {
    let wait = Duration::from_millis(progress.next_attempt_ms?.since(now));
    (!wait.is_zero() && wait <= MAX_DELAY).then_some(wait)
}

async fn record_failure(
    deps: &NotifyDeps,
    progress: &TargetProgress,
    failures: u32,
    entry: &OutboxEntry,
    error: &DeliveryError,
) -> Result<WorkerStep, StoreError> {
    let name = progress.name.clone();
    deps.metrics
        .notification_failures
        .fetch_add(1, Ordering::Relaxed);
    tracing::warn!(target_name = name, message = %described(entry), error = with_sources(error), "a notification was not delivered");
    let problem = chain(error);
    if error.is_final() {
        count_given_up(deps);
        let seq = entry.seq();
        let refused = move |store: &Store| store.outbox().refused(&name, seq, &problem);
        deps.store.call(refused).await?;
        return Ok(WorkerStep::Continue);
    }
    let delay = i64::try_from(delay_after(failures, error).as_millis()).unwrap_or(i64::MAX);
    let next = deps.store.clock().now().plus(delay);
    let failed = move |store: &Store| store.outbox().failed(&name, &problem, next);
    deps.store.call(failed).await?;
    Ok(WorkerStep::Continue)
}

/// Records a delivery, with retries until that succeeds: otherwise the message would be sent again and again while the
/// disk is full. Returns false if the target was removed meanwhile.
async fn record_delivered(deps: &NotifyDeps, name: &str, seq: i64) -> bool {
    deps.metrics
        .notifications_delivered
        .fetch_add(1, Ordering::Relaxed);
    let mut backoff = RECORD_BACKOFF;
    loop {
        let told = name.to_owned();
        let record = move |store: &Store| store.outbox().delivered(&told, seq);
        match deps.store.call(record).await {
            Ok(recorded) => return recorded,
            Err(error) => {
                tracing::error!(
                    target_name = name,
                    error = with_sources(&error),
                    "cannot record a delivered notification yet"
                );
            }
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// The delay after a failure that this many failures precede.
fn delay_after(failures: u32, error: &DeliveryError) -> Duration {
    let mut backoff = Backoff::new(FIRST_DELAY, MAX_DELAY);
    let steps = failures.min(32);
    let own = (0..=steps).map(|_| backoff.next_delay()).last();
    own.unwrap_or(FIRST_DELAY)
        .max(error.retry_after().unwrap_or_default())
}

async fn skip(deps: &NotifyDeps, name: &str, seq: i64) -> Result<WorkerStep, StoreError> {
    let name = name.to_owned();
    let skip = move |store: &Store| store.outbox().skipped(&name, seq);
    deps.store.call(skip).await?;
    Ok(WorkerStep::Continue)
}

/// Passes over a message that is too old.
async fn give_up(deps: &NotifyDeps, name: &str, seq: i64) -> Result<(), StoreError> {
    count_given_up(deps);
    let name = name.to_owned();
    let give_up = move |store: &Store| store.outbox().given_up(&name, seq);
    deps.store.call(give_up).await.map(drop)
}

fn count_given_up(deps: &NotifyDeps) {
    let count = &deps.metrics.notifications_given_up;
    count.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(next_attempt_ms: Option<i64>) -> TargetProgress {
        TargetProgress {
            name: "hook".to_owned(),
            waiting: 1,
            failures: 1,
            problem: Some("refused".to_owned()),
            next_attempt_ms: next_attempt_ms.map(Millis),
            given_up: 0,
            delivered_ms: None,
        }
    }

    #[test]
    fn attempts_wait_longer_each_time() {
        let error = DeliveryError::TimedOut;
        let delays =
            [0, 1, 2, 9, 10, u32::MAX].map(|failures| delay_after(failures, &error).as_secs());
        assert_eq!(delays, [5, 10, 20, 2560, 3600, 3600]);
        let asked = DeliveryError::Answered {
            origin: String::new(),
            answer: String::new(),
            retry_after: Some(Duration::from_secs(120)),
        };
        assert_eq!(delay_after(0, &asked).as_secs(), 120);
        assert_eq!(delay_after(9, &asked).as_secs(), 2560);
        let now = Millis(1_700_000_000_000);
        let wait =
            |next: Option<i64>| wait_before_attempt(&progress(next.map(|ms| now.0 + ms)), now);
        assert_eq!(
            [None, Some(-1), Some(0), Some(1500), Some(1 << 40)].map(wait),
            [None, None, None, Some(Duration::from_millis(1500)), None]
        );
    }
}
