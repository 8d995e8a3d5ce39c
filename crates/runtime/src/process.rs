//! Child processes that end when they should: each in a group or session of its own, with a deadline and
//! bounded capture.
//!
//! Linux has no unprivileged way to end "a process and all it ever started" in one call, so
//! [`ProcessTree`] finds the members by what a process cannot easily shed (an environment marker,
//! its session, its parents) and ends them together.
//!
//! This module knows nothing of runs; it must not log.

mod session_program;
mod tree;

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

pub use session_program::{SessionChild, SessionProgram};
pub use tree::ProcessTree;

/// Why a child process could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ProcError {
    /// It could not be started.
    #[error("cannot start `{program}`")]
    Spawn {
        /// The program.
        program: String,
        #[source]
        source: std::io::Error,
    },
    /// Its output could not be read, or it could not be waited for.
    #[error("the output or the end of `{program}` could not be read")]
    Io {
        /// The program.
        program: String,
        #[source]
        source: std::io::Error,
    },
    /// It did not end in time, and was killed.
    #[error("`{program}` did not end within {} ms", after.as_millis())]
    TimedOut {
        /// The program.
        program: String,
        /// The limit.
        after: Duration,
    },
    /// It wrote more than the limit, and was killed.
    #[error("`{program}` wrote more than {limit} bytes")]
    TooMuch {
        /// The program.
        program: String,
        /// The limit.
        limit: usize,
    },
    /// The processes of a process tree could not be listed.
    #[error("the processes of this machine cannot be listed")]
    Scan {
        #[source]
        source: std::io::Error,
    },
    /// Some processes of a process tree did not end after KILL.
    #[error("{left} processes could not be ended")]
    Survivors {
        /// How many.
        left: usize,
    },
}

/// What [`capture`] allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long the process may take.
    pub deadline: Duration,
    /// How many bytes each of its outputs may have.
    pub output: usize,
}

impl Default for Limits {
    /// 30 seconds and 16 MiB.
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            output: 16 << 20,
        }
    }
}

/// What a process left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
}

/// How long outputs are still read after a process has ended, while a child that it left behind holds them open.
const OUTPUT_DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs `command` to its end with an empty standard input, and returns its output.
///
/// It runs in a process group of its own. When the deadline passes, an output grows over its limit or
/// the future is dropped, its whole process group is killed.
///
/// # Errors
/// See [`ProcError`]. A process that ends with a failure is not an error here.
pub async fn capture(command: &mut Command, limits: Limits) -> Result<Captured, ProcError> {
    let captured = capture_until(
        command,
        Stdio::null(),
        limits,
        std::future::pending(),
        Duration::ZERO,
    )
    .await?;
    // Nothing ended it early.
    captured.ok_or_else(|| ProcError::TimedOut {
        program: program_of(command),
        after: limits.deadline,
    })
}

/// Like [`capture`] with a given standard input, and ended early, with `None` as the result, when `until` resolves: its
/// process group is told to end (TERM), and killed where it has not within `grace`.
///
/// # Errors
/// See [`ProcError`]. A process that ends with a failure is not an error here.
pub async fn capture_until(
    command: &mut Command,
    stdin: Stdio,
    limits: Limits,
    until: impl Future<Output = ()>,
    grace: Duration,
) -> Result<Option<Captured>, ProcError> {
    let program = program_of(command);
    command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let spawned = command.spawn();
    // What is handed over is not held open here for another process of this command.
    command.stdin(Stdio::null());
    let mut child = spawned.map_err(|source| ProcError::Spawn {
        program: program.clone(),
        source,
    })?;
    let group = GroupGuard::of(&child);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let reading = async {
        tokio::try_join!(
            read_bounded(stdout, &mut out, limits.output),
            read_bounded(stderr, &mut err, limits.output)
        )
        .map(|_| ())
    };
    let io = |source| ProcError::Io {
        program: program.clone(),
        source,
    };
    let ended = async {
        let running = tokio::time::timeout(limits.deadline, run_out(&mut child, reading));
        tokio::pin!(running);
        tokio::select! {
            ended = &mut running => Some(ended),
            () = until => {
                group.tell();
                // How it ended does not matter; what is left of it goes with the guard.
                let _ = tokio::time::timeout(grace, running).await;
                None
            }
        }
    };
    let Some(ended) = ended.await else {
        return Ok(None);
    };
    let status = match ended {
        Err(_) => {
            return Err(ProcError::TimedOut {
                program,
                after: limits.deadline,
            });
        }
        Ok(Err(BoundedError::TooMuch)) => {
            return Err(ProcError::TooMuch {
                program,
                limit: limits.output,
            });
        }
        Ok(Err(BoundedError::Io(source))) => return Err(io(source)),
        Ok(Ok(status)) => status,
    };
    group.disarm();
    Ok(Some(Captured {
        status,
        stdout: out,
        stderr: err,
    }))
}

enum BoundedError {
    TooMuch,
    Io(std::io::Error),
}

