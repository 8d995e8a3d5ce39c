//! Builds of images by the engine's own BuildKit.
//!
//! ```text
//!  quire ── POST /session, then HTTP/2 ──► engine calls:  FileSync (the build's folder), Health
//!  quire ── POST /grpc,    then HTTP/2 ──► quire calls:   Control.Solve      runs until the image exists
//!                                                         Control.Status     progress and log
//!                                                         LLBBridge.Solve    reads the Dockerfile, executes nothing
//!                                                         LLBBridge.Return   now Control.Solve executes it
//! ```
//!
//! Between the last two the caller sees what the build would fetch and can refuse it. The engine's own frontend reads the Dockerfile
//! always: a `# syntax=` line, which would make BuildKit fetch and run another one, has no effect. Dropping a [`Build`] closes
//! both connections, which cancels it.

mod folder;
mod grpc;
mod messages;
mod patterns;
mod progress;
mod session;
mod sources;

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use self::folder::BuildFolder;
use self::grpc::{Client, GrpcError};
use self::messages::control::{ControlSolveRequest, StatusRequest, StatusResponse};
use self::messages::{Empty, gateway, policy};
use self::progress::BuildProgress;
use self::session::FolderError;
pub use self::sources::BuildSources;
use super::client::Engine;
use super::error::DockerError;
use super::labels::Labels;
use super::transport::{UpgradeError, upgrade};
use crate::tar_stream::OpenArchive;

/// What is attempted, for errors.
const ATTEMPT: &str = "build the image";

/// The oldest API whose BuildKit has rules for sources: that of Engine 24.
const SOURCE_RULES_API: (usize, usize) = (1, 43);

/// How many updates of the progress wait to be read.
const MAX_UPDATES: usize = 64;

const SOLVE: &str = "/moby.buildkit.v1.Control/Solve";
const STATUS: &str = "/moby.buildkit.v1.Control/Status";
const BRIDGE_SOLVE: &str = "/moby.buildkit.v1.frontend.LLBBridge/Solve";
const BRIDGE_RETURN: &str = "/moby.buildkit.v1.frontend.LLBBridge/Return";
/// The header that tells which build a call of the bridge is about.
const BUILD_ID: &str = "buildkit-controlapi-buildid";

/// What an image is built from, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildSpec {
    /// Name and tag.
    pub tag: String,
    /// The path of the Dockerfile in the build's folder.
    pub dockerfile: String,
    pub labels: Labels,
    /// Whether commands have a network: the engine's default bridge.
    pub network: bool,
    /// Whether base images are looked for in their registries although the engine has them.
    pub pull: bool,
    /// Whether the results of earlier builds may be used.
    pub cache: bool,
    /// What may be fetched; the last rule that matches holds. An engine without rules for sources ignores them.
    pub rules: Vec<SourceRule>,
}

/// A rule for the sources of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRule {
    action: policy::Action,
    identifier: String,
    kind: policy::MatchType,
}

impl SourceRule {
    fn new(action: policy::Action, scheme: &str, pattern: &str) -> Self {
        Self {
            action,
            identifier: format!("{scheme}{pattern}"),
            kind: policy::MatchType::Regex,
        }
    }

    /// Denies sources whose identifier matches a regular expression.
    #[must_use]
    pub fn deny(pattern: &str) -> Self {
        Self::new(policy::Action::Deny, "", pattern)
    }

    /// Allows sources whose identifier matches a regular expression.
    #[must_use]
    pub fn allow(pattern: &str) -> Self {
        Self::new(policy::Action::Allow, "", pattern)
    }

    /// Denies images whose names, with the registry, begin with a match of a regular expression.
    #[must_use]
    pub fn deny_images(pattern: &str) -> Self {
        Self::new(policy::Action::Deny, IMAGES, pattern)
    }

    /// Allows images whose names, with the registry, begin with a match of a regular expression.
    #[must_use]
    pub fn allow_images(pattern: &str) -> Self {
        Self::new(policy::Action::Allow, IMAGES, pattern)
    }

    /// Allows the image of this name, with its registry.
    #[must_use]
    pub fn allow_image(name: &str) -> Self {
        Self {
            kind: policy::MatchType::Exact,
            ..Self::new(policy::Action::Allow, sources::IMAGE_SCHEME, name)
        }
    }
}

/// Matches the beginning of the identifiers of images.
const IMAGES: &str = "^docker-image://";

/// A build whose Dockerfile was read. Dropping it cancels the build.
pub struct Build {
    engine: Engine,
    client: Client,
    id: String,
    is_solved: bool,
    /// The result of [`SOLVE`]; pending once it was successful.
    solved: BoxFuture<'static, Result<(), GrpcError>>,
    updates: mpsc::Receiver<StatusResponse>,
    progress: BuildProgress,
    folder_error: FolderError,
    result: gateway::Result,
    /// Both connections and the calls on them; ended when dropped.
    _tasks: JoinSet<()>,
}

