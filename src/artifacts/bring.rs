//! Artifacts of one run for another: further names of the same files, which nobody ever changes. So they cost
//! next to nothing, and stay when the run that made them goes. Where the file system has no further names, copies.

use std::io;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::unpack::CONTENT;
use super::{ArtifactError, Keeper, Kept};

impl Keeper {
    /// Gives this run what another one kept, whose artifacts lie in `from`. Returns when it is on disk for good.
    ///
    /// # Errors
    /// It is not there, or cannot be linked or copied; nothing of it is left then.
    pub fn bring(&self, from: &Path, kept: &Kept) -> Result<(), ArtifactError> {
        let Some(number) = self.reserve(&kept.name) else {
            return Err(ArtifactError::Taken(kept.name.clone()));
        };
        let from = Dir::open_ambient_dir(from, ambient_authority())?;
        self.place(&kept.name, number, |place| {
            Ok(link(&from, Path::new(&kept.name.file_name()), place)?)
        })?;
        self.with(|state| {
            state.bytes = state.bytes.saturating_add(kept.bytes);
            state.entries = state.entries.saturating_add(kept.files);
        });
        Ok(())
    }
}

/// Makes [`CONTENT`] in `place` what `root` is in `from`.
fn link(from: &Dir, root: &Path, place: &Dir) -> io::Result<()> {
    let mut left = vec![PathBuf::new()];
    while let Some(below) = left.pop() {
        let whole = below.as_os_str().is_empty();
        let at = if whole {
            root.to_owned()
        } else {
            root.join(&below)
        };
        let target = if whole {
            PathBuf::from(CONTENT)
        } else {
            Path::new(CONTENT).join(&below)
        };
        let found = from.symlink_metadata(&at)?;
        if found.is_dir() {
            place.create_dir(&target)?;
            for entry in from.read_dir(&at)? {
                left.push(below.join(entry?.file_name()));
            }
        } else if found.is_symlink() {
            place.symlink_contents(from.read_link_contents(&at)?, &target)?;
        } else if from.hard_link(&at, place, &target).is_err() {
            from.copy(&at, place, &target)?;
        }
    }
    Ok(())
}
