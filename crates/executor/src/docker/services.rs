//! Containers beside that of a run, on a network that only they share.
//!
//! ```text
//! network ─► for each at once: create ─► attach ─► start ─► asked whether it is ready ─► ready
//!                                          │ log, from the first byte on       │ ended, late: the start fails
//! ```
//! They carry the labels of the run, so whatever finds the run's container finds them and their
//! network as well. A service that ends later ends nothing: the run is told, and its commands show
//! what it means.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use quire_run_files::logs::Stream;
use quire_types::failpoint;
use tokio_util::task::AbortOnDropHandle;

use super::cleanup::{self, Creations};
use super::context::{
    DROPPED_CAPABILITIES, DockerContext, SERVICE_LABEL, run_network_name, service_name,
};
use super::engine_images::DockerImages;
use super::in_use::RunLease;
use super::ready_check::succeeds;
use super::service_output::{LastLines, OutputFollower, ServiceFailures};
use crate::api::{OutputSink, ServiceSpec, StartObserver, StartSpec};
use crate::engine::{ContainerExtras, ContainerSpec, ContainerState, DockerError, NetworkMode};
use crate::error::{ContainerFailure, ExecutorError, ImageError};

/// The first and the longest pause between two checks whether a service is ready.
const FIRST_READY_PAUSE: Duration = Duration::from_millis(100);
const MAX_READY_PAUSE: Duration = Duration::from_secs(1);
/// How often in a row the engine may fail to run the check.
const MAX_CHECK_FAILURES: u32 = 3;

/// The services of a started run.
pub(super) struct Services {
    failures: ServiceFailures,
    _followers: Vec<AbortOnDropHandle<()>>,
}

impl Services {
    /// The services that have ended, each in one sentence.
    pub(super) fn failures(&self) -> Vec<String> {
        self.failures.sentences()
    }
}

/// A service whose container is to be started.
struct PlannedService<'a> {
    service: &'a ServiceSpec,
    /// The name of the container.
    name: String,
    /// The full name of the image.
    image: String,
}

/// A service whose container was started.
struct StartedService<'a> {
    spec: &'a ServiceSpec,
    container: String,
    last_lines: LastLines,
    follower: AbortOnDropHandle<()>,
}

/// Starts the services of runs. Cheap to clone.
#[derive(Clone)]
pub(super) struct ServiceStarter {
    context: DockerContext,
    images: DockerImages,
}

impl ServiceStarter {
    pub(super) fn new(context: DockerContext, images: DockerImages) -> Self {
        Self { context, images }
    }

    /// Creates the network of a run with services and returns its id.
    pub(super) async fn create_network(
        &self,
        spec: &StartSpec,
        creations: &Creations,
    ) -> Result<String, ExecutorError> {
        let create_error =
            |error| ExecutorError::from_engine("create the network of the run", error);
        // An earlier attempt at the same run may have left something.
        cleanup::remove_run(&self.context, spec.run)
            .await
            .map_err(create_error)?;
        let engine = self.context.engine.clone();
        let name = run_network_name(spec.run);
        let labels = self.context.spec_labels(spec);
        let internal = !spec.limits.network;
        let creating = async move { engine.create_shared_network(&name, &labels, internal).await };
        let network = creations.run(creating).await.map_err(create_error)?;
        failpoint::hit("services-network-made");
        Ok(network)
    }

    /// Starts all services of a run and waits until each is ready.
    pub(super) async fn start(
        &self,
        spec: &StartSpec,
        network: &str,
        observer: &mut dyn StartObserver,
        lease: &RunLease,
        creations: &Creations,
    ) -> Result<Services, ExecutorError> {
        let mut planned = Vec::new();
        for (number, service) in spec.services.iter().enumerate() {
            let image = self.ensure_image(service, spec.rebuild, observer, lease);
            planned.push(PlannedService {
                name: service_name(spec.run, number),
                image: image.await?,
                service,
            });
        }
        let failures = ServiceFailures::default();
        let sinks: Vec<_> = spec
            .services
            .iter()
            .map(|service| observer.service_output(&service.name))
            .collect();
        let starting = planned.into_iter().zip(sinks).map(|(planned, sink)| {
            let service = planned.service;
            let container_spec = self.container_spec(spec, planned, network);
            let follower = OutputFollower {
                engine: self.context.engine.clone(),
                memory: spec.limits.memory,
                failures: failures.clone(),
            };
            async move {
                let container_spec = container_spec.await.map_err(start_error)?;
                self.start_service(service, container_spec, follower, sink, creations)
                    .await
            }
        });
        let started = try_join_all(starting).await?;
        let names: Vec<_> = spec
            .services
            .iter()
            .map(|service| service.name.as_str())
            .collect();
        let line = format!("quire: waiting for {} to be ready\n", names.join(", "));
        observer.line(Stream::Stdout, line.as_bytes());
        // All are waited for, so that the first in the pipeline that fails is the one that is
        // named.
        let ready = join_all(started.iter().map(|service| self.wait_ready(service))).await;
        for (service, ready) in started.iter().zip(ready) {
            if let Err(error) = ready {
                service.last_lines.show(&service.spec.name, observer).await;
                return Err(error);
            }
        }
        failpoint::hit("services-ready");
        Ok(Services {
            failures,
            _followers: started
                .into_iter()
                .map(|service| service.follower)
                .collect(),
        })
    }

