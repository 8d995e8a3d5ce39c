//! What a run leaves on disk: the log files of its steps and the artifacts that its jobs kept.

pub mod artifacts;
pub mod logs;
