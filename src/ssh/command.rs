//! What an SSH client may ask for, as a closed set.

use crate::names::{NameError, RepoName};

/// The commands there are, for the line that refuses another.
pub const COMMANDS: &str = "git-receive-pack, git-upload-pack, git-upload-archive, repo, run, schedule, cache, key, login, status, gc";

/// The longest command that is looked at, in bytes.
const MAX_COMMAND: usize = 64 << 10;

/// A command that may be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SshCommand {
    /// Git's transport, for one repository.
    Transport(Service, RepoName),
    /// A management command; the words go to the same parser as those of the local command line.
    Manage(Vec<String>),
    /// Nothing: say who is there and what there is.
    Greeting,
}

/// One of git's three servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Takes a push.
    ReceivePack,
    /// Serves a fetch.
    UploadPack,
    /// Serves `git archive --remote`.
    UploadArchive,
}

impl Service {
    /// Git's subcommand.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::ReceivePack => "receive-pack",
            Self::UploadPack => "upload-pack",
            Self::UploadArchive => "upload-archive",
        }
    }

    fn from_verb(verb: &str) -> Option<Self> {
        [Self::ReceivePack, Self::UploadPack, Self::UploadArchive]
            .into_iter()
            .find(|service| service.verb() == verb)
    }
}

/// Why a command is refused: one line for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not on the list.
    #[error("this is not a shell; the commands are {COMMANDS}")]
    NotListed,
    /// Quotes that do not match, a NUL, or far too long.
    #[error("this command cannot be read; the commands are {COMMANDS}")]
    Unreadable,
    /// A transport command takes one repository and nothing else.
    #[error("git {0} takes one repository; the commands are {COMMANDS}")]
    Arguments(&'static str),
    /// Not a repository's name.
    #[error(transparent)]
    Repo(#[from] NameError),
}

/// Reads `SSH_ORIGINAL_COMMAND`; none and an empty one are the greeting.
pub fn parse(original: Option<&str>) -> Result<SshCommand, Refusal> {
    let text = original.unwrap_or_default();
    if text.len() > MAX_COMMAND || text.contains('\0') {
        return Err(Refusal::Unreadable);
    }
    let words = shell_words::split(text).map_err(|_| Refusal::Unreadable)?;
    let split: Vec<&str> = words.iter().map(String::as_str).collect();
    match split.as_slice() {
        [] => Ok(SshCommand::Greeting),
        ["git", verb, rest @ ..] => transport(Service::from_verb(verb), rest),
        [
            "repo" | "run" | "schedule" | "cache" | "key" | "login" | "status" | "gc" | "help",
            ..,
        ] => Ok(SshCommand::Manage(words)),
        [first, rest @ ..] => transport(
            first.strip_prefix("git-").and_then(Service::from_verb),
            rest,
        ),
    }
}

fn transport(service: Option<Service>, arguments: &[&str]) -> Result<SshCommand, Refusal> {
    let service = service.ok_or(Refusal::NotListed)?;
    match arguments {
        [repo] => Ok(SshCommand::Transport(service, repo.parse()?)),
        _ => Err(Refusal::Arguments(service.verb())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_git_sends() {
        let transport =
            |service, repo: &str| Ok(SshCommand::Transport(service, repo.parse().unwrap()));
        assert_eq!(
            parse(Some("git-receive-pack '/app.git'")),
            transport(Service::ReceivePack, "app")
        );
        assert_eq!(
            parse(Some("git-upload-pack 'work/app'")),
            transport(Service::UploadPack, "work/app")
        );
        assert_eq!(
            parse(Some("git upload-archive app.git")),
            transport(Service::UploadArchive, "app")
        );
    }

    #[test]
    fn the_rest_of_the_list() {
        assert_eq!(parse(None), Ok(SshCommand::Greeting));
        assert_eq!(parse(Some("  ")), Ok(SshCommand::Greeting));
        let words = ["run", "list", "--ref", "a b"].map(str::to_owned).to_vec();
        assert_eq!(
            parse(Some("run list --ref 'a b'")),
            Ok(SshCommand::Manage(words))
        );
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "sh",
            "bash -c id",
            "git",
            "git gc",
            "git-shell",
            "git --exec-path=/tmp upload-pack app",
            "git-upload-pack",
            "git-upload-pack a b",
            "git-upload-pack --strict app",
            "git-upload-pack --timeout=1",
            "git-upload-pack ''",
            "git-upload-pack 'app/../../etc'",
            "git-upload-pack ../x",
            "git-upload-pack repo/../x",
            "git-upload-pack /etc/passwd/x",
            "git-upload-pack ~/app",
            "git-upload-pack app; id",
            "git-upload-pack app;id",
            "git-upload-pack `id`",
            "git-upload-pack $(id)",
            "git-upload-pack $HOME",
            "git-upload-pack app\nid",
            "git-upload-pack 'app\nid'",
            "git-upload-pack 'app",
            "git-upload-pack app|id",
            "git-upload-pack app && id",
            "/usr/bin/git-upload-pack app",
            "GIT-UPLOAD-PACK app",
            "repository list",
            "exec",
            "serve",
            "quire repo list",
            "scp -t /tmp",
            "/usr/lib/openssh/sftp-server",
            "internal-sftp",
            "rsync --server . x",
        ] {
            assert!(parse(Some(text)).is_err(), "{text:?}");
        }
        assert_eq!(parse(Some(&"x".repeat(70_000))), Err(Refusal::Unreadable));
        assert_eq!(
            parse(Some("git-upload-pack a\0b")),
            Err(Refusal::Unreadable)
        );
    }

    #[test]
    fn a_refusal_is_one_line() {
        for text in [
            "sh",
            "git-upload-pack",
            "git-upload-pack 'a\nb\u{1b}[2J'",
            "'",
        ] {
            let line = parse(Some(text)).unwrap_err().to_string();
            assert!(
                !line.contains(char::is_control) && line.len() < 400,
                "{line:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn whatever_is_asked_the_answer_is_from_the_set(text in ".{0,200}") {
            if let Ok(SshCommand::Transport(_, repo)) = parse(Some(&text)) {
                prop_assert!(!repo.as_str().contains("..") && !repo.as_str().starts_with(['/', '-', '.']));
            }
        }
    }
}
