//! The hooks. `pre-receive` refuses what protected refs forbid, and explains what git is about to refuse. `proc-receive` takes the commits that are to land on a
//! branch. `post-receive` records a push in the spool and tells the pusher which runs it made.
//!
//! Git calls it once per push, after the refs have moved. It syncs the folders of the refs to disk
//! ([`sync_ref_folders`]), writes the event into the spool ([`spool_event`]; from then on nothing is lost), announces it
//! to the server and prints the runs that the server answers. Git has accepted the push already, so every
//! failure is a line for the pusher and exit code 0. What could not be spooled the server finds by
//! comparing refs.

mod for_green;
mod refs;

pub use for_green::proc_receive;
pub use refs::{RefUpdates, read as read_refs};

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use quire_git::{Git, PushMark, RefMove, has_protected_refs, sync_ref_folders};
use quire_server::control::client::{self, ControlError};
use quire_server::control::protocol::RunLink;
use quire_server::intake::spool_event;
use quire_types::base_url::REACHED_VARIABLE;
use quire_types::clock::Clock;
use quire_types::error_chain::chain;
use quire_types::failpoint;
use quire_types::names::{EventId, LANDING_REFS, ObjectId, RefName, RepoName};
use quire_types::paths::Paths;
use quire_types::push_event::{EventType, MAX_OVERWRITTEN, PushEvent, RefUpdate, deletions};
use quire_types::text::{excerpt, single_line};

/// How many refs one event holds; a larger push makes several. Keeps the file below what intake reads.
const REFS_PER_EVENT: usize = 10_000;
const MAX_PRINTED_RUNS: usize = 10;
/// How many protected refs are named.
const MAX_PRINTED_REFS: usize = 10;
/// How many push options are recorded, each of up to [`MAX_OPTION`] bytes.
const MAX_OPTIONS: usize = 100;
const MAX_OPTION: usize = 1024;

