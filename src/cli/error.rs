//! Turns errors into words and exit codes: one sentence says what happened, one what to do.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::serve::ServeError;
use crate::ssh::access::AccessDenied;
use crate::ssh::command::SshCommandError;
use crate::ssh::git_session::SessionError;
use quire_git::GitError;
use quire_pipeline::Diagnostic;
use quire_server::backup::BackupError;
use quire_server::control::client::ControlError;
use quire_server::forge::secrets::StoredSecretError;
use quire_server::forge::{ForgeError, KeyError};
use quire_server::rename::RenameError;
use quire_store::StoreError;
use quire_types::error_chain;
use quire_types::names::{NameError, RepoName};
use quire_types::text::single_line;

/// The operation failed.
pub(super) const FAILED: u8 = 1;
/// The command was used wrongly.
pub(super) const USAGE: u8 = 2;
/// The repository, run or other object does not exist.
pub(super) const NOT_FOUND: u8 = 3;
/// The configuration or the database needs a person (EX_CONFIG of sysexits.h).
const CONFIGURATION: u8 = 78;
/// The command is not allowed.
pub(super) const REFUSED: u8 = 128;

/// Why a command failed, for its user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CommandError {
    pub(super) code: u8,
    /// What happened; empty if it is printed already or the output has no reader.
    message: String,
    /// What to do.
    hint: Option<String>,
}

impl CommandError {
    fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(FAILED, message)
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(NOT_FOUND, message)
    }

    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self::new(REFUSED, message)
    }

    /// An exit code without a message.
    pub(super) fn exit_only(code: u8) -> Self {
        Self::new(code, "")
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// One sentence from an error and its causes.
    pub(super) fn from_error(code: u8, error: &dyn Error) -> Self {
        Self::new(code, error_chain::chain(error))
    }

    /// The text for standard error.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if !self.message.is_empty() {
            text = format!("quire: {}\n", printable(&self.message));
        }
        if let Some(hint) = &self.hint {
            text += &format!("quire: {}\n", printable(hint));
        }
        text
    }

    fn nothing_collected(error: &ControlError) -> Self {
        Self::failed(format!("nothing was removed: {error}"))
            .hint("the server also does this by itself, every hour while it runs")
    }

    /// Prints the error and returns the exit code.
    pub(super) fn print(&self) -> ExitCode {
        let _ = io::stderr().write_all(self.text().as_bytes());
        ExitCode::from(self.code)
    }
}

/// A problem of a configuration in one line.
pub(super) fn diagnostic_line(diagnostic: &Diagnostic) -> String {
    printable(&diagnostic.one_line())
}

fn printable(text: &str) -> String {
    single_line(text.trim_end())
}

/// Prints why `quire serve` ended. With exit code 78 (EX_CONFIG) init restarts it slowly: a person has to act first.
pub(super) fn serve(error: &ServeError) -> ExitCode {
    let failure = match error {
        ServeError::Config(config) => {
            for diagnostic in config.diagnostics() {
                let line = format!("quire: {}\n", diagnostic_line(diagnostic));
                let _ = io::stderr().write_all(line.as_bytes());
            }
            CommandError::from_error(CONFIGURATION, error).hint("fix the configuration; the server restarts automatically")
        }
        ServeError::Store(StoreError::Damaged { last_backup, .. }) => CommandError::from_error(CONFIGURATION, error).hint(match last_backup {
            Some(backup) => format!(
                "nothing was changed, and pushes and fetches still work; replace the database by its newest intact copy, {}, or restore a backup",
                backup.display()
            ),
            None => "nothing was changed, and pushes and fetches still work; restore a backup, or move the file away to start without the history of runs".to_owned(),
        }),
        ServeError::Store(StoreError::Newer { snapshot, .. }) => CommandError::from_error(CONFIGURATION, error).hint(match snapshot {
            Some(snapshot) => format!("run the newer quire again, or restore the copy that was made before its migration, {}", snapshot.display()),
            None => "run the newer quire again, or restore a backup".to_owned(),
        }),
        ServeError::Store(_) | ServeError::System { .. } => CommandError::from_error(FAILED, error),
    };
    failure.print()
}

