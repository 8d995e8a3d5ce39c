//! Runs in containers: one container for a run, whose first process is quire's helper. It executes
//! the commands and has their files; the engine only starts and ends it.
//!
//! Invariants: everything that is created on the engine carries the label of the instance, and
//! only what carries it is ever removed. The observer is told the container's id before the
//! container starts. A start that fails, is cancelled or is dropped removes its container as well
//! as it can; `destroy_run` confirms that it is gone.

mod attach;
mod base_images;
mod build_sources;
mod built_images;
mod caches;
mod cleanup;
mod config;
mod container;
mod context;
mod engine_images;
mod executor;
mod helper_streams;
mod helper_volume;
mod image;
mod image_names;
mod in_use;
mod network;
mod newer_images;
mod place;
mod ready_check;
mod registries;
mod service_output;
mod services;
mod swarm;
mod volume_holders;
mod warm_container;
mod warm_pool;

pub use config::DockerConfig;
pub use executor::DockerExecutor;
pub use swarm::{SwarmConfig, SwarmExecutor, SwarmRegistry};
