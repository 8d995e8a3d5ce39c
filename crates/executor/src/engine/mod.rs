//! The client of the Docker Engine API, and the only user of bollard: typed calls with time
//! limits, and errors in words.
//!
//! Every call except a stream has a time limit. A stream is watched instead: while it is silent,
//! the engine is pinged now and then, so that an engine that hangs is an error and never a hang.
//! The client knows nothing of runs; what the labels mean is for the executor to decide.

mod archive;
mod buildkit;
mod client;
mod container;
mod error;
mod exec;
mod image;
mod job;
mod labels;
mod network;
mod pull_progress;
mod registry_login;
mod swarm;
mod task;
mod timeouts;
mod transport;
mod upload_body;
mod volume;

pub use buildkit::{Build, BuildSources, BuildSpec, SourceRule};
pub use client::{Engine, EngineIdentity};
pub use container::{
    ContainerExtras, ContainerSpec, ContainerState, ListedContainer, NetworkMode, VolumeMount,
    VolumeSource,
};
pub use error::DockerError;
pub use exec::{ContainerStreams, ExecSpec, ExecState, OutputFrame};
pub use image::{ImageDetails, ListedImage};
pub use job::{JobNetwork, JobSpec, MountedConfig, ReadyCheck};
pub use labels::Labels;
pub use network::ListedNetwork;
pub use registry_login::RegistryLogin;
pub use swarm::{ListedService, SwarmNode};
pub use task::{SwarmTask, TaskPhase};
pub use timeouts::Timeouts;
pub use volume::ListedVolume;
