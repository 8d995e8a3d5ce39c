//! The only caller of the Docker Engine API (through bollard): typed calls with time limits, and
//! errors in words.
//!
//! Every call but a stream has a time limit; a stream is watched instead: while it is silent,
//! the engine is asked now and then whether it still lives, so a hanging engine is an error and
//! never a hang. The module knows nothing of runs; what the labels mean is the executor's.

mod archive;
mod connect;
mod container;
mod error;
mod exec;
mod feed;
mod image;
mod network;
mod volume;

pub use archive::{PathKind, PathState};
pub use connect::{Engine, Identity, Timings};
pub use container::{Attachment, ContainerSpec, ContainerState, Listed, VolumeMount};
pub use error::DockerError;
pub use exec::{ExecOutput, ExecSpec, ExecState, Frame};
pub use feed::{Feed, TarStream};
pub use image::{BuildNews, BuildSpec, ImageState, ListedImage, Progress, full_reference};
pub use network::ListedNetwork;
pub use volume::ListedVolume;

use std::collections::HashMap;

/// Labels, as key and value.
pub type Labels = Vec<(String, String)>;

fn label_map(labels: &Labels) -> HashMap<String, String> {
    labels.iter().cloned().collect()
}

/// The filter that selects what carries all of the labels.
fn label_filter(labels: &Labels) -> HashMap<String, Vec<String>> {
    HashMap::from([(
        "label".to_owned(),
        labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect(),
    )])
}
