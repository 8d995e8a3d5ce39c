//! The body of an upload: counts the bytes that were sent, and keeps the error that ended the
//! source stream, because the HTTP client only reports that the body broke.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::error::DockerError;
use crate::tar_stream::TarStream;

/// Watches one tar stream.
#[derive(Clone, Default)]
pub(super) struct UploadBody {
    sent: Arc<AtomicU64>,
    source_error: Arc<Mutex<Option<String>>>,
}

impl UploadBody {
    /// Returns the stream with this watcher attached.
    pub(super) fn watch(
        &self,
        stream: TarStream,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let watcher = self.clone();
        stream.map(move |item| {
            match &item {
                Ok(bytes) => {
                    watcher
                        .sent
                        .fetch_add(u64::try_from(bytes.len()).unwrap_or(0), Ordering::Relaxed);
                }
                Err(error) => {
                    *watcher
                        .source_error
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
                }
            }
            item
        })
    }

    /// Returns the error of the source stream if it had one, otherwise `error`.
    pub(super) fn source_error_or(&self, error: DockerError) -> DockerError {
        match self
            .source_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            Some(message) => DockerError::UploadSource(message),
            None => error,
        }
    }

    /// Waits for `work` as long as bytes are sent. Returns `None` after `idle` without one.
    pub(super) async fn while_moving<T>(
        &self,
        idle: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::pin!(work);
        loop {
            let before = self.sent.load(Ordering::Relaxed);
            if let Ok(done) = tokio::time::timeout(idle, &mut work).await {
                return Some(done);
            }
            if self.sent.load(Ordering::Relaxed) == before {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_error_of_the_source_wins() {
        let upload = UploadBody::default();
        let stream = futures_util::stream::iter([
            Ok(Bytes::from_static(b"abc")),
            Err(io::Error::other("git died")),
        ])
        .boxed();
        let _: Vec<_> = upload.watch(stream).collect().await;
        assert_eq!(upload.sent.load(Ordering::Relaxed), 3);
        let lost = || DockerError::ConnectionLost {
            attempt: "x",
            message: "y".into(),
        };
        assert_eq!(
            upload.source_error_or(lost()).to_string(),
            "the files to send to the engine could not be read: git died"
        );
        assert!(matches!(
            UploadBody::default().source_error_or(lost()),
            DockerError::ConnectionLost { .. }
        ));
    }

    #[tokio::test]
    async fn an_upload_that_stands_still_is_given_up() {
        let upload = UploadBody::default();
        assert_eq!(
            upload
                .while_moving(Duration::from_millis(5), std::future::pending::<()>())
                .await,
            None
        );
        assert_eq!(
            upload
                .while_moving(Duration::from_secs(5), async { 7 })
                .await,
            Some(7)
        );
    }
}
