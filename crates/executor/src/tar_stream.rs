//! The stream type that trees, uploads and exports share.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;

/// An uncompressed tar archive as a stream of chunks.
pub type TarStream = BoxStream<'static, io::Result<Bytes>>;

/// Opens the same archive, each time from its beginning.
pub type OpenArchive = Arc<dyn Fn() -> TarStream + Send + Sync>;
