//! Time limits of requests to the engine.

use std::time::Duration;

/// bollard's own limit for every request. It is never reached: each call has a limit of its own
/// here, and a build may take long.
pub(super) const CLIENT_TIMEOUT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Time limits of requests to the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    pub ping: Duration,
    /// An ordinary call.
    pub call: Duration,
    /// Creating, starting or removing a container.
    pub lifecycle: Duration,
    /// Removing one of many objects, or one whose removal is retried.
    pub removal: Duration,
    /// How long an upload may send no byte.
    pub upload_idle: Duration,
    /// How long a pull may report nothing; while it reports progress it has no limit.
    pub pull_idle: Duration,
    /// How long a stream may be silent before the engine is pinged.
    pub stream_idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        // A busy engine on a small machine may take seconds for its shortest response, and is
        // not away.
        Self {
            ping: seconds(10),
            call: seconds(30),
            lifecycle: seconds(120),
            removal: seconds(10),
            upload_idle: seconds(60),
            // Some storage drivers copy all lower layers of an image before they unpack one, and
            // report nothing meanwhile.
            pull_idle: seconds(600),
            stream_idle: seconds(15),
        }
    }
}
