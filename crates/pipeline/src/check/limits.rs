//! Limits on the size of a job graph.

/// The most jobs of a pipeline.
pub const MAX_JOBS: usize = 10_000;
/// The most inputs of one job.
pub const MAX_INPUTS: usize = 1_000;
/// The most inputs of all jobs together.
pub const MAX_EDGES: usize = 100_000;
