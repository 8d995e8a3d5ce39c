//! Runs on this very machine: a workspace on disk, commands as child processes, each in a session
//! of its own. No isolation; the log says so.
//!
//! Invariants: a folder given as workspace is the executor's alone; after `stop` neither the
//! folder nor any process of the run is left (what "of the run" means: [`crate::proc::Family`]).

mod caches;
mod files;
mod folder;
mod workspace;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::command::{instance_mark, run_mark};
use super::{
    CacheInfo, Executor, ExecutorError, StartObserver, StartSpec, Stream, Swept, Workspace,
};
use crate::causes::with_causes;
use crate::names::{RepoName, RunId};
use crate::proc::Family;
use crate::run::ExecutorKind;
use workspace::HostWorkspace;

/// The words for what failed.
const LEFT: &str = "end processes that were left behind";

/// What the host executor needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// The appliance's id, which marks its processes.
    pub instance: String,
    /// The folder below which workspaces of runs lie, each as `…/<run id>/workspace`; swept.
    pub runs: Option<PathBuf>,
    /// The folder of all caches; none to keep none from run to run.
    pub caches: Option<PathBuf>,
    /// Variables that commands get from quire's own environment. Nothing else of it reaches them.
    pub inherit: Vec<String>,
}

impl HostConfig {
    /// The usual settings.
    #[must_use]
    pub fn new(instance: &str, runs: Option<PathBuf>, caches: Option<PathBuf>) -> Self {
        let inherit = [
            "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR",
        ];
        Self {
            instance: instance.to_owned(),
            runs,
            caches,
            inherit: inherit.map(str::to_owned).to_vec(),
        }
    }
}

/// Executes runs as child processes.
pub struct HostExecutor {
    config: HostConfig,
    /// Runs that this process has started and not stopped: a sweep leaves them alone.
    running: Running,
}

/// Runs in hand, each with its repository, whose caches it may have.
type Running = Arc<Mutex<Vec<(RunId, RepoName)>>>;

impl HostExecutor {
    /// An executor; does nothing yet.
    #[must_use]
    pub fn new(config: HostConfig) -> Self {
        Self {
            config,
            running: Arc::default(),
        }
    }

    /// The environment that every command starts from.
    fn base_environment(&self, spec: &StartSpec) -> Vec<(String, String)> {
        let mut env = vec![(
            "PATH".to_owned(),
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        )];
        env.push(("LANG".to_owned(), "C.UTF-8".to_owned()));
        env.push((
            "HOME".to_owned(),
            spec.workspace.to_string_lossy().into_owned(),
        ));
        env.extend(
            self.config
                .inherit
                .iter()
                .filter_map(|name| Some((name.clone(), std::env::var(name).ok()?))),
        );
        env.extend(spec.env.iter().cloned());
        env
    }

    async fn start(
        &self,
        spec: StartSpec,
        observer: &mut dyn StartObserver,
        cancel: CancellationToken,
    ) -> Result<Box<dyn Workspace>, ExecutorError> {
        let folder = spec.workspace.clone();
        if !spec.services.is_empty() {
            return Err(ExecutorError::Command(
                "services run in containers: this pipeline needs the docker executor".to_owned(),
            ));
        }
        let registered = Registered::new(&self.running, spec.run, spec.repo.clone());
        observer.line(
            Stream::Stdout,
            b"quire: running on the host itself, without isolation; image, limits and network settings do not apply\n",
        );
        folder::fill(&folder, spec.tree.archive(), &cancel).await?;
        let folder = tokio::fs::canonicalize(&folder)
            .await
            .map_err(|error| other("lay out the workspace", &error))?;
        let family = Family {
            marker: run_mark(&self.config.instance, spec.run),
            folder: Some(folder.clone()),
        };
        let env = self.base_environment(&spec);
        let caches = self.place_caches(&spec, &folder).await;
        let placed = match caches {
            Ok(placed) => placed,
            Err(error) => {
                folder::remove(folder).await?;
                return Err(error);
            }
        };
        for note in &placed.notes {
            observer.line(Stream::Stdout, format!("{note}\n").as_bytes());
        }
        let ground = files::Ground::open(&folder, &placed.links)
            .map_err(|error| other("open the workspace", &error))?;
        Ok(Box::new(HostWorkspace::new(
            self.config.instance.clone(),
            spec.run,
            folder,
            env,
            family,
            ground,
            registered,
        )))
    }

