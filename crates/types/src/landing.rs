//! Landing: a branch moves to a commit once the run of that commit is complete and green.
//!
//! ```text
//!            ┌──── a new commit on the moved branch ────┐
//!            ▼                                          │
//! push ──► testing ──green, and first of its branch──► what has the branch come to?
//!            │                                          ├─► moving ──the move is recorded──► landed
//!            └──run failed, canceled, superseded──► not landed ◄── a conflict, or no fast-forward
//! ```
//! Each commit that waits has a ref of its own, so pushes for one branch do not overwrite each other, and git keeps the
//! commit. This module holds the names and decides; it does nothing.

use std::str::FromStr;

use crate::names::{LANDING_REFS, NameError, ObjectId, RefName};
use crate::run::RunState;

/// The ref of a commit that waits to land on a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LandingRef {
    /// The branch, a full name.
    pub branch: RefName,
    /// The commit.
    pub commit: ObjectId,
}

impl LandingRef {
    /// What a ref says, if it is that of a commit that waits to land.
    #[must_use]
    pub fn of(name: &RefName) -> Option<Self> {
        let (branch, commit) = name.as_str().strip_prefix(LANDING_REFS)?.rsplit_once('/')?;
        Some(Self {
            branch: format!("refs/heads/{branch}").parse().ok()?,
            commit: commit.parse().ok()?,
        })
    }

    /// Its name.
    ///
    /// # Errors
    /// The name of the branch is too long.
    pub fn name(&self) -> Result<RefName, NameError> {
        format!("{LANDING_REFS}{}/{}", self.branch.short(), self.commit).parse()
    }
}

/// The branch that a push to `refs/for-green/BRANCH` is for.
#[must_use]
pub fn pushed_branch(name: &str) -> Option<RefName> {
    let branch = name.strip_prefix(LANDING_REFS)?;
    format!("refs/heads/{branch}").parse().ok()
}

/// How a commit lands on a branch that has moved, so that it is no fast-forward any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LandingMethod {
    /// Not at all.
    #[default]
    FastForward,
    /// Its commits are applied to the branch again.
    Rebase,
    /// It is merged with the branch.
    Merge,
}

impl LandingMethod {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::FastForward, Self::Rebase, Self::Merge];

    /// The word in the configuration, in push options, in the database and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FastForward => "ff",
            Self::Rebase => "rebase",
            Self::Merge => "merge",
        }
    }
}

/// How far a landing has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LandingState {
    /// Its commit has a run that has not ended, or waits until the landings before it have ended.
    Testing,
    /// The run is green, and the branch is being moved.
    Moving,
    /// The branch has the commit.
    Landed,
    /// The branch was not moved: the run failed or was superseded, or the commit does not fit.
    Failed,
    /// The run was canceled.
    Canceled,
}

impl LandingState {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Testing,
        Self::Moving,
        Self::Landed,
        Self::Failed,
        Self::Canceled,
    ];

    /// The word in the database and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Testing => "testing",
            Self::Moving => "moving",
            Self::Landed => "landed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// Whether it stays as it is.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Testing | Self::Moving)
    }
}

/// Text that is no such word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a word about a landing")]
pub struct UnknownLandingWord;

impl FromStr for LandingMethod {
    type Err = UnknownLandingWord;

    fn from_str(text: &str) -> Result<Self, UnknownLandingWord> {
        let found = Self::ALL.into_iter().find(|word| word.as_str() == text);
        found.ok_or(UnknownLandingWord)
    }
}

impl FromStr for LandingState {
    type Err = UnknownLandingWord;

    fn from_str(text: &str) -> Result<Self, UnknownLandingWord> {
        let found = Self::ALL.into_iter().find(|word| word.as_str() == text);
        found.ok_or(UnknownLandingWord)
    }
}

/// How a branch and a commit are related.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BranchRelation {
    /// The branch does not exist, or the commit descends from it.
    FastForward,
    /// The branch has the commit already.
    Contained,
    /// Each has commits that the other lacks.
    Diverged,
    /// They have no commit in common.
    Unrelated,
}

