//! Operations on files that several parts need: atomic replacement and the size of a folder. Everything blocks.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Replaces a file atomically: a reader sees the old or the new content, never a part of it.
///
/// # Errors
/// The old file is unchanged.
pub fn replace_file(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let draft = write_draft(path, content, mode)?;
    rename_draft(&draft, path)
}

/// Like [`replace_file`], and the new content survives a power failure.
///
/// # Errors
/// The file is unchanged, or the new content is in place but may not survive a power failure.
pub fn replace_file_durably(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let draft = write_draft(path, content, mode)?;
    rename_durably(&draft, path)
}

/// The path of the file beside `path` in which its new content is prepared. It begins with a dot.
#[must_use]
pub fn draft_path(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

/// Writes the new content of a file to its [`draft_path`]. A draft that a crash left is overwritten.
///
/// # Errors
/// Nothing is left of the draft.
pub fn write_draft(path: &Path, content: &[u8], mode: u32) -> io::Result<PathBuf> {
    let draft = draft_path(path);
    let _ = fs::remove_file(&draft);
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&draft)?;
        // The umask may have removed bits from the mode.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(content)
    };
    match write() {
        Ok(()) => Ok(draft),
        Err(error) => {
            let _ = fs::remove_file(&draft);
            Err(error)
        }
    }
}

/// Moves a finished draft to its path, so that after a power failure the path has the old or all of the new content.
///
/// # Errors
/// The draft is removed, unless it has been moved and only its new name may not survive a power failure.
pub fn rename_durably(draft: &Path, path: &Path) -> io::Result<()> {
    // Its content has to be on the disk before its name is.
    let synced = File::open(draft).and_then(|file| file.sync_all());
    if let Err(error) = synced {
        let _ = fs::remove_file(draft);
        return Err(error);
    }
    rename_draft(draft, path)?;
    sync_parent(path)
}

fn rename_draft(draft: &Path, path: &Path) -> io::Result<()> {
    fs::rename(draft, path).inspect_err(|_| {
        let _ = fs::remove_file(draft);
    })
}

/// Syncs the entries of a folder to the disk.
///
/// # Errors
/// The folder cannot be opened or synced.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Syncs the folder that contains `path`.
///
/// # Errors
/// The folder cannot be opened or synced.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    sync_folder(path.parent().unwrap_or(path))
}

/// Removes a folder with its contents. A missing folder is not an error.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The bytes of all files below a folder. A file with several hard links counts in equal parts for each of
/// them, so an artifact that several runs share counts once in total. A file that is deleted meanwhile counts as 0.
#[must_use]
pub fn folder_size(folder: &Path) -> u64 {
    folder_size_without(folder, None)
}

/// Like [`folder_size`], without the entry of this name.
#[must_use]
pub fn folder_size_without(folder: &Path, left_out: Option<&str>) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => folder_size(&entry.path()),
        Ok(found) => found.len() / found.nlink().max(1),
        Err(_) => 0,
    };
    let entries = entries.flatten();
    let counted = entries.filter(|entry| left_out.is_none_or(|name| entry.file_name() != name));
    counted.map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_has_the_new_content_and_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwd");
        fs::write(draft_path(&path), "left by a crash").unwrap();
        for (content, mode, replace) in [
            ("old", 0o600, replace_file as fn(&Path, &[u8], u32) -> _),
            ("new", 0o644, replace_file_durably),
        ] {
            replace(&path, content.as_bytes(), mode).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, mode);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_failure_leaves_no_draft() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir_all(path.join("by a folder")).unwrap();
        for replace in [replace_file, replace_file_durably] {
            assert!(replace(&path, b"text", 0o600).is_err());
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
        assert!(replace_file(&folder.path().join("missing/file"), b"", 0o600).is_err());
    }

    #[test]
    fn the_size_of_a_folder_counts_a_shared_file_once() {
        let root = tempfile::tempdir().unwrap();
        let run = root.path().join("run");
        fs::create_dir_all(run.join("jobs")).unwrap();
        fs::write(run.join("run.log"), [0; 10]).unwrap();
        fs::write(run.join("jobs/1.log"), [0; 100]).unwrap();
        assert_eq!(folder_size(&run), 110);
        fs::hard_link(run.join("jobs/1.log"), root.path().join("other")).unwrap();
        assert_eq!((folder_size(&run), folder_size(root.path())), (60, 110));
        assert_eq!(folder_size(&root.path().join("missing")), 0);
    }
}
