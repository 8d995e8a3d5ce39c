//! Containers beside a run's, on a network that only the run shares.
//!
//! ```text
//! network ─► for each at once: create ─► attach ─► start ─► asked whether it is ready ─► ready
//!                                          │ log, from the first byte on       │ ended, late: the start fails
//! ```
//! They bear the run's labels, so whatever finds the run's container finds them and the network as
//! well. A service that ends later ends nothing: the run is told, and its commands show what it means.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream::BoxStream;
use tokio_util::task::AbortOnDropHandle;

use super::hold::Hold;
use super::output::size;
use super::{DROPPED, DockerExecutor, aside, fault, removal};
use crate::docker::{Attachment, ContainerSpec, DockerError, Engine, Frame, full_reference};
use crate::executor::{ExecutorError, OutputSink, ServiceSpec, StartObserver, StartSpec, Stream};
use crate::names::RunId;

/// The label with the service's name.
const SERVICE: &str = "io.quire.service";
/// How many of its last lines are shown where a service fails to start, and how much of each.
const LAST_LINES: usize = 20;
const LINE_BYTES: usize = 400;
/// How long between two questions whether it is ready, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often in a row the engine may fail to ask it.
const MOST_FAULTS: u32 = 3;
/// How long what a service wrote last may take to arrive.
const SETTLE: Duration = Duration::from_secs(2);

/// The services of a started run.
pub(super) struct Services {
    troubles: Arc<Mutex<Vec<String>>>,
    _followers: Vec<AbortOnDropHandle<()>>,
}

impl Services {
    /// What has gone wrong with them so far.
    pub(super) fn troubles(&self) -> Vec<String> {
        self.troubles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A service that was started.
struct Started<'a> {
    spec: &'a ServiceSpec,
    container: String,
    last: Last,
    follower: AbortOnDropHandle<()>,
}

/// Everything of a run's on the engine, to go unless it is kept: also where its start is dropped half way.
pub(super) struct Crew {
    engine: Engine,
    instance: String,
    run: Option<RunId>,
}

impl Crew {
    pub(super) fn keep(mut self) {
        self.run = None;
    }

    pub(super) async fn clear(mut self) {
        if let Some(run) = self.run.take() {
            // Whoever asked for the start makes sure by `Executor::clear`; the start's own error is what counts.
            let _ = tokio::time::timeout(
                self.engine.timings().removal,
                removal::clear(&self.engine, &self.instance, run),
            )
            .await;
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if let (Some(run), Ok(runtime)) = (self.run.take(), tokio::runtime::Handle::try_current()) {
            let (engine, instance) = (self.engine.clone(), self.instance.clone());
            runtime.spawn(async move { removal::clear(&engine, &instance, run).await });
        }
    }
}

impl DockerExecutor {
    /// What removes the services of a run, and all else of it, if its start comes to nothing.
    pub(super) fn crew(&self, run: RunId) -> Crew {
        Crew {
            engine: self.engine.clone(),
            instance: self.config.instance.clone(),
            run: Some(run),
        }
    }

    /// Makes the network of a run with services; gives its id.
    pub(super) async fn services_network(&self, spec: &StartSpec) -> Result<String, ExecutorError> {
        let failed = |error| fault("make the network of the run", &error);
        // What an earlier attempt at the same run left.
        removal::clear(&self.engine, &self.config.instance, spec.run)
            .await
            .map_err(failed)?;
        let (name, labels) = (format!("quire-{}", spec.run), self.labels(spec));
        let network = self
            .engine
            .create_shared_network(&name, &labels, !spec.limits.network)
            .await
            .map_err(failed)?;
        crate::fault::point("services-network-made");
        Ok(network)
    }

    /// Starts all services of a run and waits until each is ready.
    pub(super) async fn start_services(
        &self,
        spec: &StartSpec,
        network: &str,
        observer: &mut dyn StartObserver,
        hold: &Hold,
    ) -> Result<Services, ExecutorError> {
        for service in &spec.services {
            self.service_image(service, observer, hold).await?;
        }
        let sinks: Vec<_> = spec
            .services
            .iter()
            .map(|service| observer.service_output(&service.name))
            .collect();
        let troubles = Arc::default();
        let starting =
            spec.services
                .iter()
                .zip(sinks)
                .enumerate()
                .map(|(number, (service, sink))| {
                    let troubles = Arc::clone(&troubles);
                    async move {
                        self.start_service(spec, service, number, network, sink, troubles)
                            .await
                            .map_err(|error| named(service, error))
                    }
                });
        let started = try_join_all(starting).await?;
        let names: Vec<_> = spec
            .services
            .iter()
            .map(|service| service.name.as_str())
            .collect();
        observer.line(
            Stream::Stdout,
            format!("quire: waiting for {} to be ready\n", names.join(", ")).as_bytes(),
        );
        // All are waited for, so that the first in the pipeline that fails is the one that is named.
        let ready =
            futures_util::future::join_all(started.iter().map(|started| self.await_ready(started)))
                .await;
        for (started, ready) in started.iter().zip(ready) {
            if let Err(error) = ready {
                started.last.show(&started.spec.name, observer).await;
                return Err(error);
            }
        }
        crate::fault::point("services-ready");
        Ok(Services {
            troubles,
            _followers: started
                .into_iter()
                .map(|started| started.follower)
                .collect(),
        })
    }

