//! The post-receive hook: hands a push over and tells the pusher what became of it.
//!
//! Git calls it once per push, after the refs have moved. It has their folders synced ([`folders`]), writes the event into the spool
//! ([`spool`]; from then on nothing is lost), pokes `serve` ([`poke`]) and prints the runs it is
//! told. The push stands whatever happens here, so every failure is a line for the pusher and
//! exit code 0: what could not be spooled, `serve` finds by comparing refs.

mod folders;
mod poke;
mod refs;
mod spool;

pub use refs::read as read_refs;

use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use crate::clock::Clock;
use crate::fault;
use crate::names::{EventId, RepoName};
use crate::paths::Paths;
use crate::run::event::{
    AnsweredRun, EventType, Freed, PushEvent, RefUpdate, SocketAnswer, SocketRequest,
};

/// So many refs go into one event; a larger push makes several. Keeps a file below what is read back.
const REFS_PER_EVENT: usize = 10_000;
/// So many runs are printed.
const RUNS_SHOWN: usize = 10;
/// So many push options are kept, each up to [`MAX_OPTION`] bytes.
const MAX_OPTIONS: usize = 100;
const MAX_OPTION: usize = 1024;

/// Handles one push. `input` is what git writes to the hook; lines for the pusher go to standard error.
pub fn post_receive(paths: &Paths, input: impl io::Read) {
    let mut voice = Voice::default();
    let moved = match refs::read(input) {
        Ok(moved) => moved,
        Err(error) => {
            return voice.say(&format!("warning: cannot read what git says was pushed ({error}); quire looks again when it starts"));
        }
    };
    for name in &moved.unreadable {
        voice.say(&format!("warning: the ref {name} cannot have runs: quire records only names that are UTF-8 and at most 1024 bytes"));
    }
    if moved.refs.is_empty() {
        return;
    }
    let repo = match this_repository(paths) {
        Ok(repo) => repo,
        Err(why) => return voice.say(&format!("warning: this push makes no run: {why}")),
    };
    if let Err(error) = folders::sync(&paths.repo(&repo), &moved.refs) {
        voice.say(&format!(
            "warning: the push is in, but the disk does not say that it keeps it ({error}); see to the disk, then push again"
        ));
    }
    let mut event = PushEvent {
        id: EventId::new(),
        event_type: EventType::Push,
        repo,
        pusher: std::env::var("QUIRE_PUSHER")
            .ok()
            .filter(|name| !name.is_empty()),
        pushed_at: Clock::system().now(),
        options: push_options(),
        refs: Vec::new(),
    };
    let mut runs = Vec::new();
    let mut answering = true;
    for refs in moved.refs.chunks(REFS_PER_EVENT) {
        event.id = EventId::new();
        event.refs = refs.to_vec();
        fault::point("hook-before-spool");
        if let Err(error) = spool::write(paths, &event) {
            voice.say(&format!(
                "warning: the push is in, but its event could not be written ({error})"
            ));
            voice.say("quire makes the missing runs when it next compares the refs; see to the disk first");
            continue;
        }
        fault::point("hook-after-spool");
        if answering {
            let answered = hand_over(paths, &event, &mut voice);
            answering = answered.is_some();
            runs.extend(answered.unwrap_or_default());
        }
    }
    print_runs(&runs, &mut voice);
    if event.options.iter().any(|option| option == "ci.wait") {
        runs.iter().for_each(|run| follow(run, &mut voice));
    }
}

/// Tells `serve` that rows changed behind its back. Best effort: it also looks by itself.
pub fn wake(paths: &Paths) {
    let _ = poke::ask(
        &paths.socket(),
        &SocketRequest::Wake,
        std::time::Duration::from_millis(500),
    );
}

/// Asks `serve` for what only it can do; waits for the answer up to `patience`. An error is a sentence.
///
/// # Errors
/// It does not answer, or says why not.
pub fn ask(
    paths: &Paths,
    request: &SocketRequest,
    patience: std::time::Duration,
) -> Result<SocketAnswer, String> {
    match poke::ask(&paths.socket(), request, patience) {
        Ok(SocketAnswer::Error { message }) => Err(message),
        Ok(answer) => Ok(answer),
        Err(error) => Err(error.to_string()),
    }
}

/// Has `serve` remove what need not be kept, and waits for the end of it.
///
/// # Errors
/// Why not, in words.
pub fn housekeep(paths: &Paths) -> Result<Freed, String> {
    match ask(
        paths,
        &SocketRequest::Housekeep,
        std::time::Duration::from_secs(3600),
    )? {
        SocketAnswer::Freed(freed) => Ok(freed),
        _ => Err("the server's answer cannot be understood".to_owned()),
    }
}

