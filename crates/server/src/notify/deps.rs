//! What notifications need from the rest of the server.

use std::sync::Arc;

use tokio::sync::watch;

use super::settings::NotifySettings;
use crate::metrics::Metrics;
use crate::repo_settings::RepoSettingsReader;
use quire_git::Git;
use quire_runtime::changes::ChangeNotifier;
use quire_store::Store;
use quire_types::paths::Paths;

pub struct NotifyDeps {
    pub store: Store,
    pub paths: Paths,
    /// Writes notes of commits.
    pub git: Git,
    /// Wakes the workers when a run has ended, and mirrors when a note was written.
    pub changes: ChangeNotifier,
    /// Replaced when the configuration is reloaded.
    pub settings: watch::Receiver<Arc<NotifySettings>>,
    pub metrics: Arc<Metrics>,
    /// Reads what repositories say about targets.
    pub repo_settings: RepoSettingsReader,
}