    async fn service_image(
        &self,
        service: &ServiceSpec,
        observer: &mut dyn StartObserver,
        hold: &Hold,
    ) -> Result<(), ExecutorError> {
        let image = full_reference(&service.image);
        self.present(&image, observer, hold)
            .await
            .map(drop)
            .map_err(|error| named(service, error))
    }

    async fn start_service<'a>(
        &self,
        spec: &StartSpec,
        service: &'a ServiceSpec,
        number: usize,
        network: &str,
        sink: Box<dyn OutputSink>,
        troubles: Arc<Mutex<Vec<String>>>,
    ) -> Result<Started<'a>, ExecutorError> {
        let failed = |error: DockerError| fault("start the service", &error);
        let most = self
            .engine
            .cpus()
            .await
            .map_err(failed)?
            .saturating_mul(1000);
        let mut labels = self.labels(spec);
        labels.push((SERVICE.to_owned(), service.name.clone()));
        let wanted = ContainerSpec {
            name: format!("quire-{}-service-{number}", spec.run),
            image: full_reference(&service.image),
            user: None,
            entrypoint: service.command.clone().unwrap_or_default(),
            env: service
                .env
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            folder: None,
            labels,
            memory: spec.limits.memory,
            milli_cpus: spec.limits.milli_cpus.min(most),
            cpu_shares: self.config.cpu_shares,
            pids: spec.limits.pids,
            drop_capabilities: DROPPED.map(str::to_owned).to_vec(),
            volumes: Vec::new(),
            network: Attachment::Id(network.to_owned()),
            alias: Some(service.name.clone()),
        };
        let container = self
            .engine
            .create_container(&wanted)
            .await
            .map_err(failed)?;
        crate::fault::point("service-created");
        let output = self.engine.attach(&container).await.map_err(failed)?;
        let last = Last::default();
        let follower = Follower {
            engine: self.engine.clone(),
            container: container.clone(),
            memory: spec.limits.memory,
            troubles,
        };
        let follower = AbortOnDropHandle::new(tokio::spawn(follower.follow(
            service.name.clone(),
            output,
            sink,
            last.clone(),
        )));
        self.engine
            .start_container(&container)
            .await
            .map_err(|error| match error {
                // Its program, most likely, which the pipeline names.
                error if !error.is_unavailable() && !error.is_engines_fault() => {
                    ExecutorError::ContainerDied(format!("it cannot start: {}", error.words()))
                }
                error => failed(error),
            })?;
        crate::fault::point("service-started");
        Ok(Started {
            spec: service,
            container,
            last,
            follower,
        })
    }

    async fn await_ready(&self, started: &Started<'_>) -> Result<(), ExecutorError> {
        let within = started.spec.ready_within;
        let ready = tokio::time::timeout(within, self.until_ready(started)).await;
        ready.unwrap_or_else(|_| {
            Err(ExecutorError::NotReady(format!(
                "the service `{}` was not ready within {} s",
                started.spec.name,
                within.as_secs_f32()
            )))
        })
    }

