//! The start of a job: from the creation of a service until its helper has connected.

use std::sync::{Arc, OnceLock};

use quire_types::failpoint;
use quire_types::names::RunId;

use super::callback::{Callback, CallbackServer};
use super::channel_stream::HelperConnection;
use super::engine_errors::{create_error, list_error, remove_error};
use super::helper_config::HelperConfig;
use super::job::{JobParts, JobRecipe, Placement, job_spec};
use super::last_nodes::{LastNode, LastNodes};
use super::lease::{HelperContact, LEASE, PING_INTERVAL};
use super::place::SwarmPlace;
use super::services::SwarmServices;
use super::start::{PendingEnd, PendingTask};
use crate::api::StartObserver;
use crate::docker::cleanup::Creations;
use crate::docker::context::DockerContext;
use crate::docker::in_use::RunLease;
use crate::engine::{DockerError, JobSpec, SwarmNode, SwarmTask};
use crate::error::{ContainerFailure, ExecutorError, ImageError};
use crate::link::HelperLink;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct JobStarter {
    pub(super) context: DockerContext,
    pub(super) callbacks: CallbackServer,
    pub(super) helper: HelperConfig,
    pub(super) last_nodes: LastNodes,
}

/// A job that is to be started.
pub(super) struct JobStart<'a> {
    /// The run, or the id that stands for one.
    pub(super) run: RunId,
    pub(super) recipe: &'a JobRecipe,
    pub(super) services: Option<SwarmServices>,
    pub(super) creations: &'a Creations,
    pub(super) lease: RunLease,
    /// Whether it waits if the swarm has no node for it.
    pub(super) may_wait: bool,
}

/// A job whose helper has connected.
pub(super) struct StartedJob {
    pub(super) link: HelperLink,
    pub(super) place: Arc<SwarmPlace>,
}

impl StartedJob {
    /// Whether its helper can be expected to answer, on a node that takes runs.
    pub(super) async fn is_usable(&self) -> bool {
        if self.link.is_lost() || self.place.contact.is_silent() {
            return false;
        }
        let Some(own) = &self.place.node else {
            return false;
        };
        let node = self.place.context.engine.node(&own.id).await;
        node.is_some_and(|node| node.is_usable())
    }
}

impl JobStarter {
    /// Creates services until the helper of one has connected: more than one only if the node of the repository's caches
    /// was chosen and then went away.
    pub(super) async fn start(
        &self,
        start: JobStart<'_>,
        observer: &mut dyn StartObserver,
    ) -> Result<StartedJob, ExecutorError> {
        let callback_address = self.callbacks.address()?.to_string();
        loop {
            let mut callback = self.callbacks.expect()?;
            let nodes = self.context.engine.nodes().await.map_err(list_error)?;
            let placement = self.placement(start.recipe, &nodes)?;
            if placement.is_preference {
                failpoint::hit("swarm-node-preferred");
            }
            let service = self.create(&start, &callback, &placement).await?;
            observer.container_created(&service, &start.recipe.image_name);
            let pending = PendingTask {
                context: &self.context,
                service: &service,
                callback: &callback_address,
                may_wait: start.may_wait && !placement.is_preference,
            };
            match pending.connection(&mut callback, observer).await? {
                PendingEnd::Connected(connection) => {
                    observer.container_started();
                    return Ok(self.started(start, service, connection, &nodes).await);
                }
                PendingEnd::NoNode(_) if placement.is_preference => {
                    // A helper that the node starts all the same has a token of no use.
                    drop(callback);
                    self.last_nodes.forget(&start.recipe.repo);
                    let limit = self.context.engine.timeouts().removal;
                    let removed = self.context.engine.remove_service(&service, limit).await;
                    removed.map_err(remove_error)?;
                }
                PendingEnd::NoNode(message) => {
                    return Err(ContainerFailure::CouldNotRun { message }.into());
                }
            }
        }
    }

