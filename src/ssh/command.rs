//! Parses the command of an SSH client into one of a closed set.

use quire_pipeline::closest_match;
use quire_types::names::{NameError, RepoName};
use quire_types::text::{excerpt, single_line};

/// The management commands, which are also commands of the machine itself. The list is the same as that of the parser of their
/// arguments, which a test of the parser holds.
pub const MANAGEMENT_COMMANDS: [&str; 19] = [
    "repo",
    "run",
    "cache",
    "schedule",
    "notify",
    "mirror",
    "key",
    "secret",
    "config",
    "reload",
    "log",
    "undo",
    "login",
    "status",
    "doctor",
    "gc",
    "backup",
    "client",
    "reconcile",
];

/// The programs that git and Git LFS ask for.
const TRANSPORT_COMMANDS: [&str; 4] = [
    "git-receive-pack",
    "git-upload-pack",
    "git-upload-archive",
    "git-lfs-transfer",
];

/// All commands.
fn commands() -> impl Iterator<Item = &'static str> {
    TRANSPORT_COMMANDS
        .into_iter()
        .chain(MANAGEMENT_COMMANDS)
        .chain(["help"])
}

/// All commands, for the message about any other.
fn command_list() -> String {
    commands().collect::<Vec<_>>().join(", ")
}

/// The longest command that is parsed, in bytes.
const MAX_COMMAND: usize = 64 << 10;

/// A command that may be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SshCommand {
    /// Git's transport, for one repository.
    Transport(GitService, RepoName),
    /// Git LFS, for one repository.
    Lfs(LfsOperation, RepoName),
    /// A management command; the words go to the same parser as those of the local command line.
    Manage(Vec<String>),
    /// No command: print the name of the key and the list of commands.
    Greeting,
}

/// One of git's three servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitService {
    /// Takes a push.
    ReceivePack,
    /// Serves a fetch.
    UploadPack,
    /// Serves `git archive --remote`.
    UploadArchive,
}

/// What a session of Git LFS is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LfsOperation {
    /// Stores objects and changes locks.
    Upload,
    /// Reads objects and locks.
    Download,
}

impl GitService {
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

/// Why a command is rejected: one line for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SshCommandError {
    #[error(
        "`{command}` is not a command of this server; the commands are {}",
        command_list()
    )]
    Unknown {
        /// The first word, or the first two of `git VERB`.
        command: String,
        /// The command that is most similar.
        closest: Option<&'static str>,
    },
    /// A program of another tool that uses SSH.
    #[error("{0}")]
    OtherTool(&'static str),
    /// Quotes that do not match, a NUL, or far too long.
    #[error("this command cannot be parsed; the commands are {}", command_list())]
    Unreadable,
    /// A transport command takes one repository and nothing else.
    #[error("git {verb} takes one repository; the commands are {}", command_list())]
    Arguments { verb: &'static str },
    /// Git LFS takes one repository and what to do.
    #[error(
        "git-lfs-transfer takes one repository, and `upload` or `download`; the commands are {}",
        command_list()
    )]
    LfsArguments,
    /// Not a repository's name.
    #[error(transparent)]
    Repo(#[from] NameError),
}

/// What to do instead of what a tool asks for that is known to use SSH.
fn other_tool(program: &str) -> Option<&'static str> {
    match program.rsplit('/').next().unwrap_or_default() {
        "git-lfs-authenticate" => Some(
            "Git LFS is served here over SSH alone, by git-lfs-transfer, which needs git-lfs 3.0 or newer on your machine; `git lfs version` shows what you have",
        ),
        "git-annex-shell" => Some(
            "git-annex is not served here: its files stay on your machine; `git config remote.NAME.annex-ignore true` makes it stop asking",
        ),
        "scp" | "sftp-server" | "internal-sftp" => Some(
            "files are not copied here with scp or sftp: push them with git, or read them with `git archive --remote`",
        ),
        "rsync" => Some(
            "files are not copied here with rsync: push them with git, or read them with `git archive --remote`",
        ),
        "sh" | "bash" | "zsh" | "fish" => {
            Some("there is no shell here; `help` lists the commands of this server")
        }
        _ => None,
    }
}

/// The error about a command that is not in the list.
fn unknown(words: &[&str]) -> SshCommandError {
    if let Some(sentence) = words.first().and_then(|first| other_tool(first)) {
        return SshCommandError::OtherTool(sentence);
    }
    let (name, shown) = match words {
        ["git", verb, ..] => (format!("git-{verb}"), format!("git {verb}")),
        // `quire run list`, as on the machine itself.
        ["quire", command, ..] => ((*command).to_owned(), format!("quire {command}")),
        [first, ..] => ((*first).to_owned(), (*first).to_owned()),
        [] => (String::new(), String::new()),
    };
    SshCommandError::Unknown {
        command: single_line(&excerpt(&shown, 60)),
        closest: closest_match(&name, commands()),
    }
}

