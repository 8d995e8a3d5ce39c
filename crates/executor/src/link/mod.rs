//! Workspaces whose commands are executed by quire's own helper program, which is the first
//! process of the place that the run has. The protocol is described in `docs/step-protocol.md`.
//!
//! Nothing here knows what a place is or how its bytes travel: see [`place`].

mod attachment;
mod command;
mod connection;
mod failure;
mod files;
mod frame;
mod place;
mod session;
mod start;
mod task;
mod workspace;
mod writer;

pub(crate) use connection::HelperLink;
pub(crate) use place::{HelperPlace, HelperStreams};
pub(crate) use session::HelperSession;
pub(crate) use start::WorkspaceStart;
pub(crate) use workspace::LinkWorkspace;

#[cfg(test)]
mod tests;
