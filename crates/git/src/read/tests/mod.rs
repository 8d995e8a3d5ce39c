//! What is read equals what git says.

mod blame;
mod commit_graphs;
mod compare;
mod differences;
mod equals_git;
mod odd_repository;
mod patches;
mod pool;
mod refs;
mod revisions;
mod search;
