//! The helper program of a run's container, as bytes. The build script compiles it.

/// A static program for the architecture that this library was built for.
pub static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/step"));
