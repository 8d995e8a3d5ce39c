//! The driver: a short-lived child process that evaluates one pipeline.
//!
//! ```text
//! runner ──ToDriver, JSON lines──► stdin ┌ driver (same binary, `quire driver`) ┐
//!        ◄─FromDriver, JSON lines─ stdout└ one Lua state, one thread per job    ┘
//!
//! spawned ──Register──► Compiled? Registered ──Value, RunJob──► JobEnded …  ──stdin closed──► exits 0
//!                  └──► Rejected
//! ```
//!
//! Pipeline code is foreign: it gets a process of its own without a file system, sockets,
//! environment or children (`sandbox`), limits on memory and time, and nothing but the protocol to
//! reach the outside. [`Driver`] is the parent's end; [`child_main`] is the child.

mod arguments;
mod child;
mod compiled;
mod dsl;
mod host;
mod job;
mod place;
mod process;
pub mod protocol;
mod sandbox;
mod wire;

pub use child::{Manner, child_main, register_here};
pub use compiled::CompiledCache;
pub use process::{
    Driver, DriverError, DriverReceiver, DriverSender, REGISTRATION_LIMIT, unconfined,
};
