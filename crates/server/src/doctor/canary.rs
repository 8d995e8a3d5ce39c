//! The check of the executor: a small run without a pipeline, in a workspace like those of runs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use quire_executor::{
    BuiltImage, CacheMount, CommandEnd, CommandSpec, ContainerSettings, Executor, ExecutorError,
    ExecutorNode, ImageSource, OutputSink, ResourceLimits, StartObserver, StartSpec, Stream,
    TarStream, Tree, Workspace,
};
use quire_types::clock::Clock;
use quire_types::fsutil::remove_folder;
use quire_types::names::{RepoName, RunId};
use quire_types::paths::Paths;
use quire_types::sync::lock;
use quire_types::text::{excerpt, format_bytes, format_elapsed, single_line};
use tokio_util::sync::CancellationToken;

use super::finding::DoctorFinding;
use crate::runner::RunnerConfig;

/// The repository that the canary runs for, which need not exist, and its cache.
const REPO: &str = "quire-doctor";
const CACHE: &str = "doctor";
/// How long the start of the workspace may take; an image may be pulled first.
const START_TIME: Duration = Duration::from_secs(300);
const COMMAND_TIME: Duration = Duration::from_secs(30);
/// The memory of the canary, and what its check of the limit tries to use.
const MEMORY: u64 = 64 << 20;
const TOO_MUCH: u64 = 256 << 20;
/// How much the clock in a container may differ from the server's; they are the same clock but for a virtual machine.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(5);
/// A name that every resolver with a way to the internet knows, and that is reserved for such uses.
const KNOWN_NAME: &str = "example.org";

/// What to do if the engine does not do what it should.
pub(super) const ENGINE_ADVICE: &str = "check that the Docker engine runs and that its socket is mounted at the path in `:ci {:engine …}`; \
                             the log of the container names the cause";

/// What is done if the image of the canary is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CanaryImage {
    MayBePulled,
    /// The check is left out.
    IfPresent,
}

/// A run that is tried.
pub(super) struct CanaryRun<'a> {
    part: &'static str,
    executor: &'a Arc<dyn Executor>,
    paths: &'a Paths,
    config: &'a RunnerConfig,
}

impl<'a> CanaryRun<'a> {
    pub(super) fn new(
        executor: &'a Arc<dyn Executor>,
        paths: &'a Paths,
        config: &'a RunnerConfig,
    ) -> Self {
        let is_isolated = executor.capabilities().isolated;
        Self {
            part: if is_isolated { "container" } else { "host" },
            executor,
            paths,
            config,
        }
    }

    /// The machines on which a run is to be tried, if a scheduler chooses among several; fails if none can be tried.
    pub(super) async fn nodes(
        &self,
        image: CanaryImage,
    ) -> Result<Vec<ExecutorNode>, DoctorFinding> {
        let runs_wait =
            |error| DoctorFinding::failed(self.part, format!("runs wait: {error}"), ENGINE_ADVICE);
        self.executor.probe().await.map_err(runs_wait)?;
        if image == CanaryImage::IfPresent && !has_image(self.executor, self.config).await {
            return Err(DoctorFinding::warning(
                self.part,
                format!(
                    "no run was tried, because {} is not on the engine yet",
                    self.config.default_image
                ),
                "`doctor` pulls it and tries a run",
            ));
        }
        self.executor.nodes().await.map_err(runs_wait)
    }

    /// Tries a run, on a machine if its id is given, and leaves nothing of it. The advice is about the engine that executes it.
    pub(super) async fn findings(
        &self,
        node: Option<&str>,
        engine_advice: &str,
    ) -> Vec<DoctorFinding> {
        let Ok(repo) = REPO.parse::<RepoName>() else {
            return Vec::new();
        };
        let run = RunId::new();
        let folder = self.paths.run_dir(&repo, run);
        let spec = self.spec(&repo, run, Paths::workspace(&folder), node);
        let started = std::time::Instant::now();
        let mut observer = LastLine::default();
        let cancel = CancellationToken::new();
        let start = self
            .executor
            .start_workspace(spec, &mut observer, cancel.clone());
        let result = match tokio::time::timeout(START_TIME, start).await {
            Ok(result) => result,
            Err(_) => Err(ExecutorError::Cancelled),
        };
        let findings = match result {
            Ok(workspace) => {
                let start_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                let mut findings = self.try_workspace(workspace.as_ref(), start_ms).await;
                if let Err(error) = end(workspace.as_ref()).await {
                    findings.push(DoctorFinding::failed(
                        self.part,
                        format!("the workspace cannot be removed: {error}"),
                        engine_advice,
                    ));
                }
                findings
            }
            Err(error) => vec![not_started(self.part, &error, &observer, engine_advice)],
        };
        clean_up(self.executor, &repo, run, &folder).await;
        findings
    }

