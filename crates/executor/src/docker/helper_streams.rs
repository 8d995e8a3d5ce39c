//! The connection to a helper that the engine executes.

use futures_util::{StreamExt, TryStreamExt};

use crate::engine::{ContainerStreams, OutputFrame};
use crate::error::ExecutorError;
use crate::link::HelperStreams;

/// How much of a line that the helper writes to its standard error is logged.
const MAX_COMPLAINT: usize = 1000;

/// The streams of a helper that the engine executes: its frames are on standard output.
pub(super) fn helper_streams(streams: ContainerStreams, container: &str) -> HelperStreams {
    let container = container.to_owned();
    let output = streams
        .output
        .map_err(|error| ExecutorError::from_engine("read the helper's frames", error))
        .try_filter_map(move |frame| {
            let frames = match frame {
                OutputFrame::Stdout(bytes) => Some(bytes),
                OutputFrame::Stderr(bytes) => {
                    let text = &bytes[..bytes.len().min(MAX_COMPLAINT)];
                    let text = String::from_utf8_lossy(text);
                    tracing::warn!(container, message = %text.trim_end(), "the helper in a run's container failed");
                    None
                }
            };
            std::future::ready(Ok(frames))
        });
    HelperStreams {
        input: streams.input,
        output: output.boxed(),
    }
}