impl From<GitError> for CommandError {
    fn from(error: GitError) -> Self {
        match error {
            GitError::NoRepository(_) => {
                Self::from_error(NOT_FOUND, &error).hint("`repo list` shows all repositories")
            }
            GitError::NoBranch { .. } => Self::from_error(NOT_FOUND, &error)
                .hint("`git ls-remote --heads` lists the branches; push the branch first"),
            GitError::LooksLikeRunId(_) => {
                Self::from_error(USAGE, &error).hint("choose another name")
            }
            GitError::Start { .. } => {
                Self::from_error(FAILED, &error).hint("is git installed and in PATH?")
            }
            // Git does not say more of a disk without space.
            GitError::Failed { ref stderr, .. } if stderr.contains("t write '") => {
                Self::from_error(FAILED, &error).hint(
                    "the disk may be full: `gc` removes expired runs, `repo rm --now` deletes a repository",
                )
            }
            GitError::Pipe { .. }
            | GitError::TimedOut { .. }
            | GitError::MaintenanceTimedOut { .. }
            | GitError::Failed { .. }
            | GitError::OldGit { .. }
            | GitError::Unexpected { .. }
            | GitError::Io { .. }
            | GitError::Reserved(_)
            | GitError::ExchangeUnsupported(_)
            | GitError::UnreadableObject { .. }
            | GitError::UnreadableRefs(_)
            | GitError::Interrupted => Self::from_error(FAILED, &error),
        }
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchRun(_) => {
                Self::from_error(NOT_FOUND, &error).hint("`run list` shows all runs")
            }
            StoreError::AmbiguousRun { ref candidates, .. } => {
                let names = candidates.iter().map(|name| format!("`{name}`"));
                let names = names.collect::<Vec<_>>().join(", ");
                Self::from_error(USAGE, &error).hint(format!("use one of {names}"))
            }
            StoreError::NotFinished { .. } => Self::from_error(FAILED, &error)
                .hint("`run cancel` cancels it, `run wait` waits for its end"),
            StoreError::Newer { .. } => Self::from_error(FAILED, &error)
                .hint("use the version of quire that wrote the database, or a newer one"),
            _ => Self::from_error(FAILED, &error),
        }
    }
}

impl From<SessionError> for CommandError {
    fn from(error: SessionError) -> Self {
        let code = match error {
            SessionError::Unknown { .. } | SessionError::CreateDisabled(_) => NOT_FOUND,
            SessionError::BeingImported(_)
            | SessionError::PullMirror { .. }
            | SessionError::NoSpace { .. }
            | SessionError::NoInodes => REFUSED,
            SessionError::Git(_)
            | SessionError::FirstLine(_)
            | SessionError::Exec(_)
            | SessionError::Confine(_)
            | SessionError::Lfs(_)
            | SessionError::Packets(_) => FAILED,
        };
        let failure = Self::from_error(code, &error);
        match error {
            SessionError::Unknown { .. } => failure.hint("`repo list` shows all repositories"),
            SessionError::NoSpace { .. } | SessionError::NoInodes => {
                failure.hint("free some space: `quire gc` removes expired runs, `repo rm --now` deletes a repository; fetches still work")
            }
            _ => failure,
        }
    }
}

impl From<RenameError> for CommandError {
    fn from(error: RenameError) -> Self {
        let code = match error {
            RenameError::Unknown(_) | RenameError::NotInTrash(_) => NOT_FOUND,
            RenameError::AmbiguousTrashId(_) => USAGE,
            _ => FAILED,
        };
        let failure = Self::from_error(code, &error);
        match error {
            RenameError::Git(error) => error.into(),
            RenameError::Store(error) => error.into(),
            RenameError::Leftovers(name) => {
                failure.hint(format!("`repo rm {name} --yes` removes them"))
            }
            RenameError::NotInTrash(_) => {
                failure.hint("`repo list --trash` shows what can be restored")
            }
            RenameError::AmbiguousTrashId(_) => {
                failure.hint("use more digits; `repo list --trash --json` shows the whole ids")
            }
            RenameError::ActiveRuns(_) => {
                failure.hint("`run list --state active` shows them; retry when they have ended")
            }
            RenameError::Locked => failure.hint("try again in a moment"),
            RenameError::Redirected { repo, .. } => failure.hint(format!("use the name `{repo}`")),
            _ => failure,
        }
    }
}

