//! Protecting refs of repositories by patterns: what matches loses no commits, and a tag stays where it is.

use super::access::Forge;
use super::error::ForgeError;
use super::operation_log::recorded;
use super::repo_setting_error::RepoSettingError;
use super::repos;
use crate::rename::Renamer;
use quire_git::RefMove;
use quire_types::names::RepoName;
use quire_types::operation::Operation;
use quire_types::ref_pattern::RefPattern;

/// How many patterns one repository may have: each push compares its refs with all of them.
const MAX_PATTERNS: usize = 100;

/// The patterns of a repository after a change.
#[derive(Debug)]
pub struct RepoProtection {
    pub repo: RepoName,
    pub patterns: Vec<RefPattern>,
    /// Whether anything was changed.
    pub has_changed: bool,
}

/// Protects the refs that match a pattern.
pub fn protect(
    forge: &Forge,
    repo: &RepoName,
    pattern: &RefPattern,
) -> Result<RepoProtection, ForgeError> {
    change(forge, repo, |repo, patterns| {
        if patterns.contains(pattern) {
            return Ok(None);
        }
        if patterns.len() >= MAX_PATTERNS {
            return Err(RepoSettingError::TooManyPatterns(MAX_PATTERNS).into());
        }
        patterns.push(pattern.clone());
        patterns.sort();
        Ok(Some(Operation::RepoProtect {
            repo: repo.clone(),
            pattern: pattern.to_string(),
        }))
    })
}

/// Ends what [`protect`] began.
pub fn unprotect(
    forge: &Forge,
    repo: &RepoName,
    pattern: &RefPattern,
) -> Result<RepoProtection, ForgeError> {
    change(forge, repo, |repo, patterns| {
        let Some(at) = patterns.iter().position(|known| known == pattern) else {
            return Err(RepoSettingError::NotProtected {
                repo: repo.clone(),
                pattern: pattern.clone(),
                patterns: patterns.clone(),
            }
            .into());
        };
        patterns.remove(at);
        Ok(Some(Operation::RepoUnprotect {
            repo: repo.clone(),
            pattern: pattern.to_string(),
        }))
    })
}

/// Fails if the protection of a repository forbids one of these moves.
pub(super) fn check(forge: &Forge, repo: &RepoName, moves: &[RefMove]) -> Result<(), ForgeError> {
    let forbidden = forge
        .git
        .forbidden_moves(repo, &forge.paths.repo(repo), moves)?;
    forbidden.into_iter().next().map_or(Ok(()), |forbidden| {
        Err(RepoSettingError::ProtectedRef {
            repo: repo.clone(),
            forbidden,
        }
        .into())
    })
}

/// Changes the patterns of a repository, alone: under the lock that renames and removals take.
fn change(
    forge: &Forge,
    repo: &RepoName,
    edit: impl FnOnce(&RepoName, &mut Vec<RefPattern>) -> Result<Option<Operation>, ForgeError>,
) -> Result<RepoProtection, ForgeError> {
    let renamer = Renamer::new(&forge.paths, forge.store()?);
    let _lock = renamer.lock()?;
    let repo = repos::existing(forge, repo)?;
    let mut patterns = forge.git.protected_refs(&repo)?;
    let operation = edit(&repo, &mut patterns)?;
    let has_changed = operation.is_some();
    if let Some(operation) = operation {
        recorded(forge, operation, |_| {
            Ok(forge.git.set_protected_refs(&repo, &patterns)?)
        })?;
    }
    Ok(RepoProtection {
        repo,
        patterns,
        has_changed,
    })
}