/// Pokes `serve` about a spooled event and gives the runs it answers; none where it does not answer.
fn hand_over(paths: &Paths, event: &PushEvent, voice: &mut Voice) -> Option<Vec<AnsweredRun>> {
    let wants_runs = event.refs.iter().any(|update| !update.new_sha.is_zero());
    let why = match poke::taken(&paths.socket(), event.id) {
        Ok(SocketAnswer::Runs { runs, notes }) => {
            notes.iter().for_each(|note| voice.say(note));
            return Some(runs);
        }
        Ok(
            SocketAnswer::Ok
            | SocketAnswer::Freed(_)
            | SocketAnswer::Caches { .. }
            | SocketAnswer::Findings { .. },
        ) => {
            return Some(Vec::new());
        }
        Ok(SocketAnswer::Error { message }) => {
            voice.say(&format!("warning: {message}"));
            return Some(Vec::new());
        }
        Err(poke::PokeError::Unreachable(_)) => {
            "the server is not there; the run will start when it is back"
        }
        Err(poke::PokeError::Silent) => "the server is busy; the run will start when it gets to it",
        Err(poke::PokeError::Garbled(_)) => {
            "the server's answer cannot be understood; the run will start all the same"
        }
    };
    if wants_runs {
        voice.say(why);
    }
    None
}

fn print_runs(runs: &[AnsweredRun], voice: &mut Voice) {
    for run in runs.iter().take(RUNS_SHOWN) {
        let of = if runs.len() > 1 {
            format!("  ({})", run.ref_name.short())
        } else {
            String::new()
        };
        voice.say(&format!("run {} queued  {}{of}", run.id, run.url));
    }
    if runs.len() > RUNS_SHOWN {
        voice.say(&format!(
            "… and {} more runs; `run list` shows them",
            runs.len() - RUNS_SHOWN
        ));
    }
}

/// `ci.wait`: streams the run's log by the same command a person would use. A process of its
/// own, so that the hook itself stays without a database.
#[expect(
    clippy::disallowed_methods,
    reason = "starts quire itself, with nothing from outside but a run's id"
)]
fn follow(run: &AnsweredRun, voice: &mut Voice) {
    let started = std::env::current_exe().and_then(|exe| {
        let mut command = Command::new(exe);
        command
            .args(["run", "logs", "--follow", "--", &run.id])
            .stdin(std::process::Stdio::null())
            .status()
    });
    if let Err(error) = started {
        voice.say(&format!("cannot follow run {}: {error}", run.id));
    }
}

/// Which repository the hook was called in: git calls it there.
fn this_repository(paths: &Paths) -> Result<RepoName, String> {
    let folder = std::env::var_os("GIT_DIR").unwrap_or_else(|| ".".into());
    repository_at(paths, Path::new(&folder))
}

fn repository_at(paths: &Paths, folder: &Path) -> Result<RepoName, String> {
    let canonical = |path: &Path| {
        path.canonicalize()
            .map_err(|error| format!("{} cannot be found ({error})", path.display()))
    };
    let (folder, root) = (canonical(folder)?, canonical(&paths.repos())?);
    let name = folder
        .strip_prefix(&root)
        .ok()
        .and_then(Path::to_str)
        .filter(|name| name.ends_with(".git"));
    let name = name.ok_or_else(|| {
        format!(
            "{} is not one of the repositories in {}",
            folder.display(),
            root.display()
        )
    })?;
    name.parse()
        .map_err(|error: crate::names::NameError| error.to_string())
}

fn push_options() -> Vec<String> {
    let count: usize = std::env::var("GIT_PUSH_OPTION_COUNT")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(0);
    let options = (0..count.min(MAX_OPTIONS))
        .filter_map(|at| std::env::var_os(format!("GIT_PUSH_OPTION_{at}")));
    options
        .map(|option| option.to_string_lossy().into_owned())
        .filter(|option| option.len() <= MAX_OPTION)
        .collect()
}

/// What the pusher reads: lines that start with `quire:`. The pusher may be gone; that changes nothing.
#[derive(Default)]
struct Voice {
    #[cfg(test)]
    said: Vec<String>,
}

impl Voice {
    fn say(&mut self, line: &str) {
        let line: String = line
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect();
        let _ = io::stderr().write_all(format!("quire: {line}\n").as_bytes());
        #[cfg(test)]
        self.said.push(line);
    }
}

/// A ref as one line for a person.
fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(name)
        .chars()
        .take(200)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// What a push moved.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// The refs, in git's order.
    pub refs: Vec<RefUpdate>,
    /// Names that no event can hold.
    pub unreadable: Vec<String>,
}

#[cfg(test)]
mod tests;
