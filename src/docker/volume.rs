//! Volumes: storage of the engine's that outlives containers.

use std::collections::HashMap;

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters as query;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{DockerError, Engine, Labels, label_filter, label_map};

/// What engines up to this API say of their volumes' sizes; later ones still do when they are asked as this one.
const USAGE_API: (usize, usize) = (1, 51);
/// The longest answer that is read: an entry for each image, container and volume.
const MAX_USAGE: u64 = 64 << 20;

/// A volume of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedVolume {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
}

impl Engine {
    /// Makes sure of a volume; gives the labels it has, which are others where somebody else made one of this name before.
    ///
    /// # Errors
    /// When the engine cannot make it.
    pub async fn ensure_volume(&self, name: &str, labels: &Labels) -> Result<Labels, DockerError> {
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            labels: Some(label_map(labels)),
            ..Default::default()
        };
        let made = self.call(
            "make the volume",
            self.timings().call,
            |docker| async move { docker.create_volume(request).await },
        );
        Ok(made.await?.labels.into_iter().collect())
    }

    /// The volumes that carry all of the labels.
    ///
    /// # Errors
    /// When the engine cannot say.
    pub async fn volumes(&self, labels: &Labels) -> Result<Vec<ListedVolume>, DockerError> {
        let options = query::ListVolumesOptions {
            filters: Some(label_filter(labels)),
        };
        let listed = self
            .call("list volumes", self.timings().call, |docker| async move {
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

    /// The size of each volume in bytes, as far as the engine knows it. It looks through all files for that, which may take long.
    ///
    /// # Errors
    /// When the engine cannot say.
    pub async fn volume_sizes(&self) -> Result<HashMap<String, u64>, DockerError> {
        let attempt = "ask what volumes take";
        let limit = self.timings().heavy;
        let version = self.client().await?.client_version();
        let (major, minor) = USAGE_API.min((version.major_version, version.minor_version));
        // The client reads this answer in its newest shape only, which old engines do not give.
        let path = self.path()?;
        let asked = tokio::time::timeout(limit, async {
            let mut stream = UnixStream::connect(path).await?;
            let request = format!(
                "GET /v{major}.{minor}/system/df?type=volume HTTP/1.0\r\nHost: docker\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.take(MAX_USAGE).read_to_end(&mut answer).await?;
            std::io::Result::Ok(answer)
        });
        let answer = asked.await.map_err(|_| DockerError::TimedOut {
            attempt,
            after: limit,
        })?;
        let answer = answer.map_err(|error| DockerError::Lost {
            attempt,
            message: error.to_string(),
        })?;
        sizes(&answer).ok_or_else(|| DockerError::Answer {
            attempt,
            message: "it is not what was asked for".to_owned(),
        })
    }

    /// Removes a volume with what is in it; gives whether it was there.
    ///
    /// # Errors
    /// [`DockerError::Conflict`] when a container has it.
    pub async fn remove_volume(&self, name: &str) -> Result<bool, DockerError> {
        let removed = self.call(
            "remove the volume",
            self.timings().heavy,
            |docker| async move {
                docker
                    .remove_volume(name, None::<query::RemoveVolumeOptions>)
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
struct Usage {
    #[serde(rename = "Volumes", default)]
    volumes: Option<Vec<Volume>>,
}

#[derive(Deserialize)]
struct Volume {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "UsageData", default)]
    usage: Option<Size>,
}

#[derive(Deserialize)]
struct Size {
    #[serde(rename = "Size")]
    size: i64,
}

/// The sizes in an HTTP answer; none where it is no good one. A size below zero is one that the engine does not know.
fn sizes(answer: &[u8]) -> Option<HashMap<String, u64>> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    if head.split(' ').nth(1) != Some("200") {
        return None;
    }
    let usage: Usage = serde_json::from_slice(&answer[end + 4..]).ok()?;
    let known = |volume: Volume| Some((volume.name, u64::try_from(volume.usage?.size).ok()?));
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
    fn sizes_are_read_where_they_are_known() {
        let body = r#"{"LayersSize":1,"Volumes":[{"Name":"a","UsageData":{"Size":7,"RefCount":0}},{"Name":"b","UsageData":{"Size":-1,"RefCount":0}},
            {"Name":"c","UsageData":null}],"BuildCache":null}"#;
        let answer = |status: &str, body: &str| {
            format!("HTTP/1.0 {status}\r\nContent-Type: application/json\r\n\r\n{body}")
                .into_bytes()
        };
        assert_eq!(
            sizes(&answer("200 OK", body)).unwrap(),
            HashMap::from([("a".to_owned(), 7)])
        );
        assert!(
            sizes(&answer("200 OK", r#"{"Volumes":null}"#))
                .unwrap()
                .is_empty()
        );
        for bad in [
            answer("500 Internal Server Error", body),
            answer("200 OK", "{"),
            b"nonsense".to_vec(),
        ] {
            assert!(sizes(&bad).is_none());
        }
    }
}
