//! `quire run list`: a table of runs.

use serde::Serialize;

use super::error::CommandError;
use super::output::{Cell, Output};
use quire_server::forge::views::{RunJson, views};
use quire_types::run::{FailureKind, Run};
use quire_types::text::first_line;

#[derive(Serialize)]
pub(super) struct RunsDocument<'a> {
    runs: Vec<RunJson<'a>>,
}

impl<'a> RunsDocument<'a> {
    pub(super) fn new(runs: &'a [Run]) -> Self {
        Self { runs: views(runs) }
    }
}

pub(super) fn print_runs(runs: &[Run], out: &mut Output<'_>) -> Result<(), CommandError> {
    if out.json {
        return out.json(&RunsDocument::new(runs));
    }
    if runs.is_empty() {
        return out.line("no runs");
    }
    let cells = |run: &Run| -> [Cell; 8] {
        [
            run.name().to_string().into(),
            run.state.into(),
            run.ref_name.short().into(),
            run.sha.short().into(),
            first_line(run.subject.as_deref().unwrap_or_default(), 50).into(),
            out.time(Some(run.queued_at_ms)).into(),
            out.elapsed(run.started_at_ms, run.finished_at_ms).into(),
            first_line(
                run.message
                    .as_deref()
                    .or(run.failure_kind.map(FailureKind::as_str))
                    .unwrap_or_default(),
                60,
            )
            .into(),
        ]
    };
    let rows: Vec<_> = runs.iter().map(cells).collect();
    out.table(
        [
            "RUN", "STATE", "REF", "COMMIT", "SUBJECT", "QUEUED", "TOOK", "WHY",
        ],
        &rows,
    )
}
