//! Tasks of a swarm: the executions of the containers of services, and what they have written.

use std::net::IpAddr;

use bytes::{Buf, Bytes};
use quire_run_files::logs::Stream;
use serde::{Deserialize, Deserializer};

use super::client::{Engine, url_part};
use super::error::DockerError;
use super::transport::get;

/// How many lines of a service are read at most.
const MAX_LOG_LINES: u32 = 10_000;

/// How far a task has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskPhase {
    /// It has no node yet.
    Unassigned,
    /// A node prepares it: it pulls the image and creates the container.
    Preparing,
    /// The container is started, and not ready.
    Starting,
    Running,
    /// Nothing of it runs, and nothing of it will.
    Ended,
}

/// One execution of the container of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwarmTask {
    pub phase: TaskPhase,
    /// The id of its node; empty if it has none.
    pub node: String,
    /// The swarm's own words about its state; empty if it has none.
    pub message: String,
    /// The exit code of its container; 0 while it runs.
    pub exit_code: i64,
    /// Its addresses on overlay networks.
    pub addresses: Vec<IpAddr>,
    /// When it was created, as the engine writes it.
    pub created: String,
}

impl Engine {
    /// Returns the task of a service that executes one container once; `None` if there is none (yet).
    pub async fn task_of(&self, service: &str) -> Result<Option<SwarmTask>, DockerError> {
        match self.tasks("service", &[service]).await {
            // Only the first can have had what it was created for.
            Ok(tasks) => Ok(tasks.into_iter().min_by(|a, b| a.created.cmp(&b.created))),
            Err(DockerError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The tasks of which something has one of these values. Not by bollard, whose tasks have no addresses.
    async fn tasks(&self, filter: &str, values: &[&str]) -> Result<Vec<SwarmTask>, DockerError> {
        let filters = serde_json::json!({ filter: values }).to_string();
        let target = format!(
            "/tasks?filters={}",
            percent_encoding::utf8_percent_encode(&filters, percent_encoding::NON_ALPHANUMERIC)
        );
        let listed: Vec<TaskJson> = self.get_json("list tasks", &target).await?;
        Ok(listed.into_iter().map(SwarmTask::from).collect())
    }

    /// What the task of a service that is logged has written, as far as it can be read: the newest lines in pieces.
    pub async fn service_output(&self, service: &str) -> Vec<(Stream, Bytes)> {
        let Ok(service) = url_part(service) else {
            return Vec::new();
        };
        let target = format!("/services/{service}/logs?stdout=1&stderr=1&tail={MAX_LOG_LINES}");
        let limit = self.timeouts().call;
        let Ok(path) = self.socket_path() else {
            return Vec::new();
        };
        let read = self.call("read what the service wrote", limit, |_| get(path, target));
        log_pieces(read.await.unwrap_or_default())
    }

    /// The ids of the nodes of all tasks that are to run, once for each task.
    pub async fn nodes_of_tasks(&self) -> Result<Vec<String>, DockerError> {
        // Those of jobs are to be complete.
        let tasks = self
            .tasks("desired-state", &["running", "complete"])
            .await?;
        let running = tasks
            .into_iter()
            .filter(|task| task.phase == TaskPhase::Running);
        Ok(running.map(|task| task.node).collect())
    }
}

/// Splits the log of a service: each piece has a head of eight bytes, the first of which names the stream and the last four its
/// length (Docker Engine API, "Attach to a container", stream format).
fn log_pieces(mut log: Bytes) -> Vec<(Stream, Bytes)> {
    let mut pieces = Vec::new();
    while let Some([stream, _, _, _, length @ ..]) = log.first_chunk::<8>().copied() {
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        log.advance(8);
        let piece = log.split_to(length.min(log.len()));
        let stream = match stream {
            2 => Stream::Stderr,
            _ => Stream::Stdout,
        };
        pieces.push((stream, piece));
    }
    pieces
}

/// A task as the engine describes it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TaskJson {
    #[serde(rename = "NodeID")]
    node_id: String,
    created_at: String,
    status: TaskStatusJson,
    #[serde(deserialize_with = "or_default")]
    networks_attachments: Vec<AttachmentJson>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TaskStatusJson {
    state: String,
    err: String,
    #[serde(deserialize_with = "or_default")]
    container_status: ContainerStatusJson,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ContainerStatusJson {
    exit_code: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct AttachmentJson {
    /// Each with the length of the network's prefix.
    #[serde(deserialize_with = "or_default")]
    addresses: Vec<String>,
}

/// Engines write `null` for what is empty.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    value: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

impl From<TaskJson> for SwarmTask {
    fn from(task: TaskJson) -> Self {
        let addresses = task.networks_attachments.iter().flat_map(|network| {
            let addresses = network.addresses.iter();
            addresses.filter_map(|text| text.split('/').next()?.parse().ok())
        });
        Self {
            phase: match task.status.state.as_str() {
                "assigned" | "accepted" | "preparing" | "ready" => TaskPhase::Preparing,
                "starting" => TaskPhase::Starting,
                "complete" | "shutdown" | "failed" | "rejected" => TaskPhase::Ended,
                // Of the two last, its node does not answer, or does not know yet that it is to end it.
                "running" | "remove" | "orphaned" => TaskPhase::Running,
                _ => TaskPhase::Unassigned,
            },
            addresses: addresses.collect(),
            created: task.created_at,
            node: task.node_id,
            message: task.status.err,
            exit_code: task.status.container_status.exit_code,
        }
    }
}
