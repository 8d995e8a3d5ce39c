//! Git's maintenance: one repository after the other, each at most once a day and only where it was
//! pushed to since, never beside a push to it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Housekeeping;
use crate::causes::with_causes;
use crate::clock::Millis;
use crate::git::{Git, GitError, Upkeep};
use crate::names::RepoName;
use crate::store::{LastUpkeep, StoreError};

/// When the first look is taken after the start. Lock files of a git that was killed with us are old enough by then.
const FIRST: Duration = Duration::from_secs(70);
/// How often is looked which repositories are due.
const EVERY: Duration = Duration::from_secs(10 * 60);
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Whether a repository is due. What ended in the future ended before the clock was set back: nothing is known then.
fn is_due(last: Option<&LastUpkeep>, now: Millis) -> bool {
    let Some(last) = last else { return true };
    if last.ended > now {
        return true;
    }
    now.since(last.ended) >= DAY_MS
        && (last.problem.is_some() || last.pushed.is_some_and(|pushed| pushed > last.ended))
}

impl Housekeeping {
    pub(super) async fn maintain_repos(&self, stop: &CancellationToken) {
        let mut pause = FIRST;
        while stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_some()
        {
            self.maintain_due(stop).await;
            pause = EVERY;
        }
    }

    /// One round over all repositories.
    async fn maintain_due(&self, stop: &CancellationToken) {
        let git = Git::new(&self.0.paths);
        let lister = git.clone();
        let repos = match tokio::task::spawn_blocking(move || lister.list()).await {
            Ok(Ok(repos)) => repos,
            Ok(Err(error)) => return tracing::error!("maintenance: {}", with_causes(&error)),
            Err(_) => return,
        };
        for repo in repos {
            if stop.is_cancelled() {
                return;
            }
            self.unlock(&git, &repo).await;
            let (name, now) = (repo.clone(), self.0.store.clock().now());
            match self
                .0
                .store
                .call(move |store| store.last_upkeep(&name))
                .await
            {
                Ok(last) if is_due(last.as_ref(), now) => self.maintain(&git, &repo, stop).await,
                Ok(_) => {}
                Err(error) => tracing::error!("maintenance of {repo}: {}", with_causes(&error)),
            }
        }
    }

    /// Removes what a killed git left locked.
    async fn unlock(&self, git: &Git, repo: &RepoName) {
        let (git, name, now) = (git.clone(), repo.clone(), self.0.store.clock().now());
        match tokio::task::spawn_blocking(move || git.unlock(&name, now)).await {
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(removed)) => {
                tracing::warn!(%repo, removed, "removed lock files that a killed git had left")
            }
            Ok(Err(error)) => tracing::warn!("maintenance of {repo}: {}", with_causes(&error)),
        }
    }

    async fn maintain(&self, git: &Git, repo: &RepoName, stop: &CancellationToken) {
        let begun = std::time::Instant::now();
        let problem = match git.maintain(repo, stop.cancelled()).await {
            Ok(Upkeep::Done) => {
                tracing::info!(%repo, ms = begun.elapsed().as_millis(), "packed the repository");
                None
            }
            // Still due.
            Ok(Upkeep::GaveWay) => return,
            // It was removed or renamed meanwhile.
            Err(_) if matches!(git.exists(repo), Ok(false)) => return,
            Err(error) => Some(problem(repo, &error)),
        };
        if let Err(error) = self.note(repo, problem).await {
            tracing::error!(
                "maintenance of {repo} cannot be noted: {}",
                with_causes(&error)
            );
        }
    }

    async fn note(&self, repo: &RepoName, problem: Option<String>) -> Result<(), StoreError> {
        let repo = repo.clone();
        self.0
            .store
            .call(move |store| store.note_upkeep(&repo, problem.as_deref()))
            .await
    }
}

fn problem(repo: &RepoName, error: &GitError) -> String {
    let words = with_causes(error);
    tracing::warn!("maintenance of {repo}: {words}; it is tried again in a day");
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_at_most_once_a_day_and_only_after_a_push() {
        let day = i64::try_from(DAY_MS).unwrap();
        let last = |ended: i64, pushed: Option<i64>, problem: bool| {
            Some(LastUpkeep {
                ended: Millis(ended),
                problem: problem.then(|| "why".to_owned()),
                pushed: pushed.map(Millis),
            })
        };
        for (last, now, due) in [
            (None, 0, true),
            (last(0, Some(1), false), day, true),
            (last(0, Some(1), false), day - 1, false),
            (last(0, Some(0), false), day * 30, false),
            (last(0, None, false), day * 30, false),
            (last(0, None, true), day, true),
            (last(day * 365, Some(day * 365 + 1), false), day, true),
            // Noted by a clock that was ahead, and since then by one that is right.
            (last(day * 365, Some(day), false), day, true),
        ] {
            assert_eq!(is_due(last.as_ref(), Millis(now)), due, "{last:?} at {now}");
        }
    }
}
