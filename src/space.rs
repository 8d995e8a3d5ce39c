//! Free space of the volume, and from where on it is too little.
//!
//! Two levels, so that what is there can still be finished: below `keep.min-free` no run starts,
//! below half of it no push is taken. Fetching, looking and removing always work.

use std::io;
use std::path::Path;

use crate::paths::Paths;

/// What should stay free, in bytes; 0 means that nothing is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor(pub u64);

impl Floor {
    /// Whether new runs wait with this many bytes free.
    #[must_use]
    pub fn holds_runs(self, free: u64) -> bool {
        free < self.0
    }

    /// From how many free bytes on pushes are taken.
    #[must_use]
    pub fn for_pushes(self) -> u64 {
        self.0 / 2
    }

    /// What `serve` last wrote to [`Paths::min_free`]. Nothing is asked where it never did, or where that
    /// cannot be read: then git decides.
    #[must_use]
    pub fn told(paths: &Paths) -> Self {
        let text = std::fs::read_to_string(paths.min_free());
        Self(
            text.ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(0),
        )
    }
}

/// Bytes that are free for us on the file system of `path`.
///
/// # Errors
/// It cannot be asked.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    // Not the same width everywhere.
    #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
    let (blocks, size) = (
        u64::from(stat.blocks_available()),
        u64::from(stat.fragment_size()),
    );
    Ok(blocks.saturating_mul(size))
}

/// A number of bytes for people: `512 B`, `1.4 KiB`, `20 GiB`.
#[must_use]
pub fn in_words(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let (mut whole, mut rest, mut unit) = (count / 1024, count % 1024, 0);
    while whole >= 1024 && unit + 1 < UNITS.len() {
        (rest, whole, unit) = (whole % 1024, whole / 1024, unit + 1);
    }
    if whole < 10 {
        format!("{whole}.{} {}", rest * 10 / 1024, UNITS[unit])
    } else {
        format!("{whole} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_wait_before_pushes_are_refused() {
        let floor = Floor(1000);
        assert!(!floor.holds_runs(1000) && floor.holds_runs(999));
        assert_eq!(floor.for_pushes(), 500);
        assert!(
            !Floor(0).holds_runs(0) && Floor(0).for_pushes() == 0,
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
            assert_eq!(Floor::told(&paths), Floor(floor));
        }
        assert!(
            free_bytes(folder.path()).is_ok() && free_bytes(&folder.path().join("gone")).is_err()
        );
    }

    #[test]
    fn sizes_in_words() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1500, "1.4 KiB"),
            (1 << 30, "1.0 GiB"),
            (20 << 30, "20 GiB"),
        ] {
            assert_eq!(in_words(bytes), text);
        }
    }
}