    async fn try_workspace(&self, workspace: &dyn Workspace, start_ms: u64) -> Vec<DoctorFinding> {
        let part = self.part;
        let canary = Canary {
            part,
            workspace,
            has_cache: self.executor.caches().is_some(),
        };
        let mut findings = vec![canary.files(start_ms).await];
        if self.executor.capabilities().isolated {
            findings.push(canary.memory().await);
        }
        findings.push(canary.clock().await);
        if self.config.limits.network {
            findings.push(canary.network().await);
        }
        findings
    }

    fn spec(
        &self,
        repo: &RepoName,
        run: RunId,
        workspace: std::path::PathBuf,
        node: Option<&str>,
    ) -> StartSpec {
        StartSpec {
            run,
            repo: repo.clone(),
            image: ImageSource::Reference(self.config.default_image.clone()),
            tree: Arc::new(CanaryTree),
            limits: ResourceLimits {
                memory: MEMORY,
                ..self.config.limits.clone()
            },
            container: ContainerSettings::default(),
            env: Vec::new(),
            // What could not be removed afterwards is not made.
            caches: self
                .executor
                .caches()
                .map(|_| CacheMount {
                    name: CACHE.to_owned(),
                    path: "cache".to_owned(),
                })
                .into_iter()
                .collect(),
            services: Vec::new(),
            rebuild: false,
            node: node.map(str::to_owned),
            may_be_kept: false,
            workspace,
        }
    }
}

/// Whether the image of the canary is there. An executor without images needs none.
async fn has_image(executor: &Arc<dyn Executor>, config: &RunnerConfig) -> bool {
    match executor.images() {
        None => true,
        Some(images) => images.has(&config.default_image).await.unwrap_or(false),
    }
}

/// Removes what the canary has left, also if its start was cut short.
async fn clean_up(
    executor: &Arc<dyn Executor>,
    repo: &RepoName,
    run: RunId,
    folder: &std::path::Path,
) {
    // What cannot be removed now, the runner finds and removes: it belongs to no run.
    let _ = executor.destroy_run(run).await;
    if let Some(caches) = executor.caches() {
        let _ = caches.remove(repo, CACHE).await;
    }
    let folder = folder.parent().unwrap_or(folder).to_owned();
    let _ = tokio::task::spawn_blocking(move || remove_folder(&folder)).await;
}

async fn end(workspace: &dyn Workspace) -> Result<(), ExecutorError> {
    workspace.stop().await?;
    workspace.remove().await
}

fn not_started(
    part: &str,
    error: &ExecutorError,
    observer: &LastLine,
    engine_advice: &str,
) -> DoctorFinding {
    let text = match error {
        ExecutorError::Cancelled => format!(
            "no run can start: the start took longer than {} s; the last line of it was: {}",
            START_TIME.as_secs(),
            observer.0
        ),
        error => format!("no run can start: {error}"),
    };
    let advice = match error {
        ExecutorError::Image(_) => "correct `:ci {:image …}`, or let the engine reach the registry",
        _ => engine_advice,
    };
    DoctorFinding::failed(part, text, advice)
}

/// A started workspace and the commands that are tried in it.
struct Canary<'a> {
    part: &'static str,
    workspace: &'a dyn Workspace,
    has_cache: bool,
}

