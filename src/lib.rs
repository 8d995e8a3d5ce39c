//! quire: a git forge for one person, as one Docker appliance.
//!
//! ```text
//! git push ──ssh──► sshd ─► quire exec ─► git receive-pack ─► quire hook ─► spool/ (durable)
//!                     ▲                                                      │ poke server.sock
//!              quire init (PID 1)                                            ▼
//!                     └──────► quire serve: intake ─► quire.db (the queue) ─► runner ─► driver (ci.fnl)
//!                                    │                                          │
//!                        web, /healthz, /metrics ◄── logs/ ◄── output ── run container (host's Docker engine)
//! ```
//!
//! This package is the binary: the command line and what its roles compose. The parts are the crates in `crates/`.

pub mod cli;
pub mod hook;
pub mod serve;
pub mod ssh;
