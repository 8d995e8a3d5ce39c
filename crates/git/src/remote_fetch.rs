//! Fetching from remotes on other machines.
//!
//! Git fetches into a repository that no session can write, with quire's own configuration alone: so what it does depends on
//! neither the other side nor a user, and what it receives is checked as what is pushed. See [`super::remote`].

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::process::Command;
use tokio::sync::mpsc::UnboundedSender;

use super::git::Git;
use super::remote_access::RemoteAccess;
use super::remote_output::RemoteError;
use super::remote_progress::{ProgressLine, ProgressReader};
use quire_runtime::process::{GroupGuard, ProcError};
use quire_types::disk_space::{MinFree, free_bytes, has_inodes, max_push};
use quire_types::fsutil::folder_size;

/// How long a fetch may take. A remote that sends nothing is given up earlier.
const FETCH_TIMEOUT: Duration = Duration::from_secs(6 * 3600);
/// How much memory each process of a fetch or a push may allocate: enough to index ten million objects.
pub const MAX_PACK_MEMORY: u64 = 2 << 30;
/// How often it is looked how much was fetched.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const PROGRAM: &str = "git fetch";

/// What settings git fetches with, beside those of the appliance.
const SETTINGS: [&str; 5] = [
    "core.hooksPath=/dev/null",
    "fetch.fsckObjects=true",
    "fetch.unpackLimit=1",
    "fetch.writeCommitGraph=false",
    "transfer.bundleURI=false",
];

/// A fetch into a repository that no session can write.
#[derive(Debug)]
pub struct RemoteFetch<'a> {
    pub into: &'a Path,
    /// Held open by git, so that what it locks stays locked until git has ended, also if this process is killed.
    pub lock: Option<&'a File>,
    /// What is fetched, as git writes it. Refs that the other side does not have are deleted as far as these cover them.
    pub refspecs: Vec<String>,
}

impl Git {
    /// Fetches from a remote, at most as much as a push may have. Git is killed when this is dropped.
    pub async fn fetch_remote(
        &self,
        fetch: &RemoteFetch<'_>,
        remote: &RemoteAccess,
        progress: &UnboundedSender<ProgressLine>,
    ) -> Result<(), RemoteError> {
        self.check_fetched(fetch).await?;
        let mut command = self.remote_command(fetch.into, remote);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command
            .args([
                "fetch",
                "--quiet",
                "--progress",
                "--no-tags",
                "--prune",
                "--no-auto-gc",
            ])
            .args(["--no-write-fetch-head", "--recurse-submodules=no", "--"])
            .arg(remote.url.as_str())
            .args(&fetch.refspecs);
        if let Some(lock) = fetch.lock.and_then(|lock| lock.try_clone().ok()) {
            command.stdin(Stdio::from(lock));
        }
        let ended = tokio::select! {
            ended = run(&mut command, remote, progress) => ended,
            Err(error) = self.watch_fetch(fetch) => return Err(error),
        };
        // A short fetch is not looked at meanwhile.
        self.check_fetched(fetch).await?;
        ended
    }

    /// Returns when too much was fetched.
    async fn watch_fetch(&self, fetch: &RemoteFetch<'_>) -> Result<(), RemoteError> {
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            self.check_fetched(fetch).await?;
        }
    }

    async fn check_fetched(&self, fetch: &RemoteFetch<'_>) -> Result<(), RemoteError> {
        let objects = fetch.into.join("objects");
        let check = move |git: &Self| {
            let data = git.paths.data();
            let needed = MinFree::read(&git.paths).push_threshold();
            let free = free_bytes(data).unwrap_or(u64::MAX);
            Ok(match max_push(&git.paths) {
                Some(limit @ 1..) if folder_size(&objects) > limit => {
                    Err(RemoteError::TooLarge { limit })
                }
                _ if free < needed => Err(RemoteError::NoSpace { free, needed }),
                _ if !has_inodes(data) => Err(RemoteError::NoInodes),
                _ => Ok(()),
            })
        };
        self.call(check).await?
    }
}

/// Limits the memory of a process that has just been started, and of those that it will start: what the other side sends is indexed by
/// one of them. A kernel that refuses leaves it without a limit.
fn limit_memory(pid: u32) {
    let limit = Rlimit {
        current: Some(MAX_PACK_MEMORY),
        maximum: Some(MAX_PACK_MEMORY),
    };
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = prlimit(Some(pid), Resource::Data, limit);
    }
}

/// Runs git to its end.
async fn run(
    command: &mut Command,
    remote: &RemoteAccess,
    progress: &UnboundedSender<ProgressLine>,
) -> Result<(), RemoteError> {
    let program = || PROGRAM.to_owned();
    command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0);
    let spawned = command.spawn();
    let mut child = spawned.map_err(|source| ProcError::Spawn {
        program: program(),
        source,
    })?;
    if let Some(pid) = child.id() {
        limit_memory(pid);
    }
    let group = GroupGuard::of(&child);
    let ended = async {
        let words = match child.stderr.take() {
            Some(stderr) => {
                ProgressReader::new(&remote.redactor, progress)
                    .read(stderr)
                    .await
            }
            None => String::new(),
        };
        (child.wait().await, words)
    };
    let ended = tokio::time::timeout(FETCH_TIMEOUT, ended).await;
    let (status, words) = ended.map_err(|_| ProcError::TimedOut {
        program: program(),
        after: FETCH_TIMEOUT,
    })?;
    let status = status.map_err(|source| ProcError::Io {
        program: program(),
        source,
    })?;
    group.disarm();
    match status.success() {
        true => Ok(()),
        false => Err(RemoteError::of_output(
            words.as_bytes(),
            remote.login.kind(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "the limit is set from outside of the process that it is for"
    )]
    #[test]
    fn what_a_limited_process_starts_is_limited_too() {
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", "read go; grep 'Max data size' /proc/self/limits"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        limit_memory(child.id());
        drop(child.stdin.take());
        let output = child.wait_with_output().unwrap();
        let limits = String::from_utf8(output.stdout).unwrap();
        let limits: Vec<&str> = limits.split_whitespace().skip(3).take(2).collect();
        let limit = MAX_PACK_MEMORY.to_string();
        assert_eq!(limits, [&limit, &limit]);
    }
}
