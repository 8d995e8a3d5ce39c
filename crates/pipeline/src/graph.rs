//! A valid job graph with its settings.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::diagnostic::Location;
use super::registration::{
    Cache, CheckoutOptions, ContainerOptions, Cron, Group, JobOptions, Resources, Service,
};
use super::source::{Input, Source};
use quire_types::image_reference::ImageReference;
use quire_types::names::JobName;

/// A job of a checked pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub id: JobName,
    /// In the order written, each once.
    pub inputs: Vec<Input>,
    pub options: JobOptions,
    pub location: Location,
}

/// The image of a pipeline's runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PipelineImage {
    /// The image of `ci.image`.
    Reference(ImageReference),
    /// The image built from `.quire/Dockerfile`.
    Dockerfile,
    /// The image of the configuration.
    Default,
}

/// A valid job graph. Only [`Pipeline::check`] creates one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipeline {
    pub(super) jobs: Vec<Job>,
    pub(super) index: HashMap<JobName, usize>,
    pub(super) image: PipelineImage,
    pub(super) env: Vec<(String, String)>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) caches: Vec<Cache>,
    pub(super) services: Vec<Service<ImageReference>>,
    pub(super) group: Option<Group>,
    pub(super) network: Option<bool>,
    pub(super) resources: Resources,
    pub(super) container: ContainerOptions,
    pub(super) docker: bool,
    pub(super) crons: Vec<Cron>,
    pub(super) checkout: CheckoutOptions,
}

impl Pipeline {
    /// The jobs, in the order of registration.
    #[must_use]
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    #[must_use]
    pub fn job(&self, id: &JobName) -> Option<&Job> {
        self.index.get(id).map(|at| &self.jobs[*at])
    }

    #[must_use]
    pub fn image(&self) -> &PipelineImage {
        &self.image
    }

    /// The variables of the whole run, each name once.
    #[must_use]
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// The time limit of the whole run.
    #[must_use]
    pub fn timeout_ms(&self) -> Option<u64> {
        self.timeout_ms
    }

    #[must_use]
    pub fn caches(&self) -> &[Cache] {
        &self.caches
    }

    #[must_use]
    pub fn services(&self) -> &[Service<ImageReference>] {
        &self.services
    }

    #[must_use]
    pub fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// Whether its runs have a network. `None` if the configuration decides.
    #[must_use]
    pub fn network(&self) -> Option<bool> {
        self.network
    }

    #[must_use]
    pub fn resources(&self) -> &Resources {
        &self.resources
    }

    #[must_use]
    pub fn container(&self) -> &ContainerOptions {
        &self.container
    }

    /// Whether its runs get the engine's socket.
    #[must_use]
    pub fn docker(&self) -> bool {
        self.docker
    }

    #[must_use]
    pub fn crons(&self) -> &[Cron] {
        &self.crons
    }

    #[must_use]
    pub fn checkout(&self) -> CheckoutOptions {
        self.checkout
    }

    /// The sources that are inputs of at least one job.
    #[must_use]
    pub fn sources(&self) -> Vec<Source> {
        let named: HashSet<&Source> = self
            .jobs
            .iter()
            .flat_map(|job| &job.inputs)
            .filter_map(Input::source)
            .collect();
        self.all_sources()
            .filter(|source| named.contains(source))
            .collect()
    }

    /// All sources that can be inputs: the built-in ones, then those of the schedules, then the incoming webhooks that are
    /// inputs. Which of the latter there are is known to the owner's configuration alone.
    fn all_sources(&self) -> impl Iterator<Item = Source> + '_ {
        let crons = self
            .crons
            .iter()
            .filter_map(|cron| cron.name.parse().ok().map(Source::Cron));
        let inputs = self.jobs.iter().flat_map(|job| &job.inputs);
        let hooks: BTreeSet<Source> = inputs
            .filter_map(Input::source)
            .filter(|source| matches!(source, Source::Hook(_)))
            .cloned()
            .collect();
        Source::BUILT_IN.into_iter().chain(crons).chain(hooks)
    }

    /// All sources and jobs that `job` depends on, which are those that it may pass to `(jobs name)`:
    /// first the sources, then the jobs in the order of registration.
    #[must_use]
    pub fn ancestors(&self, job: &JobName) -> Vec<Input> {
        let mut seen: HashSet<&Input> = HashSet::new();
        let mut open: Vec<&JobName> = vec![job];
        while let Some(inputs) = open
            .pop()
            .and_then(|id| self.job(id))
            .map(|job| &job.inputs)
        {
            for input in inputs {
                if seen.insert(input)
                    && let Input::Job(id) = input
                {
                    open.push(id);
                }
            }
        }
        let sources = self.all_sources().map(Input::Source);
        sources
            .chain(self.jobs.iter().map(|job| Input::Job(job.id.clone())))
            .filter(|input| seen.contains(input))
            .collect()
    }
}
