//! Whether the database is an older copy of the one that was in use. The file beside the repositories has the number of
//! pushes that were recorded and runs that were claimed, as the database has it; it is written after each commit. A
//! database that is behind the file was put in place of a newer one: what is missing in it may have run, so nothing
//! runs until the owner decides.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;

use quire_store::{Store, StoreError};
use quire_types::error_chain::with_sources;
use quire_types::fsutil::replace_file;
use quire_types::paths::Paths;

/// Why the sequence numbers cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum SequenceError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The file with the sequence number. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SequenceFile {
    path: PathBuf,
    instance: String,
    /// Held while the number is read and written, so that the file never goes back.
    writing: Arc<Mutex<()>>,
}

impl SequenceFile {
    /// The file of the appliance with this id.
    #[must_use]
    pub fn new(paths: &Paths, instance: &str) -> Self {
        Self {
            path: paths.sequence(),
            instance: instance.to_owned(),
            writing: Arc::default(),
        }
    }

    /// Holds all runs if the database is behind the file. A file of another instance says nothing about this database.
    ///
    /// # Errors
    /// The file or the database cannot be read.
    pub fn hold_older_copy(&self, store: &Store) -> Result<bool, SequenceError> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            read => read.map_err(|source| SequenceError::Read {
                path: self.path.clone(),
                source,
            })?,
        };
        let recorded = text
            .trim_end()
            .split_once(' ')
            .filter(|(instance, _)| *instance == self.instance)
            .and_then(|(_, number)| number.parse::<i64>().ok())
            .unwrap_or(0);
        let is_older = store.instance().sequence()?.unwrap_or(0) < recorded;
        if is_older {
            store.instance().begin_hold(recorded)?;
        }
        Ok(is_older)
    }

    /// Writes the present number of the database.
    pub async fn write(&self, store: &Store) {
        let _writing = self.writing.lock().await;
        let file = self.clone();
        let written = store
            .call(move |store| {
                let number = store.instance().sequence()?.unwrap_or(0);
                let text = format!("{} {number}\n", file.instance);
                Ok(replace_file(&file.path, text.as_bytes(), 0o600))
            })
            .await;
        match written {
            Ok(Ok(())) => {}
            // The next one writes a higher number.
            Ok(Err(error)) => {
                tracing::error!(%error, file = %self.path.display(), "cannot write the sequence number");
            }
            Err(error) => tracing::error!(
                error = with_sources(&error),
                "cannot read the sequence number"
            ),
        }
    }
}
