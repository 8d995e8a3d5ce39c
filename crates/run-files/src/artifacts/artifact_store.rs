//! Stores the artifacts of one run and enforces their limits.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tokio_util::sync::CancellationToken;

use super::error::{ArtifactError, MAX_ENTRIES};
use super::name::ArtifactName;
use super::unpack::{self, Unpacked, UsageLimit};
use quire_types::sync::lock;

/// The default limit of the artifacts of a run, in bytes.
pub const DEFAULT_CAP_BYTES: u64 = 1 << 30;

/// An artifact that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredArtifact {
    pub name: ArtifactName,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// The number of its files and links; 1 for a file.
    pub files: u64,
    /// Their total size in bytes.
    pub bytes: u64,
}

/// Stores the artifacts of one run. Clones share the limits.
#[derive(Debug, Clone)]
pub struct ArtifactStore(Arc<StoreInner>);

#[derive(Debug)]
struct StoreInner {
    folder: PathBuf,
    cap: u64,
    state: Mutex<Reserved>,
}

#[derive(Debug, Default)]
pub(super) struct Reserved {
    /// Names of artifacts that are stored or being stored.
    names: BTreeSet<String>,
    /// The bytes used of the limit.
    pub(super) bytes: u64,
    pub(super) entries: u64,
    /// The number of the next temporary folder.
    number: u64,
}

impl ArtifactStore {
    /// Stores artifacts in `folder`, which the first artifact creates, up to `cap_bytes` together.
    #[must_use]
    pub fn new(folder: PathBuf, cap_bytes: u64) -> Self {
        Self(Arc::new(StoreInner {
            folder,
            cap: cap_bytes,
            state: Mutex::default(),
        }))
    }

    /// Stores the archive of a workspace. Returns when it is durable; after an error nothing of it is left.
    pub async fn add(
        &self,
        name: ArtifactName,
        tar: BoxStream<'static, io::Result<Bytes>>,
        cancel: &CancellationToken,
    ) -> Result<StoredArtifact, ArtifactError> {
        // The stream ends when cancelled, so the thread that reads it ends as well.
        let stream = tar.take_until(Box::pin(cancel.clone().cancelled_owned()));
        let mut reader = SyncIoBridge::new(StreamReader::new(Box::pin(stream)));
        let store = self.clone();
        let cancelled = cancel.clone();
        let stored =
            tokio::task::spawn_blocking(move || store.add_blocking(name, &mut reader, &cancelled))
                .await;
        stored.unwrap_or_else(|error| Err(ArtifactError::Io(io::Error::other(error))))
    }

    fn add_blocking(
        &self,
        name: ArtifactName,
        tar: &mut dyn io::Read,
        cancel: &CancellationToken,
    ) -> Result<StoredArtifact, ArtifactError> {
        let Some(number) = self.reserve(&name) else {
            return Err(ArtifactError::NameTaken(name));
        };
        let mut usage = StoreUsage {
            store: self,
            bytes: 0,
            entries: 0,
        };
        let stored = self.store_as(&name, number, |place| {
            let unpacked = unpack::unpack(tar, place, &mut usage)?;
            if cancel.is_cancelled() {
                Err(ArtifactError::Stopped)
            } else {
                Ok(unpacked)
            }
        });
        if stored.is_err() {
            let StoreUsage { bytes, entries, .. } = usage;
            self.with(|state| {
                state.names.remove(name.as_str());
                state.bytes -= bytes;
                state.entries -= entries;
            });
        }
        match stored {
            Err(_) if cancel.is_cancelled() => Err(ArtifactError::Stopped),
            Ok(Unpacked {
                is_folder,
                files,
                bytes,
            }) => Ok(StoredArtifact {
                name,
                is_folder,
                files,
                bytes,
            }),
            Err(error) => Err(error),
        }
    }

    /// Reserves a name. Returns the number of its temporary folder, or `None` if the name is taken.
    pub(super) fn reserve(&self, name: &ArtifactName) -> Option<u64> {
        self.with(|state| {
            let free = state.names.insert(name.as_str().to_owned());
            state.number += 1;
            free.then_some(state.number)
        })
    }

    /// Fills a temporary folder, syncs it, and renames the result to the name of the artifact. After an error nothing is left.
    pub(super) fn store_as<T>(
        &self,
        name: &ArtifactName,
        number: u64,
        fill: impl FnOnce(&Dir) -> Result<T, ArtifactError>,
    ) -> Result<T, ArtifactError> {
        std::fs::create_dir_all(&self.0.folder)?;
        let folder = Dir::open_ambient_dir(&self.0.folder, ambient_authority())?;
        // The file name of an artifact has no bare percent sign.
        let partial = format!("%partial-{number}");
        let filled = fill_synced(&folder, &partial, fill).and_then(|filled| {
            let file = name.file_name();
            if folder.try_exists(&file)? {
                return Err(ArtifactError::NameTaken(name.clone()));
            }
            folder.rename(Path::new(&partial).join(unpack::PAYLOAD), &folder, &file)?;
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

    /// Removes an artifact, because its job failed and is retried. After an error the name stays taken.
    pub fn discard(&self, artifact: &StoredArtifact) -> io::Result<()> {
        let folder = Dir::open_ambient_dir(&self.0.folder, ambient_authority())?;
        let file = artifact.name.file_name();
        let removed = if artifact.is_folder {
            folder.remove_dir_all(&file)
        } else {
            folder.remove_file(&file)
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.with(|state| {
            state.names.remove(artifact.name.as_str());
            state.bytes = state.bytes.saturating_sub(artifact.bytes);
            state.entries = state.entries.saturating_sub(artifact.files);
        });
        Ok(())
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Reserved) -> T) -> T {
        work(&mut lock(&self.0.state))
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
    // One call syncs all files, however many there are.
    nix::unistd::syncfs(place.open(".")?).map_err(io::Error::from)?;
    Ok(filled)
}

fn sync(folder: &Dir) -> io::Result<()> {
    folder.open(".")?.sync_all()
}

/// What one artifact uses of the limits of its run while it is unpacked.
struct StoreUsage<'a> {
    store: &'a ArtifactStore,
    bytes: u64,
    entries: u64,
}

impl UsageLimit for StoreUsage<'_> {
    fn add_entry(&mut self) -> Result<(), ArtifactError> {
        let fits = self.store.with(|state| {
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

    fn add_bytes(&mut self, count: u64) -> Result<(), ArtifactError> {
        let cap = self.store.0.cap;
        let fits = self.store.with(|state| {
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
