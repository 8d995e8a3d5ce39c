//! Protected refs: branches that lose no commits, and tags that stay where they are.
//!
//! The patterns are a file in the repository. So pushes obey them whatever else is running, and they go where the repository goes:
//! to another name, to the trash and back, and into backups.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::error::GitError;
use super::git::Git;
use super::refs::RefMove;
use quire_types::fsutil::replace_file_durably;
use quire_types::names::{RefName, RepoName};
use quire_types::ref_pattern::RefPattern;

/// The file in each repository that has protected refs: a pattern a line, in the order of the alphabet.
const FILE: &str = "quire-protected-refs";

/// A move of a ref that its protection forbids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{} is protected by the pattern `{}` and cannot be {change}", kind(.ref_name), .ref_name.short(), .pattern.short())]
pub struct ForbiddenMove {
    pub ref_name: RefName,
    pub pattern: RefPattern,
    pub change: ForbiddenChange,
}

/// What protected refs are protected against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForbiddenChange {
    Deletion,
    /// A move of a branch, or of another ref, after which commits are missing.
    ForcedMove,
    /// Any move of a tag.
    TagMove,
}

/// A branch and a tag may have the same short name.
fn kind(ref_name: &RefName) -> &'static str {
    match ref_name.tag() {
        Some(_) => "the tag ",
        None => "",
    }
}

impl std::fmt::Display for ForbiddenChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Deletion => "deleted",
            Self::ForcedMove => "moved by force",
            Self::TagMove => "moved",
        })
    }
}

/// Whether the repository in this folder has protected refs, as far as it can be told without reading which.
#[must_use]
pub fn has_protected_refs(folder: &Path) -> bool {
    folder.join(FILE).exists()
}

impl Git {
    /// The patterns of the protected refs of a repository.
    pub fn protected_refs(&self, repo: &RepoName) -> Result<Vec<RefPattern>, GitError> {
        let path = self.paths.repo(repo).join(FILE);
        let failed = |source| GitError::Io {
            action: "read",
            path: path.clone(),
            source,
        };
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            text => text.map_err(failed)?,
        };
        let invalid = |error| failed(std::io::Error::new(ErrorKind::InvalidData, error));
        text.lines()
            .map(|line| line.parse().map_err(invalid))
            .collect()
    }

    /// Protects the refs that match these patterns, and no others. The caller sees to it that nothing else does so at the same time.
    pub fn set_protected_refs(
        &self,
        repo: &RepoName,
        patterns: &[RefPattern],
    ) -> Result<(), GitError> {
        let path = self.paths.repo(repo).join(FILE);
        let lines = patterns.iter().map(|pattern| format!("{pattern}\n"));
        let text: String = lines.collect();
        replace_file_durably(&path, text.as_bytes(), 0o644).map_err(|source| GitError::Io {
            action: "write",
            path,
            source,
        })
    }

    /// Those of these moves that the protection of a repository forbids. `objects` is a repository that has what the refs refer
    /// to before and after. Fails if it cannot be told.
    pub fn forbidden_moves<'a>(
        &self,
        repo: &RepoName,
        objects: &Path,
        moves: impl IntoIterator<Item = &'a RefMove>,
    ) -> Result<Vec<ForbiddenMove>, GitError> {
        let patterns = self.protected_refs(repo)?;
        if patterns.is_empty() {
            return Ok(Vec::new());
        }
        let mut forbidden = Vec::new();
        for one in moves {
            let found = patterns
                .iter()
                .find(|pattern| pattern.matches(&one.ref_name));
            let Some(pattern) = found else { continue };
            if let Some(change) = self.forbidden_change(objects, one)? {
                forbidden.push(ForbiddenMove {
                    ref_name: one.ref_name.clone(),
                    pattern: pattern.clone(),
                    change,
                });
            }
        }
        Ok(forbidden)
    }

    fn forbidden_change(
        &self,
        objects: &Path,
        one: &RefMove,
    ) -> Result<Option<ForbiddenChange>, GitError> {
        const VERB: &str = "merge-base";
        let (from, to) = match (&one.from, &one.to) {
            // Also if the client says that there was none: git then deletes the ref all the same.
            (_, None) => return Ok(Some(ForbiddenChange::Deletion)),
            (None, Some(_)) => return Ok(None),
            (Some(from), Some(to)) => (from, to),
        };
        if from == to {
            return Ok(None);
        }
        if one.ref_name.tag().is_some() {
            return Ok(Some(ForbiddenChange::TagMove));
        }
        let mut command = self.in_quarantine(objects);
        command.args([VERB, "--is-ancestor", from.as_str(), to.as_str()]);
        match Self::run(&mut command, VERB) {
            Ok(_) => Ok(None),
            Err(GitError::Failed { status, .. }) if status.code() == Some(1) => {
                Ok(Some(ForbiddenChange::ForcedMove))
            }
            Err(error) => Err(error),
        }
    }
}
