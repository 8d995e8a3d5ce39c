//! Files of a run's container, through the engine's archives: an image needs no tool for it.
//!
//! The engine never leaves the container, whatever links are in it; so what is refused here as
//! leading out of the workspace is refused for the pipeline's author, who shall find both
//! executors alike. A command that swaps a link between the look and the use reaches other files of
//! its own container, which it could have read anyway.

use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt;

use super::super::files::{MAX_READ, Refusal, path_of};
use super::super::{ExecutorError, TarStream};
use super::aside::NotGiven;
use super::workspace::DockerWorkspace;
use super::{FOLDER, aside, fault};
use crate::docker::{DockerError, PathKind, PathState};

/// How many links may follow each other.
const MOST_LINKS: usize = 40;
/// What an archive of one file takes beside its content.
const FRAME: usize = 64 << 10;

/// Where a path of the workspace leads.
struct Found {
    /// The last thing on its way that is there, links followed; absolute.
    place: PathBuf,
    state: PathState,
    /// What of the path is not there.
    missing: Vec<std::ffi::OsString>,
}

impl DockerWorkspace {
    pub(super) async fn read_file(&self, path: &str) -> Result<Vec<u8>, ExecutorError> {
        let found = self.find(path).await?;
        let place = found.whole(path)?;
        match found.state.kind {
            PathKind::File if found.state.size > MAX_READ => return Err(Refusal::TooLarge.of(path)),
            PathKind::File => {}
            PathKind::Folder => return Err(Refusal::Folder.of(path)),
            PathKind::Link(_) | PathKind::Other => return Err(Refusal::Special.of(path)),
        }
        let attempt = "read a file of the workspace";
        let mut stream = self
            .engine
            .download(&self.container, &place)
            .await
            .map_err(|error| fault(attempt, &error))?;
        let mut archive = Vec::new();
        let most = usize::try_from(MAX_READ).unwrap_or(usize::MAX) + FRAME;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| ExecutorError::Other {
                attempt,
                message: error.to_string(),
            })?;
            archive.extend_from_slice(&chunk);
            if archive.len() > most {
                return Err(Refusal::TooLarge.of(path));
            }
        }
        let unpacked = only_file(&archive).map_err(|error| ExecutorError::Other {
            attempt,
            message: error.to_string(),
        })?;
        match unpacked {
            Some(content) if content.len() as u64 > MAX_READ => Err(Refusal::TooLarge.of(path)),
            Some(content) => Ok(content),
            None => Err(Refusal::Special.of(path)),
        }
    }

    pub(super) async fn write_file(&self, path: &str, content: &[u8]) -> Result<(), ExecutorError> {
        let found = self.find(path).await?;
        let (folder, names, permissions) = match (&found.state.kind, found.missing.is_empty()) {
            (PathKind::Folder, true) => return Err(Refusal::Folder.of(path)),
            (PathKind::Folder, false) => (found.place.clone(), found.missing, 0o644),
            (PathKind::File, false) => return Err(Refusal::Way.of(path)),
            (PathKind::File, true) => {
                let name = found.place.file_name().map(ToOwned::to_owned);
                (
                    found.place.parent().unwrap_or(&found.place).to_owned(),
                    name.into_iter().collect(),
                    found.state.permissions,
                )
            }
            (PathKind::Link(_) | PathKind::Other, _) => return Err(Refusal::Special.of(path)),
        };
        let attempt = "write a file of the workspace";
        let archive =
            archive_of(&names, content, permissions).map_err(|error| ExecutorError::Other {
                attempt,
                message: error.to_string(),
            })?;
        let stream = futures_util::stream::iter([Ok(Bytes::from(archive))]).boxed();
        self.engine
            .upload(&self.container, &text(&folder), stream)
            .await
            .map_err(|error| fault(attempt, &error))?;
        if let (Some(user), Some(first)) = (&self.user, names.first()) {
            let given = aside::give(
                &self.engine,
                &self.container,
                &text(&folder.join(first)),
                user,
                &[],
            )
            .await;
            given.map_err(|not_given| match not_given {
                NotGiven::Engine(error) => fault(attempt, &error),
                NotGiven::Refused(message) => ExecutorError::Other { attempt, message },
            })?;
        }
        Ok(())
    }

    pub(super) async fn export(&self, path: &str) -> Result<TarStream, ExecutorError> {
        let found = self.find(path).await?;
        let place = found.whole(path)?;
        if matches!(found.state.kind, PathKind::Link(_) | PathKind::Other) {
            return Err(Refusal::Special.of(path));
        }
        self.engine
            .download(&self.container, &place)
            .await
            .map_err(|error| fault("fetch a file of the workspace", &error))
    }

    /// Follows a path part by part: the engine says of one thing at a time whether it is a link.
    async fn find(&self, path: &str) -> Result<Found, ExecutorError> {
        let below = path_of(path)?;
        let mut left: Vec<std::ffi::OsString> = below.iter().rev().map(ToOwned::to_owned).collect();
        let mut place = PathBuf::from(FOLDER);
        let mut state = self
            .look(&place)
            .await?
            .ok_or_else(|| Refusal::Missing.of(path))?;
        let mut links = 0;
        while let Some(name) = left.pop() {
            if state.kind != PathKind::Folder {
                return Err(Refusal::Way.of(path));
            }
            let next = place.join(&name);
            let Some(seen) = self.look(&next).await? else {
                left.push(name);
                break;
            };
            let PathKind::Link(target) = &seen.kind else {
                (place, state) = (next, seen);
                continue;
            };
            links += 1;
            let target = Path::new(target)
                .strip_prefix(FOLDER)
                .map_err(|_| Refusal::Leaves.of(path))?;
            if links > MOST_LINKS || target.iter().any(|part| part == "..") {
                return Err(Refusal::Leaves.of(path));
            }
            left.extend(target.iter().rev().map(ToOwned::to_owned));
            place = PathBuf::from(FOLDER);
            state = self
                .look(&place)
                .await?
                .ok_or_else(|| Refusal::Missing.of(path))?;
        }
        left.reverse();
        Ok(Found {
            place,
            state,
            missing: left,
        })
    }

    async fn look(&self, place: &Path) -> Result<Option<PathState>, ExecutorError> {
        let seen = self
            .engine
            .path_state(&self.container, &text(place))
            .await
            .map_err(|error| fault("look for a file of the workspace", &error))?;
        if seen.is_none() && place == Path::new(FOLDER) {
            // Not even the workspace is there: nor is the container.
            let gone = DockerError::NotFound {
                attempt: "look for a file of the workspace",
                message: "the container is gone".to_owned(),
            };
            return match self.lost(gone).await {
                Err(error) => Err(error),
                Ok(_) => Err(ExecutorError::Cancelled),
            };
        }
        Ok(seen)
    }
}

