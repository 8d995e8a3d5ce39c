//! A tar stream on its way to the engine: counts what was sent, and keeps the error that ended it,
//! for the client only says that the body broke.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};

use super::DockerError;

/// An uncompressed tar archive as it comes.
pub type TarStream = BoxStream<'static, io::Result<Bytes>>;

/// Watches one tar stream.
#[derive(Clone, Default)]
pub struct Feed {
    sent: Arc<AtomicU64>,
    fault: Arc<Mutex<Option<String>>>,
}

impl Feed {
    /// The stream, watched by this feed.
    pub(super) fn watch(
        &self,
        stream: TarStream,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let feed = self.clone();
        stream.map(move |item| {
            match &item {
                Ok(bytes) => {
                    feed.sent
                        .fetch_add(u64::try_from(bytes.len()).unwrap_or(0), Ordering::Relaxed);
                }
                Err(error) => {
                    *feed.fault.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some(error.to_string())
                }
            }
            item
        })
    }

    /// The error of the stream itself where there was one, else the given one.
    pub(super) fn blame(&self, error: DockerError) -> DockerError {
        match self
            .fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            Some(message) => DockerError::Source(message),
            None => error,
        }
    }

    /// Waits for `work` as long as bytes move; for `limit` without one it is given up.
    pub(super) async fn while_moving<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::pin!(work);
        loop {
            let before = self.sent.load(Ordering::Relaxed);
            if let Ok(done) = tokio::time::timeout(limit, &mut work).await {
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
    async fn the_streams_own_error_wins() {
        let feed = Feed::default();
        let stream = futures_util::stream::iter([
            Ok(Bytes::from_static(b"abc")),
            Err(io::Error::other("git died")),
        ])
        .boxed();
        let _: Vec<_> = feed.watch(stream).collect().await;
        assert_eq!(feed.sent.load(Ordering::Relaxed), 3);
        let lost = || DockerError::Lost {
            attempt: "x",
            message: "y".into(),
        };
        assert_eq!(
            feed.blame(lost()).to_string(),
            "the tree could not be read while it was sent: git died"
        );
        assert!(matches!(
            Feed::default().blame(lost()),
            DockerError::Lost { .. }
        ));
    }

    #[tokio::test]
    async fn standing_still_is_given_up() {
        let feed = Feed::default();
        assert_eq!(
            feed.while_moving(Duration::from_millis(5), std::future::pending::<()>())
                .await,
            None
        );
        assert_eq!(
            feed.while_moving(Duration::from_secs(5), async { 7 }).await,
            Some(7)
        );
    }
}