    /// Returns the full name of the image of a service, which the engine has then.
    async fn ensure_image(
        &self,
        service: &ServiceSpec,
        rebuild: bool,
        observer: &mut dyn StartObserver,
        lease: &RunLease,
    ) -> Result<String, ExecutorError> {
        let image = &service.image;
        let ensured = self.images.ensure_image(image, rebuild, observer, lease);
        match ensured.await {
            Ok(image) => Ok(image.name),
            Err(ExecutorError::Image(error)) => {
                Err(ImageError::of_service(&service.name, error).into())
            }
            Err(error) => Err(error),
        }
    }

    async fn container_spec(
        &self,
        spec: &StartSpec,
        planned: PlannedService<'_>,
        network: &str,
    ) -> Result<ContainerSpec, DockerError> {
        // The engine rejects more CPUs than it has.
        let max_milli_cpus = self.context.engine.cpus().await?.saturating_mul(1000);
        let service = planned.service;
        let mut labels = self.context.spec_labels(spec);
        labels.push((SERVICE_LABEL.to_owned(), service.name.clone()));
        Ok(ContainerSpec {
            name: planned.name,
            image: planned.image,
            user: None,
            entrypoint: service.command.clone().unwrap_or_default(),
            env: env_entries(&service.env),
            workdir: None,
            labels,
            memory: spec.limits.memory,
            milli_cpus: spec.limits.milli_cpus.min(max_milli_cpus),
            cpu_shares: self.context.config.cpu_shares,
            pids: spec.limits.pids,
            drop_capabilities: DROPPED_CAPABILITIES.map(str::to_owned).to_vec(),
            extras: ContainerExtras::default(),
            volumes: Vec::new(),
            is_helper: false,
            network: NetworkMode::Id(network.to_owned()),
            alias: Some(service.name.clone()),
        })
    }

    async fn start_service<'a>(
        &self,
        service: &'a ServiceSpec,
        container_spec: ContainerSpec,
        follower: OutputFollower,
        sink: Box<dyn OutputSink>,
        creations: &Creations,
    ) -> Result<StartedService<'a>, ExecutorError> {
        let engine = &self.context.engine;
        let creator = engine.clone();
        let creating = async move { creator.create_container(&container_spec).await };
        let container = creations.run(creating).await.map_err(start_error)?;
        failpoint::hit("service-created");
        // Attached before the start, so that nothing of the output is missed.
        let streams = engine
            .attach(&container, false)
            .await
            .map_err(start_error)?;
        let last_lines = LastLines::default();
        let following = follower.follow(
            container.clone(),
            service.name.clone(),
            streams.output,
            sink,
            last_lines.clone(),
        );
        let follower = AbortOnDropHandle::new(tokio::spawn(following));
        engine
            .start_container(&container)
            .await
            .map_err(|error| match error {
                // Most likely its program, which the pipeline names.
                error if !error.is_unavailable() && !error.is_server_error() => {
                    ContainerFailure::ServiceCannotStart {
                        service: service.name.clone(),
                        message: error.engine_message(),
                    }
                    .into()
                }
                error => start_error(error),
            })?;
        failpoint::hit("service-started");
        Ok(StartedService {
            spec: service,
            container,
            last_lines,
            follower,
        })
    }

    async fn wait_ready(&self, service: &StartedService<'_>) -> Result<(), ExecutorError> {
        let within = service.spec.ready_within;
        let ready = tokio::time::timeout(within, self.poll_ready(service)).await;
        ready.unwrap_or_else(|_| {
            Err(ExecutorError::ServiceNotReady {
                service: service.spec.name.clone(),
                within,
            })
        })
    }

    /// Fails if the container of a service does not run.
    async fn check_running(&self, service: &StartedService<'_>) -> Result<(), ExecutorError> {
        let state = self.context.engine.container(&service.container).await;
        match failure_before_ready(&service.spec.name, state.map_err(check_error)?) {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }

    async fn poll_ready(&self, service: &StartedService<'_>) -> Result<(), ExecutorError> {
        let engine = &self.context.engine;
        let mut pause = FIRST_READY_PAUSE;
        let mut failures = 0;
        loop {
            self.check_running(service).await?;
            let Some(ready) = &service.spec.ready else {
                return Ok(());
            };
            match succeeds(engine, &service.container, ready).await {
                // The check may have passed in a container that ended meanwhile.
                Ok(true) => return self.check_running(service).await,
                // The container may just have ended, which its state shows next. An engine that
                // fails again and again is at fault.
                Err(error) if error.is_server_error() && failures < MAX_CHECK_FAILURES => {
                    failures += 1;
                }
                Err(error) if error.is_server_error() || error.is_unavailable() => {
                    return Err(check_error(error));
                }
                Ok(_) | Err(_) => failures = 0,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_READY_PAUSE);
        }
    }
}

fn check_error(error: DockerError) -> ExecutorError {
    ExecutorError::from_engine("check whether the service is ready", error)
}

/// Returns why a service will never be ready; `None` if its container runs.
fn failure_before_ready(service: &str, state: Option<ContainerState>) -> Option<ContainerFailure> {
    let service = service.to_owned();
    match state {
        Some(state) if state.running => None,
        Some(state) => {
            let how = if state.error.is_empty() {
                format!("ended with exit code {}", state.exit_code)
            } else {
                state.error
            };
            Some(ContainerFailure::ServiceEnded { service, how })
        }
        None => Some(ContainerFailure::ServiceRemoved { service }),
    }
}

/// Variables as `NAME=value`.
pub(super) fn env_entries(env: &[(String, String)]) -> Vec<String> {
    env.iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

fn start_error(error: DockerError) -> ExecutorError {
    ExecutorError::from_engine("start the service", error)
}