impl Engine {
    /// Whether the engine's BuildKit obeys [`BuildSpec::rules`].
    pub async fn has_source_rules(&self) -> Result<bool, DockerError> {
        let version = self.client().await?.client_version();
        Ok((version.major_version, version.minor_version) >= SOURCE_RULES_API)
    }

    /// Begins a build: has the engine read the Dockerfile, but execute nothing of it. Calls `output` with the log.
    pub async fn begin_build(
        &self,
        spec: &BuildSpec,
        folder: OpenArchive,
        output: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<Build, DockerError> {
        let mut build = match self.connect_build(spec, folder).await {
            Ok(build) => build,
            Err(error) => return Err(self.diagnose(error).await),
        };
        let request = gateway::SolveRequest {
            frontend: "dockerfile.v0".to_owned(),
            frontend_opt: frontend_options(spec),
            allow_result_return: true,
            allow_result_array_ref: true,
        };
        let (client, id) = (build.client.clone(), build.id.clone());
        let reading = async move {
            let metadata = [(BUILD_ID, id.as_str())];
            let call = client.call::<gateway::SolveResponse>(BRIDGE_SOLVE, &metadata, &request);
            call.await
        };
        let answer = build.drive(reading, output).await?;
        build.result = answer.result.unwrap_or_default();
        Ok(build)
    }

    async fn connect_build(
        &self,
        spec: &BuildSpec,
        folder: OpenArchive,
    ) -> Result<Build, DockerError> {
        // Diagnoses an engine that is away or too old.
        self.client().await?;
        let path = self.socket_path()?;
        let id = uuid::Uuid::now_v7().simple().to_string();
        let broken = |error: UpgradeError| broken(&error);
        let mut tasks = JoinSet::new();
        let mut headers = vec![
            ("X-Docker-Expose-Session-Uuid", id.as_str()),
            ("X-Docker-Expose-Session-Name", "quire"),
            // Files that the engine keeps from an earlier build are compared by size and time only, so it may
            // keep them for the same content alone, which the tag stands for.
            ("X-Docker-Expose-Session-Sharedkey", spec.tag.as_str()),
        ];
        let methods = session::METHODS.map(|name| ("X-Docker-Expose-Session-Grpc-Method", name));
        headers.extend(methods);
        let connection = upgrade(&path, "/session", &headers).await.map_err(broken)?;
        let folder_error = FolderError::default();
        let session = session::serve(connection, BuildFolder::new(folder), folder_error.clone());
        // If it breaks, the engine ends the build with an error.
        tasks.spawn(session.map(drop));
        let connection = upgrade(&path, "/grpc", &[]).await.map_err(broken)?;
        let handshake = h2::client::Builder::new().handshake::<_, Bytes>(connection);
        let (sender, connection) = handshake.await.map_err(|error| broken_stream(&error))?;
        tasks.spawn(connection.map(drop));
        let client = Client::new(sender);
        let request = ControlSolveRequest {
            reference: id.clone(),
            exporter: "moby".to_owned(),
            exporter_attrs: HashMap::from([("name".to_owned(), spec.tag.clone())]),
            session: id.clone(),
            source_policy: source_policy(&spec.rules),
        };
        let (done, solved) = oneshot::channel();
        let solver = client.clone();
        tasks.spawn(async move {
            let answer = solver.call::<Empty>(SOLVE, &[], &request).await;
            let _ = done.send(answer.map(drop));
        });
        let (sender, updates) = mpsc::channel(MAX_UPDATES);
        let (follower, reference) = (client.clone(), id.clone());
        tasks.spawn(async move {
            // What breaks it breaks the build as well, which is the error to report.
            let _ = follow(&follower, reference, sender).await;
        });
        Ok(Build {
            engine: self.clone(),
            client,
            id,
            is_solved: false,
            solved: solved
                .map(|answer| answer.unwrap_or(Err(GrpcError::Ended)))
                .boxed(),
            updates,
            progress: BuildProgress::default(),
            folder_error,
            result: gateway::Result::default(),
            _tasks: tasks,
        })
    }
}

impl Build {
    /// Returns what the build would fetch.
    ///
    /// # Errors
    /// [`DockerError::InvalidResponse`] if the engine does not say it in a way that quire knows.
    pub fn sources(&self) -> Result<BuildSources, DockerError> {
        let several = self.result.several.iter().flat_map(|map| map.refs.values());
        let refs = self.result.single.iter().chain(several);
        // A reference without an operation is that of an image without a layer.
        let definitions: Vec<_> = refs
            .filter(|found| !found.id.is_empty())
            .map(|found| found.definition.as_ref())
            .collect::<Option<_>>()
            .unwrap_or_default();
        BuildSources::read(&definitions).ok_or_else(|| DockerError::InvalidResponse {
            attempt: ATTEMPT,
            message: "it has an operation that quire does not know".to_owned(),
        })
    }

