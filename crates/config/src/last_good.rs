//! The last configuration file that loaded, which is kept beside the one in use: if that is wrong at a start, the copy is in
//! force.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::config_error::ConfigError;
use super::load::{LoadedConfig, load, read_either};
use super::sections::Config;
use quire_pipeline::Language;
use quire_types::fsutil;
use quire_types::paths::Paths;

/// Only the owner of the volume reads it, as the file that it is a copy of may say where secrets are.
const MODE: u32 = 0o600;

fn copies(paths: &Paths) -> [PathBuf; 2] {
    ["config.last-good.fnl", "config.last-good.lua"].map(|name| paths.data().join(name))
}

impl LoadedConfig {
    /// Keeps a copy of the file. If there is no file the copy is empty.
    pub fn keep_as_last_good(&self, paths: &Paths) -> io::Result<()> {
        let [fennel, lua] = copies(paths);
        let (kept, other, text) = match &self.text {
            Some((Language::Lua, text)) => (lua, fennel, text.as_str()),
            Some((Language::Fennel, text)) => (fennel, lua, text.as_str()),
            None => (fennel, lua, ""),
        };
        if fs::read(&kept).ok().as_deref() != Some(text.as_bytes()) {
            fsutil::replace_file(&kept, text.as_bytes(), MODE)?;
        }
        match fs::remove_file(other) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Config {
    /// Loads the file for a command, or the last one that loaded if it is wrong; `None` if neither loads. Variables of the environment
    /// do not count: a session of SSH has not those of the appliance.
    #[must_use]
    pub fn load_for_command(paths: &Paths) -> Option<LoadedConfig> {
        let loaded = Self::load(paths, |_| None).ok();
        loaded.or_else(|| Self::load_last_good(paths, |_| None).ok()?)
    }

    /// Loads the copy of the last file that loaded; `None` if there is none.
    pub fn load_last_good(
        paths: &Paths,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<LoadedConfig>, ConfigError> {
        let [fennel, lua] = copies(paths);
        match read_either(fennel, lua)? {
            Some(file) => {
                let evaluate = &quire_pipeline::fennel::eval_data;
                load(Some(file), &environment, evaluate).map(Some)
            }
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_file_that_loaded_is_kept_in_its_language() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path(), folder.path());
        let none = |_: &str| None;
        assert!(Config::load_last_good(&paths, none).unwrap().is_none());
        let runs = || {
            let loaded = Config::load_last_good(&paths, none).unwrap().unwrap();
            loaded.config.ci.concurrent_runs
        };
        fs::write(paths.config_fennel(), "{:ci {:concurrent-runs 7}}").unwrap();
        let loaded = Config::load(&paths, none).unwrap();
        loaded.keep_as_last_good(&paths).unwrap();
        assert_eq!(runs(), 7);
        fs::write(paths.config_fennel(), "{:ci").unwrap();
        assert!(Config::load(&paths, none).is_err());
        assert_eq!(runs(), 7);
        fs::remove_file(paths.config_fennel()).unwrap();
        fs::write(
            paths.config_lua(),
            "return {ci = {[\"concurrent-runs\"] = 3}}",
        )
        .unwrap();
        let loaded = Config::load(&paths, none).unwrap();
        loaded.keep_as_last_good(&paths).unwrap();
        assert_eq!(runs(), 3);
        fs::remove_file(paths.config_lua()).unwrap();
        let loaded = Config::load(&paths, none).unwrap();
        loaded.keep_as_last_good(&paths).unwrap();
        assert_eq!(runs(), Config::default().ci.concurrent_runs);
    }
}
