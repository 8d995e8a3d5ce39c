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
//! Modules stand in levels; one may use what lies below it and what docs/architecture.md
//! names beside it. `tests/rules.rs` holds them to it.

// Level 0: leaves.
pub mod causes;
pub mod clock;
pub mod escapes;
pub mod fault;
pub mod live;
pub mod meter;
pub mod names;
pub mod paths;
pub mod proc;
pub mod public_keys;
pub mod secret;
pub mod space;
pub mod token;

// Level 1: pure.
pub mod pipeline;
pub mod policy;
pub mod run;

// Level 2: the outside world.
pub mod artifacts;
pub mod docker;
pub mod fennel;
pub mod git;
pub mod logs;
pub mod store;

// Level 3: work.
pub mod config;
pub mod driver;
pub mod executor;
pub mod housekeeping;
pub mod intake;
pub mod queue;
pub mod renaming;
pub mod runner;

// Level 4: surfaces.
pub mod hook;
pub mod init;
pub mod serve;
pub mod ssh;
pub mod web;

// Level 5: entry.
pub mod cli;
