//! Looks at the settings of all repositories: what is wrong with them is a finding, and the mirrors that they name are added to the owner's.
//!
//! ```text
//! start, configuration, every few minutes ──► all repositories ──┐
//! push, command ──► those whose refs or HEAD have changed ───────┴─► findings, mirrors
//! ```
//! It keeps what each repository had when it was looked at last, so a push costs a list of the repositories and one look at its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::current::{CurrentSettings, RepoSettingsReader};
use super::own_mirrors::{AllOwnMirrors, OwnMirrors};
use crate::findings::{Findings, RepoTask};
use crate::mirror::MirrorSettings;
use crate::notify::{NotifySettings, problem_of_target};
use crate::runner::RunnerConfig;
use quire_config::{RepoSecrets, with_place};
use quire_git::{Git, GitError};
use quire_pipeline::closest_match;
use quire_runtime::blocking::run_blocking;
use quire_runtime::changes::ChangeNotifier;
use quire_types::error_chain::with_sources;
use quire_types::names::{RefName, RepoName};
use quire_types::text::excerpt_name;

/// How often all repositories are looked at. A secret that is set is noticed by then.
const SCAN_INTERVAL: Duration = Duration::from_secs(300);
/// How long pushes are collected before repositories are looked at.
const COLLECT_TIME: Duration = Duration::from_millis(200);

/// What the watch needs from the rest of the server.
pub struct SettingsWatchDeps {
    pub git: Git,
    pub changes: ChangeNotifier,
    pub findings: Findings,
    pub reader: RepoSettingsReader,
    pub notify: watch::Receiver<Arc<NotifySettings>>,
    pub runner: watch::Receiver<Arc<RunnerConfig>>,
    /// The mirrors of the owner's configuration.
    pub mirrors: watch::Receiver<Arc<MirrorSettings>>,
}

/// Looks at the settings of all repositories. Cheap to clone.
#[derive(Clone)]
pub struct SettingsWatch {
    deps: Arc<SettingsWatchDeps>,
    /// The mirrors of the owner and those of repositories.
    merged: watch::Sender<Arc<MirrorSettings>>,
}

/// A repository that was looked at.
struct WatchedRepo {
    changes: watch::Receiver<u64>,
    /// What `HEAD` names.
    head: Option<RefName>,
    settings: Arc<CurrentSettings>,
    mirrors: Option<OwnMirrors>,
}

/// The mirrors that were published last.
type Published = Option<(Arc<MirrorSettings>, AllOwnMirrors)>;

impl SettingsWatch {
    #[must_use]
    pub fn new(deps: SettingsWatchDeps) -> Self {
        let owner = deps.mirrors.borrow().clone();
        Self {
            merged: watch::Sender::new(owner),
            deps: Arc::new(deps),
        }
    }

    /// The mirrors of the owner and those of repositories.
    #[must_use]
    pub fn mirror_settings(&self) -> watch::Receiver<Arc<MirrorSettings>> {
        self.merged.subscribe()
    }

