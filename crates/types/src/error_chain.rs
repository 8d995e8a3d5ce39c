//! An error and its sources as one text. Error types keep their sources apart; they are joined only where
//! a person reads them: in commands, pages, logs and the outcome of a run.

use std::error::Error;

/// The error as a value for a log line, which then shows its sources too.
#[must_use]
pub fn with_sources<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    error
}

/// The error's message, then that of each source, separated by colons.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::fmt::Error);

    #[test]
    fn causes_follow_in_order() {
        assert_eq!(
            chain(&Outer(std::fmt::Error)),
            format!("outer: {}", std::fmt::Error)
        );
        assert_eq!(chain(&std::fmt::Error), std::fmt::Error.to_string());
    }
}
