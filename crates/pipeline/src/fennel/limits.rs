//! Limits of the Lua states that run pipelines.

/// The memory limit of a pipeline, in bytes.
pub const MEMORY_LIMIT: usize = 256 << 20;
