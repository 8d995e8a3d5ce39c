//! Reads artifacts: a file as it is, a folder as a tar archive.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, MetadataExt};

use super::artifact_store::StoredArtifact;
use super::name::ArtifactName;

/// An artifact that was opened.
#[derive(Debug)]
pub enum Artifact {
    /// A file, and its size in bytes.
    File(File, u64),
    /// A folder.
    Folder(Folder),
}

/// A folder that was stored.
#[derive(Debug)]
pub struct Folder {
    folder: Dir,
    name: PathBuf,
}

/// Opens an artifact of the run whose artifacts are in this folder; `None` if there is none of this name.
///
/// # Errors
/// It cannot be read.
pub fn open(run_artifacts: &Path, name: &ArtifactName) -> io::Result<Option<Artifact>> {
    let found = |result: io::Result<_>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    };
    let Some(all) = found(Dir::open_ambient_dir(run_artifacts, ambient_authority()))? else {
        return Ok(None);
    };
    let file = name.file_name();
    let metadata = match all.symlink_metadata(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    if metadata.is_dir() {
        return Ok(Some(Artifact::Folder(Folder {
            folder: all.open_dir(&file)?,
            name: name.last().into(),
        })));
    }
    Ok(Some(Artifact::File(all.open(&file)?, metadata.len())))
}

/// Moves artifacts, in a folder that holds nothing else, to the paths that their names say. Returns those
/// that cannot be moved, because the path of one leads through the file of another.
#[must_use]
pub fn export_to<'a>(
    folder: &Path,
    artifacts: &'a [StoredArtifact],
) -> Vec<(&'a ArtifactName, io::Error)> {
    let lay = |name: &ArtifactName| {
        let (from, to) = (folder.join(name.file_name()), folder.join(name.as_str()));
        if from == to {
            return Ok(());
        }
        std::fs::create_dir_all(to.parent().unwrap_or(folder))?;
        match to.symlink_metadata() {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => std::fs::rename(from, to),
        }
    };
    artifacts
        .iter()
        .filter_map(|kept| Some((&kept.name, lay(&kept.name).err()?)))
        .collect()
}

impl Folder {
    /// Writes the folder as an uncompressed tar archive, its name before every name in it, sorted
    /// and without times: the same for the same files.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn write_tar(&self, into: impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(into);
        let mut left = vec![PathBuf::new()];
        while let Some(below) = left.pop() {
            let at = if below.as_os_str().is_empty() {
                Path::new(".")
            } else {
                &below
            };
            let metadata = self.folder.symlink_metadata(at)?;
            let shown = self.name.join(&below);
            let mut header = tar::Header::new_gnu();
            header.set_mode(if metadata.is_dir() || metadata.mode() & 0o111 != 0 {
                0o755
            } else {
                0o644
            });
            header.set_size(0);
            if metadata.is_dir() {
                header.set_entry_type(tar::EntryType::Directory);
                archive.append_data(&mut header, &shown, io::empty())?;
                let mut names: Vec<_> = self
                    .folder
                    .read_dir(at)?
                    .map(|entry| Ok(entry?.file_name()))
                    .collect::<io::Result<_>>()?;
                names.sort_by(|a, b| b.cmp(a));
                left.extend(names.into_iter().map(|name| below.join(name)));
            } else if metadata.is_symlink() {
                header.set_entry_type(tar::EntryType::Symlink);
                archive.append_link(&mut header, &shown, self.folder.read_link_contents(at)?)?;
            } else {
                header.set_size(metadata.len());
                archive.append_data(
                    &mut header,
                    &shown,
                    self.folder.open(at)?.take(metadata.len()),
                )?;
            }
        }
        archive.into_inner()?.flush()
    }
}