    async fn place_caches(
        &self,
        spec: &StartSpec,
        workspace: &Path,
    ) -> Result<caches::Placed, ExecutorError> {
        // Where nothing is kept from run to run, a cache is a folder that goes with its run.
        let all = self
            .config
            .caches
            .clone()
            .unwrap_or_else(|| workspace.join(".quire-caches"));
        let (repo, wanted, workspace) =
            (spec.repo.clone(), spec.caches.clone(), workspace.to_owned());
        let placed =
            tokio::task::spawn_blocking(move || caches::place(&all, &repo, &wanted, &workspace))
                .await;
        placed.unwrap_or_else(|error| Err(other("put the caches into the workspace", &error)))
    }

    async fn caches(&self) -> Result<Vec<CacheInfo>, ExecutorError> {
        let Some(all) = self.config.caches.clone() else {
            return Ok(Vec::new());
        };
        let listed = tokio::task::spawn_blocking(move || caches::list(&all)).await;
        listed
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(|error| other("list the caches", &error))
    }

    async fn remove_cache(&self, repo: &RepoName, name: &str) -> Result<bool, ExecutorError> {
        let Some(all) = &self.config.caches else {
            return Ok(false);
        };
        let going = {
            // Within the lock, so that no run begins to use it in between. From its place it goes at once; what a
            // crash leaves of it, the next sweep removes.
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            if running.iter().any(|(_, other)| other == repo) {
                return Err(super::caches::busy(repo, name));
            }
            caches::set_aside(all, repo, name).map_err(|error| other("remove the cache", &error))?
        };
        crate::fault::point("host-cache-aside");
        match going {
            Some(going) => folder::remove(going).await.map(|()| true),
            None => Ok(false),
        }
    }

    async fn cache_sizes(&self) -> Result<Vec<(CacheInfo, u64)>, ExecutorError> {
        let Some(all) = self.config.caches.clone() else {
            return Ok(Vec::new());
        };
        let measured = tokio::task::spawn_blocking(move || {
            let sized = |cache: CacheInfo| {
                let bytes = caches::size(&caches::folder(&all, &cache.repo, &cache.name));
                (cache, bytes)
            };
            Ok(caches::list(&all)?.into_iter().map(sized).collect())
        });
        measured
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(|error| other("look at the caches", &error))
    }

    async fn clear(&self, run: RunId) -> Result<(), ExecutorError> {
        let folders = match &self.config.runs {
            Some(runs) => folder::workspaces(runs.clone(), move |other| other == run).await?,
            None => Vec::new(),
        };
        let marker = run_mark(&self.config.instance, run);
        Family {
            marker: marker.clone(),
            folder: None,
        }
        .end()
        .await
        .map_err(|error| other(LEFT, &error))?;
        for (_, workspace) in folders {
            remove_workspace(&marker, workspace).await?;
        }
        Ok(())
    }

