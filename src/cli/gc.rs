//! `quire gc`: has the server remove now what `:keep` does not ask for.

use super::manage::Context;
use super::output::Out;
use super::report::Failure;
use crate::hook;
use crate::run::event::Freed;
use crate::space::in_words;

/// Asks the server for a round, waits for its end and prints what it freed.
pub(super) fn gc(context: &Context<'_>, out: &mut Out<'_>) -> Result<(), Failure> {
    let freed = hook::housekeep(context.paths).map_err(|why| {
        Failure::failed(format!("nothing was removed: {why}"))
            .hint("the server does this by itself every hour while it is there")
    })?;
    if out.json {
        return out.json(&freed);
    }
    out.line(&summary(&freed))?;
    freed
        .problems
        .iter()
        .try_for_each(|problem| out.line(problem))
}

fn summary(freed: &Freed) -> String {
    let parts = [
        (freed.runs, "run", "runs"),
        (freed.logs, "log", "logs"),
        (freed.artifacts, "run's artifacts", "runs' artifacts"),
        (freed.events, "recorded push", "recorded pushes"),
        (freed.images, "image", "images"),
        (freed.caches, "cache", "caches"),
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
            in_words(freed.bytes)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_in_a_line() {
        assert_eq!(summary(&Freed::default()), "nothing to remove");
        let freed = Freed {
            runs: 2,
            logs: 1,
            bytes: 1500,
            ..Freed::default()
        };
        assert_eq!(summary(&freed), "removed 2 runs, 1 log: 1.4 KiB freed");
    }
}
