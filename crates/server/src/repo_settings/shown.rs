//! What a repository shows to others, as the settings file on its default branch says. A file that is wrong makes nothing public.

use super::current::CurrentSettings;
use quire_config::RepoVisibility;

/// What a repository shows, and what is wrong with its settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepoShown {
    pub visibility: RepoVisibility,
    /// What the repository is, in one line.
    pub description: Option<String>,
    /// For those who may change the settings.
    pub problems: Vec<String>,
}

impl RepoShown {
    /// What a repository shows whose file is wrong as a whole.
    #[must_use]
    pub fn wrong(problem: String) -> Self {
        Self {
            problems: vec![format!("{problem}. The repository is private.")],
            ..Self::default()
        }
    }
}

impl From<&CurrentSettings> for RepoShown {
    fn from(current: &CurrentSettings) -> Self {
        let settings = &current.settings;
        match &current.wrong {
            Some(problem) => Self::wrong(problem.clone()),
            None => Self {
                visibility: settings.visibility,
                description: settings.description.clone(),
                problems: settings.warnings.clone(),
            },
        }
    }
}
