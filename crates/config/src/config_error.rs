//! Why a configuration does not load.

use std::io;
use std::path::PathBuf;

use quire_pipeline::Diagnostic;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("there are two configuration files, {} and {}; remove one of them", fennel.display(), lua.display())]
    Both { fennel: PathBuf, lua: PathBuf },
    #[error("the configuration file {} cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file cannot be evaluated, or has invalid values. There is at least one diagnostic.
    #[error("{}", summary(.0))]
    Invalid(Vec<Diagnostic>),
    #[error("the environment variable {variable} must be {expected}, not {found}")]
    Environment {
        variable: String,
        expected: &'static str,
        found: String,
    },
    #[error(
        "runs on a swarm (`ci.executor`) need `ci.callback`, the address and port at which its nodes reach the appliance, such as \
         :ci {{:executor :swarm :callback \"forge.lan:7474\"}}"
    )]
    NoCallback,
    #[error(
        "runs on a swarm (`ci.executor`) need a network, since the appliance reaches them through it; set :ci {{:network true}} or \
         :executor :docker"
    )]
    SwarmWithoutNetwork,
}

impl ConfigError {
    /// The problems of the file's content, with their locations.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Self::Invalid(diagnostics) => diagnostics,
            _ => &[],
        }
    }
}

fn summary(diagnostics: &[Diagnostic]) -> String {
    diagnostics
        .iter()
        .map(Diagnostic::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}
