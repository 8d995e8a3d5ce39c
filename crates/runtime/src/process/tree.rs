//! Finding and ending every process that a command started, also those that left its session.
//!
//! A process is a member when its environment holds the marker; when it shares a session with a
//! member; when its parent is a member; or, where a folder is given, when it is an orphan that
//! stands in that folder. To escape, a process must clear its environment, leave its session,
//! lose its parent and leave the folder, all four.
//!
//! Members are stopped before they are killed, and the search is repeated until it finds nothing
//! new: what is stopped cannot fork, so a fork bomb is ended as well.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::ProcError;
use quire_types::backoff::Backoff;

/// What the processes to be ended have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessTree {
    /// The beginning of an environment entry, such as `NAME=value`; every command gets it.
    pub marker: String,
    /// A folder that is theirs alone.
    pub folder: Option<PathBuf>,
}

/// How often the environment of a process is looked at, a millisecond apart, until it is known completely.
const MAX_LOOKS: u32 = 200;

/// How often of these a complete one may be empty before it counts as such.
const MAX_EMPTY_LOOKS: u32 = 5;

/// How long killed processes may take to vanish.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

impl ProcessTree {
    /// The living members' pids.
    ///
    /// # Errors
    /// The processes cannot be looked at: there may be some.
    pub fn pids(&self) -> io::Result<Vec<i32>> {
        Ok(self.among(&processes()?)?.into_iter().collect())
    }

    /// What follows `prefix` in the environment entries of all processes that have such an entry.
    ///
    /// # Errors
    /// The processes cannot be looked at.
    pub fn marked_values(prefix: &str) -> io::Result<BTreeSet<String>> {
        processes()?
            .into_iter()
            .filter_map(|process| process.marked(prefix).transpose())
            .collect()
    }

    /// Ends all members; returns when none lives.
    ///
    /// # Errors
    /// [`ProcError::Survivors`] when some cannot be ended (no permission, or stuck in the kernel);
    /// [`ProcError::Scan`] when they cannot be looked for.
    pub async fn end(&self) -> Result<(), ProcError> {
        let started = Instant::now();
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(50));
        loop {
            let members = self.freeze().map_err(|source| ProcError::Scan { source })?;
            if members.is_empty() {
                return Ok(());
            }
            for pid in &members {
                signal(*pid, Signal::SIGKILL);
            }
            if started.elapsed() > KILL_TIMEOUT {
                return Err(ProcError::Survivors {
                    left: members.len(),
                });
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// Stops members until a search finds no new one. Returns all that were found.
    fn freeze(&self) -> io::Result<BTreeSet<i32>> {
        let mut stopped = BTreeSet::new();
        loop {
            let found = self.among(&processes()?)?;
            let mut new = found.difference(&stopped).copied().peekable();
            if new.peek().is_none() {
                return Ok(found);
            }
            new.for_each(|pid| signal(pid, Signal::SIGSTOP));
            stopped.extend(found);
        }
    }

    fn among(&self, all: &[Process]) -> io::Result<BTreeSet<i32>> {
        let own = std::process::id().cast_signed();
        let own_session = all.iter().find(|p| p.pid == own).map(|p| p.session);
        let adopters = [1, nix::unistd::getppid().as_raw(), own];
        let eligible = |p: &&Process| p.pid != own && p.pid != 1 && !p.dead;
        let mut members = BTreeSet::new();
        for process in all.iter().filter(eligible) {
            let is_orphan =
                adopters.contains(&process.parent) && process.session != own_session.unwrap_or(0);
            if process.marked(&self.marker)?.is_some()
                || (is_orphan && self.stands_in_folder(process)?)
            {
                members.insert(process.pid);
            }
        }
        loop {
            let sessions: BTreeSet<i32> = all
                .iter()
                .filter(|p| members.contains(&p.pid))
                .map(|p| p.session)
                .filter(|s| Some(*s) != own_session)
                .collect();
            let joined: Vec<i32> = all
                .iter()
                .filter(eligible)
                .filter(|p| {
                    !members.contains(&p.pid)
                        && (members.contains(&p.parent) || sessions.contains(&p.session))
                })
                .map(|p| p.pid)
                .collect();
            if joined.is_empty() {
                return Ok(members);
            }
            members.extend(joined);
        }
    }

    fn stands_in_folder(&self, process: &Process) -> io::Result<bool> {
        let Some(folder) = &self.folder else {
            return Ok(false);
        };
        let Some(cwd) = seen(std::fs::read_link(format!("/proc/{}/cwd", process.pid)))? else {
            return Ok(false);
        };
        // The kernel marks a folder that was removed meanwhile.
        let cwd = cwd.as_os_str().as_bytes();
        let cwd = cwd.strip_suffix(b" (deleted)").unwrap_or(cwd);
        Ok(std::path::Path::new(std::ffi::OsStr::from_bytes(cwd)).starts_with(folder))
    }
}

fn signal(pid: i32, signal: Signal) {
    // A process that has ended, or that another user owns, shows in the next search.
    let _ = kill(Pid::from_raw(pid), signal);
}

/// One process as /proc shows it.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    session: i32,
    dead: bool,
}

impl Process {
    /// From the text of `/proc/<pid>/stat`. The second field is the program's name in
    /// parentheses, and may itself hold blanks and parentheses.
    fn parse(stat: &[u8]) -> Option<Self> {
        let pid = std::str::from_utf8(&stat[..stat.iter().position(|b| *b == b' ')?])
            .ok()?
            .parse()
            .ok()?;
        let rest = std::str::from_utf8(&stat[stat.iter().rposition(|b| *b == b')')? + 1..]).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let dead = matches!(fields.next()?, "Z" | "X");
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        Some(Self {
            pid,
            parent,
            session,
            dead,
        })
    }

