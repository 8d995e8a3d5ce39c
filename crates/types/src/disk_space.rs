//! Free space on the data volume and the thresholds below which runs or pushes stop.
//!
//! There are two levels, so that a push that was accepted can still be stored: below `keep.min-free` no run starts,
//! below half of it no push is accepted. Fetching, reading and removing always work.

use std::io;
use std::path::Path;

use crate::paths::Paths;

/// With fewer free inodes the disk counts as full: a push and a run each need some.
pub const MIN_FREE_INODES: u64 = 100;

/// How many bytes should stay free; 0 means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinFree(pub u64);

impl MinFree {
    /// Whether new runs wait when `free` bytes are free.
    #[must_use]
    pub fn blocks_runs(self, free: u64) -> bool {
        free < self.0
    }

    /// How many bytes must be free for a push to be accepted.
    #[must_use]
    pub fn push_threshold(self) -> u64 {
        self.0 / 2
    }

    /// Reads what `serve` last wrote to [`Paths::min_free`]. If the file is missing or cannot be read, there is no limit,
    /// and git fails with its own message when the disk is full.
    #[must_use]
    pub fn read(paths: &Paths) -> Self {
        let text = std::fs::read_to_string(paths.min_free());
        Self(
            text.ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(0),
        )
    }
}

/// The size of the largest push in bytes, if `serve` has written one to [`Paths::git_limits`].
#[must_use]
pub fn max_push(paths: &Paths) -> Option<u64> {
    let text = std::fs::read_to_string(paths.git_limits()).ok()?;
    // A file that is not a number changes nothing.
    text.trim().parse().ok()
}

/// How many bytes an unprivileged process can still write to the file system of `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    // The width of these types differs between platforms.
    #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
    let (blocks, size) = (
        u64::from(stat.blocks_available()),
        u64::from(stat.fragment_size()),
    );
    Ok(blocks.saturating_mul(size))
}

/// How many inodes an unprivileged process can still use on the file system of `path`; `None` if the file system has no
/// fixed number.
pub fn free_inodes(path: &Path) -> io::Result<Option<u64>> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
    let (all, free) = (u64::from(stat.files()), u64::from(stat.files_available()));
    Ok((all > 0).then_some(free))
}

/// Whether files can still be created, as far as the number of free inodes says.
#[must_use]
pub fn has_inodes(path: &Path) -> bool {
    !matches!(free_inodes(path), Ok(Some(free)) if free < MIN_FREE_INODES)
}

/// Proves that a file can be made on the volume: one that turned read-only may still take writes to files that are open.
/// `prober` tells the files of several callers apart.
pub fn make_a_file(data: &Path, prober: &str) -> io::Result<()> {
    let probe = data.join(format!(".probe-{prober}"));
    std::fs::write(&probe, "health")?;
    std::fs::remove_file(probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_wait_before_pushes_are_refused() {
        let floor = MinFree(1000);
        assert!(!floor.blocks_runs(1000) && floor.blocks_runs(999));
        assert_eq!(floor.push_threshold(), 500);
        assert!(
            !MinFree(0).blocks_runs(0) && MinFree(0).push_threshold() == 0,
            "0 asks for nothing"
        );
    }

    #[test]
    fn the_push_path_reads_what_serve_said() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path(), folder.path().join("run"));
        for (text, floor) in [
            (None, 0),
            (Some("1073741824\n"), 1 << 30),
            (Some("many"), 0),
        ] {
            text.into_iter()
                .for_each(|text| std::fs::write(paths.min_free(), text).unwrap());
            assert_eq!(MinFree::read(&paths), MinFree(floor));
        }
        assert!(
            free_bytes(folder.path()).is_ok() && free_bytes(&folder.path().join("gone")).is_err()
        );
    }
}
