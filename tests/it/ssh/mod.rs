//! The SSH end, driven by the real git and ssh through a real sshd with the image's configuration.
//!
//! What only concerns transport also runs against a plain git and sshd: a test that failed there
//! would be wrong about git, not right about quire.

mod access;
mod clients;
mod confinement;
mod events;
mod first_push;
mod hostile;
mod keys;
mod lfs;
mod logins;
mod manage;
mod refusals;
mod transport;