/// Waits for the process and its outputs; outputs held open by something it left behind only a little longer.
async fn run_out(
    child: &mut Child,
    reading: impl Future<Output = Result<(), BoundedError>>,
) -> Result<ExitStatus, BoundedError> {
    tokio::pin!(reading);
    let status = tokio::select! {
        read = &mut reading => {
            read?;
            return child.wait().await.map_err(BoundedError::Io);
        }
        status = child.wait() => status.map_err(BoundedError::Io)?,
    };
    match tokio::time::timeout(OUTPUT_DRAIN_TIMEOUT, reading).await {
        Ok(read) => read.map(|()| status),
        Err(_) => Ok(status),
    }
}

async fn read_bounded(
    from: Option<impl AsyncRead + Unpin>,
    into: &mut Vec<u8>,
    limit: usize,
) -> Result<(), BoundedError> {
    let Some(from) = from else { return Ok(()) };
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    from.take(most)
        .read_to_end(into)
        .await
        .map_err(BoundedError::Io)?;
    if into.len() > limit {
        Err(BoundedError::TooMuch)
    } else {
        Ok(())
    }
}

/// The program's name, for messages.
fn program_of(command: &Command) -> String {
    command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned()
}

/// The exit code of a process as a shell reports it: 128 and the number of the signal for one that a signal ended.
#[must_use]
pub fn exit_code(status: ExitStatus) -> Option<i32> {
    let signal = status.signal().map(|signal| 128 + signal);
    status.code().or(signal)
}

/// Kills a process group when dropped, unless disarmed.
pub struct GroupGuard(Option<nix::unistd::Pid>);

impl GroupGuard {
    /// The group of a child that was started with `process_group(0)`. A new session would be a group too, but the standard library
    /// starts no program in one by posix_spawn.
    #[must_use]
    pub fn of(child: &Child) -> Self {
        Self(
            child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .map(nix::unistd::Pid::from_raw),
        )
    }

    /// Tells the group to end.
    fn tell(&self) {
        if let Some(group) = self.0 {
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGTERM);
        }
    }

    /// The group has ended.
    pub fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for GroupGuard {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Gone already is what we want.
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_added_to_128() {
        assert_eq!(exit_code(ExitStatus::from_raw(1 << 8)), Some(1));
        assert_eq!(exit_code(ExitStatus::from_raw(13)), Some(141));
    }

    #[test]
    fn messages() {
        let program = || "git".to_owned();
        let source = || std::io::Error::other("the system's reason");
        let messages = [
            ProcError::Spawn {
                program: program(),
                source: source(),
            },
            ProcError::Io {
                program: program(),
                source: source(),
            },
            ProcError::TimedOut {
                program: program(),
                after: Duration::from_secs(2),
            },
            ProcError::TooMuch {
                program: program(),
                limit: 1024,
            },
            ProcError::Scan { source: source() },
            ProcError::Survivors { left: 3 },
        ]
        .map(|error| error.to_string());
        insta::assert_snapshot!(messages.join("\n"));
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn captures_both_outputs_and_the_status() {
        let got = capture(
            &mut shell("printf out; printf err >&2; exit 3"),
            Limits::default(),
        )
        .await
        .unwrap();
        assert_eq!(
            (
                got.status.code(),
                got.stdout.as_slice(),
                got.stderr.as_slice()
            ),
            (Some(3), &b"out"[..], &b"err"[..])
        );
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = capture(&mut Command::new("/no/such/program"), Limits::default())
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "cannot start `/no/such/program`");
    }

    #[tokio::test]
    async fn the_deadline_ends_the_whole_group() {
        let limits = Limits {
            deadline: Duration::from_millis(300),
            ..Limits::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pid");
        let script = format!("sleep 987 & echo $! > {}; wait", pids.display());
        let error = capture(&mut shell(&script), limits).await.unwrap_err();
        assert!(matches!(error, ProcError::TimedOut { .. }), "{error}");
        let pid: i32 = std::fs::read_to_string(pids)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        tree::tests::wait_until_gone(pid).await;
    }

    #[tokio::test]
    async fn endless_output_is_cut() {
        let limits = Limits {
            output: 1000,
            ..Limits::default()
        };
        let error = capture(
            &mut shell("while :; do echo xxxxxxxxxxxxxxxx; done"),
            limits,
        )
        .await
        .unwrap_err();
        assert!(
            matches!(error, ProcError::TooMuch { limit: 1000, .. }),
            "{error}"
        );
        let got = capture(&mut shell("head -c 1000 /dev/zero"), limits)
            .await
            .unwrap();
        assert_eq!(got.stdout.len(), 1000);
    }

    #[tokio::test]
    async fn a_child_left_behind_does_not_hold_the_caller() {
        let got = capture(
            &mut shell("sleep 5 & echo done"),
            Limits {
                deadline: Duration::from_secs(4),
                ..Limits::default()
            },
        )
        .await;
        assert_eq!(got.unwrap().stdout, b"done\n");
    }
}
