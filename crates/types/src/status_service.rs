//! Services that show the state of a commit.

use std::fmt;

/// A service with an API for the states of commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusService {
    /// github.com and GitHub Enterprise Server.
    Github,
    /// gitlab.com and other servers of GitLab.
    Gitlab,
    /// Also Gitea, whose API is the same.
    Forgejo,
}

impl StatusService {
    /// All services.
    pub const ALL: [Self; 3] = [Self::Github, Self::Gitlab, Self::Forgejo];

    /// The type of a target in the configuration.
    #[must_use]
    pub fn target_type(self) -> &'static str {
        match self {
            Self::Github => "github-status",
            Self::Gitlab => "gitlab-status",
            Self::Forgejo => "forgejo-status",
        }
    }

    /// The URL of the public service. Forgejo has none.
    #[must_use]
    pub fn public_url(self) -> Option<&'static str> {
        match self {
            Self::Github => Some("https://api.github.com"),
            Self::Gitlab => Some("https://gitlab.com"),
            Self::Forgejo => None,
        }
    }

    /// Whether a repository of the service can have this name: its owner and its own name, at GitLab also the groups between them.
    #[must_use]
    pub fn is_repo(self, name: &str) -> bool {
        let parts: Vec<&str> = name.split('/').collect();
        let is_part = |part: &&str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        let is_deep_enough = match self {
            Self::Github | Self::Forgejo => parts.len() == 2,
            Self::Gitlab => parts.len() >= 2,
        };
        name.len() <= 255 && is_deep_enough && parts.iter().all(is_part)
    }
}

impl fmt::Display for StatusService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Github => "GitHub",
            Self::Gitlab => "GitLab",
            Self::Forgejo => "Forgejo",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_repositories_at_services() {
        for (name, is_name) in [
            ("you/app", [true, true, true]),
            ("group/team/app.js", [false, true, false]),
            ("app", [false; 3]),
            ("you/", [false; 3]),
            ("../app", [false; 3]),
            ("you/a b", [false; 3]),
            ("you/app?x", [false; 3]),
        ] {
            assert_eq!(
                StatusService::ALL.map(|service| service.is_repo(name)),
                is_name,
                "{name}"
            );
        }
    }
}
