//! The server's end of an SSH connection: what `quire exec`, the forced command of sshd, may do.
//!
//! [`command`] parses the client's command into one of a closed set, [`access`] decides whether the key allows it, [`confinement`] takes away what git does not need, [`git_session`] executes it, and
//! [`lfs`] answers git-lfs.
//! This path uses no shell, no configuration, no database and no Lua: code can be pushed and fetched
//! whatever else is broken.

pub mod access;
pub mod command;
pub mod confinement;
mod existing_push;
mod first_push;
pub mod git_session;
pub mod lfs;