    /// Creates the service, and returns its id.
    async fn create(
        &self,
        start: &JobStart<'_>,
        callback: &Callback,
        placement: &Placement,
    ) -> Result<String, ExecutorError> {
        let addresses = self.callbacks.resolve().await?;
        let services = start.services.as_ref();
        let parts = JobParts {
            run: start.run,
            helper: self.helper.ensure().await.map_err(create_error)?,
            callback: &addresses,
            token: &callback.token,
            placement,
            network: services.map(SwarmServices::network),
            hosts: services.map_or_else(Vec::new, |services| services.hosts.clone()),
        };
        let mut job = job_spec(&self.context, start.recipe, parts);
        match self.create_job(start.creations, job.clone()).await {
            // The swarm does not have the helper any more. Only it can know, and it says so only now.
            Err(error) if error.is_missing_config() => {
                self.helper.forget().await;
                job.program = Some(self.helper.ensure().await.map_err(create_error)?);
                let created = self.create_job(start.creations, job).await;
                created.map_err(create_error)
            }
            created => created.map_err(create_error),
        }
    }

    async fn create_job(&self, creations: &Creations, job: JobSpec) -> Result<String, DockerError> {
        let engine = self.context.engine.clone();
        creations
            .run(async move { engine.create_job(&job).await })
            .await
    }

    /// Where a job may be executed: on the node that was asked for or is the only one that can have the image; otherwise on
    /// the one that has the caches of the repository, if it can take a task now; otherwise on any.
    fn placement(
        &self,
        recipe: &JobRecipe,
        nodes: &[SwarmNode],
    ) -> Result<Placement, ExecutorError> {
        if let (Some(asked), Some(only)) = (&recipe.node, &recipe.image.node)
            && asked != only
        {
            let node = nodes.iter().find(|node| node.id == *asked);
            return Err(ImageError::NotOnNode {
                name: recipe.image_name.clone(),
                node: node.map_or_else(|| asked.clone(), |node| node.name.clone()),
            }
            .into());
        }
        let only = recipe.image.node.clone();
        let required = only.or_else(|| recipe.node.clone());
        let is_usable = |id: &String| nodes.iter().any(|node| node.id == *id && node.is_usable());
        let last = self.last_nodes.of(&recipe.repo).map(|node| node.id);
        let last = last.filter(is_usable);
        // Nothing but caches makes one node better than another.
        let preferred = last.filter(|_| required.is_none() && !recipe.caches.is_empty());
        let is_preference = preferred.is_some();
        let node = required.or(preferred);
        let candidates = nodes.iter().filter(|candidate| match &node {
            Some(id) => candidate.id == *id,
            // One that is down may have come back by the time that it is chosen.
            None => candidate.is_active || !nodes.iter().any(|node| node.is_active),
        });
        Ok(Placement {
            max_milli_cpus: candidates.map(|node| node.milli_cpus).min(),
            node,
            is_preference,
        })
    }

    async fn started(
        &self,
        start: JobStart<'_>,
        service: String,
        connection: HelperConnection,
        nodes: &[SwarmNode],
    ) -> StartedJob {
        let task = self.context.engine.task_of(&service).await;
        let node = match task.ok().flatten() {
            Some(task) if !task.node.is_empty() => Some(self.node_of(task, nodes).await),
            _ => None,
        };
        let contact = Arc::new(HelperContact::new());
        let place = Arc::new(SwarmPlace {
            context: self.context.clone(),
            run: start.run,
            repo: start.recipe.repo.clone(),
            last_nodes: self.last_nodes.clone(),
            service,
            node,
            memory: start.recipe.limits.memory,
            contact: Arc::clone(&contact),
            services: start.services,
            _lease: start.lease,
            taken: OnceLock::new(),
        });
        let streams = connection.into_streams(contact);
        let link = HelperLink::new(streams, place.clone(), PING_INTERVAL);
        link.keep_alive(PING_INTERVAL, LEASE);
        StartedJob { link, place }
    }

    /// The node of a task. One that was not listed has joined the swarm since.
    async fn node_of(&self, task: SwarmTask, listed: &[SwarmNode]) -> LastNode {
        let known = listed.iter().find(|node| node.id == task.node);
        let name = match known {
            Some(node) => node.name.clone(),
            None => self.context.engine.node_name(&task.node).await,
        };
        LastNode {
            id: task.node,
            name,
        }
    }
}
