//! How long what was removed can be brought back (`:keep` of the configuration).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::paths::Paths;

/// How long each kind of removed thing is kept. Zero means that it is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeepTimes {
    /// Removed repositories.
    pub trash: Duration,
    /// What pushes overwrote.
    pub undo: Duration,
}

impl Default for KeepTimes {
    fn default() -> Self {
        Self {
            trash: Duration::from_secs(7 * 24 * 60 * 60),
            undo: Duration::from_secs(30 * 24 * 60 * 60),
        }
    }
}

impl KeepTimes {
    /// Reads what `serve` last wrote to [`Paths::keep_times`], or the defaults if that cannot be read.
    #[must_use]
    pub fn read(paths: &Paths) -> Self {
        let text = std::fs::read(paths.keep_times()).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// When something that is kept for this time, and was removed then, is deleted.
    #[must_use]
    pub fn end(removed: Millis, kept: Duration) -> Millis {
        removed.plus(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_serve_wrote_is_read_and_nothing_else_counts() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path(), folder.path().join("run"));
        assert_eq!(KeepTimes::read(&paths), KeepTimes::default());
        let kept = KeepTimes {
            trash: Duration::from_secs(90),
            ..KeepTimes::default()
        };
        std::fs::write(paths.keep_times(), serde_json::to_vec(&kept).unwrap()).unwrap();
        assert_eq!(KeepTimes::read(&paths), kept);
        std::fs::write(paths.keep_times(), "{\"trash\":").unwrap();
        assert_eq!(KeepTimes::read(&paths), KeepTimes::default());
        assert_eq!(KeepTimes::end(Millis(5), kept.trash), Millis(90_005));
        assert_eq!(KeepTimes::end(Millis(5), Duration::MAX), Millis(i64::MAX));
    }
}
