//! Run logs: one append-only file per step, and one for the run's own lines, in the Kubernetes
//! CRI log format.
//!
//! [`mod@line`] knows the format, [`writer`] appends, [`reader`] follows a run and reads single files.
//! The files are the only truth: a follower is woken without data and reads on from its cursor.
//! Nothing gets past the [redactor](quire_types::secret) into a file, so what is read needs no redaction.

pub mod cursor;
pub mod file;
pub mod line;
pub mod reader;
pub mod writer;

pub use cursor::{Cursor, CursorError};
pub use file::{TextChunks, read_from, tail};
pub use line::{LogLine, Stream};
pub use reader::{Batch, LogFollower, StepKey};
pub use writer::{DEFAULT_CAP_BYTES, RunLog, StepLog, is_cap_notice};