    async fn sweep(&self, living: &[RunId]) -> Result<Swept, ExecutorError> {
        // Looked for first: what belongs to this process was entered before.
        let marked = Family::marked_values(&instance_mark(&self.config.instance))
            .map_err(|error| other(LEFT, &error))?;
        let mut folders = match &self.config.runs {
            Some(runs) => {
                let living = living.to_vec();
                folder::workspaces(runs.clone(), move |run| !living.contains(&run)).await?
            }
            None => Vec::new(),
        };
        let running = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut left: Vec<RunId> = running.into_iter().map(|(run, _)| run).collect();
        // `<run>/<number>.`
        let mut marked: Vec<RunId> = marked
            .iter()
            .filter_map(|rest| rest.split('/').next()?.parse().ok())
            .collect();
        marked.dedup();
        marked.retain(|run| !living.contains(run) && !left.contains(run));
        folders.retain(|(run, _)| !left.contains(run));
        left.retain(|run| !living.contains(run));

        let mut removed = 0;
        let mut note = |run: RunId, count: usize, done: Result<(), ExecutorError>| match done {
            Ok(()) => removed += count,
            Err(error) => {
                tracing::warn!(%run, %error, "what a run left behind cannot be removed yet");
                left.push(run);
            }
        };
        for run in marked {
            let family = Family {
                marker: run_mark(&self.config.instance, run),
                folder: None,
            };
            let members = family.members().map_err(|error| other(LEFT, &error))?.len();
            note(
                run,
                members,
                family.end().await.map_err(|error| other(LEFT, &error)),
            );
        }
        for (run, workspace) in folders {
            note(
                run,
                1,
                remove_workspace(&run_mark(&self.config.instance, run), workspace).await,
            );
        }
        for cache in self
            .config
            .caches
            .as_deref()
            .map(caches::aside)
            .unwrap_or_default()
        {
            match folder::remove(cache).await {
                Ok(()) => removed += 1,
                Err(error) => {
                    tracing::warn!(%error, "a cache that was being removed cannot be removed yet")
                }
            }
        }
        Ok(Swept::new(removed, left))
    }
}

/// Removes a run's workspace, once the processes that stand in it are ended.
async fn remove_workspace(marker: &str, workspace: PathBuf) -> Result<(), ExecutorError> {
    // Where it lies, not where a link put in its place would lead.
    let parent = workspace.parent().unwrap_or(&workspace);
    if let Ok(parent) = tokio::fs::canonicalize(parent).await {
        let family = Family {
            marker: marker.to_owned(),
            folder: Some(parent.join("workspace")),
        };
        family.end().await.map_err(|error| other(LEFT, &error))?;
    }
    folder::remove(workspace).await
}

impl Executor for HostExecutor {
    fn kind(&self) -> ExecutorKind {
        ExecutorKind::Host
    }

    fn start<'a>(
        &'a self,
        spec: StartSpec,
        observer: &'a mut dyn StartObserver,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Box<dyn Workspace>, ExecutorError>> {
        self.start(spec, observer, cancel).boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        async { Ok(()) }.boxed()
    }

    fn caches(&self) -> BoxFuture<'_, Result<Vec<CacheInfo>, ExecutorError>> {
        self.caches().boxed()
    }

    fn remove_cache<'a>(
        &'a self,
        repo: &'a RepoName,
        name: &'a str,
    ) -> BoxFuture<'a, Result<bool, ExecutorError>> {
        self.remove_cache(repo, name).boxed()
    }

    fn cache_sizes(&self) -> BoxFuture<'_, Result<Vec<(CacheInfo, u64)>, ExecutorError>> {
        self.cache_sizes().boxed()
    }

    fn clear<'a>(&'a self, run: RunId) -> BoxFuture<'a, Result<(), ExecutorError>> {
        self.clear(run).boxed()
    }

    fn sweep<'a>(&'a self, living: &'a [RunId]) -> BoxFuture<'a, Result<Swept, ExecutorError>> {
        self.sweep(living).boxed()
    }
}

/// A run's entry among the running ones; gone when dropped.
struct Registered {
    running: Running,
    run: RunId,
}

impl Registered {
    fn new(running: &Running, run: RunId, repo: RepoName) -> Self {
        running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((run, repo));
        Self {
            running: Arc::clone(running),
            run,
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = running.iter().position(|(run, _)| *run == self.run) {
            running.swap_remove(at);
        }
    }
}

fn other(attempt: &'static str, error: &dyn std::error::Error) -> ExecutorError {
    ExecutorError::Other {
        attempt,
        message: with_causes(error),
    }
}
