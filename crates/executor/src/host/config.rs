//! The settings of the host executor.

use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// The appliance's id, which marks its processes.
    pub instance: String,
    /// The folder of the runs' workspaces, each at `…/<run id>/workspace`; `None` if no sweep
    /// looks for them.
    pub runs: Option<PathBuf>,
    /// The folder of all caches; `None` to keep none from run to run.
    pub caches: Option<PathBuf>,
    /// The variables of quire's own environment that commands get. Nothing else of it reaches them.
    pub inherit: Vec<String>,
}

impl HostConfig {
    /// The default settings.
    #[must_use]
    pub fn new(instance: &str, runs: Option<PathBuf>, caches: Option<PathBuf>) -> Self {
        let inherit = [
            "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR",
        ];
        Self {
            instance: instance.to_owned(),
            runs,
            caches,
            inherit: inherit.map(str::to_owned).to_vec(),
        }
    }
}
