//! What runs kept: files and folders out of their workspaces, on the data volume.
//!
//! ```text
//! the workspace's archive ─► unpacked beside, checked entry by entry ─► synced ─► renamed to its name
//! ```
//! The archive was made by foreign code, in places by foreign tools. Nothing of it is ever
//! written outside of the folder that is held open for it, and what could lead a reader out of it
//! later is refused: links that point outside, devices, pipes.
//!
//! Invariants: under its own name lies either all of an artifact or nothing; together the
//! artifacts of a run stay within their cap; a name is kept once.

mod bring;
mod name;
mod read;
mod unpack;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tokio_util::sync::CancellationToken;

pub use name::{ArtifactName, NameError};
pub use read::{Artifact, Folder, lay_out, open};
use unpack::Unpacked;

use crate::names::{RepoName, RunId};
use crate::paths::Paths;
use crate::space::in_words;

/// The most that the artifacts of a run may take, where nothing else is said.
pub const DEFAULT_CAP_BYTES: u64 = 1 << 30;
/// The most files and folders that the artifacts of one run consist of.
const MAX_ENTRIES: u64 = 100_000;

/// Why something cannot be kept, in a sentence for the pipeline's author.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// Something in it may not be kept.
    #[error("{0}")]
    Refused(String),
    /// Another one has its name.
    #[error("there is an artifact `{0}` already; keep this one under another :name")]
    Taken(ArtifactName),
    /// The run's artifacts would be too large together.
    #[error("the artifacts of this run would be larger than {} together, the most that may be kept", in_words(*.0))]
    TooLarge(u64),
    /// Too many files.
    #[error(
        "the artifacts of this run would consist of more than {MAX_ENTRIES} files; keep them packed, as one"
    )]
    TooMany,
    /// It could not be read or written to its end.
    #[error("the artifact cannot be kept")]
    Io(#[from] io::Error),
    /// The run was stopped meanwhile.
    #[error("the run was stopped")]
    Stopped,
}

/// What was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub name: ArtifactName,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// How many files it holds, links included; 1 where it is a file.
    pub files: u64,
    /// Their size together, in bytes.
    pub bytes: u64,
}

/// Keeps the artifacts of one run. A clone is the same one.
#[derive(Debug, Clone)]
pub struct Keeper(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    cap: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Names that are kept or about to be.
    names: BTreeSet<String>,
    /// What was taken of the cap.
    bytes: u64,
    entries: u64,
    /// For names of folders that something is unpacked in.
    number: u64,
}

impl Keeper {
    /// Into this folder, made when the first artifact comes, and up to so many bytes together.
    #[must_use]
    pub fn new(folder: PathBuf, cap_bytes: u64) -> Self {
        Self(Arc::new(Inner {
            folder,
            cap: cap_bytes,
            state: Mutex::default(),
        }))
    }

    /// Keeps what a workspace handed out as archive. Returns when it is on disk for good.
    ///
    /// # Errors
    /// It may not or cannot be kept; nothing of it is left then.
    pub async fn keep(
        &self,
        name: ArtifactName,
        tar: BoxStream<'static, io::Result<Bytes>>,
        cancel: &CancellationToken,
    ) -> Result<Kept, ArtifactError> {
        // The stream ends when cancelled, so the thread that reads it ends as well.
        let stream = tar.take_until(Box::pin(cancel.clone().cancelled_owned()));
        let mut reader = SyncIoBridge::new(StreamReader::new(Box::pin(stream)));
        let (keeper, cancelled) = (self.clone(), cancel.clone());
        let kept = tokio::task::spawn_blocking(move || {
            keeper.keep_blocking(name, &mut reader, &cancelled)
        })
        .await;
        kept.unwrap_or_else(|error| Err(ArtifactError::Io(io::Error::other(error))))
    }

    fn keep_blocking(
        &self,
        name: ArtifactName,
        tar: &mut dyn io::Read,
        cancel: &CancellationToken,
    ) -> Result<Kept, ArtifactError> {
        let Some(number) = self.reserve(&name) else {
            return Err(ArtifactError::Taken(name));
        };
        let mut taken = Taken {
            keeper: self,
            bytes: 0,
            entries: 0,
        };
        let kept = self.place(&name, number, |place| {
            let unpacked = unpack::unpack(tar, place, &mut taken)?;
            if cancel.is_cancelled() {
                Err(ArtifactError::Stopped)
            } else {
                Ok(unpacked)
            }
        });
        if kept.is_err() {
            let (bytes, entries) = (taken.bytes, taken.entries);
            self.with(|state| {
                state.names.remove(name.as_str());
                state.bytes -= bytes;
                state.entries -= entries;
            });
        }
        match kept {
            Err(_) if cancel.is_cancelled() => Err(ArtifactError::Stopped),
            Ok(Unpacked {
                is_folder,
                files,
                bytes,
            }) => Ok(Kept {
                name,
                is_folder,
                files,
                bytes,
            }),
            Err(error) => Err(error),
        }
    }

