//! All error messages of this crate that users read, in one snapshot.

use std::io;
use std::path::PathBuf;

use crate::{ConfigError, SETTINGS, SecretError};
use quire_types::network::Network;

#[test]
fn error_messages() {
    let name = || "npm-token".to_owned();
    let mut messages = vec![
        ConfigError::Both {
            fennel: PathBuf::from("/var/quire/config.fnl"),
            lua: PathBuf::from("/var/quire/config.lua"),
        }
        .to_string(),
        ConfigError::Read {
            path: PathBuf::from("/var/quire/config.fnl"),
            source: io::Error::other("it is larger than 1 MiB"),
        }
        .to_string(),
        SecretError::Unknown {
            name: name(),
            hint: "set it with `secret set`, or add it to :secrets in the configuration".to_owned(),
        }
        .to_string(),
        SecretError::NotGranted {
            name: name(),
            repo: "app".parse().unwrap(),
            ref_name: "refs/heads/main".parse().unwrap(),
        }
        .to_string(),
        SecretError::File {
            name: name(),
            path: PathBuf::from("/run/secrets/npm_token"),
            source: io::Error::other("no such file"),
        }
        .to_string(),
        SecretError::Environment {
            name: name(),
            variable: "NPM_TOKEN".to_owned(),
        }
        .to_string(),
        SecretError::Value {
            name: name(),
            problem: "is empty",
        }
        .to_string(),
        "10.0.0.0/33".parse::<Network>().unwrap_err().to_string(),
    ];
    messages.extend(SETTINGS.iter().map(|setting| {
        ConfigError::Environment {
            variable: setting.variable(),
            expected: setting.expected,
            found: "\"x\"".to_owned(),
        }
        .to_string()
    }));
    insta::assert_snapshot!(messages.join("\n"));
}
