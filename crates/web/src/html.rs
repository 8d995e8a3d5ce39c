//! Pieces that several pages share: states as sign and word, times, durations, addresses.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};

use super::ansi::escaped;
use quire_types::clock::Millis;
use quire_types::names::{RefName, RepoName, RunId};
use quire_types::run::{FailureKind, JobState, Run, RunState, Trigger};
use quire_types::text::format_elapsed;

const QUERY_SET: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'/');

/// Text for a query's value or a fragment.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, QUERY_SET).to_string()
}

/// What of a header's value is written as it is.
pub(super) const VALUE_SET: &AsciiSet = &QUERY_SET.remove(b'~').add(b'/');

/// The value of `Content-Disposition` by which a browser saves a response in a file of this name.
pub(super) fn attachment(file: &[u8]) -> String {
    format!(
        "attachment; filename*=UTF-8''{}",
        percent_encode(file, VALUE_SET)
    )
}

/// First parts of a path that are not repositories.
const RESERVED: [&str; 11] = [
    "runs",
    "login",
    "logout",
    "assets",
    "events",
    "healthz",
    "livez",
    "readyz",
    "metrics",
    "robots.txt",
    "favicon.ico",
];

/// Where a repository of an otherwise taken name has its page.
pub(super) const REPO_PREFIX: &str = "/-/repo";

/// The path of a repository's page.
pub(super) fn repo_path(repo: &RepoName) -> String {
    let first = repo.as_str().split('/').next().unwrap_or_default();
    if RESERVED.contains(&first) {
        format!("{REPO_PREFIX}/{repo}")
    } else {
        format!("/{repo}")
    }
}

/// The path of a run's page.
pub(super) fn run_path(run: &RunId) -> String {
    format!("/runs/{run}")
}

/// The path of the list of a ref's runs.
pub(super) fn ref_path(repo: &RepoName, name: &RefName) -> String {
    format!("{}/-/runs?ref={}", repo_path(repo), encoded(name.as_str()))
}

/// A ref as people say it; a tag says that it is one.
pub(super) fn ref_label(name: &RefName) -> String {
    match name.tag() {
        Some(tag) => format!("tag {tag}"),
        None => name.short().to_owned(),
    }
}

/// A sentence of ours as HTML: what stands between backticks is code.
pub(super) fn inline_code(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some((before, code, after)) = rest.split_once('`').and_then(|(before, rest)| {
        let (code, after) = rest.split_once('`')?;
        Some((before, code, after))
    }) {
        html.push_str(&escaped(before));
        html.push_str(&format!("<code>{}</code>", escaped(code)));
        rest = after;
    }
    html.push_str(&escaped(rest));
    html
}

/// The drawing that goes with a state's word.
fn sign(word: &str) -> &'static str {
    match word {
        "complete" => {
            r#"<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M3.500 8.500l3 3 6-7"/></svg>"#
        }
        "failed" => {
            r#"<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M4 4l8 8M12 4l-8 8"/></svg>"#
        }
        "active" => {
            r#"<svg viewBox="0 0 16 16" aria-hidden="true" class="turn"><path d="M8 2.500a5.500 5.500 0 1 1-5.500 5.500"/></svg>"#
        }
        "pending" => {
            r#"<svg viewBox="0 0 16 16" aria-hidden="true"><circle cx="8" cy="8" r="5.500" stroke-dasharray="2.200 2.120"/></svg>"#
        }
        "superseded" => {
            r#"<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M3 4l4 4-4 4M8.500 4l4 4-4 4"/></svg>"#
        }
        "canceled" => {
            r#"<svg viewBox="0 0 16 16" aria-hidden="true"><circle cx="8" cy="8" r="5.500"/><path d="M4.200 11.800l7.600-7.600"/></svg>"#
        }
        "skipped" => r#"<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M4 8h8"/></svg>"#,
        _ => {
            r#"<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M4.500 4.500h7v7h-7z"/></svg>"#
        }
    }
}

fn state_html(word: &str, said: &str) -> String {
    format!(
        r#"<span class="s s-{word}">{}<span>{}</span></span>"#,
        sign(word),
        escaped(said)
    )
}

/// A run's state: sign, word, and for a failure that is no job's the kind.
pub(super) fn run_state(run: &Run) -> String {
    let said = match run.failure_kind {
        None | Some(FailureKind::Job) => run.state.as_str().to_owned(),
        Some(kind) => format!(
            "{}: {}",
            run.state,
            failure(kind, run.message.as_deref().unwrap_or_default())
        ),
    };
    state_html(run.state.as_str(), &said)
}