    /// Executes the build, and returns once the image exists.
    pub async fn finish(
        mut self,
        output: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<(), DockerError> {
        let request = gateway::ReturnRequest {
            result: Some(self.result.clone()),
        };
        let (client, id) = (self.client.clone(), self.id.clone());
        let returning = async move {
            let metadata = [(BUILD_ID, id.as_str())];
            let call = client.call::<Empty>(BRIDGE_RETURN, &metadata, &request);
            call.await
        };
        self.drive(returning, output).await?;
        let solved = std::mem::replace(&mut self.solved, std::future::pending().boxed());
        let solved = match self.is_solved {
            true => Ok(()),
            false => self.drive(solved, output).await,
        };
        // The last lines, which come no more if the engine is away.
        if !solved.as_ref().is_err_and(DockerError::is_unavailable) {
            self.drain(output).await?;
        }
        solved
    }

    /// Waits for a call, and meanwhile passes on progress and looks whether the engine is alive.
    async fn drive<T>(
        &mut self,
        work: impl Future<Output = Result<T, GrpcError>>,
        output: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<T, DockerError> {
        let idle = self.engine.timeouts().stream_idle;
        let mut work = std::pin::pin!(work);
        let mut has_updates = true;
        let failed = loop {
            tokio::select! {
                biased;
                update = self.updates.recv(), if has_updates => match update {
                    Some(update) => self.progress.update(update, &mut |bytes| output(bytes)),
                    None => has_updates = false,
                },
                done = &mut work => match done {
                    Ok(value) => return Ok(value),
                    Err(error) => break error,
                },
                // A build that ended says better why than a call about it.
                done = &mut self.solved => match done {
                    Ok(()) => {
                        self.is_solved = true;
                        self.solved = std::future::pending().boxed();
                    }
                    Err(error) => break error,
                },
                () = tokio::time::sleep(idle) => self.engine.check_alive().await?,
            }
        };
        let error = match self.folder_error.take() {
            Some(message) => DockerError::UploadSource(message),
            None => docker_error(failed),
        };
        Err(self.engine.diagnose(error).await)
    }

    async fn drain(&mut self, output: &mut (dyn FnMut(&[u8]) + Send)) -> Result<(), DockerError> {
        let idle = self.engine.timeouts().stream_idle;
        loop {
            match tokio::time::timeout(idle, self.updates.recv()).await {
                Ok(Some(update)) => self.progress.update(update, &mut |bytes| output(bytes)),
                Ok(None) => return Ok(()),
                Err(_) => self.engine.check_alive().await?,
            }
        }
    }
}

async fn follow(
    client: &Client,
    reference: String,
    sender: mpsc::Sender<StatusResponse>,
) -> Result<(), GrpcError> {
    let request = StatusRequest { reference };
    let mut incoming = client.open(STATUS, &[], &request).await?;
    while let Some(update) = incoming.next::<StatusResponse>().await? {
        if sender.send(update).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn frontend_options(spec: &BuildSpec) -> HashMap<String, String> {
    let mut options = HashMap::from([
        ("filename".to_owned(), spec.dockerfile.clone()),
        // Says that the frontend was chosen, so that it looks for no `# syntax=` line.
        ("cmdline".to_owned(), "dockerfile.v0".to_owned()),
    ]);
    if !spec.network {
        options.insert("force-network-mode".to_owned(), "none".to_owned());
    }
    if spec.pull {
        options.insert("image-resolve-mode".to_owned(), "pull".to_owned());
    }
    if !spec.cache {
        // Of all stages.
        options.insert("no-cache".to_owned(), String::new());
    }
    let labels = spec.labels.iter();
    options.extend(labels.map(|(name, value)| (format!("label:{name}"), value.clone())));
    options
}

fn source_policy(rules: &[SourceRule]) -> Option<policy::Policy> {
    let rule = |rule: &SourceRule| policy::Rule {
        action: rule.action.into(),
        selector: Some(policy::Selector {
            identifier: rule.identifier.clone(),
            match_type: rule.kind.into(),
        }),
    };
    (!rules.is_empty()).then(|| policy::Policy {
        version: 1,
        rules: rules.iter().map(rule).collect(),
    })
}

fn docker_error(error: GrpcError) -> DockerError {
    match error {
        GrpcError::Status { message, .. } => DockerError::of_message(ATTEMPT, &message),
        GrpcError::Folder(message) => DockerError::UploadSource(message),
        GrpcError::Connection(_) | GrpcError::Ended => broken_stream(&error),
        error @ (GrpcError::Decode(_) | GrpcError::TooLong(_) | GrpcError::Compressed) => {
            DockerError::InvalidResponse {
                attempt: ATTEMPT,
                message: DockerError::chain_of(&error),
            }
        }
    }
}

fn broken_stream(error: &(dyn std::error::Error + 'static)) -> DockerError {
    DockerError::ConnectionLost {
        attempt: ATTEMPT,
        message: DockerError::chain_of(error),
    }
}

fn broken(error: &UpgradeError) -> DockerError {
    match error {
        UpgradeError::Refused(status) => DockerError::Failed {
            attempt: ATTEMPT,
            status: status.as_u16(),
            message: format!("it has no BuildKit (status {})", status.as_u16()),
        },
        error => broken_stream(error),
    }
}
