//! Containers beside that of a run, as tasks on an overlay network that only they share.
//!
//! A service is ready when its task is running, which the swarm says once the check of its container has succeeded. The run's
//! container is created afterwards, and is told the addresses of the services: what the nodes know of names on a new
//! network spreads within seconds, and the first command may not wait for that.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{join_all, try_join_all};
use quire_run_files::logs::Stream;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::engine_errors::create_error;
use super::job::{JobImage, STOP_AT_ONCE, limited_cpus};
use super::start::WaitingLine;
use crate::api::{OutputSink, ServiceSpec, StartObserver, StartSpec};
use crate::docker::cleanup::Creations;
use crate::docker::context::{
    DROPPED_CAPABILITIES, DockerContext, SERVICE_LABEL, run_network_name, service_name,
};
use crate::docker::service_output::{LastLines, ServiceFailures};
use crate::docker::services::env_entries;
use crate::engine::{ContainerSpec, Engine, JobNetwork, JobSpec, ReadyCheck, SwarmTask, TaskPhase};
use crate::error::{ContainerFailure, ExecutorError};

/// The interval of questions about a service that is not ready.
const READY_INTERVAL: Duration = Duration::from_millis(200);

/// What the swarm says of a task whose check has failed for too long.
const UNHEALTHY: &str = "unhealthy";

/// How long the swarm may take to end a service that is not ready in time.
const END_TIMEOUT: Duration = Duration::from_secs(30);

/// The interval of questions about a service that is ready.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// The services of a run.
pub(super) struct SwarmServices {
    /// The id of the network.
    network: String,
    /// The names of the services with their addresses.
    pub(super) hosts: Vec<(String, IpAddr)>,
    failures: ServiceFailures,
    /// The ids of the services, each with what takes its output.
    sinks: Mutex<Vec<(String, Box<dyn OutputSink>)>>,
    _watch: AbortOnDropHandle<()>,
}

impl SwarmServices {
    /// The network as the run's container sees it.
    pub(super) fn network(&self) -> JobNetwork {
        JobNetwork {
            id: self.network.clone(),
            alias: None,
        }
    }

    /// Passes on what the services have written, once: the engines of other nodes are read by way of the manager, when
    /// the run is over.
    pub(super) async fn pass_output_on(&self, engine: &Engine) {
        let sinks = std::mem::take(&mut *self.sinks.lock().unwrap_or_else(PoisonError::into_inner));
        let passing = sinks.into_iter().map(|(service, mut sink)| async move {
            for (stream, bytes) in engine.service_output(&service).await {
                sink.output(stream, &bytes);
            }
        });
        join_all(passing).await;
    }

    /// The services that have ended, each in one sentence.
    pub(super) fn failures(&self) -> Vec<String> {
        self.failures.sentences()
    }
}

/// A service of the swarm that was created for one of the pipeline.
struct CreatedTask<'a> {
    spec: &'a ServiceSpec,
    /// The id.
    service: String,
}

/// What the services of a run are started with.
pub(super) struct ServiceStart<'a> {
    pub(super) context: &'a DockerContext,
    pub(super) spec: &'a StartSpec,
    /// The images of the services, in their order.
    pub(super) images: Vec<JobImage>,
    pub(super) creations: &'a Creations,
    /// The CPUs, in thousandths, of the smallest node. An engine rejects more than it has.
    pub(super) max_milli_cpus: Option<u64>,
}

