//! The far end of an SSH connection: what `quire exec`, sshd's forced command, may do.
//!
//! [`command`] turns what the client asked for into a closed set, [`session`] becomes git.
//! No shell, no configuration, no database and no Lua on this
//! path: whatever else is broken, code can be pushed and fetched.

pub mod command;
pub mod session;
