//! How a run's commands are executed. One trait, two implementations (docker, host); a pipeline
//! cannot tell which it runs under.
//!
//! What both keep to, beyond the types below:
//! - A command ends when its first process ends. What it left running lives on until the
//!   workspace stops; its output is read only a little longer.
//! - A program that does not exist or cannot be executed is exit code 127 or 126 with a line on
//!   standard error, as in a shell. A command that makes no sense is an error, and nothing runs.
//! - A command that is timed out or cancelled takes everything with it that it started.
//!
//! An [`Executor`] starts a [`Workspace`] for a run: the commit's tree, laid out, in a place
//! where commands can be run. Every started workspace must be stopped; stopping is safe to
//! repeat, and what a crash leaves behind is found by [`Executor::sweep`].

mod caches;
mod command;
mod docker;
mod files;
mod host;
mod images;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio_util::sync::CancellationToken;

use crate::names::{RepoName, RunId};
use crate::run::ExecutorKind;

pub use caches::CacheInfo;
pub use docker::{DockerConfig, DockerExecutor};
pub use files::MAX_READ;
pub use host::{HostConfig, HostExecutor};
pub use images::{BuiltImage, BuiltLayer, ImageFate, Images, OwnImage};

/// The commit's tree as a tar stream. May be asked for more than once.
pub trait Tree: Send + Sync {
    /// A new stream of an uncompressed tar archive, without a leading folder.
    fn archive(&self) -> BoxStream<'static, std::io::Result<Bytes>>;

    /// Whether the tree holds `.quire/Dockerfile`.
    fn has_dockerfile(&self) -> bool;

    /// A name of the content, the same only for the same content (git's id of the tree). With it
    /// an image built from this tree once is used again as it is; without it the engine is asked
    /// to build, and takes what it can from its cache.
    fn id(&self) -> Option<String> {
        None
    }
}

/// Which image a run wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// An image by reference, pulled when it is missing.
    Reference(String),
    /// Built from the tree's `.quire/Dockerfile`, with the tree as build context.
    Dockerfile,
}

/// What a run may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceLimits {
    /// Memory in bytes.
    pub memory: u64,
    /// CPUs, in thousandths.
    pub milli_cpus: u64,
    /// Processes.
    pub pids: u32,
    /// Whether it gets a network.
    pub network: bool,
}

/// What a workspace is started from.
pub struct StartSpec {
    /// The run.
    pub run: RunId,
    /// Its repository.
    pub repo: RepoName,
    /// The image.
    pub image: ImageSource,
    /// The tree.
    pub tree: Arc<dyn Tree>,
    /// Limits.
    pub limits: ResourceLimits,
    /// Variables that every command gets.
    pub env: Vec<(String, String)>,
    /// Volumes kept between the runs of the repository.
    pub caches: Vec<CacheMount>,
    /// Containers beside the run's; the workspace has started when each is ready.
    pub services: Vec<ServiceSpec>,
    /// Where the host executor puts the tree.
    pub workspace: std::path::PathBuf,
}

/// A volume that outlives the run, shared by the runs of one repository and by nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// Its name, unique in the repository.
    pub name: String,
    /// Where it is mounted: an absolute path, or one within the workspace.
    pub path: String,
}

/// A container beside a run's, on a network that only the run shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its name on that network.
    pub name: String,
    /// Its image, by reference.
    pub image: String,
    /// Its variables.
    pub env: Vec<(String, String)>,
    /// Program and arguments in place of the image's; none to keep them.
    pub command: Option<Vec<String>>,
    /// The command that succeeds in it once it is ready; without one it is ready when it runs.
    pub ready: Option<Vec<String>>,
    /// How long it may take to be ready.
    pub ready_within: std::time::Duration,
}

pub use crate::logs::Stream;

/// An uncompressed tar archive as it comes.
pub type TarStream = BoxStream<'static, std::io::Result<Bytes>>;

/// Takes output as it comes. Called from one task at a time; a slow sink slows the command, nothing else.
pub trait OutputSink: Send {
    /// Some bytes of output, cut anywhere.
    fn output(&mut self, stream: Stream, bytes: &[u8]);
}

