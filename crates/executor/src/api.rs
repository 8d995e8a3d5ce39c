//! The interface of an executor: its traits, and what is passed to them.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use quire_run_files::logs::Stream;
use quire_types::image_reference::ImageReference;
use quire_types::names::{RepoName, RunId};
use quire_types::run::ExecutorName;
use tokio::io::AsyncWrite;
use tokio_util::sync::CancellationToken;

use crate::error::ExecutorError;
use crate::images::{BuiltImage, ImageRemoval, OwnedImage};
use crate::machines::{ExecutorNode, RemoteCache};
use crate::tar_stream::TarStream;

/// One way of executing runs.
pub trait Executor: Send + Sync {
    /// The name under which a run's row says that this executor has it.
    fn name(&self) -> &ExecutorName;

    fn capabilities(&self) -> Capabilities;

    /// The caches; `None` if this executor keeps none.
    fn caches(&self) -> Option<&dyn CacheStore> {
        None
    }

    /// A cache that runs have on machines of which this process cannot list and remove caches; `None` if there are no such
    /// machines. Whether it exists is not known.
    fn remote_cache(&self, _repo: &RepoName, _name: &str) -> Option<RemoteCache> {
        None
    }

    /// The images that were built or pulled for runs; `None` if this executor uses none.
    fn images(&self) -> Option<&dyn ImageStore> {
        None
    }

    /// Commands of the user in the container of a run; `None` if runs have no container.
    fn attach(&self) -> Option<&dyn Attach> {
        None
    }

    /// A run of this repository may be started soon. Returns at once.
    fn expect_run(&self, _repo: &RepoName) {}

    /// Releases what is held ready for runs; more of it is made when the next run has started.
    fn release_idle(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// The machines that execute runs, where a scheduler chooses among them; otherwise none.
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<ExecutorNode>, ExecutorError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Fails if no run can be executed now; the error says why.
    fn probe(&self) -> BoxFuture<'_, Result<(), ExecutorError>>;

    /// Starts a workspace. If that fails or `cancel` fires, whatever was created is removed, but
    /// only [`Executor::destroy_run`] confirms it.
    fn start_workspace<'a>(
        &'a self,
        spec: StartSpec,
        observer: &'a mut dyn StartObserver,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Box<dyn Workspace>, ExecutorError>>;

    /// Removes everything that belongs to a run, and returns once it is confirmed gone. For a run
    /// whose start returned no workspace; may be repeated, and is cheap if there is nothing.
    fn destroy_run(&self, run: RunId) -> BoxFuture<'_, Result<(), ExecutorError>>;

    /// Removes everything of this appliance that belongs to no run in `active`, and continues
    /// past what cannot be removed.
    ///
    /// # Errors
    /// [`ExecutorError::Unavailable`], only if it cannot be found out what there is.
    fn sweep<'a>(
        &'a self,
        active: &'a [RunId],
    ) -> BoxFuture<'a, Result<SweepReport, ExecutorError>>;

