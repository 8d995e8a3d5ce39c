//! Why a setting was not changed, or the configuration not reloaded.

use std::io;
use std::path::PathBuf;

use quire_config::EditError;

#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error("{} is not a regular file, so it was not changed", .0.display())]
    NotRegular(PathBuf),
    #[error("cannot {attempt} {}, so nothing was changed", path.display())]
    Io {
        attempt: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// What is wrong with the file.
    #[error("the configuration does not load; the previous one stays in force")]
    NotLoaded(Vec<String>),
}
