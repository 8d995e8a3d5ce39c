//! What is wrong with repositories at this moment, as the parts of the server see it.
//!
//! Each part reports every attempt, and the last one counts: a failure makes a finding, a success removes it. So a finding
//! needs no expiry, and health shows it as long as it is true. A finding is logged when it appears, when its text
//! changes and once an hour, since most attempts are repeated every few seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::part_problem::PartProblem;
use quire_git::RepoListing;
use quire_types::error_chain::chain;
use quire_types::names::RepoName;
use quire_types::sync;
use tokio::sync::Notify;

/// How often a finding that stays the same is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// What was attempted on a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RepoTask {
    Look,
    RecordPush,
    CompareRefs,
    RemoveLocks,
    ReadSchedules,
    ReadCommit,
    ReadSettings,
    Land,
    Check,
}

impl RepoTask {
    /// What is attempted only on repositories that are listed.
    const ON_LISTED: [Self; 7] = [
        Self::CompareRefs,
        Self::RemoveLocks,
        Self::ReadSchedules,
        Self::ReadCommit,
        Self::ReadSettings,
        Self::Land,
        Self::Check,
    ];
}

impl fmt::Display for RepoTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Look => "cannot be read",
            Self::RecordPush => "a push waits to be recorded",
            Self::CompareRefs => "its refs cannot be compared with the recorded ones",
            Self::RemoveLocks => "stale lock files cannot be removed",
            Self::ReadSchedules => "its schedules cannot be read",
            Self::ReadCommit => "a commit cannot be read",
            Self::ReadSettings => "its settings have no effect in part",
            Self::Land => "a commit waits to land",
            Self::Check => "git fsck reports",
        })
    }
}

struct Finding {
    text: String,
    logged: Instant,
}

/// The findings, by repository or group and by what was attempted. Clones share them.
#[derive(Clone, Default)]
pub struct Findings(Arc<SharedFindings>);

#[derive(Default)]
struct SharedFindings {
    findings: Mutex<BTreeMap<(String, RepoTask), Finding>>,
    changed: Notify,
}

impl Findings {
    /// Records how an attempt ended, and returns its value if it succeeded.
    pub fn report<T, E: Error>(
        &self,
        name: impl fmt::Display,
        attempt: RepoTask,
        ended: Result<T, E>,
    ) -> Option<T> {
        match ended {
            Ok(value) => {
                self.clear(name, attempt);
                Some(value)
            }
            Err(error) => {
                self.add(name, attempt, chain(&error));
                None
            }
        }
    }

    pub fn add(&self, name: impl fmt::Display, attempt: RepoTask, text: String) {
        let name = name.to_string();
        let mut findings = self.lock();
        // What cannot be read at all is one finding. A part that began before this was known fails for the same reason.
        if RepoTask::ON_LISTED.contains(&attempt) && is_unreadable(&findings, &name) {
            return;
        }
        let known = findings.get(&(name.clone(), attempt));
        let is_logged =
            known.is_some_and(|known| known.text == text && known.logged.elapsed() < LOG_INTERVAL);
        if is_logged {
            return;
        }
        tracing::error!(repo = name, "{attempt}: {text}");
        let logged = Instant::now();
        findings.insert((name, attempt), Finding { text, logged });
        self.0.changed.notify_one();
    }

    pub fn clear(&self, name: impl fmt::Display, attempt: RepoTask) {
        let name = name.to_string();
        if self.lock().remove(&(name.clone(), attempt)).is_some() {
            self.0.changed.notify_one();
            tracing::info!(repo = name, "no longer true: {attempt}");
        }
    }

    /// Removes the findings of one attempt about all names but these.
    pub fn clear_others(&self, attempt: RepoTask, is_kept: impl Fn(&str) -> bool) {
        let mut findings = self.lock();
        let before = findings.len();
        findings.retain(|(name, other), _| *other != attempt || is_kept(name));
        if findings.len() < before {
            self.0.changed.notify_one();
        }
    }

