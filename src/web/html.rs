//! Pieces that several pages share: states as sign and word, times, durations, addresses.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::ansi::escaped;
use crate::clock::Millis;
use crate::names::{RefName, RepoName, RunId};
use crate::run::{FailureKind, JobState, Run, RunState};
pub(super) use crate::space::in_words as bytes;

const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'/');

/// Text for a query's value or a fragment.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, IN_QUERY).to_string()
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
pub(super) fn prose(text: &str) -> String {
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
        Some(FailureKind::Canceled) => FailureKind::Canceled.as_str().to_owned(),
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
        FailureKind::Orphaned => "cut off".to_owned(),
        FailureKind::Internal => "internal error".to_owned(),
        kind => kind.as_str().replace('-', " "),
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

/// The state as a character, for the title of a tab that nobody looks at.
pub(super) fn title_sign(state: RunState) -> &'static str {
    match state {
        RunState::Complete => "✓",
        RunState::Failed => "✗",
        RunState::Active => "●",
        RunState::Pending => "○",
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

/// A duration as people say it.
pub(super) fn duration(ms: u64) -> String {
    let seconds = (ms + 500) / 1000;
    match ms {
        0..950 => format!("{ms} ms"),
        950..9_950 => format!("{}.{} s", (ms + 50) / 1000, (ms + 50) % 1000 / 100),
        9_950..59_500 => format!("{seconds} s"),
        59_500..3_599_500 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// How long something took, or has been going on; the script lets the latter count.
pub(super) fn took(start: &Option<Millis>, end: &Option<Millis>, now: &Millis) -> String {
    match (start, end) {
        (Some(start), Some(end)) => duration(end.since(*start)),
        (Some(start), None) => format!(
            r#"<span data-since="{}">{}</span>"#,
            start.0,
            duration(now.since(*start))
        ),
        (None, _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let said: Vec<String> = [
            0, 949, 950, 1000, 9_949, 9_950, 59_999, 60_000, 72_400, 3_600_000, 7_260_000,
        ]
        .map(duration)
        .into();
        assert_eq!(
            said,
            [
                "0 ms",
                "949 ms",
                "1.0 s",
                "1.0 s",
                "9.9 s",
                "10 s",
                "1 min 0 s",
                "1 min 0 s",
                "1 min 12 s",
                "1 h 0 min",
                "2 h 1 min"
            ]
        );
    }

    #[test]
    fn what_stands_between_backticks_is_code() {
        assert_eq!(
            prose("job `a<b` failed: `x` & `"),
            "job <code>a&lt;b</code> failed: <code>x</code> &amp; `"
        );
        assert_eq!(prose("plain"), "plain");
        assert_eq!(prose("``<"), "<code></code>&lt;");
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(
            [0, 1023, 1024, 1536, 20 << 20, 5 << 40, u64::MAX].map(bytes)[..5],
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "20 MiB"]
        );
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
