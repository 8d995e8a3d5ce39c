//! Secrets that cannot be printed by accident, and the redactor that keeps their values out of
//! everything quire writes down.
//!
//! A [`Secret`] gives its value only to who asks with [`Secret::expose`], and wipes it when it
//! goes. A [`Redactor`] knows the secrets that a run has asked for and replaces them, in all the
//! [forms] in which programs tend to print them, by `{{ name }}`.

mod forms;
mod redact;

pub use redact::{RedactStream, Redactor};

use std::fmt;

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