    async fn until_ready(&self, started: &Started<'_>) -> Result<(), ExecutorError> {
        let failed = |error: DockerError| fault("ask whether the service is ready", &error);
        let name = &started.spec.name;
        let (mut pause, mut faults) = (FIRST_PAUSE, 0);
        loop {
            match self
                .engine
                .container(&started.container)
                .await
                .map_err(failed)?
            {
                Some(state) if state.running => {}
                Some(state) => {
                    let how = if state.error.is_empty() {
                        format!("ended with exit code {}", state.exit_code)
                    } else {
                        state.error
                    };
                    return Err(ExecutorError::ContainerDied(format!(
                        "the service `{name}` {how} before it was ready"
                    )));
                }
                None => {
                    return Err(ExecutorError::ContainerDied(format!(
                        "the service `{name}` was removed from outside"
                    )));
                }
            }
            let Some(ready) = &started.spec.ready else {
                return Ok(());
            };
            let argv: Vec<&str> = ready.iter().map(String::as_str).collect();
            match aside::run(&self.engine, &started.container, None, &argv).await {
                Ok((Some(0), _)) => return Ok(()),
                // The container may just have ended, which the next look shows. An engine that fails at it again and again is at fault.
                Err(error) if error.is_engines_fault() && faults < MOST_FAULTS => faults += 1,
                Err(error) if error.is_engines_fault() || error.is_unavailable() => {
                    return Err(failed(error));
                }
                Ok(_) | Err(_) => faults = 0,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Says of which service an error is.
fn named(service: &ServiceSpec, error: ExecutorError) -> ExecutorError {
    let of = |why: String| format!("the service `{}`: {why}", service.name);
    match error {
        ExecutorError::Image(why) => ExecutorError::Image(of(why)),
        ExecutorError::ContainerDied(why) => ExecutorError::ContainerDied(of(why)),
        other => other,
    }
}

/// Follows one service to its end.
struct Follower {
    engine: Engine,
    container: String,
    memory: u64,
    troubles: Arc<Mutex<Vec<String>>>,
}

impl Follower {
    async fn follow(
        self,
        name: String,
        mut output: BoxStream<'static, Result<Frame, DockerError>>,
        mut sink: Box<dyn OutputSink>,
        last: Last,
    ) {
        while let Some(Ok(frame)) = output.next().await {
            let (stream, bytes) = match &frame {
                Frame::Stdout(bytes) => (Stream::Stdout, bytes),
                Frame::Stderr(bytes) => (Stream::Stderr, bytes),
            };
            last.take(bytes);
            sink.output(stream, bytes);
        }
        drop(sink);
        last.over();
        // The engine notes an end a little after the outputs are closed.
        let mut pause = Duration::from_millis(10);
        let state = loop {
            match self.engine.container(&self.container).await {
                Ok(Some(state)) if state.running => tokio::time::sleep(pause).await,
                Ok(Some(state)) => break state,
                // Removed with its run, or nobody can say.
                Ok(None) | Err(_) => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        let how = match state.out_of_memory {
            true => format!("ran out of memory, the limit is {}", size(self.memory)),
            false => format!("ended with exit code {}", state.exit_code),
        };
        self.troubles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(format!("the service `{name}` {how}"));
    }
}

/// The last lines that a service wrote.
#[derive(Clone, Default)]
struct Last(Arc<(Mutex<Lines>, tokio::sync::Notify)>);

#[derive(Default)]
struct Lines {
    whole: VecDeque<Vec<u8>>,
    open: Vec<u8>,
    over: bool,
}

impl Last {
    fn with<T>(&self, work: impl FnOnce(&mut Lines) -> T) -> T {
        work(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self, bytes: &[u8]) {
        self.with(|lines| {
            for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                let room = LINE_BYTES.saturating_sub(lines.open.len()).min(piece.len());
                lines.open.extend_from_slice(&piece[..room]);
                if piece.ends_with(b"\n") {
                    lines.end_line();
                }
            }
        });
    }

    fn over(&self) {
        self.with(|lines| {
            if !lines.open.is_empty() {
                lines.end_line();
            }
            lines.over = true;
        });
        self.0.1.notify_waiters();
    }

    /// Puts the last lines into the run's log. Of one that has ended, all of them are waited for a little.
    async fn show(&self, service: &str, observer: &mut dyn StartObserver) {
        let over = self.0.1.notified();
        if !self.with(|lines| lines.over) {
            let _ = tokio::time::timeout(SETTLE.min(FIRST_PAUSE * 5), over).await;
        }
        let lines: Vec<_> = self.with(|lines| lines.whole.iter().cloned().collect());
        let heading = if lines.is_empty() {
            "wrote nothing"
        } else {
            "wrote last:"
        };
        observer.line(
            Stream::Stderr,
            format!("quire: the service `{service}` {heading}\n").as_bytes(),
        );
        for line in lines {
            let text = String::from_utf8_lossy(&line).into_owned();
            observer.line(
                Stream::Stderr,
                format!("  {}\n", text.trim_end()).as_bytes(),
            );
        }
    }
}

impl Lines {
    fn end_line(&mut self) {
        if self.whole.len() == LAST_LINES {
            self.whole.pop_front();
        }
        self.whole.push_back(std::mem::take(&mut self.open));
    }
}
