//! Files of a container, as a tar stream. The engine resolves every path within the container's own
//! root.

use bollard::query_parameters as query;
use futures_util::{StreamExt, stream};

use super::client::{Engine, url_part};
use super::error::DockerError;
use super::transport::AnswerLimit;
use crate::tar_stream::TarStream;

impl Engine {
    /// Downloads a path as an archive in which every name begins with the path's last part. The
    /// stream ends with an error if nothing exists at the path.
    pub async fn download(&self, container: &str, path: &str) -> Result<TarStream, DockerError> {
        let options = query::DownloadFromContainerOptions {
            path: path.to_owned(),
        };
        let limit = AnswerLimit::of_pieces();
        let source = limit
            .attach(self.client().await?)
            .download_from_container(&url_part(container)?, Some(options))
            .inspect(move |_| limit.renew())
            .boxed();
        let attempt = "download a file from the container";
        let chunks = stream::try_unfold(
            (self.clone(), source),
            move |(engine, mut source)| async move {
                let next = match engine.next_with_liveness(&mut source).await {
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