    /// Releases what is of use only while the appliance runs. What cannot be released within a
    /// moment stays, and is used again after the next start.
    fn shut_down(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// The place where the commands of a run are executed.
pub trait Workspace: Send + Sync {
    /// Runs one command to its end and passes its output to `sink` as it comes. Several commands
    /// may run at the same time.
    fn run_command(
        &self,
        command: CommandSpec,
        sink: Box<dyn OutputSink>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<CommandEnd, ExecutorError>>;

    /// Returns the content of a file. Paths are relative to the workspace; symbolic links are
    /// followed within it.
    ///
    /// # Errors
    /// [`ExecutorError::File`] if the path does not name a file in the workspace, or one larger
    /// than [`crate::MAX_READ`].
    fn read_file<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Vec<u8>, ExecutorError>>;

    /// Replaces the content of a file. A missing file is created, with the folders on its way, and
    /// belongs to the user of the commands; an existing one keeps its permissions.
    fn write_file<'a>(
        &'a self,
        path: &'a str,
        content: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), ExecutorError>>;

    /// Returns a file, or a folder with everything in it, as an uncompressed tar archive in which
    /// every name begins with one part that stands for `path`. The archive was made by foreign
    /// code: it may hold links that point anywhere, pipes and devices.
    fn export_archive<'a>(
        &'a self,
        path: &'a str,
    ) -> BoxFuture<'a, Result<TarStream, ExecutorError>>;

    /// The services that ended while the run was active, each in one sentence. Only grows.
    fn service_failures(&self) -> Vec<String> {
        Vec::new()
    }

    /// Ends everything that runs in the workspace. Returns once it is confirmed that nothing of it
    /// runs and all output has been passed on; may be repeated.
    fn stop(&self) -> BoxFuture<'_, Result<(), ExecutorError>>;

    /// Removes a workspace that was stopped, and returns once it is gone; may be repeated.
    fn remove(&self) -> BoxFuture<'_, Result<(), ExecutorError>>;

    /// Prepares the workspace to outlive this process, for at most `duration`. Commands can run in
    /// it only by [`Attach`] from then on.
    fn keep(&self, _duration: Duration) -> BoxFuture<'_, Result<(), ExecutorError>> {
        Box::pin(std::future::ready(Err(ExecutorError::failed(
            "keep the workspace",
            &"this executor keeps none",
        ))))
    }
}

/// The caches that an executor keeps from run to run.
pub trait CacheStore: Send + Sync {
    /// All caches, sorted.
    fn list(&self) -> BoxFuture<'_, Result<Vec<CacheInfo>, ExecutorError>>;

    /// The sizes of the caches in bytes, sorted; without the caches whose size is unknown. May
    /// take long.
    fn sizes(&self) -> BoxFuture<'_, Result<Vec<(CacheInfo, u64)>, ExecutorError>>;

    /// Removes a cache with its content and returns whether it existed.
    ///
    /// # Errors
    /// [`ExecutorError::CacheInUse`] if a run uses it.
    fn remove<'a>(
        &'a self,
        repo: &'a RepoName,
        name: &'a str,
    ) -> BoxFuture<'a, Result<bool, ExecutorError>>;
}

/// The images that an appliance brought onto an engine.
pub trait ImageStore: Send + Sync {
    /// The engine's own id, which tells its images from those of another engine at the same
    /// address; empty if it has none.
    fn engine_id(&self) -> BoxFuture<'_, Result<String, ExecutorError>>;

    /// Whether the engine has an image.
    fn has<'a>(&'a self, image: &'a ImageReference) -> BoxFuture<'a, Result<bool, ExecutorError>>;

    /// The id and the size in bytes of an image by its name or id; `None` if the engine does not have it. Images share layers, which
    /// count for each.
    fn size<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<(String, u64)>, ExecutorError>>;

    /// Removes an image of this appliance, unless something uses it or it is another one by now.
    fn remove<'a>(
        &'a self,
        image: &'a OwnedImage,
    ) -> BoxFuture<'a, Result<ImageRemoval, ExecutorError>>;
}

/// Commands of the user in the container of a run, beside those of its jobs.
pub trait Attach: Send + Sync {
    /// Starts a command.
    ///
    /// # Errors
    /// [`ExecutorError::Command`] if the run has no container.
    fn start_command(
        &self,
        run: RunId,
        argv: Vec<String>,
        terminal: Option<Terminal>,
    ) -> BoxFuture<'_, Result<AttachedCommand, ExecutorError>>;

    /// Returns the workspace of the run, for commands and files beside those of its jobs. It is not to be stopped or
    /// removed through this.
    ///
    /// # Errors
    /// [`ExecutorError::Command`] if the run has no container.
    fn workspace(&self, run: RunId) -> BoxFuture<'_, Result<Arc<dyn Workspace>, ExecutorError>>;
}

/// A terminal for a command of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminal {
    pub columns: u16,
    pub rows: u16,
    /// Its kind, for the variable `TERM`.
    pub kind: String,
}

/// How an executor differs from others where a caller must know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Commands run apart from the machine; limits, image and network settings apply.
    pub isolated: bool,
    /// The workspace of a failed run can be kept for the user until it is destroyed.
    pub keeps_failed_workspaces: bool,
    /// The workspace is the folder [`StartSpec::workspace`] of this machine, to be recorded before
    /// the start so that a crash leaves no unknown folder.
    pub workspace_on_disk: bool,
}

