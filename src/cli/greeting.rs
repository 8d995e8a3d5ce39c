//! What `ssh git@host` prints: who the caller is, the commands, and what happened lately.

use super::context::{Caller, Context};
use super::error::CommandError;
use super::output::Output;
use super::run_list::print_runs;
use quire_store::{RunFilter, StoreError};
use quire_types::run::Run;
use quire_types::ssh_keys::KeyLimits;

/// How many failing branches are listed.
const MAX_FAILING: u32 = 10;
/// How many of the newest runs are listed.
const NEWEST_RUNS: u32 = 5;

/// The usage of each command and what it does.
pub(super) const COMMANDS: &[(&str, &str)] = &[
    (
        "git push -o ci.skip | ci.wait | ci.job=J",
        "push without a run, follow the run, run one job",
    ),
    (
        "git push R HEAD:refs/for-green/BRANCH",
        "move BRANCH there once the run is green",
    ),
    (
        "repo list | new NAME | rm NAME --yes",
        "list, create or remove repositories",
    ),
    (
        "repo import URL [NAME] [--mirror]",
        "import a repository, or follow one elsewhere",
    ),
    (
        "repo rename OLD NEW",
        "rename a repository; the old name redirects to it",
    ),
    (
        "repo restore NAME [--as NEW]",
        "bring a removed repository back",
    ),
    (
        "repo undo NAME [REF] [--to ID]",
        "list what pushes overwrote, or move a ref back",
    ),
    (
        "repo show NAME",
        "show a repository with its settings and sizes",
    ),
    ("repo default NAME BRANCH", "set the default branch"),
    (
        "repo protect | unprotect NAME PATTERN",
        "protect branches and tags from forced pushes",
    ),
    (
        "repo description NAME [TEXT]",
        "describe a repository in a line",
    ),
    (
        "run list [--repo --ref --state --limit]",
        "list runs, newest first",
    ),
    ("run show RUN", "show a run with its jobs and steps"),
    (
        "run logs RUN [--job J] [--follow]",
        "print the log of a run, or follow it live",
    ),
    (
        "run wait | cancel | retry RUN",
        "wait for a run, cancel it or retry it",
    ),
    (
        "run artifacts list RUN | get RUN [NAME]",
        "list or download the artifacts of a run",
    ),
    (
        "run attach RUN [COMMAND]",
        "open a shell in the container of a run",
    ),
    (
        "run repl RUN",
        "try out what a job does, in the container of a run",
    ),
    (
        "run start REPO [--branch B] [--param K=V]",
        "start a run by hand",
    ),
    (
        "schedule list [--repo R]",
        "list schedules and their next times",
    ),
    ("cache list | clear REPO [NAME]", "list or clear caches"),
    (
        "notify list | test TARGET",
        "list the targets of notifications, or test one",
    ),
    (
        "mirror list | sync REPO | stop REPO | key",
        "list the mirrors of repositories, push to them now",
    ),
    (
        "key list | show KEY | rm KEY",
        "list, show or remove the keys that may connect",
    ),
    (
        "key add [--read] [--repo R] < FILE.pub",
        "add a key, also one that may do less",
    ),
    (
        "secret set NAME [--repo R] < FILE",
        "set a secret that pipelines may use",
    ),
    (
        "secret list | rm NAME | show-uses NAME",
        "list or remove secrets, or see who used one",
    ),
    (
        "config show | set S VALUE | unset S",
        "show the settings in force, or change one",
    ),
    (
        "config check < FILE | reload",
        "check a configuration file, or load it again",
    ),
    (
        "log [--repo R] | undo OPERATION",
        "list who did what, or take it back",
    ),
    ("login", "print a link that signs a browser in"),
    ("status", "show the health of each component"),
    ("doctor", "check everything, and say what to do"),
    ("backup > FILE", "write a backup of everything"),
    ("client > quire", "write the program for your machine"),
    ("gc", "remove expired runs, logs, artifacts and caches now"),
    (
        "reconcile --adopt | --run",
        "decide what happens after a restored database",
    ),
    (
        "help [COMMAND] | COMMAND --help",
        "show the options of a command",
    ),
];

pub(super) fn greet(
    caller: &Caller,
    limits: &KeyLimits,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let name = quire_types::text::single_line(caller.name());
    if !limits.is_full() {
        return out.line(&format!("quire: hello {name}. This key may {limits}."));
    }
    out.line(&format!(
        "quire: hello {name}. This server has no shell; it accepts these commands:"
    ))?;
    out.line(
        "  git push, clone, fetch, archive --remote    push to a new name to create a repository",
    )?;
    for (usage, what) in COMMANDS {
        out.line(&format!("  {usage:<42}  {what}"))?;
    }
    Ok(())
}

/// What happened lately.
pub(super) struct News {
    /// The newest run of each branch that fails.
    pub(super) failing: Vec<Run>,
    pub(super) newest: Vec<Run>,
}

impl News {
    /// Reads it; `None` if the database cannot be read, since `status` is what says why.
    pub(super) fn read(context: &Context<'_>) -> Option<Self> {
        let read = |store: quire_store::Store| -> Result<Self, StoreError> {
            let filter = RunFilter {
                limit: NEWEST_RUNS,
                ..RunFilter::default()
            };
            Ok(Self {
                failing: store.runs().failing(MAX_FAILING)?,
                newest: store.runs().list(&filter)?,
            })
        };
        read(context.store().ok()?).ok()
    }
}

pub(super) fn print_news(news: Option<&News>, out: &mut Output<'_>) -> Result<(), CommandError> {
    let Some(news) = news else {
        return out.line("\nThe runs cannot be read; `status` says what is wrong.");
    };
    for (heading, runs) in [("Failing", &news.failing), ("Newest runs", &news.newest)] {
        if !runs.is_empty() {
            out.line(&format!("\n{heading}:"))?;
            print_runs(runs, out)?;
        }
    }
    Ok(())
}