impl ServiceStart<'_> {
    /// Starts all services of a run and waits until each is ready.
    pub(super) async fn start(
        &self,
        observer: &mut dyn StartObserver,
    ) -> Result<SwarmServices, ExecutorError> {
        let network = self.create_network().await?;
        let services = self.spec.services.iter().zip(&self.images).enumerate();
        let creating = services
            .map(|(number, (service, image))| self.create(number, service, image, &network));
        let created = try_join_all(creating).await?;
        let names = created.iter().map(|created| created.spec.name.as_str());
        let names: Vec<_> = names.collect();
        let line = format!("quire: waiting for {} to be ready\n", names.join(", "));
        observer.line(Stream::Stdout, line.as_bytes());
        // All are waited for, so that the first in the pipeline that fails is the one that is named.
        let (lines, mut told) = mpsc::unbounded_channel();
        let waiting = created
            .iter()
            .map(|service| self.wait_ready(service, lines.clone()));
        let mut waiting = pin!(join_all(waiting));
        let ready = loop {
            tokio::select! {
                ready = &mut waiting => break ready,
                Some(line) = told.recv() => observer.line(Stream::Stdout, String::as_bytes(&line)),
            }
        };
        let mut hosts = Vec::new();
        for (created, ready) in created.iter().zip(ready) {
            match ready {
                Ok(task) => {
                    let addresses = task.addresses.into_iter();
                    hosts.extend(addresses.map(|address| (created.spec.name.clone(), address)));
                }
                Err(error) => {
                    let lines = LastLines::default();
                    for (_, bytes) in self.context.engine.service_output(&created.service).await {
                        lines.push(&bytes);
                    }
                    lines.close();
                    lines.show(&created.spec.name, observer).await;
                    return Err(error);
                }
            }
        }
        let failures = ServiceFailures::default();
        let sink = |created: &CreatedTask<'_>| {
            let sink = observer.service_output(&created.spec.name);
            (created.service.clone(), sink)
        };
        let sinks = Mutex::new(created.iter().map(sink).collect());
        let watched = created
            .iter()
            .map(|created| (created.spec.name.clone(), created.service.clone()));
        let watching = watch(self.context.clone(), watched.collect(), failures.clone());
        Ok(SwarmServices {
            network,
            hosts,
            failures,
            sinks,
            _watch: AbortOnDropHandle::new(tokio::spawn(watching)),
        })
    }

    async fn create_network(&self) -> Result<String, ExecutorError> {
        let engine = self.context.engine.clone();
        let name = run_network_name(self.spec.run);
        let labels = self.context.spec_labels(self.spec);
        let creating = async move { engine.create_overlay(&name, &labels).await };
        let created = self.creations.run(creating).await;
        created.map_err(|error| ExecutorError::from_engine("create the network of the run", error))
    }

    async fn create<'a>(
        &self,
        number: usize,
        service: &'a ServiceSpec,
        image: &JobImage,
        network: &str,
    ) -> Result<CreatedTask<'a>, ExecutorError> {
        let limits = &self.spec.limits;
        let mut labels = self.context.spec_labels(self.spec);
        labels.push((SERVICE_LABEL.to_owned(), service.name.clone()));
        let container = ContainerSpec {
            name: service_name(self.spec.run, number),
            image: image.reference.clone(),
            entrypoint: service.command.clone().unwrap_or_default(),
            env: env_entries(&service.env),
            labels,
            memory: limits.memory,
            milli_cpus: limited_cpus(limits, self.max_milli_cpus),
            pids: limits.pids,
            drop_capabilities: DROPPED_CAPABILITIES.map(str::to_owned).to_vec(),
            ..ContainerSpec::default()
        };
        let job = JobSpec {
            container,
            program: None,
            network: Some(JobNetwork {
                id: network.to_owned(),
                alias: Some(service.name.clone()),
            }),
            hosts: Vec::new(),
            ready: service.ready.clone().map(|command| ReadyCheck {
                command,
                within: service.ready_within,
            }),
            is_logged: true,
            node: image.node.clone(),
            login: image.login.clone(),
            stop_grace: STOP_AT_ONCE,
        };
        let engine = self.context.engine.clone();
        let creating = async move { engine.create_job(&job).await };
        let created = self.creations.run(creating).await;
        let id = created.map_err(create_error)?;
        Ok(CreatedTask {
            spec: service,
            service: id,
        })
    }

    /// Waits until a service is ready, and returns its task. The time for it begins when its container starts.
    async fn wait_ready(
        &self,
        created: &CreatedTask<'_>,
        lines: mpsc::UnboundedSender<String>,
    ) -> Result<SwarmTask, ExecutorError> {
        let check_error =
            |error| ExecutorError::from_engine("check whether the service is ready", error);
        let service = || created.spec.name.clone();
        let within = created.spec.ready_within;
        let (mut deadline, mut told) = (None, WaitingLine::default());
        loop {
            let task = match self.context.engine.task_of(&created.service).await {
                // A manager that starts again is waited for.
                Err(error) if error.is_unavailable() || error.is_server_error() => None,
                task => task.map_err(check_error)?,
            };
            match task {
                Some(task) if task.phase == TaskPhase::Running => return Ok(task),
                // The swarm has ended it itself, and its output can be read only now.
                Some(task)
                    if task.phase == TaskPhase::Ended && task.message.contains(UNHEALTHY) =>
                {
                    let service = service();
                    return Err(ExecutorError::ServiceNotReady { service, within });
                }
                Some(task) if task.phase == TaskPhase::Ended => {
                    let how = match task.exit_code {
                        0 => task.message,
                        code => format!("ended with exit code {code}"),
                    };
                    return Err(ContainerFailure::ServiceEnded {
                        service: service(),
                        how,
                    }
                    .into());
                }
                Some(task) if task.phase == TaskPhase::Starting => {
                    let deadline =
                        *deadline.get_or_insert_with(|| Instant::now() + within + END_TIMEOUT);
                    if Instant::now() > deadline {
                        let service = service();
                        return Err(ExecutorError::ServiceNotReady { service, within });
                    }
                }
                Some(task) => {
                    let line = told.of(&format!("the service `{}`", created.spec.name), &task);
                    let _ = line.map(|line| lines.send(line));
                }
                None => {}
            }
            tokio::time::sleep(READY_INTERVAL).await;
        }
    }
}

/// Notices the end of services.
async fn watch(
    context: DockerContext,
    mut services: Vec<(String, String)>,
    failures: ServiceFailures,
) {
    while !services.is_empty() {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let mut running = Vec::new();
        for (name, service) in services {
            match context.engine.task_of(&service).await {
                Ok(Some(task)) if task.phase == TaskPhase::Ended => {
                    let code = task.exit_code;
                    failures.push(format!("the service `{name}` ended with exit code {code}"));
                }
                // Removed with its run.
                Ok(None) => {}
                _ => running.push((name, service)),
            }
        }
        services = running;
    }
}