/// The tree of a commit as a tar stream. It may be read more than once.
pub trait Tree: Send + Sync {
    /// Returns a new stream of the archive, without a leading folder.
    fn archive(&self) -> TarStream;

    /// Returns a new stream of the archive for a workspace, which may hold more than the context of a build: a `.git`.
    fn checkout(&self) -> TarStream {
        self.archive()
    }

    /// Whether the tree contains `.quire/Dockerfile`.
    fn has_dockerfile(&self) -> bool;

    /// An id of the content, such as git's id of the tree: equal ids mean equal content. With an
    /// id, an image that was built from the tree once is used again; without one, the image is
    /// built anew, with the engine's build cache.
    fn id(&self) -> Option<String> {
        None
    }
}

/// What a workspace is started from.
pub struct StartSpec {
    pub run: RunId,
    pub repo: RepoName,
    pub image: ImageSource,
    pub tree: Arc<dyn Tree>,
    pub limits: ResourceLimits,
    pub container: ContainerSettings,
    /// The environment of every command.
    pub env: Vec<(String, String)>,
    pub caches: Vec<CacheMount>,
    /// The workspace has started once every service is ready.
    pub services: Vec<ServiceSpec>,
    /// Whether images are pulled and built afresh although the engine has them.
    pub rebuild: bool,
    /// The id of the only machine that may execute it, where a scheduler chooses among several; `None` for any.
    pub node: Option<String>,
    /// Whether [`Workspace::keep`] may be called.
    pub may_be_kept: bool,
    /// Where an executor with a workspace on disk unpacks the tree.
    pub workspace: PathBuf,
}

/// The image that a run asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// An image by reference, pulled if it is missing.
    Reference(ImageReference),
    /// Built from the tree's `.quire/Dockerfile`, with the tree as build context.
    Dockerfile,
}

/// What a run may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceLimits {
    /// In bytes.
    pub memory: u64,
    /// CPUs in thousandths.
    pub milli_cpus: u64,
    /// The number of processes.
    pub pids: u32,
    pub network: bool,
}

/// What a run asks of its container beyond image and limits. An executor without containers has no
/// use for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerSettings {
    /// The user of the commands, in Docker's notation. `None` for the image's.
    pub user: Option<String>,
    /// The size of `/dev/shm` in bytes. `None` for the engine's default.
    pub shm_size: Option<u64>,
    /// Folders in memory, as absolute paths, each with its size in bytes if it has one.
    pub tmpfs: Vec<(String, Option<u64>)>,
    /// Capabilities beyond those that all runs have; [`quire_pipeline::ALL_PRIVILEGES`] for all.
    pub privileges: Vec<String>,
    /// Whether the engine's socket is in it.
    pub engine_socket: bool,
}

/// A folder that outlives the run, shared by the runs of one repository and by no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// Unique within the repository.
    pub name: String,
    /// Where commands see it: an absolute path, or one relative to the workspace.
    pub path: String,
}

/// A container beside that of the run, on a network that only they share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its host name on that network.
    pub name: String,
    pub image: ImageReference,
    pub env: Vec<(String, String)>,
    /// Replaces the image's entry point and command; `None` to keep them.
    pub command: Option<Vec<String>>,
    /// Succeeds in the container once the service is ready; without it the service is ready when
    /// it runs.
    pub ready: Option<Vec<String>>,
    pub ready_within: Duration,
}

/// Receives output as it comes, from one task at a time. A slow sink slows the command down and
/// nothing else. It is called on a thread of the runtime: a sink that may wait for long has to use
/// [`tokio::task::block_in_place`].
pub trait OutputSink: Send {
    /// Receives a chunk that may end anywhere, also within a character.
    fn output(&mut self, stream: Stream, bytes: &[u8]);
}

