//! Which runs may have what others may not.

use std::fmt;

use quire_types::name_pattern::matches_pattern;
use quire_types::names::{RefName, RepoName};

/// The runs of repositories, at refs, that match patterns; `*` in a pattern stands for any
/// characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunGrant {
    repo: String,
    /// `None` for all refs.
    refs: Option<String>,
}

impl RunGrant {
    /// Parses `REPOSITORY`, or `REPOSITORY@REF` with a whole ref such as `refs/heads/main`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/*".contains(c);
        let is_plain = |text: &str| {
            let begins_well = |c: char| c.is_ascii_alphanumeric() || c == '*';
            text.starts_with(begins_well) && text.chars().all(plain)
        };
        let (repo, refs) = match text.split_once('@') {
            Some((repo, refs)) => (repo, Some(refs)),
            None => (text, None),
        };
        // A short name would never match.
        let is_ref = |refs: &str| is_plain(refs) && refs.starts_with(['r', '*']);
        (is_plain(repo) && refs.is_none_or(is_ref)).then(|| Self {
            repo: repo.to_owned(),
            refs: refs.map(str::to_owned),
        })
    }

    /// Whether it covers runs of a repository, at least at some refs.
    #[must_use]
    pub fn covers_some_of(&self, repo: &RepoName) -> bool {
        matches_pattern(&self.repo, repo.as_str())
    }

    /// The pattern of the repositories.
    #[must_use]
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// The pattern of the refs that it covers; `None` for all.
    #[must_use]
    pub fn refs(&self) -> Option<&str> {
        self.refs.as_deref()
    }

    #[must_use]
    pub fn covers(&self, repo: &RepoName, ref_name: &RefName) -> bool {
        let covers_ref = |refs: &String| matches_pattern(refs, ref_name.as_str());
        self.covers_some_of(repo) && self.refs.as_ref().is_none_or(covers_ref)
    }
}

impl fmt::Display for RunGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        match &self.refs {
            Some(refs) => write!(f, "@{refs}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_name_repositories_and_refs() {
        let covers = |grant: &str, repo: &str, ref_name: &str| {
            let grant = RunGrant::parse(grant).unwrap();
            grant.covers(&repo.parse().unwrap(), &ref_name.parse().unwrap())
        };
        assert!(covers("app", "app", "refs/heads/any"));
        assert!(!covers("app", "apple", "refs/heads/any"));
        assert!(covers("team/*@refs/tags/v*", "team/app", "refs/tags/v1"));
        assert!(!covers("team/*@refs/tags/v*", "team/app", "refs/heads/v1"));
        assert!(!covers("app@refs/heads/main", "app", "refs/heads/main2"));
        for wrong in [
            "",
            "@refs/heads/main",
            "app@",
            "app@main",
            "a b",
            "a,b",
            "-a",
            "/a",
        ] {
            assert_eq!(RunGrant::parse(wrong), None, "{wrong}");
        }
        let text = "app@refs/heads/main";
        assert_eq!(RunGrant::parse(text).unwrap().to_string(), text);
    }
}
