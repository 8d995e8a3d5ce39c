//! Why an operation failed. What the user can do about it is said at the edges: by commands and pages.

use std::path::PathBuf;

use super::inverse_error::InverseError;
use super::keys::KeyError;
use super::repo_setting_error::RepoSettingError;
use super::setting_error::SettingError;
use crate::control::client::ControlError;
use crate::rename::RenameError;
use crate::secrets::StoredSecretError;
use quire_git::GitError;
use quire_runtime::blocking::BlockingInterrupted;
use quire_store::StoreError;
use quire_types::names::{ObjectId, RefName, RepoName, RunId};
use quire_types::run::RunState;
use quire_types::token::{RandomError, TokenName};

#[derive(Debug, thiserror::Error)]
pub enum ForgeError {
    #[error("there is no database in {} yet", .0.display())]
    NoDatabase(PathBuf),
    #[error("there is no repository `{name}`")]
    NoRepository {
        name: RepoName,
        /// The existing name that is most similar.
        closest: Option<RepoName>,
        /// Whether one of this name was removed and can be restored.
        is_in_trash: bool,
        /// All repositories.
        existing: Vec<RepoName>,
    },
    #[error("the repository `{0}` exists already")]
    RepositoryExists(RepoName),
    #[error("`{name}` redirects to `{repo}`, which had this name before")]
    NameRedirects { name: RepoName, repo: RepoName },
    #[error("`{0}` is being imported at this moment")]
    BeingImported(RepoName),
    #[error("`{0}` is no mirror of another repository")]
    NoPullMirror(RepoName),
    #[error("a secret is for HTTPS; over SSH the key is used that `mirror key` prints")]
    SecretForSsh,
    #[error("`repo rm` moves `{0}`, with its runs and their logs, to the trash")]
    NotConfirmed(RepoName),
    #[error("this deletes `{0}`, its runs and their logs permanently")]
    DeletionNotConfirmed(RepoName),
    #[error("a run of `{0}` is still being stopped, so nothing was removed")]
    RunsStillActive(RepoName),
    #[error("there is no run `{0}` any more")]
    NoRun(RunId),
    #[error("run {run} has ended already: it is {state}")]
    AlreadyFinished { run: RunId, state: RunState },
    #[error("no container of run {0} is kept")]
    NoKeptContainer(RunId),
    #[error("the parameter `{0}` is given twice")]
    RepeatedParameter(String),
    #[error("there are more than {0} parameters")]
    TooManyParameters(usize),
    #[error("a run of the jobs of a push has no parameters")]
    ParametersOfPush,
    #[error("the repository `{0}` has no default branch")]
    NoDefaultBranch(RepoName),
    #[error("`{repo}` has no {ref_name}")]
    NoRef { repo: RepoName, ref_name: RefName },
    #[error("{} of `{repo}` has no pipeline", .commit.short())]
    NoPipeline { repo: RepoName, commit: ObjectId },
    #[error("`{repo}` has no cache `{name}`")]
    NoCache { repo: RepoName, name: String },
    #[error("`{repo}` has nothing to undo for {ref_name}")]
    NothingToUndo { repo: RepoName, ref_name: RefName },
    #[error(
        "{ref_name} has moved since it was overwritten: it is at {}",
        .now.as_ref().map_or("nothing", ObjectId::short)
    )]
    RefHasMoved {
        ref_name: RefName,
        now: Option<ObjectId>,
    },
    #[error("{ref_name} is at {} already", .id.short())]
    RefIsThere { ref_name: RefName, id: ObjectId },
    #[error("{ref_name} was not at {id} before a push that overwrote it")]
    NotOverwritten { ref_name: RefName, id: String },
    #[error("`{0}` is the beginning of several ids")]
    AmbiguousOverwritten(String),
    #[error("{0} was moved by a push at the same time, so nothing was changed")]
    RefMovedMeanwhile(String),
    #[error("{} is the default branch of `{repo}` and cannot be deleted", .branch.short())]
    DefaultBranch { repo: RepoName, branch: RefName },
    #[error("there is nothing to decide: the database is not an older copy")]
    NothingHeld,
    #[error("nothing was removed")]
    NothingCollected(#[source] ControlError),
    #[error("the keys cannot be read")]
    Keys(#[source] std::io::Error),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Secret(#[from] StoredSecretError),
    #[error(transparent)]
    Inverse(#[from] InverseError),
    #[error(transparent)]
    Setting(#[from] SettingError),
    #[error(transparent)]
    RepoSetting(#[from] RepoSettingError),
    #[error("there is an access token `{0}` already")]
    TokenExists(TokenName),
    #[error("there is no access token `{0}`")]
    NoToken(TokenName),
    #[error("no random token could be created")]
    Random(#[from] RandomError),
    /// The running server did not do it.
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Interrupted(#[from] BlockingInterrupted),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Rename(#[from] RenameError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_a_sentence() {
        let repo: RepoName = "work/app".parse().unwrap();
        let run: RunId = "0197a1b2-0000-7000-8000-000000000001".parse().unwrap();
        let sentences: Vec<String> = [
            ForgeError::NoDatabase("/data".into()),
            ForgeError::NoRepository {
                name: repo.clone(),
                closest: None,
                is_in_trash: false,
                existing: Vec::new(),
            },
            ForgeError::RepositoryExists(repo.clone()),
            ForgeError::NameRedirects {
                name: "app".parse().unwrap(),
                repo: repo.clone(),
            },
            ForgeError::BeingImported(repo.clone()),
            ForgeError::NoPullMirror(repo.clone()),
            ForgeError::SecretForSsh,
            ForgeError::NotConfirmed(repo.clone()),
            ForgeError::DeletionNotConfirmed(repo.clone()),
            ForgeError::RunsStillActive(repo.clone()),
            ForgeError::NoRun(run),
            ForgeError::AlreadyFinished {
                run,
                state: RunState::Complete,
            },
            ForgeError::NoKeptContainer(run),
            ForgeError::RepeatedParameter("env".to_owned()),
            ForgeError::TooManyParameters(100),
            ForgeError::ParametersOfPush,
            ForgeError::NoDefaultBranch(repo.clone()),
            ForgeError::NoRef {
                repo: repo.clone(),
                ref_name: "refs/heads/main".parse().unwrap(),
            },
            ForgeError::NoPipeline {
                repo,
                commit: "1".repeat(40).parse().unwrap(),
            },
            ForgeError::NoCache {
                repo: "work/app".parse().unwrap(),
                name: "cargo".to_owned(),
            },
            ForgeError::NothingToUndo {
                repo: "work/app".parse().unwrap(),
                ref_name: "refs/heads/main".parse().unwrap(),
            },
            ForgeError::RefHasMoved {
                ref_name: "refs/heads/main".parse().unwrap(),
                now: None,
            },
            ForgeError::RefIsThere {
                ref_name: "refs/heads/main".parse().unwrap(),
                id: "1".repeat(40).parse().unwrap(),
            },
            ForgeError::NotOverwritten {
                ref_name: "refs/heads/main".parse().unwrap(),
                id: "1234".to_owned(),
            },
            ForgeError::AmbiguousOverwritten("1234".to_owned()),
            ForgeError::RefMovedMeanwhile("refs/heads/main".to_owned()),
            ForgeError::DefaultBranch {
                repo: "work/app".parse().unwrap(),
                branch: "refs/heads/main".parse().unwrap(),
            },
            ForgeError::NothingCollected(ControlError::TimedOut),
            ForgeError::Keys(std::io::Error::other("permission denied")),
            ForgeError::TokenExists("laptop".parse().unwrap()),
            ForgeError::NoToken("laptop".parse().unwrap()),
            ControlError::TimedOut.into(),
            BlockingInterrupted.into(),
        ]
        .iter()
        .map(ToString::to_string)
        .collect();
        insta::assert_snapshot!(sentences.join("\n"), @"
there is no database in /data yet
there is no repository `work/app`
the repository `work/app` exists already
`app` redirects to `work/app`, which had this name before
`work/app` is being imported at this moment
`work/app` is no mirror of another repository
a secret is for HTTPS; over SSH the key is used that `mirror key` prints
`repo rm` moves `work/app`, with its runs and their logs, to the trash
this deletes `work/app`, its runs and their logs permanently
a run of `work/app` is still being stopped, so nothing was removed
there is no run `0197a1b2-0000-7000-8000-000000000001` any more
run 0197a1b2-0000-7000-8000-000000000001 has ended already: it is complete
no container of run 0197a1b2-0000-7000-8000-000000000001 is kept
the parameter `env` is given twice
there are more than 100 parameters
a run of the jobs of a push has no parameters
the repository `work/app` has no default branch
`work/app` has no refs/heads/main
111111111111 of `work/app` has no pipeline
`work/app` has no cache `cargo`
`work/app` has nothing to undo for refs/heads/main
refs/heads/main has moved since it was overwritten: it is at nothing
refs/heads/main is at 111111111111 already
refs/heads/main was not at 1234 before a push that overwrote it
`1234` is the beginning of several ids
refs/heads/main was moved by a push at the same time, so nothing was changed
main is the default branch of `work/app` and cannot be deleted
nothing was removed
the keys cannot be read
there is an access token `laptop` already
there is no access token `laptop`
the server did not answer in time
internal error: the work was interrupted
");
    }
}
