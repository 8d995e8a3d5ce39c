//! The files of quire in a working tree on disk.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use quire_git::{
    EntryKind, FolderEntry, PipelineFile, PipelineFiles, TreeReader, find_pipeline_folder,
};

use super::error::CiError;

/// A folder on disk.
struct DiskTree;

impl TreeReader for DiskTree {
    type Id = PathBuf;
    type Error = CiError;

    async fn entries(&mut self, folder: &PathBuf) -> Result<Vec<FolderEntry<PathBuf>>, CiError> {
        let unreadable = |error| CiError::Read(folder.clone(), error);
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let kind = entry.file_type().map_err(unreadable)?;
            let kind = if kind.is_symlink() {
                EntryKind::Link
            } else if kind.is_dir() {
                EntryKind::Folder
            } else if kind.is_file() {
                EntryKind::File
            } else {
                continue;
            };
            if let Ok(name) = entry.file_name().into_string() {
                let id = entry.path();
                entries.push(FolderEntry { name, kind, id });
            }
        }
        Ok(entries)
    }

    async fn target(&mut self, link: &PathBuf) -> Result<String, CiError> {
        let target = fs::read_link(link).map_err(|error| CiError::Read(link.clone(), error))?;
        Ok(target.to_string_lossy().into_owned())
    }
}

/// Reads the pipeline's files below `root`, each up to `limit` bytes.
pub(super) async fn read_pipeline_files(
    root: &Path,
    limit: usize,
) -> Result<PipelineFiles, CiError> {
    let folder = find_pipeline_folder(&mut DiskTree, &root.to_path_buf()).await?;
    let mut files = Vec::with_capacity(folder.files.len());
    for (path, file) in folder.files {
        let text = read_text(&file, limit).map_err(|error| CiError::Read(file, error))?;
        files.push(PipelineFile { path, text });
    }
    let found = PipelineFiles {
        files,
        problems: folder.problems,
        misnamed: folder.misnamed,
        dockerfile: folder.dockerfile,
        ..PipelineFiles::default()
    };
    Ok(found.checked(limit))
}

/// Reads a file; `None` if it is larger than the limit or not UTF-8.
fn read_text(file: &Path, limit: usize) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    File::open(file)?
        .take(limit as u64 + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Ok(None);
    }
    Ok(String::from_utf8(bytes).ok())
}