impl From<ForgeError> for CommandError {
    fn from(error: ForgeError) -> Self {
        let error = match error {
            ForgeError::Git(error) => return error.into(),
            ForgeError::Store(error) => return error.into(),
            ForgeError::Rename(error) => return error.into(),
            ForgeError::Key(error) => return error.into(),
            ForgeError::Secret(error) => return error.into(),
            ForgeError::Inverse(error) => return error.into(),
            ForgeError::Setting(error) => return error.into(),
            ForgeError::RepoSetting(error) => return error.into(),
            // The system's reason adds nothing to that the server is not running.
            ForgeError::Control(error) => return Self::failed(error.to_string()),
            ForgeError::NothingCollected(error) => return Self::nothing_collected(&error),
            error => error,
        };
        let code = match error {
            ForgeError::NoRepository { .. } | ForgeError::NoRun(_) | ForgeError::NoRef { .. } => {
                NOT_FOUND
            }
            ForgeError::NoCache { .. }
            | ForgeError::NoToken(_)
            | ForgeError::NothingToUndo { .. }
            | ForgeError::NotOverwritten { .. } => NOT_FOUND,
            ForgeError::NotConfirmed(_)
            | ForgeError::DeletionNotConfirmed(_)
            | ForgeError::AmbiguousOverwritten(_)
            | ForgeError::RepeatedParameter(_)
            | ForgeError::TooManyParameters(_) => USAGE,
            _ => FAILED,
        };
        let failure = Self::from_error(code, &error);
        match error {
            ForgeError::NoDatabase(_) => failure.hint("the server creates it when it first starts"),
            ForgeError::NoRepository {
                name,
                is_in_trash: true,
                ..
            } => failure.hint(format!(
                "it is in the trash; `repo restore {name}` brings it back"
            )),
            ForgeError::NoRepository {
                closest: Some(name),
                ..
            } => failure.hint(format!("did you mean `{name}`?")),
            ForgeError::NoRepository { existing, .. } => failure.hint(list_of(&existing)),
            ForgeError::NotConfirmed(_) | ForgeError::DeletionNotConfirmed(_) => {
                failure.hint("add `--yes` to confirm")
            }
            ForgeError::NoCache { repo, .. } => {
                failure.hint(format!("`cache list --repo {repo}` shows its caches"))
            }
            ForgeError::NoToken(_) => failure.hint("`login --list` shows the tokens"),
            ForgeError::TokenExists(name) => failure.hint(format!(
                "choose another name, or end it with `login --revoke {name}`"
            )),
            ForgeError::RunsStillActive(_) => {
                failure.hint("`run list --state active` shows it; retry when it has ended")
            }
            ForgeError::NothingToUndo { repo, .. } => {
                failure.hint(format!("`repo undo {repo}` lists what pushes overwrote"))
            }
            ForgeError::RefHasMoved { .. } => failure.hint("`--to ID` moves it all the same"),
            ForgeError::NotOverwritten { .. } | ForgeError::AmbiguousOverwritten(_) => {
                failure.hint("`repo undo REPO --json` lists the whole ids")
            }
            ForgeError::RefMovedMeanwhile(_) => failure.hint("look at it, and try again"),
            ForgeError::DefaultBranch { repo, .. } => {
                failure.hint(format!("`repo default {repo} BRANCH` sets another one"))
            }
            ForgeError::NoDefaultBranch(_) => failure.hint("choose one with --branch"),
            ForgeError::NoRef { .. } => {
                failure.hint("--branch takes a branch, --ref also a full name such as refs/tags/v1")
            }
            ForgeError::NoPipeline { .. } => {
                failure.hint("`quire ci init` in a working tree creates one")
            }
            _ => failure,
        }
    }
}

/// The repositories that exist, unless they are too many for a line.
fn list_of(repos: &[RepoName]) -> String {
    const MAX_LISTED: usize = 10;
    if repos.is_empty() {
        "there are no repositories yet; the first push to a name creates one".to_owned()
    } else if repos.len() > MAX_LISTED {
        "`repo list` shows all repositories".to_owned()
    } else {
        let names = repos.iter().map(|name| format!("`{name}`"));
        format!(
            "the repositories are {}",
            names.collect::<Vec<_>>().join(", ")
        )
    }
}

