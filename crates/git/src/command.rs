//! How a git process is started: its environment and arguments.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::error::{ANSWER_TIMEOUT, GitError, stderr_tail};
use super::git::Git;

/// Where git keeps the objects of a push that it has not accepted yet.
const QUARANTINE: [&str; 2] = ["GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"];

impl Git {
    /// The whole environment of a git process: it inherits nothing but `PATH`.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("PATH", search_path()),
            ("LC_ALL", "C".into()),
            ("GIT_CONFIG_SYSTEM", self.paths.git_config().into()),
            ("GIT_CONFIG_GLOBAL", "/dev/null".into()),
            ("GIT_TERMINAL_PROMPT", "0".into()),
            ("GIT_ASKPASS", "/bin/false".into()),
            // A pushed refs/replace/… must not change what a commit contains.
            ("GIT_NO_REPLACE_OBJECTS", "1".into()),
        ]
    }

    /// A git process without a repository; standard input is empty.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that starts git")]
    pub fn command(&self) -> Command {
        let mut command = Command::new(git_program());
        command
            .env_clear()
            .envs(self.environment())
            .stdin(Stdio::null());
        command
    }

    /// A git process without a repository that has the lowest priority: niced, and with idle disk priority if `ionice` is
    /// installed.
    #[expect(
        clippy::disallowed_methods,
        reason = "starts git through programs that lower its priority"
    )]
    pub(super) fn background_command(&self) -> Command {
        let lowered: &[&[&str]] = &[&["nice", "-n", "19"], &["ionice", "-c", "3"]];
        let path = std::env::var_os("PATH").unwrap_or_default();
        let exists = |program: &str| {
            std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
        };
        let wrappers = lowered
            .iter()
            .filter(|wrapper| exists(wrapper[0]))
            .flat_map(|wrapper| wrapper.iter().copied());
        let mut words = wrappers.chain(["git"]);
        let mut command = Command::new(words.next().unwrap_or("git"));
        command
            .args(words)
            .env_clear()
            .envs(self.environment())
            .stdin(Stdio::null());
        command
    }

    /// A git process for a user's own checkout, with that user's environment and configuration. Only the
    /// folder that it is given determines its repository.
    #[expect(clippy::disallowed_methods, reason = "the other place that starts git")]
    pub(super) fn personal_command() -> Command {
        let mut command = Command::new("git");
        for name in [
            "GIT_DIR",
            "GIT_WORK_TREE",
            "GIT_INDEX_FILE",
            "GIT_PREFIX",
            "GIT_COMMON_DIR",
            "GIT_OBJECT_DIRECTORY",
            "GIT_NAMESPACE",
        ] {
            command.env_remove(name);
        }
        command
            .envs([
                ("LC_ALL", "C"),
                ("GIT_TERMINAL_PROMPT", "0"),
                ("GIT_OPTIONAL_LOCKS", "0"),
            ])
            .stdin(Stdio::null());
        command
    }

    /// A git process on a bare repository.
    pub(super) fn command_in(&self, repo: &Path) -> Command {
        let mut command = self.command();
        command.arg("--git-dir").arg(repo);
        command
    }

    /// A git process on a repository, in a hook also with the objects of the push that git has not accepted yet.
    pub(super) fn in_quarantine(&self, repo: &Path) -> Command {
        let mut command = self.command_in(repo);
        let passed = QUARANTINE
            .iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?)));
        command.envs(passed);
        command
    }

    /// The same for async code: killed when it is dropped.
    pub(super) fn tokio_in(&self, repo: &Path) -> tokio::process::Command {
        let mut command = tokio::process::Command::from(self.command_in(repo));
        command.kill_on_drop(true);
        command
    }

    /// Runs git on a repository and returns its output, whatever the exit code.
    pub(super) async fn output<I, A>(
        &self,
        repo: &Path,
        verb: &'static str,
        args: I,
    ) -> Result<std::process::Output, GitError>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        let mut command = self.tokio_in(repo);
        let ended =
            tokio::time::timeout(ANSWER_TIMEOUT, command.arg(verb).args(args).output()).await;
        ended
            .map_err(|_| GitError::TimedOut { verb })?
            .map_err(|source| GitError::Start { verb, source })
    }

    /// Runs git on a repository and returns its standard output; any exit code but 0 is an error.
    pub(super) async fn success<I, A>(
        &self,
        repo: &Path,
        verb: &'static str,
        args: I,
    ) -> Result<Vec<u8>, GitError>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        checked(verb, self.output(repo, verb, args).await?)
    }

    /// The same, synchronously and with any command.
    pub(super) fn run(command: &mut Command, verb: &'static str) -> Result<Vec<u8>, GitError> {
        checked(
            verb,
            command
                .output()
                .map_err(|source| GitError::Start { verb, source })?,
        )
    }
}

/// Where programs are searched.
fn search_path() -> OsString {
    std::env::var_os("PATH")
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into())
}

/// The path of the git program. A program that is named by its path is started without a copy of this process, which a search with
/// another environment needs.
fn git_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let path = search_path();
        let mut programs = std::env::split_paths(&path).map(|folder| folder.join("git"));
        // Where there is none, the start of git fails and says so.
        let found = programs.find(|program| program.is_file());
        found.unwrap_or_else(|| "git".into())
    })
}

/// Returns the standard output of a git process that succeeded.
pub(super) fn checked(
    verb: &'static str,
    output: std::process::Output,
) -> Result<Vec<u8>, GitError> {
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(GitError::Failed {
            verb,
            status: output.status,
            stderr: stderr_tail(&output.stderr),
        })
    }
}

/// Runs git with this on its standard input, and returns its standard output.
pub(super) fn with_input(
    mut command: Command,
    verb: &'static str,
    input: &[u8],
) -> Result<Vec<u8>, GitError> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| GitError::Start { verb, source })?;
    let pipe = |source| GitError::Pipe { verb, source };
    let stdin = child.stdin.take();
    // Its answers must be read while it is written to.
    let (written, output) = std::thread::scope(|scope| {
        let writer = scope.spawn(move || stdin.map_or(Ok(()), |mut stdin| stdin.write_all(input)));
        let output = child.wait_with_output();
        (writer.join(), output)
    });
    let output = checked(verb, output.map_err(pipe)?)?;
    match written {
        Ok(written) => written.map_err(pipe)?,
        Err(_) => return Err(GitError::Interrupted),
    }
    Ok(output)
}

/// Reads a pipe to its end, so that the process never blocks on it, and returns the first 8 KiB.
pub(super) async fn read_capped(mut pipe: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
        let room = 8192usize.saturating_sub(kept.len()).min(n);
        kept.extend_from_slice(&buffer[..room]);
    }
    kept
}
