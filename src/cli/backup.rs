//! `quire backup`: writes a backup to standard output. And `quire stored-backup`, by which the server makes the scheduled ones.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::context::{Caller, Context};
use super::error::CommandError;
use super::privileges;
use quire_server::backup::{self, BackupContent, BackupFolder, BackupSummary};
use quire_types::clock::Clock;
use quire_types::paths::Paths;
use quire_types::text::{format_bytes, single_line};

#[derive(clap::Args)]
pub(super) struct Backup {
    /// Leave out the logs of runs
    #[arg(long)]
    no_logs: bool,
    /// Leave out the artifacts of runs
    #[arg(long)]
    no_artifacts: bool,
    /// Leave out removed repositories, which could be restored
    #[arg(long)]
    no_trash: bool,
}

#[derive(clap::Args)]
pub(super) struct MakeStored {
    /// The folder of the backups
    folder: PathBuf,
    /// How many backups stay in the folder
    #[arg(long, default_value_t = 14)]
    keep: usize,
}

/// Writes a backup to standard output, and a summary to standard error.
pub(super) fn backup(context: &Context<'_>, arguments: &Backup) -> Result<(), CommandError> {
    let stdout = io::stdout();
    if stdout.is_terminal() {
        return Err(CommandError::usage(
            "the backup is written to standard output, which is a terminal",
        )
        .hint("write it to a file: `ssh git@host backup > quire.tar.zst`"));
    }
    let content = BackupContent {
        logs: !arguments.no_logs,
        artifacts: !arguments.no_artifacts,
        trash: !arguments.no_trash,
    };
    let sink = BufWriter::with_capacity(1 << 20, stdout.lock());
    let summary = backup::write(context.paths, &context.store()?, content, sink)?;
    report(&summary)
}

/// Fails if something is missing in the backup.
fn report(summary: &BackupSummary) -> Result<(), CommandError> {
    let BackupSummary {
        repos,
        runs,
        bytes,
        problems,
    } = summary;
    let mut text = format!(
        "quire: backed up {}, {} before compression\n",
        repos_and_runs(*repos, *runs),
        format_bytes(*bytes)
    );
    for problem in problems {
        text += &format!("quire: {}\n", single_line(problem));
    }
    io::stderr().write_all(text.as_bytes())?;
    match problems.len() {
        0 => Ok(()),
        _ => Err(CommandError::failed("the backup is incomplete: what is named above is missing")
            .hint("`status` names repositories that cannot be read; make another backup when they can")),
    }
}

/// The numbers of repositories and runs, for a sentence.
pub(super) fn repos_and_runs(repos: usize, runs: u64) -> String {
    let repositories = if repos == 1 {
        "repository"
    } else {
        "repositories"
    };
    let runs_word = if runs == 1 { "run" } else { "runs" };
    format!("{repos} {repositories} and {runs} {runs_word}")
}

/// Makes one backup in the folder of scheduled backups.
pub(super) fn stored(arguments: &MakeStored) -> ExitCode {
    match make_stored(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.print(),
    }
}

fn make_stored(arguments: &MakeStored) -> Result<(), CommandError> {
    let paths = Paths::from_environment();
    privileges::drop_to_data_owner(&paths)?;
    // Pushes and runs come first.
    privileges::lower_priority();
    let caller = Caller::default();
    let context = Context::new(&paths, &caller, Clock::system());
    let store = context.store()?;
    let folder = BackupFolder::new(arguments.folder.clone(), &store.instance().id()?);
    let made = backup::make_stored(&paths, &store, folder, arguments.keep);
    let (path, problems) = super::async_runtime::block_on(made)??;
    match problems.first() {
        None => Ok(()),
        Some(problem) => Err(CommandError::failed(format!(
            "{} was written, but could not be proved: {problem}",
            path.display()
        ))),
    }
}
