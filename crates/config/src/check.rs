//! Checks a configuration file that is not in place.

use std::path::PathBuf;

use super::config_error::ConfigError;
use super::load::{LoadedConfig, load};
use super::sections::Config;
use quire_pipeline::Language;

impl Config {
    /// Reads the text of a configuration file, without the environment.
    pub fn check(text: String, language: Language) -> Result<LoadedConfig, ConfigError> {
        let name = match language {
            Language::Fennel => "config.fnl",
            Language::Lua => "config.lua",
        };
        let file = (PathBuf::from(name), language, text);
        load(Some(file), &|_| None, &quire_pipeline::fennel::eval_data)
    }
}
