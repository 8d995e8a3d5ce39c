//! The processes below `init`, read from `/proc`. This allocates, so it is used only during shutdown.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One process as `/proc/<pid>/stat` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProcessInfo {
    pub(super) pid: i32,
    pub(super) parent: i32,
    /// The name of the program, which the kernel truncates to 15 bytes.
    pub(super) name: String,
    pub(super) zombie: bool,
}

/// All visible processes, without those that end meanwhile.
pub(super) fn list() -> Vec<ProcessInfo> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        parse(&String::from_utf8_lossy(
            &fs::read(format!("/proc/{pid}/stat")).ok()?,
        ))
    })
    .collect()
}

/// Parses `pid (name) state parent …`; the name may contain anything, even parentheses.
fn parse(stat: &str) -> Option<ProcessInfo> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let zombie = matches!(fields.next()?, "Z" | "X");
    Some(ProcessInfo {
        pid: pid.parse().ok()?,
        parent: fields.next()?.parse().ok()?,
        name: name.to_owned(),
        zombie,
    })
}

/// The children of `root`, their children, and so on.
pub(super) fn descendants(processes: &[ProcessInfo], root: i32) -> Vec<&ProcessInfo> {
    let mut found: Vec<&ProcessInfo> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for process in processes
            .iter()
            .filter(|p| p.parent == parent && p.pid != parent)
        {
            parents.push(process.pid);
            found.push(process);
        }
    }
    found
}

/// Whether a push or a fetch is in progress: whether git runs below `sshd`, either below the
/// listener or below a session whose listener has ended. Sessions without git (an idle shared
/// connection, a client that follows a log) do not count.
pub(super) fn has_git_session(processes: &[ProcessInfo], init: i32, listener: Option<i32>) -> bool {
    let sessions = descendants(processes, init)
        .into_iter()
        .filter(|p| Some(p.pid) == listener || p.name.starts_with("sshd"));
    sessions
        .flat_map(|session| descendants(processes, session.pid))
        .any(|p| p.name.starts_with("git") && !p.zombie)
}

/// Sends a signal. A process that has ended meanwhile is ignored.
pub(super) fn send(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

pub(super) fn send_if_running(pid: Option<i32>, signal: Signal) {
    if let Some(pid) = pid {
        send(pid, signal);
    }
}

/// Sends a signal to every process if this one is PID 1, else to every descendant of this one.
pub(super) fn send_to_all(me: i32, signal: Signal) {
    if me == 1 {
        send(-1, signal);
    } else {
        for process in descendants(&list(), me) {
            send(process.pid, signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, name: &str) -> ProcessInfo {
        ProcessInfo {
            pid,
            parent,
            name: name.into(),
            zombie: false,
        }
    }

    #[test]
    fn a_program_name_may_contain_anything() {
        assert_eq!(
            parse("12 (a) b) R (c)) S 7 1 2\n"),
            Some(process(12, 7, "a) b) R (c)"))
        );
        assert!(parse("12 (x) Z 7 1").unwrap().zombie);
        for torn in ["", "12", "12 (x", "12 (x) ", "12 (x) S", "x (x) S 1"] {
            assert_eq!(parse(torn), None, "{torn:?}");
        }
    }

    #[test]
    fn the_list_contains_this_process() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(list().iter().any(|p| p.pid == me && !p.zombie));
    }

    #[test]
    fn a_push_is_a_git_below_sshd() {
        let mut all = vec![
            process(1, 0, "quire"),
            process(2, 1, "sshd"),
            process(3, 1, "quire"),
            process(4, 3, "git"),
        ];
        assert!(
            !has_git_session(&all, 1, Some(2)),
            "serve's own git is no push"
        );
        all.extend([process(5, 2, "sshd"), process(6, 5, "quire")]);
        assert!(
            !has_git_session(&all, 1, Some(2)),
            "a session without git is no push"
        );
        all.push(process(7, 6, "git-receive-pac"));
        assert!(has_git_session(&all, 1, Some(2)));
        let mut orphaned: Vec<_> = all.iter().filter(|p| p.pid != 2).cloned().collect();
        orphaned[3].parent = 1;
        assert!(has_git_session(&orphaned, 1, None), "{orphaned:?}");
        all.last_mut().unwrap().zombie = true;
        assert!(!has_git_session(&all, 1, Some(2)));
    }
}
