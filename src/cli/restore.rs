//! `quire restore`: restores a backup into an empty data folder.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use super::args::OutputArgs;
use super::async_runtime;
use super::backup::repos_and_runs;
use super::error::CommandError;
use super::output::Output;
use super::privileges;
use quire_server::backup::{self, RestoreSummary};
use quire_types::paths::Paths;
use quire_types::text::single_line;

#[derive(clap::Args)]
pub(super) struct Restore {
    /// The backup; standard input if it is missing or `-`
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print JSON and nothing else
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Restore) -> ExitCode {
    match restore(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.print(),
    }
}

fn restore(arguments: &Restore) -> Result<(), CommandError> {
    let input = input(
        arguments
            .file
            .as_ref()
            .filter(|file| file.as_os_str() != "-"),
    )?;
    let paths = Paths::from_environment();
    std::fs::create_dir_all(paths.data()).map_err(|error| {
        CommandError::failed(format!(
            "{} cannot be created: {error}",
            paths.data().display()
        ))
    })?;
    privileges::drop_to_data_owner(&paths)?;
    let summary = async_runtime::block_on(backup::restore(&paths, input))??;
    let mut stdout = io::stdout();
    let mut out = Output::standard(&mut stdout, OutputArgs::of_json(arguments.json));
    report(&summary, &mut out)
}

fn input(file: Option<&PathBuf>) -> Result<Box<dyn Read + Send>, CommandError> {
    match file {
        Some(path) => match File::open(path) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(CommandError::failed(format!(
                "{} cannot be read: {error}",
                path.display()
            ))),
        },
        None if io::stdin().is_terminal() => {
            Err(CommandError::usage("standard input is a terminal")
                .hint("name the backup, or redirect it: `quire restore < quire.tar.zst`"))
        }
        None => Ok(Box::new(io::stdin())),
    }
}

fn report(summary: &RestoreSummary, out: &mut Output<'_>) -> Result<(), CommandError> {
    if out.json {
        out.json(summary)?;
    } else {
        let made_at = &summary.created_at_ms;
        out.line(&format!(
            "restored {}, as they were at {made_at}",
            repos_and_runs(summary.repos, summary.runs)
        ))?;
        if summary.while_running {
            out.line("quire was running when the backup was made, so what ran after it is not known: no run starts until you decide")?;
            out.line("start quire, then use `reconcile --adopt` to cancel the runs that waited, or `reconcile --run` to run them")?;
        }
        for problem in &summary.problems {
            out.line(&single_line(problem))?;
        }
    }
    match summary.problems.len() {
        0 => Ok(()),
        _ => Err(CommandError::failed(
            "the backup had the problems that are named above; everything else was restored",
        )),
    }
}