/// Handles one push. `input` is what git writes to the hook; lines for the pusher go to standard error.
pub fn post_receive(paths: &Paths, input: impl io::Read) {
    let mut output = PusherOutput::default();
    let updates = match refs::read(input) {
        Ok(updates) => updates,
        Err(error) => {
            return output.line(&format!("warning: push accepted, but the hook cannot read which refs changed ({error}); quire compares the refs and starts the missing runs"));
        }
    };
    for name in &updates.unsupported {
        output.line(&format!("warning: no run for the ref {name}: quire supports only names in UTF-8 of at most 1024 bytes"));
    }
    if updates.refs.is_empty() {
        return;
    }
    let repo = match this_repository(paths) {
        Ok(repo) => repo,
        Err(reason) => {
            return output.line(&format!("warning: this push starts no run: {reason}"));
        }
    };
    let names = updates.refs.iter().map(|update| update.ref_name.as_str());
    if let Err(error) = sync_ref_folders(&paths.repo(&repo), names) {
        output.line(&format!(
            "warning: push accepted, but syncing it to disk failed ({error}); check the disk and push again"
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
    follow_first_branch(paths, &event.repo, &updates.refs, &mut output);
    let mark = PushMark::of_hook(paths);
    if is_new_repository(paths, &event.repo, &updates.refs) {
        output.line(&format!("created repository {}", event.repo));
    }
    let mut runs = Vec::new();
    let (mut server_answers, mut all_spooled) = (true, true);
    for refs in updates.refs.chunks(REFS_PER_EVENT) {
        event.id = EventId::new();
        event.refs = refs.to_vec();
        failpoint::hit("hook-before-spool");
        if let Err(error) = spool_event(paths, &event) {
            output.line(&format!(
                "warning: push accepted, but its event could not be written to the spool ({error})"
            ));
            output.line("check the disk; quire compares the refs and starts the missing runs");
            all_spooled = false;
            continue;
        }
        failpoint::hit("hook-after-spool");
        if server_answers {
            let answered = notify_server(paths, &event, &mut output);
            server_answers = answered.is_some();
            runs.extend(answered.unwrap_or_default());
        }
    }
    // The server compares the refs of a push whose mark stays.
    if all_spooled && let Some(mark) = mark {
        let _ = mark.remove();
    }
    print_runs(&runs, &mut output);
    if event.options.iter().any(|option| option == "ci.wait") {
        runs.iter().for_each(|run| follow(run, &mut output));
    }
}

/// Whether the repository was created for this push, or for another that began at the same time: of two first pushes, git
/// may accept the one that found the repository.
fn is_new_repository(paths: &Paths, repo: &RepoName, refs: &[RefUpdate]) -> bool {
    let marks = Git::new(paths).push_marks().unwrap_or_default();
    refs.iter().all(|update| update.old_sha.is_zero())
        && marks.iter().any(|mark| mark.created && mark.repo == *repo)
}

/// Returns whether git may accept a push, and says what git does not say about it.
#[must_use]
pub fn pre_receive(paths: &Paths, input: impl io::Read) -> bool {
    let mut output = PusherOutput::default();
    let updates = match refs::read(input) {
        Ok(updates) => updates,
        Err(error) => {
            output.line(&format!(
                "nothing was changed: the refs of the push cannot be read ({error})"
            ));
            return false;
        }
    };
    if let Some(reason) = senseless_deletion(&updates.refs) {
        output.line(&reason);
        return false;
    }
    let repo = match this_repository(paths) {
        Ok(repo) => repo,
        Err(_) if !has_protected_refs(&this_folder()) => return true,
        Err(reason) => {
            output.line(&format!(
                "nothing was changed: which refs are protected cannot be told ({reason})"
            ));
            return false;
        }
    };
    if !permits(paths, &repo, &updates, &mut output) {
        return false;
    }
    explain_deletion(paths, &repo, &updates.refs, &mut output);
    keep_deleted(paths, &repo, &updates.refs);
    report_missing_objects(paths, &repo, &updates.refs, &mut output);
    true
}

/// The reason why a push is refused that deletes a ref and says that the ref does not exist. Git deletes such a ref without a look
/// at its value, and nothing would keep what it referred to. Refs below `refs/for-green` are not deleted by git: clients cannot
/// see them, so they say so rightly, and `proc-receive` answers.
fn senseless_deletion(refs: &[RefUpdate]) -> Option<String> {
    let is_senseless = |one: &&RefUpdate| {
        one.old_sha.is_zero()
            && one.new_sha.is_zero()
            && !one.ref_name.as_str().starts_with(LANDING_REFS)
    };
    let ref_name = &refs.iter().find(is_senseless)?.ref_name;
    Some(format!(
        "nothing was changed: the client deletes {ref_name} and says that it does not exist"
    ))
}

/// Whether the protection of the repository's refs permits a push. Otherwise says what it forbids, and how to change that.
fn permits(
    paths: &Paths,
    repo: &RepoName,
    updates: &RefUpdates,
    output: &mut PusherOutput,
) -> bool {
    if let Some(name) = updates.unsupported.first()
        && has_protected_refs(&paths.repo(repo))
    {
        output.line(&format!(
            "nothing was changed: this repository has protected refs, and quire cannot compare the name {name} with their patterns"
        ));
        return false;
    }
    let refs = &updates.refs;
    let existing = |id: &ObjectId| (!id.is_zero()).then(|| id.clone());
    let moves: Vec<RefMove> = refs
        .iter()
        .map(|update| RefMove {
            ref_name: update.ref_name.clone(),
            from: existing(&update.old_sha),
            to: existing(&update.new_sha),
        })
        .collect();
    let git = Git::new(paths);
    let forbidden = match git.forbidden_moves(repo, &paths.repo(repo), &moves) {
        Ok(forbidden) => forbidden,
        Err(error) => {
            output.line(&format!(
                "nothing was changed: which refs are protected cannot be told ({})",
                chain(&error)
            ));
            return false;
        }
    };
    let Some(first) = forbidden.first() else {
        return true;
    };
    let listed = forbidden.iter().take(MAX_PRINTED_REFS);
    listed.for_each(|one| output.line(&one.to_string()));
    if forbidden.len() > MAX_PRINTED_REFS {
        let more = forbidden.len() - MAX_PRINTED_REFS;
        output.line(&format!("… and {more} more refs"));
    }
    output.line(&format!(
        "nothing was changed; `repo unprotect {repo} {}` ends the protection",
        first.pattern.shell_word()
    ));
    false
}

/// Says which command makes the deletion of the default branch possible, which git refuses.
fn explain_deletion(paths: &Paths, repo: &RepoName, refs: &[RefUpdate], output: &mut PusherOutput) {
    let mut deleted = refs.iter().filter(|one| one.new_sha.is_zero());
    let Some(first) = deleted.next() else { return };
    let Ok(Some(head)) = Git::new(paths).head_branch(repo) else {
        return;
    };
    if first.ref_name == head || deleted.any(|one| one.ref_name == head) {
        let branch = head.short();
        output.line(&format!(
            "{branch} is the default branch and cannot be deleted; `repo default {repo} BRANCH` sets another one"
        ));
    }
}

/// Keeps what the refs that are deleted refer to, so that they can be created again. Git removes the log of a ref with it, so it
/// must be done before. If it fails, the intake does it.
fn keep_deleted(paths: &Paths, repo: &RepoName, refs: &[RefUpdate]) {
    let deleted = deletions(refs).take(MAX_OVERWRITTEN);
    let ids: Vec<_> = deleted.map(|update| update.old_sha.clone()).collect();
    let _ = Git::new(paths).keep_objects(&paths.repo(repo), &ids);
}

/// Says which objects of Git LFS the new commits refer to that are not here. Before the refs change, git can tell which
/// commits are new.
fn report_missing_objects(
    paths: &Paths,
    repo: &RepoName,
    refs: &[RefUpdate],
    output: &mut PusherOutput,
) {
    let tips = refs.iter().filter(|one| !one.new_sha.is_zero());
    let tips: Vec<_> = tips.map(|one| one.new_sha.clone()).collect();
    // Git says itself if it cannot read what was pushed.
    let Ok(Some(missing)) = Git::new(paths).missing_lfs_objects(repo, &tips) else {
        return;
    };
    let count = match (missing.count, missing.is_complete) {
        (1, true) => "1 file in Git LFS has".to_owned(),
        (count, true) => format!("{count} files in Git LFS have"),
        (count, false) => format!("{count} or more files in Git LFS have"),
    };
    let paths: Vec<String> = missing
        .paths
        .iter()
        .map(|path| single_line(&excerpt(path, 100)))
        .collect();
    let more = if missing.count > paths.len() || !missing.is_complete {
        ", …"
    } else {
        ""
    };
    output.line(&format!(
        "warning: {count} no content on this forge: {}{more}; `git lfs push --all REMOTE` sends it",
        paths.join(", ")
    ));
}

/// Makes the first branch of a repository its default branch, so that a clone checks it out. The comparison of refs does
/// the same if this fails.
fn follow_first_branch(
    paths: &Paths,
    repo: &RepoName,
    refs: &[RefUpdate],
    output: &mut PusherOutput,
) {
    let branches: Vec<&RefName> = refs
        .iter()
        .filter(|update| !update.new_sha.is_zero() && update.ref_name.branch().is_some())
        .map(|update| &update.ref_name)
        .collect();
    if let Ok(Some(branch)) = Git::new(paths).follow_first_branch(repo, &branches) {
        output.line(&format!(
            "the default branch is {}; `repo default {repo} BRANCH` changes it",
            branch.short()
        ));
    }
}

/// Announces a spooled event. Returns its runs, or `None` if the server does not answer.
fn notify_server(
    paths: &Paths,
    event: &PushEvent,
    output: &mut PusherOutput,
) -> Option<Vec<RunLink>> {
    let reason = match client::announce_event(paths, event.id, reached_address()) {
        Ok((runs, notes)) => {
            notes.iter().for_each(|note| output.line(note));
            return Some(runs);
        }
        Err(ControlError::Failed(message)) => {
            output.line(&format!("warning: {message}"));
            return Some(Vec::new());
        }
        Err(ControlError::Unexpected | ControlError::Disconnected) => return Some(Vec::new()),
        Err(ControlError::Unreachable(_)) => {
            "the server is not running; the run will start when it is back"
        }
        Err(ControlError::TimedOut) => "the server is busy; the run will start as soon as it can",
        Err(ControlError::Malformed(_)) => {
            "the server's response cannot be read; the run will start all the same"
        }
    };
    // A push that only deletes refs makes no run, so there is nothing to tell.
    if event.refs.iter().any(|update| !update.new_sha.is_zero()) {
        output.line(reason);
    }
    None
}

/// The address by which the pusher reached this machine, as `quire exec` passed it on.
fn reached_address() -> Option<IpAddr> {
    std::env::var(REACHED_VARIABLE).ok()?.parse().ok()
}

fn print_runs(runs: &[RunLink], output: &mut PusherOutput) {
    for run in runs.iter().take(MAX_PRINTED_RUNS) {
        let of = if runs.len() > 1 {
            format!("  ({})", run.ref_name.short())
        } else {
            String::new()
        };
        let subject = run
            .subject
            .as_deref()
            .map_or_else(String::new, |subject| format!("  {subject}"));
        output.line(&format!(
            "run {} queued  {}{of}{subject}",
            name(run),
            run.url
        ));
    }
    if runs.len() > MAX_PRINTED_RUNS {
        output.line(&format!(
            "… and {} more runs; `run list` shows them",
            runs.len() - MAX_PRINTED_RUNS
        ));
    }
}

/// The name of a run, or its id if an older server sent no name.
fn name(run: &RunLink) -> &str {
    if run.name.is_empty() {
        &run.id
    } else {
        &run.name
    }
}

/// Prints the run's log until the run ends (push option `ci.wait`). A process of its own does it, so that
/// the hook itself needs no database.
#[expect(
    clippy::disallowed_methods,
    reason = "starts quire itself, with no untrusted argument but a run's id"
)]
fn follow(run: &RunLink, output: &mut PusherOutput) {
    let started = std::env::current_exe().and_then(|exe| {
        let mut command = Command::new(exe);
        command
            .args(["run", "logs", "--follow", "--fold-build", "--", &run.id])
            .stdin(std::process::Stdio::null())
            .status()
    });
    if let Err(error) = started {
        output.line(&format!("cannot follow run {}: {error}", name(run)));
    }
}

/// The repository that was pushed to: git runs the hook in its folder.
fn this_repository(paths: &Paths) -> Result<RepoName, String> {
    repository_at(paths, &this_folder())
}

/// The folder of the repository that git runs the hook for.
fn this_folder() -> PathBuf {
    std::env::var_os("GIT_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from)
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
            "{} is not a repository in {}",
            folder.display(),
            root.display()
        )
    })?;
    name.parse()
        .map_err(|error: quire_types::names::NameError| error.to_string())
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

/// Lines for the pusher, each with the prefix `quire:`. If the pusher has disconnected, writing fails and
/// the push is recorded all the same.
#[derive(Default)]
struct PusherOutput {
    #[cfg(test)]
    lines: Vec<String>,
}

impl PusherOutput {
    fn line(&mut self, line: &str) {
        let line = quire_types::text::sanitize(line);
        let _ = io::stderr().write_all(format!("quire: {line}\n").as_bytes());
        #[cfg(test)]
        self.lines.push(line);
    }
}

#[cfg(test)]
mod tests;
