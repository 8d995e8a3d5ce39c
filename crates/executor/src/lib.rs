//! How the commands of a run are executed: one interface, two implementations. Runs in containers
//! are [`DockerExecutor`], runs on the machine itself are [`HostExecutor`]; a pipeline cannot tell
//! which of them executes it.
//!
//! An [`Executor`] starts a [`Workspace`] for a run: the tree of the commit, unpacked where
//! commands can run. Every workspace that was started must be stopped; stopping twice is safe.
//! [`Executor::sweep`] finds what a crash leaves behind.
//!
//! Both implementations guarantee:
//! - A command ends when its first process ends. Processes that it left in the background live on
//!   until the workspace stops; their output is read only a little longer.
//! - A program that does not exist or cannot be executed is exit code 127 or 126 with a line on
//!   standard error, as in a shell. An invalid command is an error, and nothing runs.
//! - A command that times out or is cancelled takes with it everything that it started.
//!
//! What only some executors have is a trait of its own: [`CacheStore`], [`ImageStore`] and
//! [`Attach`]. Callers ask for it and for the [`Capabilities`], never for an executor by name.

mod api;
mod cache_location;
mod command;
mod docker;
pub mod engine;
mod error;
mod file_path;
mod host;
mod images;
mod link;
mod machines;
mod spawn_problem;
mod tar_stream;

pub use api::{
    Attach, AttachedCommand, AttachedControl, CacheInfo, CacheMount, CacheStore, Capabilities,
    CommandEnd, CommandSpec, ContainerSettings, Executor, ImageLook, ImageSource, ImageStore,
    LookResult, OutputSink, ResourceLimits, ServiceSpec, StartObserver, StartSpec, SweepReport,
    Terminal, Tree, Workspace,
};
pub use docker::{DockerConfig, DockerExecutor, SwarmConfig, SwarmExecutor, SwarmRegistry};
pub use error::{
    CachePathProblem, ContainerFailure, ExecutorError, FileError, FileProblem, ImageError,
    InvalidCommand, PathProblem, SwarmLimit,
};
pub use file_path::MAX_READ;
pub use host::{HostConfig, HostExecutor};
pub use images::{BuiltImage, ImageRemoval, OwnedImage};
pub use machines::{ExecutorNode, RemoteCache};
pub use quire_run_files::logs::Stream;
pub use tar_stream::{OpenArchive, TarStream};
