//! Links the artifacts of one run to another run as hard links, because stored files never change. They take no
//! space and stay when the other run is removed. A file system without hard links gets copies.

use std::io;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::artifact_store::{ArtifactStore, StoredArtifact};
use super::error::ArtifactError;
use super::unpack::PAYLOAD;

impl ArtifactStore {
    /// Links an artifact of another run, whose artifacts are in the folder `from`. Returns when it is durable;
    /// after an error nothing of it is left.
    pub fn link_from(&self, from: &Path, artifact: &StoredArtifact) -> Result<(), ArtifactError> {
        let Some(number) = self.reserve(&artifact.name) else {
            return Err(ArtifactError::NameTaken(artifact.name.clone()));
        };
        let from = Dir::open_ambient_dir(from, ambient_authority())?;
        self.store_as(&artifact.name, number, |place| {
            Ok(link(&from, Path::new(&artifact.name.file_name()), place)?)
        })?;
        self.with(|state| {
            state.bytes = state.bytes.saturating_add(artifact.bytes);
            state.entries = state.entries.saturating_add(artifact.files);
        });
        Ok(())
    }
}

/// Creates [`PAYLOAD`] in `place` as a link to `root` in `from`.
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
            PathBuf::from(PAYLOAD)
        } else {
            Path::new(PAYLOAD).join(&below)
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
