//! How long a transfer may take: any time as long as it is not too slow.

use std::time::Duration;

use tokio::time::Instant;

use quire_git::lfs::LfsProgress;

/// How long nothing may be transferred, as for git over HTTPS.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_millis(match cfg!(test) {
    true => 100,
    false => 60_000,
});
/// How long the transfer of an attempt may take, however slow it is.
pub(super) const TRANSFER_TIME: Duration = Duration::from_secs(3600);
/// A transfer that is at least as fast may take longer, in bytes a second.
pub(super) const MIN_SPEED: u64 = 64 << 10;

/// Nothing was transferred for a while.
pub(super) struct TransferStalled;

/// A transfer has taken too long for what it has transferred.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TransferTooSlow;

/// Waits for a part of a transfer, as long as something is transferred.
pub(super) async fn unless_stalled<T>(
    progress: &LfsProgress,
    part: impl Future<Output = T>,
) -> Result<T, TransferStalled> {
    tokio::pin!(part);
    let mut seen = progress.bytes();
    loop {
        tokio::select! {
            done = &mut part => return Ok(done),
            () = tokio::time::sleep(STALL_TIMEOUT) => {}
        }
        let now = progress.bytes();
        if now == seen {
            return Err(TransferStalled);
        }
        seen = now;
    }
}

/// Waits for a whole transfer for this time, and as much longer as what it transfers takes at [`MIN_SPEED`].
pub(super) async fn unless_too_slow<T>(
    progress: &LfsProgress,
    time: Duration,
    transfer: impl Future<Output = T>,
) -> Result<T, TransferTooSlow> {
    tokio::pin!(transfer);
    let started = Instant::now();
    loop {
        let deadline = started + time + Duration::from_secs(progress.bytes() / MIN_SPEED);
        if Instant::now() >= deadline {
            return Err(TransferTooSlow);
        }
        tokio::select! {
            done = &mut transfer => return Ok(done),
            () = tokio::time::sleep_until(deadline) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_transfer_that_is_too_slow_ends() {
        let progress = LfsProgress::default();
        let slow = async {
            loop {
                progress.add(1);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let time = Duration::from_millis(50);
        let ended: Result<(), _> = unless_too_slow(&progress, time, slow).await;
        assert_eq!(ended, Err(TransferTooSlow));
        // One that is fast enough goes on after that time.
        progress.add(usize::try_from(MIN_SPEED).unwrap() * 3600);
        let long = tokio::time::sleep(time * 2);
        assert_eq!(unless_too_slow(&progress, time, long).await, Ok(()));
    }
}
