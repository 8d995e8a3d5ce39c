//! Why a stranger's request is not served at this moment.

use std::time::Duration;

/// Why a request of a client that is not signed in is not served now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StrangerRefused {
    /// This client has used up its units.
    #[error("the client has used up its units")]
    Client {
        /// When it has enough again.
        after: Duration,
    },
    /// All of them together have used up their processor time.
    #[error("strangers have used up their processor time")]
    Processor {
        /// When there is some again.
        after: Duration,
    },
    /// Other strangers have the threads or the places that it needs.
    #[error("other strangers have the threads or places")]
    Busy,
}

/// When a request may be repeated that found no place.
const BUSY_TIME: Duration = Duration::from_secs(5);

impl StrangerRefused {
    /// The seconds after which the request may be repeated.
    #[must_use]
    pub fn retry_after(self) -> u64 {
        let after = match self {
            Self::Client { after } | Self::Processor { after } => after,
            Self::Busy => BUSY_TIME,
        };
        let whole = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        whole.max(1)
    }
}
