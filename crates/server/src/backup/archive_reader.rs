//! Unpacks an archive. What is in it is foreign data: nothing outside of the target folder is written.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;

use super::error::BackupError;
use super::manifest::{BackupEnd, BackupHeader, END_NAME, FORMAT, HEADER_NAME};

/// The largest entry that is read into memory.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// What an archive says about itself.
pub(super) struct UnpackedBackup {
    pub(super) header: BackupHeader,
    pub(super) end: BackupEnd,
}

/// Unpacks an archive into an empty folder.
///
/// # Errors
/// It is not a backup, a newer quire wrote it, or it was cut off.
pub(super) fn unpack(input: impl Read, target: &Path) -> Result<UnpackedBackup, BackupError> {
    let decoder = zstd::Decoder::new(input).map_err(BackupError::Read)?;
    let mut archive = tar::Archive::new(decoder);
    archive.set_preserve_mtime(true);
    archive.set_preserve_permissions(true);
    let (header, end, modes) = unpack_entries(&mut archive, target)?;
    // The checksum follows the last entry.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(read_error)?;
    set_modes(modes)?;
    Ok(UnpackedBackup { header, end })
}

/// The modes of folders, which are set last: one may forbid to write into the folder.
type FolderModes = Vec<(PathBuf, u32)>;

fn unpack_entries<R: Read>(
    archive: &mut tar::Archive<R>,
    target: &Path,
) -> Result<(BackupHeader, BackupEnd, FolderModes), BackupError> {
    let mut header = None;
    let mut end = None;
    let mut modes = FolderModes::new();
    for entry in archive.entries().map_err(read_error)? {
        // A first entry that cannot be read is no backup; a later one was cut off.
        let mut entry = entry.map_err(|error| match &header {
            None => BackupError::NotABackup("it is not a tar archive compressed with zstd"),
            Some(_) => read_error(error),
        })?;
        let path = entry.path().map_err(read_error)?.into_owned();
        if header.is_none() {
            header = Some(read_header(&path, &mut entry)?);
        } else if path == Path::new(END_NAME) {
            end = Some(read_json(&mut entry)?);
        } else {
            unpack_entry(&mut entry, &path, target, &mut modes)?;
        }
    }
    match (header, end) {
        (Some(header), Some(end)) => Ok((header, end, modes)),
        (Some(_), None) => Err(BackupError::CutOff),
        (None, _) => Err(BackupError::NotABackup("it is empty")),
    }
}

fn read_error(error: io::Error) -> BackupError {
    match error.kind() {
        ErrorKind::UnexpectedEof => BackupError::CutOff,
        _ => BackupError::Read(error),
    }
}

fn read_header(path: &Path, entry: &mut impl Read) -> Result<BackupHeader, BackupError> {
    if path != Path::new(HEADER_NAME) {
        return Err(BackupError::NotABackup("its first entry is another one"));
    }
    let value: serde_json::Value = read_json(entry)?;
    let format = value.get("format").and_then(serde_json::Value::as_u64);
    match format.and_then(|format| u32::try_from(format).ok()) {
        Some(found) if found > FORMAT => Err(BackupError::NewerFormat {
            found,
            known: FORMAT,
        }),
        _ => serde_json::from_value(value)
            .map_err(|_| BackupError::NotABackup("its first entry is damaged")),
    }
}

fn read_json<T: DeserializeOwned>(entry: &mut impl Read) -> Result<T, BackupError> {
    let mut text = Vec::new();
    entry
        .take(MAX_MANIFEST_BYTES)
        .read_to_end(&mut text)
        .map_err(read_error)?;
    serde_json::from_slice(&text).map_err(|_| BackupError::NotABackup("its description is damaged"))
}

/// Unpacks a file, a symbolic link or a folder.
fn unpack_entry<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    path: &Path,
    target: &Path,
    modes: &mut FolderModes,
) -> Result<(), BackupError> {
    let foreign = || BackupError::ForeignEntry(path.display().to_string());
    let is_below = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    let kind = entry.header().entry_type();
    if !is_below || !(kind.is_file() || kind.is_dir() || kind.is_symlink()) {
        return Err(foreign());
    }
    let place = target.join(path);
    if kind.is_dir() {
        fs::create_dir_all(&place).map_err(BackupError::io("create", &place))?;
        // An earlier entry may be a link that leads elsewhere.
        let real = fs::canonicalize(&place).map_err(BackupError::io("find", &place))?;
        let root = fs::canonicalize(target).map_err(BackupError::io("find", target))?;
        if !real.starts_with(root) {
            return Err(foreign());
        }
        modes.push((place, entry.header().mode().unwrap_or(0o755) & 0o7777));
        return Ok(());
    }
    match entry.unpack_in(target) {
        Ok(true) => Ok(()),
        Ok(false) => Err(foreign()),
        // The library wraps the error with the path.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(BackupError::CutOff),
        Err(error) => Err(BackupError::io("unpack", &place)(error)),
    }
}

/// Sets the modes of folders, the innermost first.
fn set_modes(modes: FolderModes) -> Result<(), BackupError> {
    for (path, mode) in modes.into_iter().rev() {
        fs::set_permissions(&path, Permissions::from_mode(mode))
            .map_err(BackupError::io("set the mode of", &path))?;
    }
    Ok(())
}