impl Found {
    /// The path in the container, of something that is there.
    fn whole(&self, path: &str) -> Result<String, ExecutorError> {
        if self.missing.is_empty() {
            Ok(text(&self.place))
        } else {
            Err(Refusal::Missing.of(path))
        }
    }
}

/// A path that was made of UTF-8.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The content of the one file in an archive; none where it is no file.
fn only_file(archive: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
    let mut archive = tar::Archive::new(archive);
    let Some(entry) = archive.entries()?.next() else {
        return Ok(None);
    };
    let mut entry = entry?;
    if !entry.header().entry_type().is_file() {
        return Ok(None);
    }
    let mut content = Vec::new();
    entry.read_to_end(&mut content)?;
    Ok(Some(content))
}

/// An archive of one file: the last of the names, the others being the folders on its way.
fn archive_of(
    names: &[std::ffi::OsString],
    content: &[u8],
    permissions: u32,
) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut path = PathBuf::new();
    for (place, name) in names.iter().enumerate() {
        path.push(name);
        let is_file = place + 1 == names.len();
        let content = if is_file { content } else { &[] };
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(if is_file {
            tar::EntryType::Regular
        } else {
            tar::EntryType::Directory
        });
        header.set_mode(if is_file { permissions } else { 0o755 });
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, &path, content)?;
    }
    archive.into_inner()
}