    /// Reserves a name; gives a number of its own for it, or none where it is taken.
    fn reserve(&self, name: &ArtifactName) -> Option<u64> {
        self.with(|state| {
            let free = state.names.insert(name.as_str().to_owned());
            state.number += 1;
            free.then_some(state.number)
        })
    }

    /// Has an artifact made beside, synced, and renamed to its name. Nothing is left where that fails.
    fn place<T>(
        &self,
        name: &ArtifactName,
        number: u64,
        fill: impl FnOnce(&Dir) -> Result<T, ArtifactError>,
    ) -> Result<T, ArtifactError> {
        std::fs::create_dir_all(&self.0.folder)?;
        let folder = Dir::open_ambient_dir(&self.0.folder, ambient_authority())?;
        // No artifact's own name has a bare percent sign.
        let partial = format!("%partial-{number}");
        let filled = fill_synced(&folder, &partial, fill).and_then(|filled| {
            let file = name.file_name();
            if folder.try_exists(&file)? {
                return Err(ArtifactError::Taken(name.clone()));
            }
            folder.rename(Path::new(&partial).join(unpack::CONTENT), &folder, &file)?;
            Ok(filled)
        });
        let removed = folder.remove_dir_all(&partial);
        match filled {
            Ok(filled) => {
                removed?;
                sync(&folder)?;
                Ok(filled)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes an artifact: the attempt of a job that kept it failed, and another one follows.
    ///
    /// # Errors
    /// It cannot be removed; its name stays taken.
    pub fn discard(&self, kept: &Kept) -> io::Result<()> {
        let folder = Dir::open_ambient_dir(&self.0.folder, ambient_authority())?;
        let file = kept.name.file_name();
        let removed = if kept.is_folder {
            folder.remove_dir_all(&file)
        } else {
            folder.remove_file(&file)
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.with(|state| {
            state.names.remove(kept.name.as_str());
            state.bytes = state.bytes.saturating_sub(kept.bytes);
            state.entries = state.entries.saturating_sub(kept.files);
        });
        Ok(())
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn fill_synced<T>(
    folder: &Dir,
    partial: &str,
    fill: impl FnOnce(&Dir) -> Result<T, ArtifactError>,
) -> Result<T, ArtifactError> {
    match folder.remove_dir_all(partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    folder.create_dir(partial)?;
    let place = folder.open_dir(partial)?;
    let filled = fill(&place)?;
    // One call for all of its files, however many there are.
    nix::unistd::syncfs(place.open(".")?).map_err(io::Error::from)?;
    Ok(filled)
}

fn sync(folder: &Dir) -> io::Result<()> {
    folder.open(".")?.sync_all()
}

/// What one artifact takes of its run's cap, while it comes.
struct Taken<'a> {
    keeper: &'a Keeper,
    bytes: u64,
    entries: u64,
}

impl Taken<'_> {
    fn entry(&mut self) -> Result<(), ArtifactError> {
        let fits = self.keeper.with(|state| {
            let fits = state.entries < MAX_ENTRIES;
            state.entries += u64::from(fits);
            fits
        });
        self.entries += u64::from(fits);
        if fits {
            Ok(())
        } else {
            Err(ArtifactError::TooMany)
        }
    }

    fn bytes(&mut self, count: u64) -> Result<(), ArtifactError> {
        let cap = self.keeper.0.cap;
        let fits = self.keeper.with(|state| {
            let fits = state.bytes.checked_add(count).is_some_and(|sum| sum <= cap);
            state.bytes += if fits { count } else { 0 };
            fits
        });
        self.bytes += if fits { count } else { 0 };
        if fits {
            Ok(())
        } else {
            Err(ArtifactError::TooLarge(cap))
        }
    }
}

/// Removes everything that a run kept. What is not there is fine.
///
/// # Errors
/// Some of it cannot be removed.
pub fn remove(paths: &Paths, repo: &RepoName, run: RunId) -> io::Result<()> {
    remove_folder(&paths.run_artifacts(repo, run))
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
