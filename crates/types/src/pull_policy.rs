//! When a newer version of a base image is looked for.

/// When a newer version of a base image is looked for, although the engine has one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Never.
    Missing,
    /// Once a day for each image that is built on it.
    #[default]
    Daily,
    /// At the start of each run.
    Always,
}

impl PullPolicy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Missing, Self::Daily, Self::Always];

    /// The value in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Daily => "daily",
            Self::Always => "always",
        }
    }
}