    /// Runs until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.watch()).await;
    }

    async fn watch(&self) {
        let deps = &self.deps;
        let mut pushes = deps.changes.subscribe_repos();
        let (mut notify, mut runner) = (deps.notify.clone(), deps.runner.clone());
        let mut mirrors = deps.mirrors.clone();
        let mut repos = BTreeMap::new();
        let mut published = None;
        let mut scan = ScanTimer { at: Instant::now() };
        let mut is_asked = true;
        loop {
            // What was configured while pushes were collected counts too.
            is_asked |= is_changed(&notify) || is_changed(&runner) || is_changed(&mirrors);
            let looks_at_all = scan.begins(is_asked, Instant::now());
            pushes.borrow_and_update();
            notify.borrow_and_update();
            runner.borrow_and_update();
            mirrors.borrow_and_update();
            if published.is_some() && looks_at_all {
                // The owner's mirrors do not wait for the look, which may take long.
                self.publish(&repos, &mut published).await;
            }
            self.look(&mut repos, looks_at_all, &mut published).await;
            let (is_pushed, changed) = tokio::select! {
                () = tokio::time::sleep_until(scan.at) => (false, Ok(())),
                changed = pushes.changed() => (true, changed),
                changed = notify.changed() => (false, changed),
                changed = runner.changed() => (false, changed),
                changed = mirrors.changed() => (false, changed),
            };
            if changed.is_err() {
                return;
            }
            if is_pushed {
                tokio::time::sleep(COLLECT_TIME).await;
            }
            is_asked = !is_pushed;
        }
    }

    async fn look(
        &self,
        repos: &mut BTreeMap<RepoName, WatchedRepo>,
        looks_at_all: bool,
        published: &mut Published,
    ) {
        let listing = match self.deps.git.call(heads).await {
            Ok(listing) => listing,
            Err(error) => {
                let error = with_sources(&error);
                tracing::error!(%error, "the settings of repositories cannot be examined");
                return;
            }
        };
        repos.retain(|repo, _| listing.contains_key(repo));
        let mut seen = Vec::new();
        for (repo, head) in listing {
            let is_known = repos
                .get(&repo)
                .is_some_and(|known| known.head == head && !is_changed(&known.changes));
            if is_known && !looks_at_all {
                continue;
            }
            // Subscribed first, so that a push meanwhile is seen by the next look.
            let changes = self.deps.changes.subscribe_repo(&repo);
            if let Some(watched) = self.read(&repo, head, changes).await {
                repos.insert(repo.clone(), watched);
                seen.push(repo);
            }
        }
        self.publish(repos, published).await;
        for repo in seen {
            if let (Some(watched), Some((_, own))) = (repos.get(&repo), &published) {
                self.report(&repo, watched.settings.clone(), own.without_effect(&repo))
                    .await;
            }
        }
    }

    /// What a repository says; `None` if it cannot be read, which is a finding of its own.
    async fn read(
        &self,
        repo: &RepoName,
        head: Option<RefName>,
        changes: watch::Receiver<u64>,
    ) -> Option<WatchedRepo> {
        let (reader, repo) = (self.deps.reader.clone(), repo.clone());
        let read = move || OwnMirrors::read(&reader, &repo);
        let (settings, mirrors) = run_blocking(read).await.ok()?.ok()?;
        Some(WatchedRepo {
            changes,
            head,
            settings,
            mirrors,
        })
    }

    /// What decides which mirrors there are, beside these of the owner.
    async fn own_mirrors(
        &self,
        repos: &BTreeMap<RepoName, WatchedRepo>,
        owner: Arc<MirrorSettings>,
    ) -> Result<AllOwnMirrors, GitError> {
        let own = repos.iter().filter_map(|(repo, watched)| {
            let mirrors = watched.mirrors.clone()?;
            Some((repo.clone(), mirrors))
        });
        let of_owner = self.deps.git.call(move |git| {
            let present = owner
                .mirrors
                .keys()
                .map(|mirror| (git.resolve(&mirror.repo), mirror.name.clone()));
            Ok(present.collect())
        });
        Ok(AllOwnMirrors {
            repos: own.collect(),
            of_owner: of_owner.await?,
            has_network: self.deps.runner.borrow().limits.network,
        })
    }

    /// Sends the mirrors of the owner and those that are known of repositories, if they are others than before.
    async fn publish(&self, repos: &BTreeMap<RepoName, WatchedRepo>, published: &mut Published) {
        let owner = self.deps.mirrors.borrow().clone();
        let own = match self.own_mirrors(repos, owner.clone()).await {
            Ok(own) => own,
            Err(error) => {
                // Which of them the owner's replace is not known.
                let error = with_sources(&error);
                tracing::error!(%error, "the mirrors stay as they are");
                return;
            }
        };
        let is_same_owner = published
            .as_ref()
            .is_some_and(|(old, _)| Arc::ptr_eq(old, &owner));
        let is_same_own = published.as_ref().is_some_and(|(_, old)| *old == own);
        if !(is_same_owner && is_same_own) {
            let revision = self.merged.borrow().owner_revision + u64::from(!is_same_owner);
            let merged = own.merged((&owner, revision), &self.deps.reader);
            self.merged.send_replace(Arc::new(merged));
            *published = Some((owner, own));
        }
    }

    /// Makes a finding of what is wrong with the settings of a repository.
    async fn report(
        &self,
        repo: &RepoName,
        current: Arc<CurrentSettings>,
        of_mirrors: Vec<String>,
    ) {
        let (repo, findings) = (repo.clone(), self.deps.findings.clone());
        let notify = self.deps.notify.borrow().clone();
        let runner = self.deps.runner.borrow().clone();
        let report = move || {
            let mut problems = problems(&repo, &current, &notify, &runner);
            problems.extend(of_mirrors);
            match problems.is_empty() {
                true => findings.clear(&repo, RepoTask::ReadSettings),
                false => findings.add(&repo, RepoTask::ReadSettings, problems.join("; ")),
            }
        };
        if let Err(error) = run_blocking(report).await {
            tracing::warn!(%error, "the settings of a repository were not examined");
        }
    }
}

