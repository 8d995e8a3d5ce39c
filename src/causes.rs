//! An error with what is behind it, as one text. Error types keep their causes apart; only where
//! words are made, at the edge, are they put together.

use std::error::Error;

/// The error, then each cause after a colon.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
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
            with_causes(&Outer(std::fmt::Error)),
            format!("outer: {}", std::fmt::Error)
        );
        assert_eq!(with_causes(&std::fmt::Error), std::fmt::Error.to_string());
    }
}