impl From<BackupError> for CommandError {
    fn from(error: BackupError) -> Self {
        let error = match error {
            BackupError::Git(error) => return error.into(),
            BackupError::Store(error) => return error.into(),
            BackupError::Rename(error) => return error.into(),
            // The reader of the archive has ended, and says why by itself.
            BackupError::Write(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Self::exit_only(FAILED);
            }
            error => error,
        };
        let failure = Self::from_error(FAILED, &error);
        match error {
            BackupError::NotEmpty { .. } => {
                failure.hint("restore into a new volume or an empty folder, before quire is started on it; nothing was changed")
            }
            BackupError::CutOff | BackupError::Missing { .. } => {
                failure.hint("use another backup, or copy this one again; nothing was restored")
            }
            BackupError::NewerFormat { .. } => {
                failure.hint("restore it with the version of quire that made it, or a newer one")
            }
            _ => failure,
        }
    }
}

impl From<SshCommandError> for CommandError {
    fn from(refusal: SshCommandError) -> Self {
        let failure = Self::from_error(REFUSED, &refusal);
        match refusal {
            SshCommandError::Unknown {
                closest: Some(name),
                ..
            } => failure.hint(format!("did you mean `{name}`?")),
            _ => failure,
        }
    }
}

impl From<KeyError> for CommandError {
    fn from(error: KeyError) -> Self {
        let code = match error {
            KeyError::NotFound(_) => NOT_FOUND,
            KeyError::NoKey
            | KeyError::SeveralKeys
            | KeyError::TooLarge(_)
            | KeyError::Line(_)
            | KeyError::ExpiresInPast
            | KeyError::Ambiguous { .. }
            | KeyError::LastFull(_) => USAGE,
            _ => FAILED,
        };
        let failure = Self::from_error(code, &error);
        match error {
            KeyError::NoKey | KeyError::Line(_) | KeyError::TooLarge(_) => {
                failure.hint("use the one line of a .pub file: `key add < ~/.ssh/id_ed25519.pub`")
            }
            KeyError::SeveralKeys => failure.hint("add them one by one"),
            KeyError::NotFound(_) => failure.hint("`key list` shows all keys"),
            KeyError::Ambiguous { .. } => failure.hint("use the fingerprint"),
            KeyError::FromElsewhere { .. } => failure.hint("remove it there"),
            KeyError::LastFull(_) => {
                failure.hint("add another key first, or add `--yes` to remove it all the same")
            }
            KeyError::ExpiresInPast
            | KeyError::Exists { .. }
            | KeyError::FileTooLarge { .. }
            | KeyError::NotText(_)
            | KeyError::Io { .. } => failure,
        }
    }
}

impl From<StoredSecretError> for CommandError {
    fn from(error: StoredSecretError) -> Self {
        let code = match error {
            StoredSecretError::NotFound(_) => NOT_FOUND,
            StoredSecretError::Empty | StoredSecretError::TooLarge | StoredSecretError::NotText => {
                USAGE
            }
            _ => FAILED,
        };
        let failure = Self::from_error(code, &error);
        match error {
            StoredSecretError::Store(error) => error.into(),
            StoredSecretError::NotFound(_) => failure.hint("`secret list` shows all secrets"),
            StoredSecretError::Configured(_) => {
                failure.hint("remove it from :secrets in the configuration first, or choose another name")
            }
            StoredSecretError::KeyMissing(_) | StoredSecretError::UnknownKey { .. } => failure.hint(
                "put the file of keys back in place, or remove the secrets that need it (`secret rm`) and set them again",
            ),
            StoredSecretError::Damaged(_) => failure.hint("set it again with `secret set`"),
            _ => failure,
        }
    }
}

impl From<AccessDenied> for CommandError {
    fn from(denied: AccessDenied) -> Self {
        let failure = Self::from_error(REFUSED, &denied);
        match denied {
            AccessDenied::Unidentified => failure.hint(
                "set `ExposeAuthInfo yes` in the configuration of sshd, as the configuration that quire generates does",
            ),
            AccessDenied::Limited { .. } => failure.hint("use a key without these limits"),
            AccessDenied::Ended | AccessDenied::Unreadable(_) => failure,
        }
    }
}

impl From<NameError> for CommandError {
    fn from(error: NameError) -> Self {
        Self::from_error(USAGE, &error)
    }
}

impl From<io::Error> for CommandError {
    /// Commands use plain I/O only to write their output.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::exit_only(FAILED),
            _ => Self::failed(format!("the output cannot be written: {error}")),
        }
    }
}
