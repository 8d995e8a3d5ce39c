//! Files of a container: what is at a path, and out of it as a tar stream. The engine resolves
//! every path within the container's own root.

use bollard::query_parameters as query;
use futures_util::{StreamExt, stream};

use super::{DockerError, Engine, TarStream};

/// What is at a path in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathState {
    /// What it is.
    pub kind: PathKind,
    /// Its size in bytes.
    pub size: u64,
    /// Who may read, write and execute it: nine bits.
    pub permissions: u32,
}

/// What kind of thing is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathKind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, with the absolute path that it leads to in the end, whether there is something or not.
    Link(String),
    /// A pipe, a socket, a device.
    Other,
}

impl Engine {
    /// What is at a path; none where there is nothing, or no such container. Links on the way are
    /// followed, one at its end is not.
    ///
    /// # Errors
    /// When the engine cannot say.
    pub async fn path_state(
        &self,
        container: &str,
        path: &str,
    ) -> Result<Option<PathState>, DockerError> {
        let options = query::ContainerArchiveInfoOptions {
            path: path.to_owned(),
        };
        let asked = self.call(
            "look for a file in the container",
            self.timings().call,
            |docker| async move {
                docker
                    .get_container_archive_info(container, Some(options))
                    .await
            },
        );
        let state = match asked.await {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let mode = state.file_mode;
        // The bits of the engine's own language.
        let kind = match () {
            () if mode & (1 << 31) != 0 => PathKind::Folder,
            () if mode & (1 << 27) != 0 => PathKind::Link(state.link_target),
            () if mode & ((1 << 26) | (1 << 25) | (1 << 24) | (1 << 21) | (1 << 19)) != 0 => {
                PathKind::Other
            }
            () => PathKind::File,
        };
        Ok(Some(PathState {
            kind,
            size: u64::try_from(state.size).unwrap_or(0),
            permissions: mode & 0o777,
        }))
    }

    /// What is at a path, as an archive in which every name begins with the path's last part. The
    /// stream fails where there is nothing. Its own silence is watched.
    ///
    /// # Errors
    /// When the engine cannot be reached.
    pub async fn download(&self, container: &str, path: &str) -> Result<TarStream, DockerError> {
        let options = query::DownloadFromContainerOptions {
            path: path.to_owned(),
        };
        let source = self
            .client()
            .await?
            .download_from_container(container, Some(options))
            .boxed();
        let attempt = "fetch a file out of the container";
        let chunks = stream::try_unfold(
            (self.clone(), source),
            move |(engine, mut source)| async move {
                let next = match engine.next_of(&mut source).await {
                    Ok(next) => next
                        .transpose()
                        .map_err(|error| DockerError::from_bollard(attempt, error)),
                    Err(error) => Err(error),
                };
                match next {
                    Ok(next) => Ok(next.map(|chunk| (chunk, (engine, source)))),
                    Err(error) => Err(std::io::Error::other(error.chain())),
                }
            },
        );
        Ok(chunks.boxed())
    }
}
