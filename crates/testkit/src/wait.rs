//! Waiting for a condition. A test never sleeps for a time that it guessed.

use std::time::{Duration, Instant};

/// How long a test waits for a condition before it fails.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(60);
/// The shortest time between two looks at a condition.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Polls until the condition returns a value; panics with `what` after [`WAIT_TIMEOUT`].
#[track_caller]
pub fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_until(WAIT_TIMEOUT, condition)
        .unwrap_or_else(|| panic!("waited for {what} for {WAIT_TIMEOUT:?}"))
}

/// As [`wait_for`]; the message also holds this report, such as a server's log.
#[track_caller]
pub fn wait_for_or_report<T>(
    what: &str,
    condition: impl FnMut() -> Option<T>,
    report: impl FnOnce() -> String,
) -> T {
    wait_until(WAIT_TIMEOUT, condition)
        .unwrap_or_else(|| panic!("waited for {what} for {WAIT_TIMEOUT:?}\n{}", report()))
}

/// Polls until the condition returns a value; `None` if it has not after this time.
pub fn wait_until<T>(timeout: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + timeout;
    loop {
        let begun = Instant::now();
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        // A look that costs much, such as a run of `docker`, takes at most half of the time.
        std::thread::sleep(MIN_POLL_INTERVAL.max(begun.elapsed()));
    }
}

/// As [`wait_for`], for a condition that is a future.
pub async fn wait_for_async<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT_TIMEOUT;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "waited for {what} for {WAIT_TIMEOUT:?}"
        );
        tokio::time::sleep(MIN_POLL_INTERVAL).await;
    }
}
