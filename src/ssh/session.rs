//! A transport session: makes sure of the repository, then becomes git.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use super::command::Service;
use crate::fault;
use crate::git::{Git, GitError, nearest};
use crate::names::RepoName;
use crate::paths::{DATA_VARIABLE, Paths, RUNTIME_VARIABLE};
use crate::public_keys::{self, Key};
use crate::space::{Floor, free_bytes, in_words};

/// Tells the hook who pushes.
pub const PUSHER_VARIABLE: &str = "QUIRE_PUSHER";

/// Why a session cannot become git.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A fetch of a repository that does not exist.
    #[error("there is no repository `{wanted}`{}", meant(.nearest.as_ref()))]
    Unknown {
        /// What was asked for.
        wanted: RepoName,
        /// What may have been meant.
        nearest: Option<RepoName>,
    },
    /// A push to a repository that does not exist, where pushes do not create.
    #[error("there is no repository `{0}`, and pushing creates none here; `repo new {0}` does")]
    NoCreate(RepoName),
    /// A push while the disk is nearly full.
    #[error("the disk is nearly full: {} free, and pushes are taken from {} on; nothing was changed", in_words(*free), in_words(*needed))]
    NoSpace {
        /// Bytes that are free.
        free: u64,
        /// Bytes that have to be.
        needed: u64,
    },
    /// The repository cannot be made.
    #[error(transparent)]
    Git(#[from] GitError),
    /// Git cannot be started.
    #[error("git cannot be started")]
    Exec(#[source] io::Error),
}

fn meant(nearest: Option<&RepoName>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// The key this session came with, where sshd tells.
#[must_use]
pub fn key(paths: &Paths) -> Option<Key> {
    let info = std::fs::read_to_string(std::env::var_os("SSH_USER_AUTH")?).ok()?;
    let keys = std::fs::read_to_string(paths.effective_keys()).unwrap_or_default();
    public_keys::of_session(&info, &keys)
}

/// Serves one transport command. Returns only where it cannot.
pub fn serve(paths: &Paths, service: Service, repo: &RepoName) -> SessionError {
    let current = Git::new(paths).current(repo);
    if current != *repo {
        // A push to the old name does not make a new repository. The client may be gone already.
        let _ = writeln!(
            io::stderr(),
            "quire: {repo} is now {current}; git remote set-url origin …/{current}"
        );
    }
    match prepare(paths, service, &current) {
        Ok(()) => become_git(paths, service, &current),
        Err(error) => error,
    }
}

/// Makes sure that the repository exists, as far as the service may.
fn prepare(paths: &Paths, service: Service, repo: &RepoName) -> Result<(), SessionError> {
    fault::point("exec-begun");
    let git = Git::new(paths);
    if service == Service::ReceivePack {
        room_for_a_push(paths)?;
    }
    if git.exists(repo)? {
        return Ok(());
    }
    if service != Service::ReceivePack {
        let names = git.list().unwrap_or_default();
        return Err(SessionError::Unknown {
            wanted: repo.clone(),
            nearest: nearest(repo, &names).cloned(),
        });
    }
    if paths.no_push_to_create().exists() {
        return Err(SessionError::NoCreate(repo.clone()));
    }
    if git.create(repo)? {
        fault::point("exec-repository-made");
        // The client may be gone already; the push decides, not this line.
        let _ = writeln!(io::stderr(), "quire: created repository {repo}");
    }
    Ok(())
}

/// Refuses a push before git writes anything: a full disk would stop it halfway, and everybody else with it.
fn room_for_a_push(paths: &Paths) -> Result<(), SessionError> {
    let needed = Floor::told(paths).for_pushes();
    match free_bytes(paths.data()) {
        Ok(free) if free < needed => Err(SessionError::NoSpace { free, needed }),
        // Where it cannot be told, git will find out.
        _ => Ok(()),
    }
}

fn become_git(paths: &Paths, service: Service, repo: &RepoName) -> SessionError {
    let git = Git::new(paths);
    // Maintenance gives way to a push. The mark goes on in what this process becomes.
    let _mark = if service == Service::ReceivePack {
        git.announce_push(repo)
    } else {
        None
    };
    let mut command = git.command();
    command.stdin(std::process::Stdio::inherit());
    command
        .env(DATA_VARIABLE, absolute(paths.data()))
        .env(RUNTIME_VARIABLE, absolute(paths.runtime()));
    if let Some(key) = key(paths) {
        command.env(PUSHER_VARIABLE, key.name);
    }
    if let Ok(protocol) = std::env::var("GIT_PROTOCOL")
        && is_protocol(&protocol)
    {
        command.env("GIT_PROTOCOL", protocol);
    }
    #[cfg(feature = "faults")]
    for name in ["QUIRE_FAULT", "QUIRE_FAULT_ONCE", "QUIRE_FAULT_CLOCK"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.arg(service.verb()).arg(absolute(&paths.repo(repo)));
    SessionError::Exec(command.exec())
}

fn absolute(path: &std::path::Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// `version=N`: all that a client may say through this variable.
fn is_protocol(text: &str) -> bool {
    text.strip_prefix("version=")
        .is_some_and(|digit| digit.len() == 1 && digit.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_protocol_version_goes_through() {
        assert!(is_protocol("version=2") && is_protocol("version=1"));
        for text in [
            "",
            "version=",
            "version=22",
            "version=2:x",
            "2",
            "version=x",
            "version=2\n",
        ] {
            assert!(!is_protocol(text), "{text:?}");
        }
    }

    #[test]
    fn a_push_creates_unless_told_not_to_and_a_fetch_suggests() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path().join("data"), folder.path().join("run"));
        let name = |text: &str| text.parse::<RepoName>().unwrap();
        prepare(&paths, Service::ReceivePack, &name("quire")).unwrap();
        prepare(&paths, Service::UploadPack, &name("quire")).unwrap();
        let error = prepare(&paths, Service::UploadPack, &name("qiure")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no repository `qiure`; did you mean `quire`?"
        );
        let error = prepare(&paths, Service::UploadArchive, &name("zzz")).unwrap_err();
        assert_eq!(error.to_string(), "there is no repository `zzz`");
        std::fs::write(paths.no_push_to_create(), "").unwrap();
        let error = prepare(&paths, Service::ReceivePack, &name("new")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no repository `new`, and pushing creates none here; `repo new new` does"
        );
        assert!(!Git::new(&paths).exists(&name("new")).unwrap());
    }
}
