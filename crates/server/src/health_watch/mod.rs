//! Decides when targets of notifications are told of the health of the appliance.
//!
//! ```text
//!                                                     ┌─ down for `after`, was degraded ─► told: worse ─┐
//!              wrong for `after`                      │                                                 ▼
//! right ──────────────────────────► told: began ──► open ◄──── a day since it was told: told: lasts ─────┘
//!   ▲                                                 │
//!   └──────────── told: over ◄── right for five times `after`
//! ```
//! What was told is in the database, so a restart tells nothing twice. How long something has been wrong or right is known in memory
//! only: a restart makes a report later, and loses none, because what is still wrong is seen again.

mod gathered;
mod observed;
mod policy;
mod watcher;

pub use observed::{ObservedFinding, ObservedPart};
pub use watcher::HealthWatcher;