/// When all repositories are looked at next. Pushes do not put it off.
struct ScanTimer {
    at: Instant,
}

impl ScanTimer {
    /// Whether all are looked at now, because it is time or because it is asked for.
    fn begins(&mut self, is_asked: bool, now: Instant) -> bool {
        let begins = is_asked || self.at <= now;
        if begins {
            self.at = now + SCAN_INTERVAL;
        }
        begins
    }
}

/// Whether a receiver has something new. One whose sender is gone has.
fn is_changed<T>(receiver: &watch::Receiver<T>) -> bool {
    receiver.has_changed().unwrap_or(true)
}

/// All repositories, with what `HEAD` of each names. Blocks.
fn heads(git: &Git) -> Result<BTreeMap<RepoName, Option<RefName>>, GitError> {
    let repos = git.list()?.repos.into_iter();
    let heads = repos.map(|repo| {
        let head = git.head_branch(&repo).ok().flatten();
        (repo, head)
    });
    Ok(heads.collect())
}

/// What is wrong with what a repository says, with the place of each. Blocks.
fn problems(
    repo: &RepoName,
    current: &CurrentSettings,
    notify: &NotifySettings,
    runner: &RunnerConfig,
) -> Vec<String> {
    let settings = &current.settings;
    let mut problems: Vec<String> = current.wrong.iter().cloned().collect();
    problems.extend(settings.problems.iter().cloned());
    for (name, choice) in &settings.targets {
        let problem = problem_of_target(repo, name, notify);
        problems.extend(problem.map(|problem| with_place(choice.location.as_deref(), problem)));
    }
    problems.extend(settings.limits.without_effect(&runner.run_limits()));
    if let RepoSecrets::Only(names) = &settings.secrets
        && !names.is_empty()
    {
        let known = (runner.secret_names)(repo);
        let unknown = names.iter().filter(|name| !known.contains(name));
        problems.extend(unknown.map(|name| {
            let near = closest_match(name, known.iter().map(String::as_str));
            let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            let name = excerpt_name(name);
            format!("`:secrets` names `{name}`, and there is no such secret that runs of this repository may use{near}")
        }));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_repositories_are_looked_at_in_time_despite_pushes() {
        let start = Instant::now();
        let minutes = |n: u64| start + Duration::from_secs(60 * n);
        let mut scan = ScanTimer { at: start };
        let looks: Vec<u64> = (0..20)
            .filter(|n| scan.begins(*n == 7, minutes(*n)))
            .collect();
        assert_eq!(looks, [0, 5, 7, 12, 17]);
    }
}
