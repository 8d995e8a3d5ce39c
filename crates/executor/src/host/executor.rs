//! The host executor: starts workspaces, and removes what runs left.

use std::path::{Path, PathBuf};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use quire_run_files::logs::Stream;
use quire_runtime::process::ProcessTree;
use quire_types::names::RunId;
use quire_types::run::ExecutorName;
use tokio_util::sync::CancellationToken;

use super::cache_links::{self, MountedCaches};
use super::caches::HostCaches;
use super::config::HostConfig;
use super::running::RunningRuns;
use super::workspace::{HostWorkspace, HostWorkspaceSpec};
use super::workspace_dir;
use super::workspace_root::WorkspaceRoot;
use crate::api::{
    CacheStore, Capabilities, Executor, StartObserver, StartSpec, SweepReport, Workspace,
};
use crate::command::{instance_marker, run_marker};
use crate::error::{ExecutorError, InvalidCommand};

const KILL_ATTEMPT: &str = "end processes that were left behind";

/// Executes runs as child processes.
pub struct HostExecutor {
    name: ExecutorName,
    config: HostConfig,
    /// `None` if no caches are kept.
    caches: Option<HostCaches>,
    running: RunningRuns,
}

impl HostExecutor {
    #[must_use]
    pub fn new(config: HostConfig) -> Self {
        let running = RunningRuns::default();
        let caches = config.caches.clone();
        Self {
            name: ExecutorName::HOST,
            caches: caches.map(|dir| HostCaches::new(dir, running.clone())),
            config,
            running,
        }
    }

    /// The environment of every command of a run.
    fn environment(&self, spec: &StartSpec) -> Vec<(String, String)> {
        let workspace = spec.workspace.to_string_lossy();
        let defaults = [
            (
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            ),
            ("LANG", "C.UTF-8"),
            ("HOME", &workspace),
        ];
        let defaults = defaults.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let inherited = self
            .config
            .inherit
            .iter()
            .filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)));
        defaults
            .into_iter()
            .chain(inherited)
            .chain(spec.env.iter().cloned())
            .collect()
    }

    async fn start(
        &self,
        spec: StartSpec,
        observer: &mut dyn StartObserver,
        cancel: CancellationToken,
    ) -> Result<Box<dyn Workspace>, ExecutorError> {
        if !spec.services.is_empty() {
            return Err(InvalidCommand::ServicesNeedContainers.into());
        }
        let running = self.running.enter(spec.run, spec.repo.clone());
        observer.line(
            Stream::Stdout,
            b"quire: running on the host itself, without isolation; image, limits and network settings do not apply\n",
        );
        workspace_dir::unpack_tree(&spec.workspace, spec.tree.checkout(), &cancel).await?;
        let dir = tokio::fs::canonicalize(&spec.workspace)
            .await
            .map_err(|error| ExecutorError::caused_by("unpack the tree", &error))?;
        let mounted = match self.mount_caches(&spec, &dir).await {
            Ok(mounted) => mounted,
            Err(error) => {
                workspace_dir::remove(dir).await?;
                return Err(error);
            }
        };
        for note in &mounted.notes {
            observer.line(Stream::Stdout, format!("{note}\n").as_bytes());
        }
        let root = WorkspaceRoot::open(&dir, &mounted.links)
            .map_err(|error| ExecutorError::caused_by("open the workspace", &error))?;
        Ok(Box::new(HostWorkspace::new(HostWorkspaceSpec {
            instance: self.config.instance.clone(),
            run: spec.run,
            dir,
            env: self.environment(&spec),
            root,
            running,
        })))
    }

    async fn mount_caches(
        &self,
        spec: &StartSpec,
        workspace: &Path,
    ) -> Result<MountedCaches, ExecutorError> {
        // If no caches are kept, a cache is a folder in the workspace, removed with it.
        let caches = self
            .config
            .caches
            .clone()
            .unwrap_or_else(|| workspace.join(".quire-caches"));
        let repo = spec.repo.clone();
        let mounts = spec.caches.clone();
        let workspace = workspace.to_owned();
        tokio::task::spawn_blocking(move || cache_links::mount(&caches, &repo, &mounts, &workspace))
            .await
            .unwrap_or_else(|error| {
                Err(ExecutorError::caused_by(
                    "put the caches into the workspace",
                    &error,
                ))
            })
    }

    /// The processes of a run.
    fn processes_of(&self, run: RunId) -> ProcessTree {
        ProcessTree {
            marker: run_marker(&self.config.instance, run),
            folder: None,
        }
    }

    /// Lists the workspaces of the runs that `wanted` selects.
    async fn workspaces(
        &self,
        wanted: impl Fn(RunId) -> bool + Send + 'static,
    ) -> Result<Vec<(RunId, PathBuf)>, ExecutorError> {
        match &self.config.runs {
            Some(runs) => workspace_dir::find_workspaces(runs.clone(), wanted).await,
            None => Ok(Vec::new()),
        }
    }

    async fn destroy(&self, run: RunId) -> Result<(), ExecutorError> {
        let workspaces = self.workspaces(move |other| other == run).await?;
        let processes = self.processes_of(run);
        kill(&processes).await?;
        for (_, workspace) in workspaces {
            remove_workspace(&processes.marker, workspace).await?;
        }
        Ok(())
    }

    async fn sweep(&self, active: &[RunId]) -> Result<SweepReport, ExecutorError> {
        // Listed first: what belongs to this process was entered before.
        let marked = ProcessTree::marked_values(&instance_marker(&self.config.instance))
            .map_err(|error| ExecutorError::caused_by(KILL_ATTEMPT, &error))?;
        let is_active = active.to_vec();
        let mut workspaces = self
            .workspaces(move |run| !is_active.contains(&run))
            .await?;
        let mut remaining = self.running.ids();
        // A value is `<run>/<number>.`.
        let mut marked: Vec<RunId> = marked
            .iter()
            .filter_map(|value| value.split('/').next()?.parse().ok())
            .collect();
        marked.dedup();
        marked.retain(|run| !active.contains(run) && !remaining.contains(run));
        workspaces.retain(|(run, _)| !remaining.contains(run));
        remaining.retain(|run| !active.contains(run));

        let mut removed = 0;
        let mut record = |run: RunId, count: usize, result: Result<(), ExecutorError>| match result
        {
            Ok(()) => removed += count,
            Err(error) => {
                tracing::warn!(%run, %error, "cannot remove what a run left on this machine; it is retried");
                remaining.push(run);
            }
        };
        for run in marked {
            let processes = self.processes_of(run);
            let count = processes
                .pids()
                .map_err(|error| ExecutorError::caused_by(KILL_ATTEMPT, &error))?
                .len();
            record(run, count, kill(&processes).await);
        }
        for (run, workspace) in workspaces {
            let marker = run_marker(&self.config.instance, run);
            record(run, 1, remove_workspace(&marker, workspace).await);
        }
        if let Some(caches) = &self.caches {
            removed += caches.empty_trash().await;
        }
        Ok(SweepReport::new(removed, remaining))
    }
}