    /// Makes a finding of each repository and group that cannot be looked at. Those of repositories that were removed go.
    pub fn report_listing(&self, listing: &RepoListing) {
        for entry in &listing.unreadable {
            self.add(&entry.name, RepoTask::Look, chain(&entry.error));
        }
        self.clear_others(RepoTask::Look, |name| {
            listing.unreadable.iter().any(|entry| entry.name == name)
        });
        for attempt in RepoTask::ON_LISTED {
            let is_listed = |name: &str| listing.repos.iter().any(|repo| repo.as_str() == name);
            self.clear_others(attempt, is_listed);
        }
    }

    /// Whether one of these attempts failed on a repository.
    #[must_use]
    pub fn has_any(&self, attempts: &[RepoTask]) -> bool {
        self.lock()
            .keys()
            .any(|(_, attempt)| attempts.contains(attempt))
    }

    /// The repositories whose objects or refs may be damaged, each with what failed apart from `git fsck` itself.
    #[must_use]
    pub fn suspects(&self) -> BTreeMap<RepoName, BTreeSet<RepoTask>> {
        let mut suspects = BTreeMap::<RepoName, BTreeSet<RepoTask>>::new();
        for (name, task) in self.lock().keys() {
            let Ok(repo) = name.parse() else { continue };
            match task {
                RepoTask::Check => {
                    suspects.entry(repo).or_default();
                }
                RepoTask::RecordPush | RepoTask::CompareRefs | RepoTask::ReadCommit => {
                    suspects.entry(repo).or_default().insert(*task);
                }
                RepoTask::Look
                | RepoTask::RemoveLocks
                | RepoTask::ReadSchedules
                | RepoTask::ReadSettings
                | RepoTask::Land => {}
            }
        }
        suspects
    }

    /// Waits until a finding is made or removed.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Each finding, about a repository or a group.
    #[must_use]
    pub fn problems(&self) -> Vec<PartProblem> {
        let problem = |((name, attempt), finding): (&(String, RepoTask), &Finding)| {
            PartProblem::new(name, format!("{name}: {attempt}: {}", finding.text))
        };
        self.lock().iter().map(problem).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, RepoTask), Finding>> {
        sync::lock(&self.0.findings)
    }
}

/// Whether a repository, or a group that it is in, is known not to be readable.
fn is_unreadable(findings: &BTreeMap<(String, RepoTask), Finding>, repo: &str) -> bool {
    findings.keys().any(|(name, attempt)| {
        let below = repo.strip_prefix(name.as_str());
        *attempt == RepoTask::Look
            && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_one_finding() {
        let findings = Findings::default();
        let fail = |name, attempt| findings.report(name, attempt, Err::<(), _>(std::fmt::Error));
        fail("app", RepoTask::Look);
        fail("work", RepoTask::Look);
        for repo in ["app", "work/shop", "works"] {
            fail(repo, RepoTask::CompareRefs);
        }
        let names: Vec<_> = findings.lock().keys().cloned().collect();
        assert_eq!(
            names,
            [
                ("app".to_owned(), RepoTask::Look),
                ("work".to_owned(), RepoTask::Look),
                ("works".to_owned(), RepoTask::CompareRefs)
            ]
        );
    }

    #[test]
    fn the_last_attempt_counts() {
        let findings = Findings::default();
        let failed = || Err::<(), _>(std::fmt::Error);
        findings.report("app", RepoTask::CompareRefs, failed());
        assert_eq!(findings.report("app", RepoTask::Look, failed()), None);
        findings.report("other", RepoTask::Look, failed());
        let texts: Vec<String> = findings
            .problems()
            .into_iter()
            .map(|found| found.text)
            .collect();
        insta::assert_snapshot!(texts.join("\n"), @"
        app: cannot be read: an error occurred when formatting an argument
        app: its refs cannot be compared with the recorded ones: an error occurred when formatting an argument
        other: cannot be read: an error occurred when formatting an argument
        ");
        findings.report("app", RepoTask::Look, Ok::<(), std::fmt::Error>(()));
        findings.clear_others(RepoTask::Look, |name| name != "other");
        assert_eq!(findings.problems().len(), 1);
    }
}
