//! `quire gc`: lets the server remove expired runs, logs, artifacts and caches now.

use super::context::Context;
use super::error::CommandError;
use super::output::Output;
use quire_server::control::protocol::GcReport;
use quire_server::forge::gc;
use quire_types::text::format_bytes;

/// Starts a garbage collection in the server and prints what it removed.
pub(super) fn gc(context: &Context<'_>, out: &mut Output<'_>) -> Result<(), CommandError> {
    let freed = gc::collect(&context.forge())?;
    if out.json {
        return out.json(&freed);
    }
    out.line(&summary(&freed))?;
    freed
        .problems
        .iter()
        .try_for_each(|problem| out.line(problem))
}

fn summary(freed: &GcReport) -> String {
    let parts = [
        (freed.runs, "run", "runs"),
        (freed.logs, "log", "logs"),
        (freed.artifacts, "run's artifacts", "runs' artifacts"),
        (freed.events, "recorded push", "recorded pushes"),
        (freed.images, "image", "images"),
        (freed.caches, "cache", "caches"),
        (
            freed.trash,
            "repository in the trash",
            "repositories in the trash",
        ),
        (freed.overwritten, "overwritten ref", "overwritten refs"),
        (freed.leftovers, "leftover", "leftovers"),
    ];
    let said: Vec<String> = parts
        .iter()
        .filter(|part| part.0 > 0)
        .map(|(n, one, many)| format!("{n} {}", if *n == 1 { one } else { many }))
        .collect();
    if said.is_empty() {
        "nothing to remove".to_owned()
    } else {
        format!(
            "removed {}: {} freed",
            said.join(", "),
            format_bytes(freed.bytes)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_in_a_line() {
        assert_eq!(summary(&GcReport::default()), "nothing to remove");
        let freed = GcReport {
            runs: 2,
            logs: 1,
            bytes: 1500,
            ..GcReport::default()
        };
        assert_eq!(summary(&freed), "removed 2 runs, 1 log: 1.4 KiB freed");
    }
}
