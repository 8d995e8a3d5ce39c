//! What runs below `init`, read from `/proc`. Used only while stopping: it allocates.

use std::fs;

/// One process as `/proc/<pid>/stat` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    /// The program's name, cut to 15 bytes by the kernel.
    pub(super) name: String,
    pub(super) zombie: bool,
}

/// Every process that can be seen; one that ends meanwhile is left out.
pub(super) fn all() -> Vec<Process> {
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

/// Reads `pid (name) state parent …`; the name may hold anything, parentheses too.
fn parse(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let zombie = matches!(fields.next()?, "Z" | "X");
    Some(Process {
        pid: pid.parse().ok()?,
        parent: fields.next()?.parse().ok()?,
        name: name.to_owned(),
        zombie,
    })
}

/// The processes below `root`, itself not included.
pub(super) fn below(processes: &[Process], root: i32) -> Vec<&Process> {
    let mut found: Vec<&Process> = Vec::new();
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

/// Whether a push or a fetch is in progress: a git that runs below `sshd`, be it the listener
/// or the session of a listener that is gone. A session without one (an idle shared
/// connection, a follower of a log) is nothing to wait for.
pub(super) fn pushes(processes: &[Process], init: i32, listener: Option<i32>) -> bool {
    let sessions = below(processes, init)
        .into_iter()
        .filter(|p| Some(p.pid) == listener || p.name.starts_with("sshd"));
    sessions
        .flat_map(|session| below(processes, session.pid))
        .any(|p| p.name.starts_with("git") && !p.zombie)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, name: &str) -> Process {
        Process {
            pid,
            parent,
            name: name.into(),
            zombie: false,
        }
    }

    #[test]
    fn a_name_may_hold_anything() {
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
    fn the_real_proc_knows_this_process() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(all().iter().any(|p| p.pid == me && !p.zombie));
    }

    #[test]
    fn a_push_is_a_git_below_sshd() {
        let mut all = vec![
            process(1, 0, "quire"),
            process(2, 1, "sshd"),
            process(3, 1, "quire"),
            process(4, 3, "git"),
        ];
        assert!(!pushes(&all, 1, Some(2)), "serve's own git is no push");
        all.extend([process(5, 2, "sshd"), process(6, 5, "quire")]);
        assert!(
            !pushes(&all, 1, Some(2)),
            "a session without git is no push"
        );
        all.push(process(7, 6, "git-receive-pac"));
        assert!(pushes(&all, 1, Some(2)));
        let mut orphaned: Vec<_> = all.iter().filter(|p| p.pid != 2).cloned().collect();
        orphaned[3].parent = 1;
        assert!(pushes(&orphaned, 1, None), "{orphaned:?}");
        all.last_mut().unwrap().zombie = true;
        assert!(!pushes(&all, 1, Some(2)));
    }
}
