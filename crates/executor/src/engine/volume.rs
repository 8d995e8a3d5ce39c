//! Volumes: the engine's storage that outlives containers.

use std::collections::HashMap;

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters as query;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::client::Engine;
use super::error::DockerError;
use super::labels::{Labels, label_filter, label_map};

/// The newest API that reports the sizes of volumes; newer engines still do if asked by it.
const MAX_USAGE_API: (usize, usize) = (1, 51);
/// How much of the disk usage response is read: it has an entry for each image, container and volume.
const MAX_USAGE_BYTES: u64 = 64 << 20;

/// An entry of a list of volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedVolume {
    pub name: String,
    pub labels: Labels,
}

impl Engine {
    /// Creates a volume unless it exists, and returns its labels. These differ from `labels` if a
    /// volume of this name existed before.
    pub async fn ensure_volume(&self, name: &str, labels: &Labels) -> Result<Labels, DockerError> {
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            labels: Some(label_map(labels)),
            ..Default::default()
        };
        let created = self.call(
            "create the volume",
            self.timeouts().call,
            |docker| async move { docker.create_volume(request).await },
        );
        Ok(created.await?.labels.into_iter().collect())
    }

    /// Lists the volumes that carry all of the labels.
    pub async fn volumes(&self, labels: &Labels) -> Result<Vec<ListedVolume>, DockerError> {
        let options = query::ListVolumesOptions {
            filters: Some(label_filter(labels)),
        };
        let listed = self
            .call("list volumes", self.timeouts().call, |docker| async move {
                docker.list_volumes(Some(options)).await
            })
            .await?;
        let entry = |volume: bollard::models::Volume| ListedVolume {
            name: volume.name,
            labels: volume.labels.into_iter().collect(),
        };
        Ok(listed
            .volumes
            .unwrap_or_default()
            .into_iter()
            .map(entry)
            .collect())
    }

    /// Returns the size of each volume in bytes, as far as the engine knows it. The engine walks
    /// all files for that, which may take long.
    pub async fn volume_sizes(&self) -> Result<HashMap<String, u64>, DockerError> {
        let attempt = "measure the volumes";
        let limit = self.timeouts().lifecycle;
        let version = self.client().await?.client_version();
        let (major, minor) = MAX_USAGE_API.min((version.major_version, version.minor_version));
        // bollard reads this response only in its newest form, which old engines do not send.
        let path = self.socket_path()?;
        let response = tokio::time::timeout(limit, async {
            let mut stream = UnixStream::connect(path).await?;
            let request = format!(
                "GET /v{major}.{minor}/system/df?type=volume HTTP/1.0\r\nHost: docker\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await?;
            let mut response = Vec::new();
            stream
                .take(MAX_USAGE_BYTES)
                .read_to_end(&mut response)
                .await?;
            std::io::Result::Ok(response)
        })
        .await
        .map_err(|_| DockerError::TimedOut {
            attempt,
            after: limit,
        })?
        .map_err(|error| DockerError::ConnectionLost {
            attempt,
            message: error.to_string(),
        })?;
        parse_sizes(&response).ok_or_else(|| DockerError::InvalidResponse {
            attempt,
            message: "it is not a list of volumes".to_owned(),
        })
    }

    /// Removes a volume with its content and returns whether it existed.
    ///
    /// # Errors
    /// [`DockerError::Conflict`] if a container uses it.
    pub async fn remove_volume(&self, name: &str) -> Result<bool, DockerError> {
        let removed = self.call_on(
            "remove the volume",
            self.timeouts().lifecycle,
            name,
            |docker, name| async move {
                docker
                    .remove_volume(&name, None::<query::RemoveVolumeOptions>)
                    .await
            },
        );
        match removed.await {
            Ok(()) => Ok(true),
            Err(DockerError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[derive(Deserialize)]
struct DiskUsage {
    #[serde(rename = "Volumes", default)]
    volumes: Option<Vec<VolumeEntry>>,
}

#[derive(Deserialize)]
struct VolumeEntry {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "UsageData", default)]
    usage: Option<UsageData>,
}

#[derive(Deserialize)]
struct UsageData {
    /// Negative if the engine does not know it.
    #[serde(rename = "Size")]
    size: i64,
}

/// Parses the sizes in an HTTP response; `None` if it is not a success or cannot be read.
fn parse_sizes(response: &[u8]) -> Option<HashMap<String, u64>> {
    let end = response.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&response[..end]).ok()?;
    if head.split(' ').nth(1) != Some("200") {
        return None;
    }
    let usage: DiskUsage = serde_json::from_slice(&response[end + 4..]).ok()?;
    let known = |volume: VolumeEntry| Some((volume.name, u64::try_from(volume.usage?.size).ok()?));
    Some(
        usage
            .volumes
            .unwrap_or_default()
            .into_iter()
            .filter_map(known)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sizes_are_parsed() {
        let body = r#"{"LayersSize":1,"Volumes":[{"Name":"a","UsageData":{"Size":7,"RefCount":0}},{"Name":"b","UsageData":{"Size":-1,"RefCount":0}},
            {"Name":"c","UsageData":null}],"BuildCache":null}"#;
        let response = |status: &str, body: &str| {
            format!("HTTP/1.0 {status}\r\nContent-Type: application/json\r\n\r\n{body}")
                .into_bytes()
        };
        assert_eq!(
            parse_sizes(&response("200 OK", body)).unwrap(),
            HashMap::from([("a".to_owned(), 7)])
        );
        assert!(
            parse_sizes(&response("200 OK", r#"{"Volumes":null}"#))
                .unwrap()
                .is_empty()
        );
        for bad in [
            response("500 Internal Server Error", body),
            response("200 OK", "{"),
            b"nonsense".to_vec(),
        ] {
            assert!(parse_sizes(&bad).is_none());
        }
    }
}
