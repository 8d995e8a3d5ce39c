//! The processes of the container, and how all descendants of one are killed.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;
use core::mem::MaybeUninit;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, RawDir};
use rustix::process::{Pid, Signal, kill_process};

/// A line of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ProcessEntry {
    pid: i32,
    parent: i32,
    /// Whether it can still run: no zombie, or one whose other threads live.
    alive: bool,
}

/// The descendants of `root`, on their way to their end: each is stopped as soon as it is found. Once
/// a walk finds no new one, nothing can start another, and all are killed.
pub(crate) struct Hunt {
    root: i32,
    stopped: BTreeSet<i32>,
    found_new: bool,
    found: Vec<i32>,
    passes: u32,
}

impl Hunt {
    pub(crate) fn new(root: Pid) -> Self {
        Self {
            root: root.as_raw_nonzero().get(),
            stopped: BTreeSet::new(),
            found_new: false,
            found: Vec::new(),
            passes: 0,
        }
    }

    pub(crate) fn is_for(&self, root: Pid) -> bool {
        self.root == root.as_raw_nonzero().get()
    }

    /// Whether the last pass found no process that is alive.
    pub(crate) fn is_over(&self) -> bool {
        self.passes > 0 && self.found.is_empty()
    }

    /// How long to wait before the next pass: longer where processes do not end.
    pub(crate) fn pause_ms(&self) -> i64 {
        match self.passes {
            0..4 => 0,
            4..50 => 2,
            _ => 50,
        }
    }

    fn add(&mut self, entry: ProcessEntry) {
        if !entry.alive {
            return;
        }
        self.found.push(entry.pid);
        if self.stopped.insert(entry.pid) {
            self.found_new = true;
            signal(entry.pid, Signal::STOP);
        }
    }
}

/// Makes one pass for all hunts: a walk through all processes, and the signals that follow from it.
/// `is_known` names the children of the supervisor that are no prey of a hunt from itself.
pub(crate) fn hunt(hunts: &mut [Hunt], is_known: impl Fn(i32) -> bool) {
    let mut members = BTreeMap::new();
    for (index, hunt) in hunts.iter_mut().enumerate() {
        hunt.found.clear();
        hunt.found_new = false;
        hunt.passes = hunt.passes.saturating_add(1);
        members.insert(hunt.root, index);
    }
    let roots = members.clone();
    let mut rest = Vec::new();
    let mut admit = |entry: ProcessEntry, members: &mut BTreeMap<i32, usize>| -> bool {
        if is_known(entry.pid) || roots.contains_key(&entry.pid) {
            return true;
        }
        let Some(index) = members.get(&entry.parent).copied() else {
            return false;
        };
        members.insert(entry.pid, index);
        if let Some(hunt) = hunts.get_mut(index) {
            hunt.add(entry);
        }
        true
    };
    for_each_process(|entry| {
        if !admit(entry, &mut members) {
            rest.push(entry);
        }
    });
    // Children whose parent came later in the list.
    loop {
        let before = rest.len();
        rest.retain(|entry| !admit(*entry, &mut members));
        if rest.len() == before {
            break;
        }
    }
    for hunt in hunts {
        if !hunt.found_new {
            for pid in &hunt.found {
                signal(*pid, Signal::KILL);
            }
        }
    }
}

/// A process that is gone already is no error.
fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

fn for_each_process(mut each: impl FnMut(ProcessEntry)) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(proc) = rustix::fs::open("/proc", flags, Mode::empty()) else {
        return;
    };
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut folder = RawDir::new(&proc, &mut buffer);
    while let Some(Ok(entry)) = folder.next() {
        let pid = entry
            .file_name()
            .to_str()
            .ok()
            .and_then(|name| name.parse().ok());
        if let Some(pid) = pid
            && let Some(entry) = read_stat(&proc, pid)
        {
            each(entry);
        }
    }
}

fn read_stat(proc: &OwnedFd, pid: i32) -> Option<ProcessEntry> {
    let path = format!("{pid}/stat");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(proc, path.as_str(), flags, Mode::empty()).ok()?;
    let mut buffer = [0; 1024];
    let length = rustix::io::read(&file, &mut buffer).ok()?;
    parse_stat(pid, buffer.get(..length)?)
}

/// `PID (NAME) STATE PARENT …`. The name can hold any bytes, so fields are counted from its end.
fn parse_stat(pid: i32, stat: &[u8]) -> Option<ProcessEntry> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = core::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    // Fields 3 and 4 are read; the number of threads is field 20.
    let threads: u32 = fields.nth(15)?.parse().ok()?;
    Some(ProcessEntry {
        pid,
        parent,
        alive: match state {
            "X" => false,
            "Z" => threads > 1,
            _ => true,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_stat_is_parsed_whatever_the_name_is() {
        let line = |name: &str, state, threads| {
            format!("7 ({name}) {state} 3 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 {threads} 0 5")
        };
        let parsed = |line: &str| parse_stat(7, line.as_bytes());
        let alive = |alive| {
            Some(ProcessEntry {
                pid: 7,
                parent: 3,
                alive,
            })
        };
        assert_eq!(parsed(&line("sh", "S", 1)), alive(true));
        assert_eq!(parsed(&line("a) Z 1 (", "T", 1)), alive(true));
        assert_eq!(parsed(&line("sh", "Z", 1)), alive(false));
        assert_eq!(parsed(&line("threads", "Z", 2)), alive(true));
        assert_eq!(parsed("7 (sh"), None);
    }
}