/// Removes the workspace of a run, after the processes whose working directory is in it.
async fn remove_workspace(marker: &str, workspace: PathBuf) -> Result<(), ExecutorError> {
    // Resolved up to its parent only: a link in place of the workspace itself is not followed.
    let parent = workspace.parent().unwrap_or(&workspace);
    if let Ok(parent) = tokio::fs::canonicalize(parent).await {
        kill(&ProcessTree {
            marker: marker.to_owned(),
            folder: Some(parent.join("workspace")),
        })
        .await?;
    }
    workspace_dir::remove(workspace).await
}

async fn kill(processes: &ProcessTree) -> Result<(), ExecutorError> {
    let killed = processes.end().await;
    killed.map_err(|error| ExecutorError::caused_by(KILL_ATTEMPT, &error))
}

impl Executor for HostExecutor {
    fn name(&self) -> &ExecutorName {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            isolated: false,
            keeps_failed_workspaces: false,
            workspace_on_disk: true,
        }
    }

    fn caches(&self) -> Option<&dyn CacheStore> {
        let caches = self.caches.as_ref()?;
        Some(caches)
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        async { Ok(()) }.boxed()
    }

    fn start_workspace<'a>(
        &'a self,
        spec: StartSpec,
        observer: &'a mut dyn StartObserver,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Box<dyn Workspace>, ExecutorError>> {
        self.start(spec, observer, cancel).boxed()
    }

    fn destroy_run(&self, run: RunId) -> BoxFuture<'_, Result<(), ExecutorError>> {
        self.destroy(run).boxed()
    }

    fn sweep<'a>(
        &'a self,
        active: &'a [RunId],
    ) -> BoxFuture<'a, Result<SweepReport, ExecutorError>> {
        self.sweep(active).boxed()
    }
}
