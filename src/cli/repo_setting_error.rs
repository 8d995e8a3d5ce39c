//! The errors of settings of repositories in words.

use super::error::{CommandError, FAILED, NOT_FOUND, USAGE};
use quire_server::forge::RepoSettingError;

impl From<RepoSettingError> for CommandError {
    fn from(error: RepoSettingError) -> Self {
        let code = match error {
            RepoSettingError::NotProtected { .. } => NOT_FOUND,
            RepoSettingError::LongDescription(_) => USAGE,
            _ => FAILED,
        };
        let failure = Self::from_error(code, &error);
        match error {
            RepoSettingError::ProtectedRef { repo, forbidden } => failure.hint(format!(
                "`repo unprotect {repo} {}` ends the protection",
                forbidden.pattern.shell_word()
            )),
            RepoSettingError::NotProtected { patterns, .. } if patterns.is_empty() => {
                failure.hint("none of its refs is protected")
            }
            RepoSettingError::NotProtected { patterns, .. } => {
                let patterns = patterns
                    .iter()
                    .map(|pattern| format!("`{}`", pattern.short()));
                let patterns: Vec<_> = patterns.collect();
                failure.hint(format!("its patterns are {}", patterns.join(", ")))
            }
            RepoSettingError::TooManyPatterns(_) => {
                failure.hint("use a pattern with `*` in place of several")
            }
            RepoSettingError::DescriptionInSettings(_) => {
                failure.hint("change `.quire/config.fnl` or `.quire/config.lua`, and push it")
            }
            RepoSettingError::LongDescription(_) => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_git::{ForbiddenChange, ForbiddenMove};
    use quire_types::names::RepoName;
    use quire_types::ref_pattern::RefPattern;

    #[test]
    fn each_refusal_says_what_to_do() {
        let repo: RepoName = "work/app".parse().unwrap();
        let pattern = |text| RefPattern::from_user(text).unwrap();
        let forbidden = |name: &str, change| RepoSettingError::ProtectedRef {
            repo: repo.clone(),
            forbidden: ForbiddenMove {
                ref_name: name.parse().unwrap(),
                pattern: pattern("refs/*"),
                change,
            },
        };
        let not_protected = |patterns| RepoSettingError::NotProtected {
            repo: repo.clone(),
            pattern: pattern("main"),
            patterns,
        };
        let errors = [
            forbidden("refs/heads/main", ForbiddenChange::ForcedMove),
            forbidden("refs/heads/main", ForbiddenChange::Deletion),
            forbidden("refs/tags/v1", ForbiddenChange::TagMove),
            not_protected(vec![pattern("release/*"), pattern("refs/tags/*")]),
            not_protected(Vec::new()),
            RepoSettingError::TooManyPatterns(100),
            RepoSettingError::DescriptionInSettings(repo.clone()),
            RepoSettingError::LongDescription(300),
        ];
        let texts = errors.map(|error| {
            let error = CommandError::from(error);
            format!("exit code {}\n{}", error.code, error.text())
        });
        insta::assert_snapshot!(texts.join("\n"));
    }
}
