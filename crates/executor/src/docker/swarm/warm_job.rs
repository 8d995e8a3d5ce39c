//! Jobs that are started in advance.

use quire_run_files::logs::Stream;
use quire_types::names::{RepoName, RunId};

use super::job::JobRecipe;
use super::job_starter::{JobStart, JobStarter, StartedJob};
use crate::api::StartObserver;
use crate::docker::cleanup::{CleanupGuard, Creations};
use crate::docker::warm_pool::{WarmPool, WarmStartKey, WarmStarter};
use crate::engine::VolumeSource;
use crate::error::ExecutorError;
use crate::images::BuiltImage;

/// The jobs that wait for runs.
pub(super) type WarmJobs = WarmPool<WarmJobStarter>;

pub(super) struct WarmJobStarter(JobStarter);

/// A started job that no run has used.
pub(super) struct WarmJob {
    pub(super) job: StartedJob,
    pub(super) guard: CleanupGuard,
}

impl WarmJobStarter {
    /// The pool of an executor.
    pub(super) fn pool(starter: &JobStarter) -> WarmJobs {
        WarmPool::new(Self(starter.clone()), starter.context.config.warm)
    }
}

impl WarmStartKey for JobRecipe {
    fn repo(&self) -> &RepoName {
        &self.repo
    }

    fn is_outdated_by(&self, newer: &Self) -> bool {
        let is_same_name = self.image_name == newer.image_name;
        self.repo == newer.repo && is_same_name && self.image_id != newer.image_id
    }

    fn uses_volume(&self, volume: &str) -> bool {
        let mut mounts = self.caches.iter();
        mounts.any(
            |mount| matches!(&mount.source, VolumeSource::Created { name, .. } if name == volume),
        )
    }
}

impl WarmStarter for WarmJobStarter {
    type Key = JobRecipe;
    type Started = WarmJob;

    async fn start(&self, recipe: &JobRecipe, own: RunId) -> Result<WarmJob, ExecutorError> {
        let Self(starter) = self;
        let creations = Creations::default();
        let guard = CleanupGuard::of_swarm_run(&starter.context, own, &creations);
        let start = JobStart {
            run: own,
            recipe,
            services: None,
            creations: &creations,
            lease: starter.context.in_use.lease(own),
            // A run that needs one meanwhile starts its own job, whose log says that it waits for a node.
            may_wait: false,
        };
        let job = starter.start(start, &mut NoObserver).await?;
        Ok(WarmJob { job, guard })
    }

    fn id(started: &WarmJob) -> &str {
        &started.job.place.service
    }

    async fn remove(started: WarmJob) {
        let WarmJob { job, guard } = started;
        // The connection is closed first, which ends the helper.
        drop(job.link);
        guard.clean_up().await;
    }
}

/// The observer of what is started in advance: there is no run to which it could be told.
struct NoObserver;

impl StartObserver for NoObserver {
    fn line(&mut self, _stream: Stream, _bytes: &[u8]) {}
    fn build_started(&mut self, _engine: &str, _tag: &str) {}
    fn build_finished(&mut self, _image: &BuiltImage) {}
    fn container_created(&mut self, _id: &str, _image: &str) {}
    fn container_started(&mut self) {}
}
