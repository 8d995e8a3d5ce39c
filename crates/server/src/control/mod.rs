//! The local sockets of `quire serve`: how the hook and the management commands reach the running server.
//!
//! `server.sock` carries one JSON request and one JSON response a connection ([`protocol`]);
//! [`client`] asks and [`server`] answers; an import has lines of progress before its response. `attach.sock` carries the input and output of a command or of an
//! interactive session in a run's container ([`attach_frames`], [`attach`]). Both lie in a folder that only quire's user
//! can enter: a process that can open them may do everything that the commands can do.
//!
//! The client uses the standard library only: it is part of every push and must never hold one up.

pub mod attach;
pub mod attach_frames;
mod cache_requests;
pub mod client;
mod frame_stream;
pub mod import_client;
mod import_requests;
mod program;
pub mod program_client;
pub mod protocol;
mod repl;
mod send_response;
pub mod server;
