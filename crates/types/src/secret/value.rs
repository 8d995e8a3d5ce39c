//! The value of a secret.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// A value with fewer characters than this is not redacted: it would tear up ordinary text.
pub const MIN_REDACTED_CHARS: usize = 8;

/// A value that is never printed, and is wiped from memory when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a value.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is shorter than what is redacted.
    #[must_use]
    pub fn is_too_short(&self) -> bool {
        self.0.chars().count() < MIN_REDACTED_CHARS
    }
}

/// Reads the value of a secret at each use, or says why that is not possible. It may block.
pub type SecretReader = Arc<dyn Fn() -> Result<Secret, String> + Send + Sync>;

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new("hunter2-hunter2".to_owned());
        assert_eq!(
            format!("{secret} {secret:?} {:?}", Some(&secret)),
            "[secret] [secret] Some([secret])"
        );
        assert_eq!(secret.expose(), "hunter2-hunter2");
    }

    #[test]
    fn length_is_counted_in_characters() {
        assert!(Secret::new("äöüäöü7".to_owned()).is_too_short());
        assert!(!Secret::new("äöüäöü78".to_owned()).is_too_short());
    }
}
