//! How many processes of the container the kernel has killed for want of memory.

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};

/// The file of the container's control group, in version 2 and in version 1. Both have a line `oom_kill N`.
const COUNTERS: [&str; 2] = [
    "/sys/fs/cgroup/memory.events",
    "/sys/fs/cgroup/memory/memory.oom_control",
];

pub(crate) struct OomCounter {
    file: Option<OwnedFd>,
    last: u64,
}

impl OomCounter {
    pub(crate) fn open() -> Self {
        let file = COUNTERS.iter().find_map(|path| {
            rustix::fs::open(*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
        });
        let mut counter = Self { file, last: 0 };
        counter.last = counter.read().unwrap_or_default();
        counter
    }

    /// The number, if it has grown since the last call.
    pub(crate) fn news(&mut self) -> Option<u64> {
        let kills = self.read().filter(|kills| *kills > self.last)?;
        self.last = kills;
        Some(kills)
    }

    fn read(&self) -> Option<u64> {
        let mut buffer = [0; 512];
        let length = rustix::io::pread(self.file.as_ref()?, &mut buffer, 0).ok()?;
        let text = core::str::from_utf8(buffer.get(..length)?).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "))?;
        line.trim().parse().ok()
    }
}
