//! Turns spooled push events into rows. Drains `spool/` in order: at start, when the hook announces
//! an event, and every two seconds; compares refs with what it has seen.
//!
//! ```text
//! spool file ──parse──► plan (git: has the commit a pipeline?) ──one transaction──► file removed
//!     └─ damaged ─► spool/damaged/ (reported, never skipped in silence)
//! ```
//! Events of one repository are taken one after the other, so that what git says of its refs is still true
//! when it is recorded; a repository whose disk hangs holds up no other. An event's id is unique in the
//! database, so one that is taken twice (by a poke and the drain, or after a crash) is taken once. The drain records events
//! of one repository that follow each other in one transaction.

mod changes;
mod drain;
mod error;
mod event_intake;
mod overwritten;
mod plan;
mod reconcile_refs;
mod spool;
mod spool_writer;
mod unrecorded;

pub use drain::Drained;
pub use error::IntakeError;
pub use event_intake::{Intake, IntakeResult, IntakeSettings};
pub use spool::{SpoolFileError, parse as parse_event};
pub use spool_writer::{SpoolError, write as spool_event};
pub use unrecorded::{are_recorded, has_unrecorded_push};
