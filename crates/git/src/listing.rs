//! Which repositories there are. One that cannot be looked at (another owner, a stale mount) does not hide the others.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::error::GitError;
use super::git::Git;
use super::repo::is_missing;
use quire_types::names::RepoName;

/// The repositories, and what could not be looked at.
#[derive(Debug, Default)]
pub struct RepoListing {
    /// Sorted by name.
    pub repos: Vec<RepoName>,
    pub unreadable: Vec<UnreadableEntry>,
}

/// A repository, or a group of repositories, that cannot be looked at.
#[derive(Debug)]
pub struct UnreadableEntry {
    pub name: String,
    pub error: GitError,
}

impl RepoListing {
    /// Whether there is a repository of this name, or may be one: what cannot be looked at was not removed.
    #[must_use]
    pub fn may_contain(&self, repo: &RepoName) -> bool {
        let is_or_holds = |name: &str| {
            let rest = repo.as_str().strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.repos.binary_search(repo).is_ok()
            || self.unreadable.iter().any(|entry| is_or_holds(&entry.name))
    }
}

impl Git {
    /// Lists all repositories. None that exists is left out: one that is renamed meanwhile is listed by its old or its
    /// new name, since the entry of the old name is always there, and if it is a redirect already, so is its target.
    ///
    /// Fails only if the folder of all repositories cannot be listed.
    pub fn list(&self) -> Result<RepoListing, GitError> {
        let (entries, unreadable) = self.entry_names()?;
        let mut names: Vec<RepoName> = entries.iter().map(|name| self.resolve(name)).collect();
        names.sort();
        names.dedup();
        let mut listing = RepoListing {
            repos: Vec::with_capacity(names.len()),
            unreadable,
        };
        for name in names {
            match self.exists(&name) {
                Ok(true) => listing.repos.push(name),
                Ok(false) => {}
                Err(error) => listing.unreadable.push(UnreadableEntry {
                    name: name.to_string(),
                    error,
                }),
            }
        }
        Ok(listing)
    }

    /// The names of all entries that could be repositories or redirects, and the groups that cannot be listed.
    pub(super) fn entry_names(&self) -> Result<(Vec<RepoName>, Vec<UnreadableEntry>), GitError> {
        let root = self.paths.repos();
        let (mut names, mut unreadable) = (Vec::new(), Vec::new());
        for entry in entries(&root)? {
            if entry.ends_with(".git") {
                names.extend(entry.parse::<RepoName>());
            } else if !entry.starts_with('.') {
                match entries(&root.join(&entry)) {
                    Ok(within) => names.extend(
                        within
                            .iter()
                            .filter(|name| name.ends_with(".git"))
                            .filter_map(|name| format!("{entry}/{name}").parse::<RepoName>().ok()),
                    ),
                    // A file, or a group whose last repository was removed meanwhile.
                    Err(GitError::Io { source, .. }) if is_missing(&source) => {}
                    Err(error) => unreadable.push(UnreadableEntry { name: entry, error }),
                }
            }
        }
        Ok((names, unreadable))
    }
}

/// The names of the entries of a folder.
fn entries(path: &Path) -> Result<Vec<String>, GitError> {
    let failed = |source| GitError::Io {
        action: "list",
        path: path.to_owned(),
        source,
    };
    let entries = fs::read_dir(path).map_err(failed)?;
    entries
        .filter(|entry| !matches!(entry, Err(error) if error.kind() == ErrorKind::NotFound))
        .map(|entry| {
            entry
                .map_err(failed)
                .map(|entry| entry.file_name().into_string().ok())
        })
        .filter_map(Result::transpose)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_looked_at_may_be_there() {
        let name = |text: &str| text.parse::<RepoName>().unwrap();
        let unreadable = |name: &str| UnreadableEntry {
            name: name.to_owned(),
            error: GitError::Interrupted,
        };
        let listing = RepoListing {
            repos: vec![name("app"), name("work/app")],
            unreadable: vec![unreadable("bad"), unreadable("group")],
        };
        for there in ["app", "work/app", "bad", "group/app"] {
            assert!(listing.may_contain(&name(there)), "{there}");
        }
        for gone in ["ap", "bad2", "work/bad", "groups/app"] {
            assert!(!listing.may_contain(&name(gone)), "{gone}");
        }
    }
}
