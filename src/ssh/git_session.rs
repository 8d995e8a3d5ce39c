//! A session of git's transport: checks the repository, then executes git in place of this process, or as its child for a push to
//! a repository that exists.

use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use super::command::GitService;
use super::confinement;
use super::existing_push;
use super::first_push;
use nix::sys::resource::{Resource, setrlimit};
use quire_git::lfs::packets::PacketError;
use quire_git::{
    FirstLine, Git, GitError, MAX_PACK_MEMORY, ObjectFormat, PUSH_MARK_VARIABLE, ProtocolVersion,
    PushLock, PushMark, closest_name,
};
use quire_server::control::client as control;
use quire_types::base_url::{REACHED_VARIABLE, reached_address};
use quire_types::disk_space::{MinFree, free_bytes, has_inodes, max_push};
use quire_types::failpoint;
use quire_types::names::RepoName;
use quire_types::paths::{DATA_VARIABLE, Paths, RUNTIME_VARIABLE};
use quire_types::ssh_keys::SessionKey;
use quire_types::text::format_bytes;

/// The environment variable that names the key of the pusher to the hook.
pub const PUSHER_VARIABLE: &str = "QUIRE_PUSHER";

/// Why git was not executed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A fetch of a repository that does not exist.
    #[error("there is no repository `{wanted}`{}", suggestion(.nearest.as_ref()))]
    Unknown {
        /// What was asked for.
        wanted: RepoName,
        /// What may have been meant.
        nearest: Option<RepoName>,
    },
    /// A push to a repository that does not exist, where pushes do not create.
    #[error(
        "there is no repository `{0}`, and pushes do not create repositories here; `repo new {0}` does"
    )]
    CreateDisabled(RepoName),
    /// A push to a repository that is being imported.
    #[error("`{0}` is being imported at this moment; push once that has ended")]
    BeingImported(RepoName),
    /// A push to a repository that follows one on another machine.
    #[error(
        "`{repo}` is a mirror of {url}, so nothing can be pushed to it; `mirror stop {repo}` makes it an ordinary repository"
    )]
    PullMirror {
        repo: RepoName,
        /// What it follows.
        url: String,
    },
    /// A push while the disk is nearly full.
    #[error("the disk is nearly full: {} are free, and pushes need at least {}; nothing was changed", format_bytes(*free), format_bytes(*needed))]
    NoSpace {
        /// Bytes that are free.
        free: u64,
        /// Bytes that have to be.
        needed: u64,
    },
    /// A push while nearly no inode is free.
    #[error("the disk is full: nearly no inode is free; nothing was changed")]
    NoInodes,
    /// The repository cannot be made.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The kernel does not accept the rules that confine git.
    #[error("this session could not be confined to its repository, so nothing was started")]
    Confine(#[source] landlock::RulesetError),
    /// The client of a first push sent something else than git's protocol, or disconnected.
    #[error("the push could not be read, so no repository was created")]
    FirstLine(#[source] io::Error),
    /// The folder of the objects of Git LFS cannot be used.
    #[error("the objects of Git LFS cannot be reached")]
    Lfs(#[source] io::Error),
    /// A session of Git LFS cannot go on.
    #[error(transparent)]
    Packets(PacketError),
    /// Git cannot be started.
    #[error("git could not be started")]
    Exec(#[source] io::Error),
}

fn suggestion(nearest: Option<&RepoName>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// The address by which the client of this session reached this machine, if sshd reports it.
#[must_use]
pub fn reached_here() -> Option<IpAddr> {
    reached_address(&std::env::var("SSH_CONNECTION").ok()?)
}

/// The repository that a name stands for now. Says so if it has another name.
pub(super) fn follow_redirect(git: &Git, repo: &RepoName) -> RepoName {
    let current = git.resolve(repo);
    if current != *repo {
        // A push to the old name does not make a new repository. The client may be gone already.
        let _ = writeln!(
            io::stderr(),
            "quire: {repo} is now {current}; git remote set-url origin …/{current}"
        );
    }
    current
}

/// Executes git for one transport command. Returns only if that fails, or if a client that pushes to a new name has
/// nothing to push. `key` is that of the session, if sshd reports it.
pub fn serve(
    paths: &Paths,
    service: GitService,
    repo: &RepoName,
    key: Option<SessionKey>,
) -> Result<(), SessionError> {
    let current = follow_redirect(&Git::new(paths), repo);
    let first_line = match prepare(paths, service, &current)? {
        RepoState::Existing => None,
        RepoState::Missing => match begin_first_push(&Git::new(paths))? {
            Some(line) => Some(line),
            None => return Ok(()),
        },
    };
    let pusher = key.map(|session| session.key.name);
    Err(exec_git(paths, service, &current, first_line, pusher))
}

/// Whether a repository was there before the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RepoState {
    Existing,
    /// A push creates it, or decides its format.
    Missing,
}

/// Checks that there is room for a push, and that the repository exists, or that a push may create it.
fn prepare(paths: &Paths, service: GitService, repo: &RepoName) -> Result<RepoState, SessionError> {
    failpoint::hit("exec-begun");
    if service == GitService::ReceivePack {
        check_disk_space(paths)?;
    }
    let state = find(paths, service, repo)?;
    // A push decides what the format is of a repository that only has objects in Git LFS.
    if service == GitService::ReceivePack && Git::new(paths).has_only_lfs(repo).unwrap_or(false) {
        return Ok(RepoState::Missing);
    }
    Ok(state)
}

/// Checks that the repository exists, or that a push may create it.
pub(super) fn find(
    paths: &Paths,
    service: GitService,
    repo: &RepoName,
) -> Result<RepoState, SessionError> {
    let git = Git::new(paths);
    if git.exists(repo)? {
        if service == GitService::ReceivePack
            && let Some(url) = git.mirrored_from(repo)?
        {
            let repo = repo.clone();
            return Err(SessionError::PullMirror { repo, url });
        }
        return Ok(RepoState::Existing);
    }
    if service != GitService::ReceivePack {
        let names = git.list().unwrap_or_default();
        return Err(SessionError::Unknown {
            wanted: repo.clone(),
            nearest: closest_name(repo, &names.repos).cloned(),
        });
    }
    if paths.no_push_to_create().exists() {
        return Err(SessionError::CreateDisabled(repo.clone()));
    }
    if repo.collides_with_run_id() {
        return Err(GitError::LooksLikeRunId(repo.clone()).into());
    }
    if git.is_being_imported(repo) {
        return Err(SessionError::BeingImported(repo.clone()));
    }
    Ok(RepoState::Missing)
}

/// Tells the client of a first push what there is, and returns its first line, or `None` if it has nothing to push.
fn begin_first_push(git: &Git) -> Result<Option<FirstLine>, SessionError> {
    let advertisement = git.advertise_new_repository()?;
    first_push::exchange(&advertisement).map_err(SessionError::FirstLine)
}

/// Rejects a push before git writes anything if the disk is nearly full: the push could not end, and nothing else could be written either.
fn check_disk_space(paths: &Paths) -> Result<(), SessionError> {
    let needed = MinFree::read(paths).push_threshold();
    if !has_inodes(paths.data()) {
        return Err(SessionError::NoInodes);
    }
    match free_bytes(paths.data()) {
        Ok(free) if free < needed => Err(SessionError::NoSpace { free, needed }),
        // Where it cannot be told, git will find out.
        _ => Ok(()),
    }
}

/// Creates a repository if it is new, and returns the lock of a push, which lasts as long as this process and what it
/// becomes, and whether the repository was created.
fn create_and_lock(
    git: &Git,
    repo: &RepoName,
    is_new: bool,
    format: ObjectFormat,
) -> Result<(Option<PushLock>, bool), GitError> {
    let mut created = is_new && git.create_with_format(repo, format)?;
    if created {
        failpoint::hit("exec-repository-made");
    }
    let mut lock = git.lock_for_push(repo);
    // An earlier push that created the repository may have failed, and the server removed it before the lock was taken.
    if !git.exists(repo)? {
        git.create_with_format(repo, format)?;
        lock = git.lock_for_push(repo);
        created = true;
    }
    Ok((lock, created))
}

/// The repository, the lock and the mark of a push.
fn begin_push(
    git: &Git,
    repo: &RepoName,
    first_line: Option<&FirstLine>,
) -> Result<(Option<PushLock>, Option<PushMark>), GitError> {
    let is_new = first_line.is_some();
    let format = first_line.map_or(ObjectFormat::Sha1, |line| line.format);
    let (lock, created) = create_and_lock(git, repo, is_new, format)?;
    if is_new && !created {
        // Git LFS may have sent objects first, and the format of the repository does not matter to it.
        git.change_format_of_lfs(repo, format)?;
    }
    // Without a mark, a push whose hook is killed is found by the next comparison of all refs.
    let mark = git.mark_push(repo, created || is_new).ok();
    Ok((lock, mark))
}

/// The repository and the lock of an upload of Git LFS. It changes no ref, so it has a mark only if it created the repository.
pub(super) fn begin_upload(
    git: &Git,
    repo: &RepoName,
    state: RepoState,
) -> Result<Option<PushLock>, GitError> {
    let is_new = state == RepoState::Missing;
    let (lock, created) = create_and_lock(git, repo, is_new, ObjectFormat::Sha1)?;
    if created {
        let _ = git.mark_push(repo, true);
    }
    Ok(lock)
}

fn exec_git(
    paths: &Paths,
    service: GitService,
    repo: &RepoName,
    first_line: Option<FirstLine>,
    pusher: Option<String>,
) -> SessionError {
    let git = Git::new(paths);
    let mut command = git.command();
    command.arg(service.verb());
    // Before the lock, which the child that copies must not hold.
    let input = first_line.as_ref().map(first_push::put_back).transpose();
    match input {
        // The advertisement was sent.
        Ok(Some(input)) => command.arg("--stateless-rpc").stdin(input),
        Ok(None) => command.stdin(std::process::Stdio::inherit()),
        Err(error) => return SessionError::Exec(error),
    };
    let mut _lock = None;
    if service == GitService::ReceivePack {
        match begin_push(&git, repo, first_line.as_ref()) {
            Ok((lock, mark)) => {
                _lock = lock;
                if let Some(mark) = mark {
                    command.env(PUSH_MARK_VARIABLE, absolute(&mark.path));
                }
            }
            Err(error) => return error.into(),
        }
        control::push_begun(paths, repo.clone());
    }
    command
        .env(DATA_VARIABLE, absolute(paths.data()))
        .env(RUNTIME_VARIABLE, absolute(paths.runtime()));
    if let Some(reached) = reached_here() {
        command.env(REACHED_VARIABLE, reached.to_string());
    }
    if let Some(pusher) = pusher {
        command.env(PUSHER_VARIABLE, pusher);
    }
    if let Ok(protocol) = std::env::var("GIT_PROTOCOL")
        && let Some(version) = ProtocolVersion::parse(&protocol)
    {
        command.env("GIT_PROTOCOL", version.to_string());
    }
    #[cfg(feature = "faults")]
    for name in [
        "QUIRE_FAULT",
        "QUIRE_FAULT_STOP",
        "QUIRE_FAULT_ONCE",
        "QUIRE_FAULT_CLOCK",
    ] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    set_own_settings(&mut command, paths);
    command.arg(absolute(&paths.repo(repo)));
    if service == GitService::ReceivePack {
        let _ = setrlimit(Resource::RLIMIT_DATA, MAX_PACK_MEMORY, MAX_PACK_MEMORY);
    }
    // A kernel without Landlock confines nothing, which docs/security.md says.
    if let Err(error) = confinement::confine(paths, repo) {
        return SessionError::Confine(error);
    }
    let is_existing_push = service == GitService::ReceivePack && first_line.is_none();
    SessionError::Exec(match is_existing_push {
        true => existing_push::run(command, &git, repo),
        false => command.exec(),
    })
}

/// Sets what the repository's own configuration, which a session can write, must not change.
fn set_own_settings(command: &mut Command, paths: &Paths) {
    let own_settings = [
        Some(("core.hooksPath", absolute(&paths.hooks()).into_os_string())),
        Some(("core.fsmonitor", "false".into())),
        Some(("transfer.hideRefs", "refs/quire".into())),
        max_push(paths).map(|bytes| ("receive.maxInputSize", bytes.to_string().into())),
    ];
    let own_settings = own_settings.into_iter().flatten().enumerate();
    for (index, (name, value)) in own_settings {
        command.env(format!("GIT_CONFIG_KEY_{index}"), name);
        command.env(format!("GIT_CONFIG_VALUE_{index}"), value);
        command.env("GIT_CONFIG_COUNT", (index + 1).to_string());
    }
}

fn absolute(path: &std::path::Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_creates_unless_told_not_to_and_a_fetch_suggests() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path().join("data"), folder.path().join("run"));
        let name = |text: &str| text.parse::<RepoName>().unwrap();
        let state = prepare(&paths, GitService::ReceivePack, &name("quire")).unwrap();
        assert_eq!(state, RepoState::Missing);
        Git::new(&paths).create(&name("quire")).unwrap();
        for service in [GitService::ReceivePack, GitService::UploadPack] {
            let state = prepare(&paths, service, &name("quire")).unwrap();
            assert_eq!(state, RepoState::Existing);
        }
        let error = prepare(&paths, GitService::UploadPack, &name("qiure")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no repository `qiure`; did you mean `quire`?"
        );
        let error = prepare(&paths, GitService::UploadArchive, &name("zzz")).unwrap_err();
        assert_eq!(error.to_string(), "there is no repository `zzz`");
        std::fs::write(paths.no_push_to_create(), "").unwrap();
        let error = prepare(&paths, GitService::ReceivePack, &name("new")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no repository `new`, and pushes do not create repositories here; `repo new new` does"
        );
        assert!(!Git::new(&paths).exists(&name("new")).unwrap());
    }
}
