//! `:ci` in the settings of a repository: limits of its runs, which can only be tighter than those of the owner's configuration.

use std::time::Duration;

use serde_json::Value;

use super::entry::with_place;
use super::setting_types::{Cpus, Flag, MemorySize, Positive, SettingType, Size, Time};

/// A limit that a repository sets.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RepoLimit<T> {
    /// Its place in the file, if the file says where it is.
    location: Option<String>,
    value: T,
}

macro_rules! run_limits {
    ($($field:ident $name:literal $value:ty, $kind:ident;)*) => {
        /// The limits of one run. Of two values the smaller one is tighter; no network is tighter than one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct RunLimits {
            $(pub $field: $value,)*
        }

        /// The limits that a repository sets.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct RepoLimits {
            $($field: Option<RepoLimit<$value>>,)*
        }

        /// The names of the limits that a repository can set.
        pub(super) const REPO_LIMITS: &[&str] = &[$($name,)*];

        impl RepoLimits {
            /// Sets a limit. Returns what is expected of its value if that is another one.
            pub(super) fn set(
                &mut self,
                name: &str,
                value: &Value,
                location: Option<String>,
            ) -> Result<(), &'static str> {
                match name {
                    $($name => {
                        let value = $kind::data(value).ok_or($kind::EXPECTED)?;
                        self.$field = Some(RepoLimit { location, value });
                    })*
                    _ => {}
                }
                Ok(())
            }

            /// The tighter of each of these limits and those that the owner's configuration sets.
            #[must_use]
            pub fn tighten(&self, owner: &RunLimits) -> RunLimits {
                RunLimits {
                    $($field: self.$field.as_ref().map_or(owner.$field, |limit| limit.value.min(owner.$field)),)*
                }
            }

            /// A sentence for each limit that has no effect, because the owner's is tighter.
            #[must_use]
            pub fn without_effect(&self, owner: &RunLimits) -> Vec<String> {
                let mut sentences = Vec::new();
                $(if let Some(limit) = &self.$field && limit.value > owner.$field {
                    let (own, owners) = ($kind::show(&limit.value), $kind::show(&owner.$field));
                    let sentence = format!(
                        "`ci.{name}` {own} has no effect, since the configuration of quire has `ci.{name}` {owners}",
                        name = $name
                    );
                    sentences.push(with_place(limit.location.as_deref(), sentence));
                })*
                sentences
            }
        }
    };
}

run_limits! {
    timeout       "timeout"       Duration, Time;
    memory        "memory"        u64, MemorySize;
    cpus          "cpus"          u64, Cpus;
    pids          "pids"          u32, Positive;
    network       "network"       bool, Flag;
    max_log       "max-log"       u64, Size;
    max_artifacts "max-artifacts" u64, Size;
}