impl Canary<'_> {
    /// Whether the tree arrived, a command ran, and its files can be read.
    async fn files(&self, start_ms: u64) -> DoctorFinding {
        let script = "cat link && ./tool && echo written > out.txt && mkdir -p cache && echo kept > cache/file && cat cache/file";
        let what = match self.has_cache {
            true => "its tree, commands, files and cache work",
            false => "its tree, commands and files work",
        };
        let (end, output) = match self.run(script).await {
            Ok(ended) => ended,
            Err(error) => return self.broken(&error.to_string()),
        };
        let expected = "canary\nexecuted\nkept\n";
        if end != CommandEnd::Exited(0) || output != expected {
            return self.broken(&format!(
                "a shell script ended with {end:?} and printed: {}",
                single_line(&excerpt(&output, 200))
            ));
        }
        match self.workspace.read_file("out.txt").await {
            Ok(content) if content == b"written\n" => DoctorFinding::ok(
                self.part,
                format!("a run starts in {}; {what}", format_elapsed(start_ms)),
            ),
            Ok(_) => self.broken("a file that a command wrote has another content"),
            Err(error) => self.broken(&error.to_string()),
        }
    }

    fn broken(&self, what: &str) -> DoctorFinding {
        DoctorFinding::failed(
            self.part,
            format!("a run starts, but does not work: {what}"),
            "check the image in `:ci {:image …}`: it needs a shell (sh) and cat for this check",
        )
    }

    /// Whether the engine ends a command that uses more memory than its run may.
    async fn memory(&self) -> DoctorFinding {
        // `tail` keeps its input, because it has no end of a line.
        let script = format!("head -c {TOO_MUCH} /dev/zero | tail");
        let part = "memory limit";
        match self.run(&script).await {
            Ok((CommandEnd::Exited(0), _)) => DoctorFinding::warning(
                part,
                format!(
                    "a command used {} although its run may use {}",
                    format_bytes(TOO_MUCH),
                    format_bytes(MEMORY)
                ),
                "enable the memory cgroup on the host; `docker info` warns about it",
            ),
            Ok(_) | Err(ExecutorError::ContainerDied(_)) => DoctorFinding::ok(
                part,
                "a command that uses more memory than its run may is ended",
            ),
            Err(error) => self.broken(&error.to_string()),
        }
    }

    /// Whether the clock is the server's.
    async fn clock(&self) -> DoctorFinding {
        let part = "clock";
        let Ok((CommandEnd::Exited(0), output)) = self.run("date +%s").await else {
            return DoctorFinding::warning(
                part,
                "the image has no `date`, so the clock was not compared",
                "nothing needs to be done",
            );
        };
        let there: i64 = output.trim().parse().unwrap_or(0);
        let here = Clock::system().now().0 / 1000;
        let difference = there.abs_diff(here);
        if difference > MAX_CLOCK_DIFFERENCE.as_secs() {
            return DoctorFinding::warning(
                part,
                format!("the clock of runs differs from the server's by {difference} s"),
                "synchronize the clocks of the machines of quire and of the engine",
            );
        }
        DoctorFinding::ok(part, "runs have the same time as the server")
    }

    /// Whether names of the internet can be resolved.
    async fn network(&self) -> DoctorFinding {
        let part = "network";
        match self.run(&format!("getent hosts {KNOWN_NAME}")).await {
            Ok((CommandEnd::Exited(0), _)) => {
                DoctorFinding::ok(part, "runs can resolve names of the internet")
            }
            Ok((CommandEnd::Exited(127), _)) => DoctorFinding::warning(
                part,
                "the image has no `getent`, so the network was not checked",
                "nothing needs to be done",
            ),
            Ok(_) => DoctorFinding::warning(
                part,
                format!("runs cannot resolve {KNOWN_NAME}, so they cannot download anything"),
                "check the network of the machine, and `dns` in the engine's daemon.json; without a way to the internet this \
                 is as it should be",
            ),
            Err(error) => self.broken(&error.to_string()),
        }
    }

    /// Runs a shell script and returns its output.
    async fn run(&self, script: &str) -> Result<(CommandEnd, String), ExecutorError> {
        let output = Collected::default();
        let command = CommandSpec {
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: Vec::new(),
            cwd: None,
            stdin: None,
            timeout: Some(COMMAND_TIME),
            merge: true,
        };
        let sink = Box::new(output.clone());
        let end = self
            .workspace
            .run_command(command, sink, CancellationToken::new())
            .await?;
        let bytes = lock(&output.0).clone();
        Ok((end, String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// How many bytes of a command's output are read.
const MAX_OUTPUT: usize = 4096;

/// The first bytes of a command's output.
#[derive(Clone, Default)]
struct Collected(Arc<std::sync::Mutex<Vec<u8>>>);

impl OutputSink for Collected {
    fn output(&mut self, _stream: Stream, bytes: &[u8]) {
        let mut collected = lock(&self.0);
        let left = MAX_OUTPUT - collected.len();
        collected.extend_from_slice(&bytes[..bytes.len().min(left)]);
    }
}

/// The last line that a start said, in case it does not end.
#[derive(Default)]
struct LastLine(String);

impl StartObserver for LastLine {
    fn line(&mut self, _stream: Stream, bytes: &[u8]) {
        self.0 = single_line(&excerpt(&String::from_utf8_lossy(bytes), 200));
    }

    fn build_started(&mut self, _engine: &str, _tag: &str) {}
    fn build_finished(&mut self, _image: &BuiltImage) {}
    fn container_created(&mut self, _id: &str, _image: &str) {}
    fn container_started(&mut self) {}
}

/// The tree of the canary: a file, a program, and a symbolic link.
struct CanaryTree;

impl CanaryTree {
    fn tar() -> std::io::Result<Vec<u8>> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, mode, content) in [
            ("file", 0o644, "canary\n"),
            ("tool", 0o755, "#!/bin/sh\necho executed\n"),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_mode(mode);
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, path, content.as_bytes())?;
        }
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "link", "file")?;
        builder.into_inner()
    }
}

impl Tree for CanaryTree {
    fn archive(&self) -> TarStream {
        let bytes = Self::tar().map(Bytes::from);
        futures_util::stream::once(std::future::ready(bytes)).boxed()
    }

    fn has_dockerfile(&self) -> bool {
        false
    }
}
