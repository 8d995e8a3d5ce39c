//! What a key may do: everything, or less.
//!
//! Limits stand in the option `command` of a line, as a command of `quire exec` with its limits. sshd starts `quire exec`
//! itself whatever the line says, and `quire exec` looks up the line of the session's key.

use std::fmt;

use crate::names::RepoName;

/// The words that begin the value of the option.
const COMMAND: &str = "quire exec";

/// What a key may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyLimits {
    /// It may fetch only.
    pub read_only: bool,
    /// The repositories that it reaches; all of them if there are none here.
    pub repos: Vec<RepoName>,
}

impl KeyLimits {
    /// Whether the key may do everything.
    #[must_use]
    pub fn is_full(&self) -> bool {
        !self.read_only && self.repos.is_empty()
    }

    /// The value of the option `command`; `None` if there are no limits.
    #[must_use]
    pub fn command(&self) -> Option<String> {
        if self.is_full() {
            return None;
        }
        let mut command = COMMAND.to_owned();
        if self.read_only {
            command += " --read";
        }
        for repo in &self.repos {
            command += &format!(" --repo {repo}");
        }
        Some(command)
    }

    /// Reads the value of the option `command`; `None` if it is anything but limits.
    pub(super) fn from_command(command: &str) -> Option<Self> {
        let mut words = command.strip_prefix(COMMAND)?.split_ascii_whitespace();
        let mut limits = Self::default();
        while let Some(word) = words.next() {
            match word {
                "--read" => limits.read_only = true,
                "--repo" => limits.repos.push(words.next()?.parse().ok()?),
                _ => return None,
            }
        }
        // Without limits the option would only look like one.
        (!limits.is_full()).then_some(limits)
    }
}

impl fmt::Display for KeyLimits {
    /// What the key may do, after "may": `fetch from app only`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let repos: Vec<_> = self.repos.iter().map(RepoName::as_str).collect();
        match (self.read_only, repos.as_slice()) {
            (false, []) => f.write_str("do everything"),
            (true, []) => f.write_str("fetch only"),
            (true, repos) => write!(f, "fetch from {} only", repos.join(", ")),
            (false, repos) => write!(f, "push to and fetch from {} only", repos.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_as_they_are_read() {
        for (command, words) in [
            ("quire exec --read", "fetch only"),
            (
                "quire exec --repo app --repo work/shop",
                "push to and fetch from app, work/shop only",
            ),
            ("quire exec --read --repo app", "fetch from app only"),
        ] {
            let limits = KeyLimits::from_command(command).unwrap();
            assert_eq!(limits.command().as_deref(), Some(command));
            assert_eq!(limits.to_string(), words);
        }
        assert_eq!(KeyLimits::default().command(), None);
    }

    #[test]
    fn any_other_command_is_none() {
        for command in [
            "",
            "git-shell",
            "quire exec",
            "quire exec ",
            "quire exec --repo",
            "quire exec --repo ../app",
            "quire exec --read --write",
            "quire exec --read app",
            "quire serve --read",
            "quire  exec --read",
            " quire exec --read",
        ] {
            assert_eq!(KeyLimits::from_command(command), None, "{command:?}");
        }
    }
}