/// Progress of starting, reported as it happens so that rows and log can show it.
pub trait StartObserver: Send {
    /// A line for the run's log (build output, pull progress).
    fn line(&mut self, stream: Stream, bytes: &[u8]);
    /// The image build began.
    fn build_started(&mut self);
    /// The image build ended; the image is tagged so.
    fn build_finished(&mut self, tag: &str);
    /// The container exists under this id. Called before it is started, so that a crash right after finds it in the row.
    fn container_created(&mut self, id: &str, image: &str);
    /// The container runs.
    fn container_started(&mut self);
    /// A run has this image, by its full name.
    fn image_used(&mut self, _name: &str) {}
    /// quire has just pulled this image, which was not there: it is quire's own to remove.
    fn image_pulled(&mut self, _engine: &str, _name: &str, _id: &str) {}
    /// A build says that it has made an image on its way, or used it again. Its commands can say so too.
    fn layer_built(&mut self, _layer: &BuiltLayer) {}
    /// Where the output of a service goes, for as long as the service lives. Nowhere, unless somebody wants it.
    fn service_output(&mut self, _service: &str) -> Box<dyn OutputSink> {
        Box::new(Nowhere)
    }
}

/// Takes output and forgets it.
struct Nowhere;

impl OutputSink for Nowhere {
    fn output(&mut self, _stream: Stream, _bytes: &[u8]) {}
}

/// A command to run in a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments; never empty.
    pub argv: Vec<String>,
    /// Added to the run's variables.
    pub env: Vec<(String, String)>,
    /// Folder within the workspace, checked to stay in it.
    pub cwd: Option<String>,
    /// Fed to standard input, which is then closed.
    pub stdin: Option<Vec<u8>>,
    /// Ends the command's whole process tree after this time.
    pub timeout: Option<std::time::Duration>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandEnd {
    /// With an exit code; 128 + signal where a signal ended it.
    Exited(i32),
    /// Its time was up; its process tree is gone.
    TimedOut,
    /// It was cancelled; its process tree is gone.
    Cancelled,
}

/// A started place for a run's commands.
pub trait Workspace: Send + Sync {
    /// Runs one command to its end, output going to `sink` as it comes. Several may run at once.
    fn run(
        &self,
        command: Command,
        sink: Box<dyn OutputSink>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<CommandEnd, ExecutorError>>;

    /// What a file holds. A path leads from the workspace, and symbolic links lead on within it.
    ///
    /// An error is [`ExecutorError::File`] where the file is not there, lies outside of the
    /// workspace, is no file, or holds more than [`MAX_READ`].
    fn read_file<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Vec<u8>, ExecutorError>>;

    /// Gives a file this content, and makes it and the folders on its way where they are missing,
    /// belonging to whom the commands run as. One that is there keeps its permissions.
    fn write_file<'a>(
        &'a self,
        path: &'a str,
        content: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), ExecutorError>>;

    /// A file, or a folder with everything in it, as an uncompressed tar archive: every name in it
    /// begins with one part that stands for what was asked for. What it holds was made by
    /// foreign code: links that lead anywhere, pipes, devices.
    fn export<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<TarStream, ExecutorError>>;

    /// What has gone wrong beside the commands, so that they may fail for it: services that ended,
    /// each in a sentence. Grows only.
    fn troubles(&self) -> Vec<String> {
        Vec::new()
    }

    /// Ends everything that runs in it and removes it. Returns only when it is gone. Safe to repeat.
    fn stop(&self) -> BoxFuture<'_, Result<(), ExecutorError>>;
}

/// A person's command in a run's container.
pub struct Attached {
    /// What it writes, until it ends.
    pub output: BoxStream<'static, Result<(Stream, Bytes), ExecutorError>>,
    /// Its standard input; to close it, shut it down.
    pub input: std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>,
    /// Its end.
    pub end: Box<dyn AttachedEnd>,
}

/// The end of a person's command.
pub trait AttachedEnd: Send + Sync {
    /// Its exit code, once its output has ended; none where it is not known.
    fn exit_code(&self) -> BoxFuture<'_, Option<i32>>;

    /// Ends it, with everything that it started.
    fn end(&self) -> BoxFuture<'_, ()>;
}

/// One way of executing runs.
pub trait Executor: Send + Sync {
    /// Which.
    fn kind(&self) -> ExecutorKind;

    /// Starts a workspace. Where it fails, or `cancel` fires, what it made is removed, but only
    /// [`Executor::clear`] tells whether that worked.
    fn start<'a>(
        &'a self,
        spec: StartSpec,
        observer: &'a mut dyn StartObserver,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Box<dyn Workspace>, ExecutorError>>;