    /// What follows `prefix` in the first environment entry that begins with it.
    fn marked(&self, prefix: &str) -> io::Result<Option<String>> {
        let Some(environ) = self.environ()? else {
            return Ok(None);
        };
        let rest = environ
            .split(|b| *b == 0)
            .find_map(|entry| entry.strip_prefix(prefix.as_bytes()));
        Ok(rest.map(|rest| String::from_utf8_lossy(rest).into_owned()))
    }

    /// The environment that the process was started with. While it executes another program, the kernel shows none of it, or a part.
    fn environ(&self) -> io::Result<Option<Vec<u8>>> {
        let mut empty_looks = 0;
        for _ in 0..MAX_LOOKS {
            let Some(environ) = seen(std::fs::read(format!("/proc/{}/environ", self.pid)))? else {
                return Ok(None);
            };
            let Some(stat) = seen(std::fs::read(format!("/proc/{}/stat", self.pid)))? else {
                return Ok(None);
            };
            let Some(range) = environ_range(&stat) else {
                return Ok(None);
            };
            let is_complete = range.end > 0 && environ.len() == range.len();
            // The range is empty for an instant before a new program is given its environment.
            empty_looks += u32::from(is_complete && environ.is_empty());
            if is_complete && (!environ.is_empty() || empty_looks >= MAX_EMPTY_LOOKS) {
                return Ok(Some(environ));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(None)
    }
}

/// Where the environment is in the memory of a process, by the text of `/proc/<pid>/stat`; `0..0` while a program is being executed;
/// `None` if the process never has an environment again, since it has ended or is a thread of the kernel.
fn environ_range(stat: &[u8]) -> Option<Range<usize>> {
    // Fields after the name, by their numbers in proc_pid_stat(5) less 3.
    const STATE: usize = 0;
    const FLAGS: usize = 6;
    const ENV_START: usize = 47;
    const ENV_END: usize = 48;
    /// PF_KTHREAD of the kernel.
    const KERNEL_THREAD: usize = 0x0020_0000;
    let name_end = stat.iter().rposition(|b| *b == b')')?;
    let rest = String::from_utf8_lossy(&stat[name_end..]);
    let fields: Vec<&str> = rest.split_ascii_whitespace().skip(1).collect();
    let number = |at: usize| fields.get(at)?.parse::<usize>().ok();
    let is_kernel_thread = number(FLAGS)? & KERNEL_THREAD != 0;
    if is_kernel_thread || matches!(fields.get(STATE), Some(&("Z" | "X"))) {
        return None;
    }
    Some(number(ENV_START)?..number(ENV_END)?)
}

/// What /proc says of a process; `None` if it has ended meanwhile, or if another user owns it.
/// Any other error (no descriptor left, no memory) does not mean that there is none.
fn seen<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    use io::ErrorKind::{NotFound, PermissionDenied};
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error)
            if matches!(error.kind(), NotFound | PermissionDenied)
                || error.raw_os_error() == Some(nix::libc::ESRCH) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Every process that can be seen.
fn processes() -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        if entry
            .file_name()
            .as_bytes()
            .first()
            .is_some_and(u8::is_ascii_digit)
            && let Some(stat) = seen(std::fs::read(entry.path().join("stat")))?
        {
            found.extend(Process::parse(&stat));
        }
    }
    Ok(found)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Waits until a process is gone or a zombie.
    pub(in crate::process) async fn wait_until_gone(pid: i32) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while processes().unwrap().iter().any(|p| p.pid == pid && !p.dead) {
            assert!(Instant::now() < deadline, "process {pid} still lives");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[test]
    fn stat_with_a_strange_name() {
        let line = b"4242 (a) b (c) S 17 4242 4240 0 -1 4194304 62";
        assert_eq!(
            Process::parse(line),
            Some(Process {
                pid: 4242,
                parent: 17,
                session: 4240,
                dead: false
            })
        );
        assert_eq!(Process::parse(b"1 (init"), None);
        assert_eq!(Process::parse(b""), None);
    }

    #[test]
    fn a_process_that_executes_another_program_has_no_environment_yet() {
        let range = |state: &str, flags: u64, start: u64, end: u64| {
            let middle = vec!["7"; 40].join(" ");
            let stat = format!("4 (a b) {state} 1 4 4 0 -1 {flags} {middle} {start} {end} 0");
            environ_range(stat.as_bytes())
        };
        assert_eq!(range("S", 0x40_0100, 0, 0), Some(0..0));
        assert_eq!(range("S", 0x40_0100, 14_000, 14_042), Some(14_000..14_042));
        assert_eq!(range("S", 0x20_8040, 0, 0), None, "a thread of the kernel");
        assert_eq!(range("Z", 0x40_0100, 0, 0), None, "a zombie");
        assert_eq!(environ_range(b"4 (a b) S 1 4"), None);
        let own = |name| std::fs::read(format!("/proc/self/{name}")).unwrap();
        let len = environ_range(&own("stat")).map(|range| range.len());
        assert_eq!(len, Some(own("environ").len()));
    }

    /// A program that replaces itself all the time is found at every look.
    #[tokio::test]
    async fn a_member_is_found_while_it_executes_another_program() {
        let marker = format!("QUIRE_TEST_EXEC={}", uuid::Uuid::now_v7());
        let (name, value) = marker.split_once('=').unwrap();
        let mut child = tokio::process::Command::new("/bin/sh");
        child.args([
            "-c",
            "exec /bin/sh -c \"$0\" \"$0\"",
            "exec /bin/sh -c \"$0\" \"$0\"",
        ]);
        let mut child = child.env(name, value).kill_on_drop(true).spawn().unwrap();
        let tree = ProcessTree {
            marker: marker.clone(),
            folder: None,
        };
        for look in 0..300 {
            let found = tree.pids().unwrap();
            let stat = format!("/proc/{}/stat", child.id().unwrap());
            assert_eq!(
                found.len(),
                1,
                "at look {look}: {:?}",
                std::fs::read_to_string(stat)
            );
        }
        tree.end().await.unwrap();
        assert!(!child.wait().await.unwrap().success());
    }

    #[tokio::test]
    async fn ends_those_that_left_the_session_and_those_without_marker() {
        let folder = tempfile::tempdir().unwrap();
        let marker = format!("QUIRE_TEST_FAMILY={}", uuid::Uuid::now_v7());
        let script = "setsid sleep 9871 & env -i sleep 9872 & (setsid env -i sleep 9873 &) ; \
                      echo $$ > ready.tmp; mv ready.tmp ready; wait";
        let mut command = tokio::process::Command::new("setsid");
        let (name, value) = marker.split_once('=').unwrap();
        command
            .args(["/bin/sh", "-c", script])
            .env(name, value)
            .current_dir(folder.path())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let family = ProcessTree {
            marker,
            folder: Some(folder.path().canonicalize().unwrap()),
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !folder.path().join("ready").exists() || family.pids().unwrap().len() < 4 {
            assert!(Instant::now() < deadline, "members: {:?}", family.pids());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let members = family.pids().unwrap();
        family.end().await.unwrap();
        assert_eq!(family.pids().unwrap(), Vec::<i32>::new());
        assert!(!child.wait().await.unwrap().success());
        for pid in members {
            wait_until_gone(pid).await;
        }
    }
}