/// Why a commit did not land.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LandingProblem {
    /// The run did not end well.
    #[error("its run {}", ended_words(*.0))]
    NotGreen(RunState),
    /// There is nothing to be green.
    #[error("it has no run, so it cannot be green")]
    NoRun,
    /// The run was removed before it was looked at.
    #[error("its run was removed")]
    RunRemoved,
    /// The branch has moved.
    #[error(
        "`{0}` has moved, and the commit does not contain it; rebase and push again, or push with `-o ci.land=rebase` or `-o ci.land=merge`"
    )]
    NotFastForward(String),
    /// Nothing can be merged.
    #[error("it has no commit in common with `{0}`")]
    Unrelated(String),
    /// The files that both changed.
    #[error("it conflicts with `{branch}` in {}; rebase and push again", .paths.join(", "))]
    Conflict {
        /// The branch.
        branch: String,
        /// Some of the files.
        paths: Vec<String>,
    },
    /// Rebasing takes a few processes for each commit.
    #[error("it has more than {max} commits that `{branch}` lacks; push with `-o ci.land=merge`")]
    TooLong {
        /// The branch.
        branch: String,
        /// The limit.
        max: usize,
    },
    /// Git keeps one file for each branch, so `a` and `a/b` cannot exist both.
    #[error("the branch `{0}` is in the way")]
    BranchInTheWay(String),
}

/// What has become of a run that is not complete, after "its run".
fn ended_words(state: RunState) -> &'static str {
    match state {
        RunState::Canceled => "was canceled",
        RunState::Superseded => "was superseded",
        _ => "failed",
    }
}

/// What is done with a landing whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LandingStep {
    /// The branch is moved to the commit.
    Move,
    /// Nothing has to be moved.
    Landed,
    /// A new commit is made on the branch, and tested in place of the old one.
    Remake(LandingMethod),
    /// It does not land.
    End(LandingProblem),
}

/// What is done with a green commit that is the first of its branch.
#[must_use]
pub fn step_of(relation: BranchRelation, method: LandingMethod, branch: &RefName) -> LandingStep {
    let branch = branch.short().to_owned();
    match (relation, method) {
        (BranchRelation::FastForward, _) => LandingStep::Move,
        (BranchRelation::Contained, _) => LandingStep::Landed,
        (BranchRelation::Unrelated, _) => LandingStep::End(LandingProblem::Unrelated(branch)),
        (BranchRelation::Diverged, LandingMethod::FastForward) => {
            LandingStep::End(LandingProblem::NotFastForward(branch))
        }
        (BranchRelation::Diverged, method) => LandingStep::Remake(method),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RefName {
        text.parse().unwrap()
    }

    #[test]
    fn the_ref_of_a_landing_says_its_branch_and_commit() {
        let commit = "1".repeat(40);
        let full = name(&format!("refs/for-green/team/topic/{commit}"));
        let landing = LandingRef::of(&full).unwrap();
        assert_eq!(landing.branch, name("refs/heads/team/topic"));
        assert_eq!(landing.name().unwrap(), full);
        assert_eq!(full.short(), "for-green/team/topic");
        assert_eq!(name("refs/for-green/main").short(), "refs/for-green/main");
        for other in [
            "refs/for-green/main",
            "refs/heads/main",
            &format!("refs/for-green/{commit}"),
            &format!("refs/for-greens/main/{commit}"),
        ] {
            assert_eq!(LandingRef::of(&name(other)), None, "{other}");
        }
        assert_eq!(
            pushed_branch("refs/for-green/main"),
            Some(name("refs/heads/main"))
        );
        assert_eq!(pushed_branch("refs/for-green/"), None);
        assert_eq!(pushed_branch("refs/heads/main"), None);
    }

    #[test]
    fn words_read_back() {
        for method in LandingMethod::ALL {
            assert_eq!(method.as_str().parse(), Ok(method));
        }
        for state in LandingState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert_eq!("".parse::<LandingMethod>(), Err(UnknownLandingWord));
    }

    #[test]
    fn what_the_branch_has_come_to_decides() {
        let main = name("refs/heads/main");
        for method in LandingMethod::ALL {
            let step = |relation| step_of(relation, method, &main);
            assert_eq!(step(BranchRelation::FastForward), LandingStep::Move);
            assert_eq!(step(BranchRelation::Contained), LandingStep::Landed);
            let unrelated = LandingProblem::Unrelated("main".to_owned());
            assert_eq!(step(BranchRelation::Unrelated), LandingStep::End(unrelated));
        }
        let diverged = |method| step_of(BranchRelation::Diverged, method, &main);
        for method in [LandingMethod::Rebase, LandingMethod::Merge] {
            assert_eq!(diverged(method), LandingStep::Remake(method));
        }
        let moved = LandingProblem::NotFastForward("main".to_owned());
        assert_eq!(
            diverged(LandingMethod::FastForward),
            LandingStep::End(moved)
        );
    }
}