/// Receives the progress of a start as it happens, for the run's row and its log.
pub trait StartObserver: Send {
    /// A line for the log of the run: build output, progress of a pull.
    fn line(&mut self, stream: Stream, bytes: &[u8]);
    /// An image is about to be built. Called before it exists, so that a crash leaves no image of
    /// which quire does not know that it is its own.
    fn build_started(&mut self, engine: &str, tag: &str);
    fn build_finished(&mut self, image: &BuiltImage);
    /// The container was created. Called before it is started, so that a crash right after it
    /// finds the id in the run's row.
    fn container_created(&mut self, id: &str, image: &str);
    fn container_started(&mut self);
    /// The run uses this image, by its full name.
    fn image_used(&mut self, _name: &str) {}
    /// When a newer version of an image was last looked for; `None` if that is not known.
    fn last_look(&mut self, _image: &str) -> Option<ImageLook> {
        None
    }
    /// A newer version of an image was looked for.
    fn looked_for_newer(&mut self, _image: &str, _result: &LookResult) {}
    /// The image was missing and has just been pulled: quire may remove it later.
    fn image_pulled(&mut self, _engine: &str, _name: &str, _id: &str) {}
    /// Returns the sink for the output of a service, for as long as the service lives.
    fn service_output(&mut self, _service: &str) -> Box<dyn OutputSink> {
        Box::new(NullSink)
    }
}

/// A look for a newer version of an image in its registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLook {
    /// How long ago it was.
    pub age: Duration,
    pub result: LookResult,
}

/// What a look for a newer version of an image found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LookResult {
    /// What the name referred to on the engine. Empty for an image that was built, whose base images are looked for.
    pub image_id: String,
    /// The newer version by its digest; `None` if there was none.
    pub newer: Option<ImageReference>,
}

/// Discards output.
struct NullSink;

impl OutputSink for NullSink {
    fn output(&mut self, _stream: Stream, _bytes: &[u8]) {}
}

/// A command to run in a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSpec {
    /// Program and arguments; never empty.
    pub argv: Vec<String>,
    /// Added to the environment of the run.
    pub env: Vec<(String, String)>,
    /// The working directory, relative to the workspace and checked to stay within it.
    pub cwd: Option<String>,
    /// Written to standard input, which is then closed.
    pub stdin: Option<Vec<u8>>,
    /// After this time the command is ended with its whole process tree.
    pub timeout: Option<Duration>,
    /// Standard output and standard error are one pipe: everything arrives as standard output, in
    /// the order in which it was written.
    pub merge: bool,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandEnd {
    /// With an exit code; 128 + signal if a signal ended it.
    Exited(i32),
    /// By its time limit; its process tree is gone.
    TimedOut,
    /// By a cancellation; its process tree is gone.
    Cancelled,
}

/// A running command of the user.
pub struct AttachedCommand {
    /// Ends when the command ends.
    pub output: BoxStream<'static, Result<(Stream, Bytes), ExecutorError>>,
    /// Standard input; shut it down to close it.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    pub control: Box<dyn AttachedControl>,
}

/// The end of a command of the user.
pub trait AttachedControl: Send + Sync {
    /// The exit code, once the output has ended; `None` if it is unknown.
    fn exit_code(&self) -> BoxFuture<'_, Option<i32>>;

    /// Changes the size of its terminal, if it has one.
    fn resize(&self, columns: u16, rows: u16);

    /// Ends the command with everything that it started.
    fn kill(&self) -> BoxFuture<'_, ()>;
}

/// A cache that exists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CacheInfo {
    /// The repository whose runs share it.
    pub repo: RepoName,
    pub name: String,
}

/// The result of a sweep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// How many objects were removed.
    pub removed: usize,
    /// Runs outside of `active` of which something exists or may exist: it could not be removed,
    /// or this process still works on the run. Sorted, without duplicates.
    pub remaining: Vec<RunId>,
    /// The containers that could not be removed. One that was started in advance of its run does
    /// not say which run has it; the row of the run does.
    pub remaining_containers: Vec<String>,
}

impl SweepReport {
    pub(crate) fn new(removed: usize, mut remaining: Vec<RunId>) -> Self {
        remaining.sort_unstable();
        remaining.dedup();
        Self {
            removed,
            remaining,
            remaining_containers: Vec::new(),
        }
    }
}
