//! Why a setting of a repository is not changed, or forbids something.

use quire_git::ForbiddenMove;
use quire_types::names::RepoName;
use quire_types::ref_pattern::RefPattern;

#[derive(Debug, thiserror::Error)]
pub enum RepoSettingError {
    #[error("{forbidden}, so nothing was changed")]
    ProtectedRef {
        repo: RepoName,
        forbidden: ForbiddenMove,
    },
    #[error("`{repo}` does not have the pattern `{}`", .pattern.short())]
    NotProtected {
        repo: RepoName,
        pattern: RefPattern,
        /// Those that it has.
        patterns: Vec<RefPattern>,
    },
    #[error("a repository has {0} patterns of protected refs at most")]
    TooManyPatterns(usize),
    #[error("the description of `{0}` is `:description` in the settings on its default branch")]
    DescriptionInSettings(RepoName),
    #[error("a description has {0} characters at most")]
    LongDescription(usize),
}
