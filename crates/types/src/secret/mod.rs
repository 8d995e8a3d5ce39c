//! Secrets that cannot be printed by accident, and the redactor that keeps their values out of
//! everything that quire writes.
//!
//! [`Secret::expose`] is the only way to read the value of a [`Secret`], which is wiped from memory when it is
//! dropped. A [`Redactor`] knows the secrets that a run has asked for and replaces them, in every
//! [encoding](encodings) in which programs usually print them, by `{{ name }}`: also where escape sequences take a
//! value [apart](visible), and anywhere in [base64](encoded).

mod encoded;
mod encodings;
mod matcher;
mod redact;
mod search;
mod stored;
mod value;
mod visible;

pub use redact::{RedactStream, Redactor};
pub use stored::{FinalNewline, SecretName, SecretNameError, SecretScope, secret_from_text};
pub use value::{MIN_REDACTED_CHARS, Secret, SecretReader};
