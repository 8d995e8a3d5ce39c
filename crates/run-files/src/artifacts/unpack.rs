//! Unpacks an archive into files, entry by entry.

use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};

use super::error::ArtifactError;

/// The name of the artifact in its temporary folder.
pub(super) const PAYLOAD: &str = "content";

/// The limits that an archive counts against.
pub(super) trait UsageLimit {
    /// Counts one file or folder.
    fn add_entry(&mut self) -> Result<(), ArtifactError>;

    /// Counts bytes of a file.
    fn add_bytes(&mut self, count: u64) -> Result<(), ArtifactError>;
}

/// The content of an archive.
pub(super) struct Unpacked {
    pub(super) is_folder: bool,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// Unpacks an archive as [`PAYLOAD`] in `place`, and reads the stream to its end.
pub(super) fn unpack(
    tar: &mut dyn Read,
    place: &Dir,
    usage: &mut dyn UsageLimit,
) -> Result<Unpacked, ArtifactError> {
    let mut unpacked = Unpacked {
        is_folder: false,
        files: 0,
        bytes: 0,
    };
    let mut archive = tar::Archive::new(&mut *tar);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        let below = below(&name)?;
        let target = if below.as_os_str().is_empty() {
            PathBuf::from(PAYLOAD)
        } else {
            Path::new(PAYLOAD).join(&below)
        };
        let shown = if below.as_os_str().is_empty() {
            &name
        } else {
            &below
        };
        let kind = entry.header().entry_type();
        usage.add_entry()?;
        if kind.is_dir() {
            unpacked.is_folder |= below.as_os_str().is_empty();
            make_folder(place, &target)?;
            continue;
        }
        if let Some(parent) = target.parent() {
            make_folder(place, parent)?;
        }
        unpacked.files += 1;
        if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
            unpacked.bytes += write(place, &target, &mut entry, usage)?;
        } else if kind.is_symlink() {
            let to = entry
                .link_name()?
                .ok_or_else(|| rejected(shown, "is a link without a target"))?;
            check_link(&below, &to)
                .ok_or_else(|| rejected(shown, "is a link that points outside of it"))?;
            place.symlink_contents(&to, &target)?;
        } else if kind.is_hard_link() {
            // A hard link to an earlier file of the archive.
            let to = entry
                .link_name()?
                .ok_or_else(|| rejected(shown, "is a link without a target"))?;
            let to = Path::new(PAYLOAD).join(self::below(&to)?);
            if !place
                .symlink_metadata(&to)
                .is_ok_and(|metadata| metadata.is_file())
            {
                return Err(rejected(
                    shown,
                    "is a hard link to a file that is not in it",
                ));
            }
            place.hard_link(&to, place, &target)?;
        } else {
            return Err(rejected(shown, "is not a file, folder or link"));
        }
    }
    // The bytes after the end of the archive are read as well, because the sender may wait to write them.
    io::copy(tar, &mut io::sink())?;
    if unpacked.files == 0 && !unpacked.is_folder {
        return Err(ArtifactError::Rejected("it is empty".to_owned()));
    }
    Ok(unpacked)
}

fn rejected(what: &Path, why: &str) -> ArtifactError {
    ArtifactError::Rejected(format!("`{}` in it {why}", what.display()))
}

/// A name in the archive without its first part, which stands for the whole.
fn below(name: &Path) -> Result<PathBuf, ArtifactError> {
    let mut parts = Vec::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => parts.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(rejected(name, "is a path outside of it"));
            }
        }
    }
    Ok(parts.into_iter().skip(1).collect())
}

/// Makes a folder and those on its way; each part is a folder itself and no link to one.
fn make_folder(place: &Dir, folder: &Path) -> Result<(), ArtifactError> {
    let mut way = PathBuf::new();
    for part in folder.components() {
        way.push(part);
        match place.symlink_metadata(&way) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                return Err(rejected(
                    folder.strip_prefix(PAYLOAD).unwrap_or(folder),
                    "is a folder and something else as well",
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => place.create_dir(&way)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn write(
    place: &Dir,
    target: &Path,
    entry: &mut tar::Entry<'_, impl Read>,
    usage: &mut dyn UsageLimit,
) -> Result<u64, ArtifactError> {
    let executable = entry.header().mode().unwrap_or(0) & 0o111 != 0;
    let mut options = OpenOptions::new();
    // New: an archive that holds a name twice, or a link in its place, is not followed.
    options
        .write(true)
        .create_new(true)
        .mode(if executable { 0o755 } else { 0o644 });
    let mut file = place.open_with(target, &options)?;
    let mut buffer = vec![0; 64 << 10];
    let mut written = 0;
    loop {
        let read = match entry.read(&mut buffer) {
            Ok(0) => return Ok(written),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        // Before it is on disk, and as it comes: an archive may announce less than it expands to.
        usage.add_bytes(read as u64)?;
        file.write_all(&buffer[..read])?;
        written += read as u64;
    }
}

/// Whether a link stays in the artifact, whatever other links it leads through. Steps back come
/// first, and are no more than there are folders above it; after that it only goes down. As every
/// link is like that, and the folder it lies in is a real one, none can lead out.
fn check_link(link: &Path, to: &Path) -> Option<()> {
    let mut up = 0;
    let mut down = false;
    for part in to.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if !down => up += 1,
            Component::Normal(_) => down = true,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    // Its own name is no folder.
    (up < link.components().count()).then_some(())
}
