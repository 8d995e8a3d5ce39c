//! Where the refs of a repository stand.

use std::path::Path;

use super::error::excerpt;
use super::{Git, GitError};
use crate::names::{ObjectId, RefName};

/// All refs of a repository at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refs {
    /// Each ref with the object it names (a tag object for an annotated tag), by name.
    pub refs: Vec<(RefName, ObjectId)>,
    /// Refs that cannot be recorded, since their names are not UTF-8: shown, not followed.
    pub unreadable: Vec<String>,
}

impl Git {
    /// All refs but quire's own (`refs/quire/`).
    pub async fn refs(&self, repo: &Path) -> Result<Refs, GitError> {
        let output = self
            .success(repo, "for-each-ref", ["--format=%(objectname) %(refname)"])
            .await?;
        let mut refs = Refs::default();
        for line in output
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
        {
            let unexpected = || GitError::Unexpected {
                verb: "for-each-ref",
                answer: excerpt(&String::from_utf8_lossy(line)),
            };
            let space = line
                .iter()
                .position(|b| *b == b' ')
                .ok_or_else(unexpected)?;
            let (id, name) = (&line[..space], &line[space + 1..]);
            let id: ObjectId = std::str::from_utf8(id)
                .ok()
                .and_then(|id| id.parse().ok())
                .ok_or_else(unexpected)?;
            if name.starts_with(b"refs/quire/") {
                continue;
            }
            match std::str::from_utf8(name)
                .ok()
                .and_then(|name| name.parse().ok())
            {
                Some(name) => refs.refs.push((name, id)),
                None => refs
                    .unreadable
                    .push(excerpt(&String::from_utf8_lossy(name))),
            }
        }
        Ok(refs)
    }

    /// Whether `new` has all that `old` had, so that moving a ref from one to the other loses
    /// nothing. `false` also where `old` is gone or one of them is not a commit.
    pub async fn is_ancestor(
        &self,
        repo: &Path,
        old: &ObjectId,
        new: &ObjectId,
    ) -> Result<bool, GitError> {
        let output = self
            .output(
                repo,
                "merge-base",
                ["--is-ancestor", old.as_str(), new.as_str()],
            )
            .await?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(1 | 128) => Ok(false),
            _ => Err(GitError::Failed {
                verb: "merge-base",
                status: output.status,
                stderr: super::error::last_words(&output.stderr),
            }),
        }
    }
}