/// Parses `SSH_ORIGINAL_COMMAND`. An absent or empty command asks for the greeting.
pub fn parse(original: Option<&str>) -> Result<SshCommand, SshCommandError> {
    let text = original.unwrap_or_default();
    if text.len() > MAX_COMMAND || text.contains('\0') {
        return Err(SshCommandError::Unreadable);
    }
    let words = shell_words::split(text).map_err(|_| SshCommandError::Unreadable)?;
    let split: Vec<&str> = words.iter().map(String::as_str).collect();
    match split.as_slice() {
        [] => Ok(SshCommand::Greeting),
        ["git", verb, rest @ ..] => match GitService::from_verb(verb) {
            Some(service) => transport(service, rest),
            None => Err(unknown(&split)),
        },
        ["git-lfs-transfer", rest @ ..] => lfs(rest),
        ["-h" | "--help", ..] => Ok(SshCommand::Manage(vec!["help".to_owned()])),
        [first, ..] if *first == "help" || MANAGEMENT_COMMANDS.contains(first) => {
            Ok(SshCommand::Manage(words))
        }
        [first, rest @ ..] => match first.strip_prefix("git-").and_then(GitService::from_verb) {
            Some(service) => transport(service, rest),
            None => Err(unknown(&split)),
        },
    }
}

fn transport(service: GitService, arguments: &[&str]) -> Result<SshCommand, SshCommandError> {
    match arguments {
        [repo] => Ok(SshCommand::Transport(service, repo.parse()?)),
        _ => Err(SshCommandError::Arguments {
            verb: service.verb(),
        }),
    }
}

fn lfs(arguments: &[&str]) -> Result<SshCommand, SshCommandError> {
    let (repo, operation) = match arguments {
        [repo, "upload"] => (repo, LfsOperation::Upload),
        [repo, "download"] => (repo, LfsOperation::Download),
        _ => return Err(SshCommandError::LfsArguments),
    };
    Ok(SshCommand::Lfs(operation, repo.parse()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands_of_git() {
        let transport =
            |service, repo: &str| Ok(SshCommand::Transport(service, repo.parse().unwrap()));
        assert_eq!(
            parse(Some("git-receive-pack '/app.git'")),
            transport(GitService::ReceivePack, "app")
        );
        assert_eq!(
            parse(Some("git-upload-pack 'work/app'")),
            transport(GitService::UploadPack, "work/app")
        );
        assert_eq!(
            parse(Some("git upload-archive app.git")),
            transport(GitService::UploadArchive, "app")
        );
    }

    #[test]
    fn commands_of_git_lfs() {
        let lfs = |operation, repo: &str| Ok(SshCommand::Lfs(operation, repo.parse().unwrap()));
        assert_eq!(
            parse(Some("git-lfs-transfer '/work/app.git' upload")),
            lfs(LfsOperation::Upload, "work/app")
        );
        assert_eq!(
            parse(Some("git-lfs-transfer app download")),
            lfs(LfsOperation::Download, "app")
        );
    }

    #[test]
    fn greeting_and_management_commands() {
        assert_eq!(parse(None), Ok(SshCommand::Greeting));
        assert_eq!(parse(Some("  ")), Ok(SshCommand::Greeting));
        let words = ["run", "list", "--ref", "a b"].map(str::to_owned).to_vec();
        assert_eq!(
            parse(Some("run list --ref 'a b'")),
            Ok(SshCommand::Manage(words))
        );
    }

    #[test]
    fn everything_else_is_rejected() {
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
            "git-lfs-transfer app",
            "git-lfs-transfer app remove",
            "git-lfs-transfer upload app",
            "git-lfs-transfer app upload x",
            "git-lfs-transfer ../app upload",
            "git lfs-transfer app upload",
            "git-lfs-authenticate app upload",
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
        assert_eq!(
            parse(Some(&"x".repeat(70_000))),
            Err(SshCommandError::Unreadable)
        );
        assert_eq!(
            parse(Some("git-upload-pack a\0b")),
            Err(SshCommandError::Unreadable)
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
            if let Ok(SshCommand::Transport(_, repo) | SshCommand::Lfs(_, repo)) = parse(Some(&text)) {
                prop_assert!(!repo.as_str().contains("..") && !repo.as_str().starts_with(['/', '-', '.']));
            }
        }
    }
}
