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
//! Pipeline code is untrusted. It runs in a process of its own without a file system, sockets,
//! environment or children (`sandbox`), with limits on memory and time, and only the protocol
//! reaches the outside. [`DriverHandle`] is the parent's end; [`child_main`] is the child.

mod arguments;
mod child;
mod compiled;
mod dsl;
mod evaluator;
mod functions;
mod handle;
mod job_end;
mod locations;
mod lua_api;
mod modules;
pub mod protocol;
mod replies;
mod running_job;
mod sandbox;
mod stdio;
mod tools;

pub use child::{ChildOptions, child_main, register_in_process};
pub use compiled::CompiledCache;
pub use handle::{
    DriverError, DriverHandle, DriverReceiver, DriverSender, REGISTRATION_LIMIT, allow_unsandboxed,
};

#[cfg(test)]
mod bad_pipelines;
