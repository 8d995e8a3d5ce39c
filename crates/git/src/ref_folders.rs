//! Syncs the folders of a push to disk.
//!
//! Git syncs the files that it writes, but not their directory entries. Some file systems (ext4) write an
//! entry together with its file, others (btrfs) up to half a minute later: a pack and a ref that were
//! renamed into place could be lost in a power cut, and with them a push that was reported as accepted.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;

use quire_types::fsutil::sync_folder;

/// Syncs the directory entries of these refs of a repository, and of the packs that pushes wrote.
pub fn sync_ref_folders<'a>(
    repo: &Path,
    refs: impl IntoIterator<Item = &'a str>,
) -> io::Result<()> {
    // `unpackLimit` of image/gitconfig: every push is stored as a pack.
    let mut folders = BTreeSet::from([repo.join("objects/pack")]);
    for name in refs {
        // The branch `a/b` may have created `refs/heads/a`, whose entry is in `refs/heads`.
        folders.extend(
            Path::new(name)
                .ancestors()
                .skip(1)
                .map(|folder| repo.join(folder)),
        );
    }
    for folder in folders {
        match sync_folder(&folder) {
            // Git removed the folder because its last branch was deleted.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            synced => synced?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn existing_and_removed_folders() {
        let repo = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(repo.path().join("objects/pack")).unwrap();
        std::fs::create_dir_all(repo.path().join("refs/heads/a")).unwrap();
        sync_ref_folders(repo.path(), ["refs/heads/a/b", "refs/tags/gone/v1"]).unwrap();
    }
}