    /// Whether runs can be executed now; the error says in one sentence why not.
    fn probe(&self) -> BoxFuture<'_, Result<(), ExecutorError>>;

    /// Removes everything of a run's, and returns only when it is confirmed gone. For a run whose
    /// start has ended without handing out a workspace; safe to repeat, and cheap where there is nothing.
    fn clear<'a>(&'a self, run: RunId) -> BoxFuture<'a, Result<(), ExecutorError>>;

    /// The caches that there are, in order.
    fn caches(&self) -> BoxFuture<'_, Result<Vec<CacheInfo>, ExecutorError>>;

    /// Removes a cache with everything in it; gives whether there was one.
    ///
    /// An error is [`ExecutorError::Busy`] where a run has it.
    fn remove_cache<'a>(
        &'a self,
        repo: &'a RepoName,
        name: &'a str,
    ) -> BoxFuture<'a, Result<bool, ExecutorError>>;

    /// What caches take in bytes, in order; those of which it cannot be known are left out. May take long.
    fn cache_sizes(&self) -> BoxFuture<'_, Result<Vec<(CacheInfo, u64)>, ExecutorError>>;

    /// The images that this appliance has built. None on the host.
    fn images(&self) -> BoxFuture<'_, Result<Images, ExecutorError>> {
        Box::pin(std::future::ready(Ok(Images::default())))
    }

    /// Removes an image of this appliance's, unless something needs it or it is not what it was.
    fn remove_image<'a>(
        &'a self,
        _image: &'a OwnImage,
    ) -> BoxFuture<'a, Result<ImageFate, ExecutorError>> {
        Box::pin(std::future::ready(Ok(ImageFate::Missing)))
    }

    /// Starts a command of a person's in a run's container, beside those of its jobs.
    ///
    /// An error is [`ExecutorError::Command`] where the run has no container.
    fn attach(
        &self,
        _run: RunId,
        _argv: Vec<String>,
    ) -> BoxFuture<'_, Result<Attached, ExecutorError>> {
        let refusal = ExecutorError::Command(
            "the run is executed on the host, without a container to attach to".to_owned(),
        );
        Box::pin(std::future::ready(Err(refusal)))
    }

    /// The appliance stops: gives back what is only of use while it runs. What cannot be given back
    /// within a moment stays, and is used again at the next start.
    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Removes everything of this appliance's that belongs to no run in `living`, and goes on past
    /// what cannot be removed.
    ///
    /// An error, [`ExecutorError::Unavailable`], only where it could not be asked what there is.
    fn sweep<'a>(&'a self, living: &'a [RunId]) -> BoxFuture<'a, Result<Swept, ExecutorError>>;
}

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many things it removed.
    pub removed: usize,
    /// Runs, none of them in `living`, of which something is or may be still there: it could not
    /// be removed, or this process has the run in hand. Sorted, each once.
    pub left: Vec<RunId>,
}

impl Swept {
    /// From what was removed and what was left, in any order.
    fn new(removed: usize, mut left: Vec<RunId>) -> Self {
        left.sort_unstable();
        left.dedup();
        Self { removed, left }
    }
}

/// Why an executor could not do something.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The engine does not answer or refuses; runs wait.
    #[error("the Docker engine cannot be reached: {0}")]
    Unavailable(String),
    /// The engine answers and fails, in its own words.
    #[error("the Docker engine failed to {attempt}: {message}")]
    Faulty {
        /// What was attempted.
        attempt: &'static str,
        /// The engine's words.
        message: String,
    },
    /// The image cannot be had, with the registry's or build's words.
    #[error("{0}")]
    Image(String),
    /// The container ended under the command, with the reason in words.
    #[error("{0}")]
    ContainerDied(String),
    /// The start was cancelled.
    #[error("the start was cancelled")]
    Cancelled,
    /// The command is not one that can be run (empty, NUL byte, folder outside the workspace).
    #[error("{0}")]
    Command(String),
    /// A file of the workspace cannot be read, written or kept: the sentence names it.
    #[error("{0}")]
    File(String),
    /// A service was not ready in time.
    #[error("{0}")]
    NotReady(String),
    /// It is in use, as the sentence says.
    #[error("{0}")]
    Busy(String),
    /// Anything else that went wrong while doing what is named.
    #[error("{attempt}: {message}")]
    Other {
        /// What was attempted.
        attempt: &'static str,
        /// What came back.
        message: String,
    },
}
