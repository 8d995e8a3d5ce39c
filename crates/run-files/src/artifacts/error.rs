//! Errors of storing artifacts.

use std::io;

use super::name::ArtifactName;
use quire_types::text::format_bytes;

/// The most files and folders of the artifacts of one run.
pub(super) const MAX_ENTRIES: u64 = 100_000;

/// Why an artifact cannot be kept; a message for the author of the pipeline.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    #[error("{0}")]
    Rejected(String),
    #[error("an artifact named `{0}` exists already; give this one another :name")]
    NameTaken(ArtifactName),
    #[error("the artifacts of this run exceed the limit of {} together", format_bytes(*.0))]
    TooLarge(u64),
    #[error(
        "the artifacts of this run have more than {MAX_ENTRIES} files; pack them into one archive"
    )]
    TooMany,
    #[error("cannot store the artifact")]
    Io(#[from] io::Error),
    #[error("the run was stopped")]
    Stopped,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let messages = [
            ArtifactError::Rejected("the archive has a device file".to_owned()),
            ArtifactError::NameTaken("target/app".parse().unwrap()),
            ArtifactError::TooLarge(512 << 20),
            ArtifactError::TooMany,
            ArtifactError::Io(io::Error::other("no space left on device")),
            ArtifactError::Stopped,
        ]
        .map(|error| error.to_string());
        insta::assert_snapshot!(messages.join("\n"));
    }
}
