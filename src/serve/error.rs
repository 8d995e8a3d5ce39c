//! Why the server cannot start or continue.

use quire_config::ConfigError;
use quire_store::StoreError;

/// Why the server cannot start or continue.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An invalid configuration.
    #[error("the configuration does not load")]
    Config(#[from] ConfigError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A failed operation of the operating system.
    #[error("cannot {attempt}")]
    System {
        /// What was attempted.
        attempt: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

/// For `map_err`: an operation that failed.
pub(super) fn system(attempt: impl Into<String>) -> impl FnOnce(std::io::Error) -> ServeError {
    move |source| ServeError::System {
        attempt: attempt.into(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_was_attempted() {
        let error = system("listen on 0.0.0.0:3000")(std::io::Error::from_raw_os_error(98));
        assert_eq!(
            quire_types::error_chain::chain(&error),
            "cannot listen on 0.0.0.0:3000: Address already in use (os error 98)"
        );
    }
}