/// Why a run failed, in a word or two.
fn failure(kind: FailureKind, message: &str) -> String {
    match kind {
        FailureKind::Timeout => "timed out".to_owned(),
        FailureKind::ContainerDied if message.contains("out of memory") => {
            "out of memory".to_owned()
        }
        FailureKind::Internal => "internal error".to_owned(),
        kind => kind.as_str().replace('-', " "),
    }
}

/// Who or what made a run, in words.
pub(super) fn cause(run: &Run) -> String {
    match (run.trigger, &run.pusher) {
        (Trigger::Push, Some(key)) => format!("pushed by {key}"),
        (Trigger::Push, None) => "pushed".to_owned(),
        (Trigger::Manual, Some(key)) => format!("started by {key}"),
        (Trigger::Manual, None) => "started manually".to_owned(),
        (Trigger::Cron, _) => "on schedule".to_owned(),
        (Trigger::Retry, _) => "retry".to_owned(),
        (Trigger::Orphan, _) => "requeued after a restart".to_owned(),
    }
}

/// A job's state.
pub(super) fn job_state(state: &JobState) -> String {
    state_html(state.as_str(), state.as_str())
}

/// A step's state in a sign; the exit code beside it is the word.
pub(super) fn step_sign(word: &str) -> String {
    format!(r#"<span class="s s-{word}">{}</span>"#, sign(word))
}

/// The state of a run in a sign; readers of the screen hear its number and the word.
pub(super) fn named_sign(state: &RunState, number: &u32) -> String {
    let word = state.as_str();
    format!(
        r#"<span class="s s-{word}" role="img" aria-label="{number} {word}">{}</span>"#,
        sign(word)
    )
}

/// The state as a character, for the title of a tab in the background.
pub(super) fn title_sign(state: RunState) -> &'static str {
    match state {
        RunState::Complete => "✓",
        RunState::Failed => "✗",
        RunState::Active => "●",
        RunState::Pending => "○",
        RunState::Canceled => "⊘",
        RunState::Superseded => "»",
    }
}

/// A point in time as people say it, the exact one in the tooltip. The script keeps it right.
pub(super) fn time(at: &Millis, now: &Millis) -> String {
    format!(
        r#"<time datetime="{at}" title="{at}" data-t="{}">{}</time>"#,
        at.0,
        ago(now.since(*at))
    )
}

/// A point in time of a commit, as a date. The text depends on nothing else; the script says how long ago it is.
pub(super) fn date(at: &Millis) -> String {
    let exact = at.to_string();
    let shown = exact.split('T').next().unwrap_or(&exact);
    format!(
        r#"<time datetime="{exact}" title="{exact}" data-t="{}">{shown}</time>"#,
        at.0
    )
}

/// A point in time to come, to the minute; the exact one in the tooltip.
pub(super) fn until(at: &Millis) -> String {
    let exact = at.to_string();
    let shown = exact.get(..16).unwrap_or(&exact).replace('T', " ");
    format!(r#"<time datetime="{exact}" title="{exact}">{shown} UTC</time>"#)
}

fn ago(ms: u64) -> String {
    let minutes = ms / 60_000;
    match minutes {
        0 => "just now".to_owned(),
        1..60 => format!("{minutes} min ago"),
        60..1440 => format!("{} h ago", minutes / 60),
        1440..2880 => "yesterday".to_owned(),
        2880..86_400 => format!("{} days ago", minutes / 1440),
        _ => format!("{} months ago", minutes / 43_200),
    }
}

/// How long something took, or has been going on; the script lets the latter count.
pub(super) fn took(start: &Option<Millis>, end: &Option<Millis>, now: &Millis) -> String {
    match (start, end) {
        (Some(start), Some(end)) => format_elapsed(end.since(*start)),
        (Some(start), None) => format!(
            r#"<span data-since="{}">{}</span>"#,
            start.0,
            format_elapsed(now.since(*start))
        ),
        (None, _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_backticks_is_code() {
        assert_eq!(
            inline_code("job `a<b` failed: `x` & `"),
            "job <code>a&lt;b</code> failed: <code>x</code> &amp; `"
        );
        assert_eq!(inline_code("plain"), "plain");
        assert_eq!(inline_code("``<"), "<code></code>&lt;");
    }

    #[test]
    fn a_time_to_come_is_now() {
        assert!(time(&Millis(5000), &Millis(0)).contains("just now"));
        assert!(
            until(&Millis(1_785_000_000_000)).contains(">2026-07-25 17:20 UTC<"),
            "{}",
            until(&Millis(1_785_000_000_000))
        );
        assert_eq!(ago(3 * 86_400_000), "3 days ago");
    }

    #[test]
    fn repositories_with_taken_names_have_a_page_too() {
        assert_eq!(repo_path(&"runs/x".parse().unwrap()), "/-/repo/runs/x");
        assert_eq!(repo_path(&"work/runs".parse().unwrap()), "/work/runs");
    }
}
