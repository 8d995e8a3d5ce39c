//! The entries of the trash, by the names of their folders.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use uuid::Uuid;

/// Identifies an entry of the trash. Ids are in the order of creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrashId(Uuid);

impl TrashId {
    pub(super) fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for TrashId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TrashId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// What is being done with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrashState {
    /// Its repository is being removed, or has not been touched yet.
    Removing,
    /// It has everything of its repository.
    Complete,
    /// Its repository is being restored, or has been.
    Restoring,
    /// It is being deleted.
    Deleting,
}

impl TrashState {
    const ALL: [Self; 4] = [
        Self::Removing,
        Self::Complete,
        Self::Restoring,
        Self::Deleting,
    ];

    fn suffix(self) -> &'static str {
        match self {
            Self::Removing => ".removing",
            Self::Complete => "",
            Self::Restoring => ".restoring",
            Self::Deleting => ".deleting",
        }
    }
}

/// An entry of the trash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrashEntry {
    pub id: TrashId,
    pub state: TrashState,
}

impl TrashEntry {
    /// The entry whose folder has this name. Other names are those of folders that an older quire was deleting.
    pub(super) fn from_folder_name(name: &str) -> Option<Self> {
        let with_state = |state: TrashState| {
            let id = name.strip_suffix(state.suffix())?;
            // Exactly as it is written.
            let id = Uuid::parse_str(id)
                .ok()
                .filter(|uuid| uuid.to_string() == id)?;
            let id = TrashId(id);
            Some(Self { id, state })
        };
        TrashState::ALL.into_iter().find_map(with_state)
    }

    /// Whether a path is that of an entry's folder.
    #[must_use]
    pub fn is_folder(path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(Self::from_folder_name).is_some()
    }

    pub(super) fn folder_name(self) -> String {
        format!("{}{}", self.id, self.state.suffix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_folder_is_that_of_an_entry_or_not() {
        let id = TrashId::new();
        for state in TrashState::ALL {
            let entry = TrashEntry { id, state };
            let name = entry.folder_name();
            assert_eq!(TrashEntry::from_folder_name(&name), Some(entry), "{name}");
        }
        for other in [
            format!("app-{id}"),
            format!("{id}.other"),
            id.to_string().to_uppercase(),
            id.to_string().replace('-', ""),
            String::new(),
        ] {
            assert_eq!(TrashEntry::from_folder_name(&other), None, "{other}");
        }
    }
}
