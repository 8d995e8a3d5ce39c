//! Entries that are read one by one.

/// A sentence about a value, with the place of the value if it is known.
#[must_use]
pub fn with_place(location: Option<&str>, sentence: String) -> String {
    match location {
        Some(location) => format!("{location}: {sentence}"),
        None => sentence,
    }
}

/// An entry of the configuration that is read by itself: one that is wrong does not keep the rest from being loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry<T> {
    /// Its file, line and column, if the file says where it is.
    pub location: Option<String>,
    /// Its settings, or what is wrong with them.
    pub settings: Result<T, String>,
}
