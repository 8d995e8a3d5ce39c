//! The last step of a push to the disk: the folders.
//!
//! Git syncs the files it writes, and leaves their names to the journal of the file system. Some (ext4) write a name
//! down with the file, others (btrfs) up to half a minute later: a pack and a ref that were renamed into place would
//! be gone after a power cut, and with them a push that its pusher was told is in.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::run::event::RefUpdate;

/// Has the names of a push's pack and refs reach the disk.
pub(super) fn sync(repo: &Path, refs: &[RefUpdate]) -> io::Result<()> {
    // `unpackLimit` of image/gitconfig: whatever is pushed comes as a pack.
    let mut folders = BTreeSet::from([repo.join("objects/pack")]);
    for update in refs {
        // The branch `a/b` may have made `refs/heads/a`, whose name stands in `refs/heads`.
        folders.extend(
            Path::new(update.ref_name.as_str())
                .ancestors()
                .skip(1)
                .map(|folder| repo.join(folder)),
        );
    }
    for folder in folders {
        match File::open(&folder).and_then(|folder| folder.sync_all()) {
            // The last branch of its folder was deleted.
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
    fn folders_that_are_there_and_folders_that_went() {
        let repo = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(repo.path().join("objects/pack")).unwrap();
        std::fs::create_dir_all(repo.path().join("refs/heads/a")).unwrap();
        let update = |name: &str| RefUpdate {
            ref_name: name.parse().unwrap(),
            old_sha: "0".repeat(40).parse().unwrap(),
            new_sha: "1".repeat(40).parse().unwrap(),
        };
        sync(
            repo.path(),
            &[update("refs/heads/a/b"), update("refs/tags/gone/v1")],
        )
        .unwrap();
    }
}
