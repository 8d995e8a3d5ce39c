//! The JSON of a commit that is to land on a branch, which is part of that of a run.

use serde::Serialize;

use quire_store::Landing;
use quire_types::clock::Millis;
use quire_types::names::{ObjectId, RefName};

/// A commit that is to land on a branch.
#[derive(Debug, Clone, Serialize)]
pub struct LandingJson<'a> {
    branch: &'a RefName,
    method: &'static str,
    state: &'static str,
    message: Option<&'a str>,
    pushed_sha: &'a ObjectId,
    tested_sha: &'a ObjectId,
    created_at_ms: Millis,
    ended_at_ms: Option<Millis>,
}

impl<'a> From<&'a Landing> for LandingJson<'a> {
    fn from(row: &'a Landing) -> Self {
        Self {
            branch: &row.branch,
            method: row.method.as_str(),
            state: row.state.as_str(),
            message: row.message.as_deref(),
            pushed_sha: &row.pushed_sha,
            tested_sha: &row.tested_sha,
            created_at_ms: row.created_at_ms,
            ended_at_ms: row.ended_at_ms,
        }
    }
}
