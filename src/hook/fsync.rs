//! Syncs the folders of a push to disk.
//!
//! Git syncs the files that it writes, but not their directory entries. Some file systems (ext4) write an
//! entry together with its file, others (btrfs) up to half a minute later: a pack and a ref that were
//! renamed into place could be lost in a power cut, and with them a push that was reported as accepted.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;

use quire_types::fsutil::sync_folder;
use quire_types::push_event::RefUpdate;

/// Syncs the directory entries of a push's pack and refs.
pub(super) fn sync_ref_dirs(repo: &Path, refs: &[RefUpdate]) -> io::Result<()> {
    // `unpackLimit` of image/gitconfig: every push is stored as a pack.
    let mut folders = BTreeSet::from([repo.join("objects/pack")]);
    for update in refs {
        // The branch `a/b` may have created `refs/heads/a`, whose entry is in `refs/heads`.
        folders.extend(
            Path::new(update.ref_name.as_str())
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
        let update = |name: &str| RefUpdate {
            ref_name: name.parse().unwrap(),
            old_sha: "0".repeat(40).parse().unwrap(),
            new_sha: "1".repeat(40).parse().unwrap(),
        };
        sync_ref_dirs(
            repo.path(),
            &[update("refs/heads/a/b"), update("refs/tags/gone/v1")],
        )
        .unwrap();
    }
}
