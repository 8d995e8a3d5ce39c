//! The driver: a short-lived child process that evaluates a pipeline.

pub mod protocol;
