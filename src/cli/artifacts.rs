//! `quire run artifacts`: lists and downloads the artifacts of runs.

use std::io::{self, Write};

use clap::Subcommand;
use serde::Serialize;

use super::args::OutputArgs;
use super::context::Context;
use super::error::CommandError;
use super::output::{Cell, Output};
use quire_run_files::artifacts::{self, Artifact, ArtifactName};
use quire_server::forge::views::{ArtifactJson, views};
use quire_store::Store;
use quire_types::run::{Run, RunArtifact, RunSelector};
use quire_types::text::format_bytes;

#[derive(Subcommand)]
pub(super) enum ArtifactsCommand {
    /// List the artifacts of a run
    List {
        /// The run: `#14`, `tally#14`, `latest`, REPOSITORY@BRANCH, or the beginning or end of its id
        run: RunSelector,
        #[command(flatten)]
        format: OutputArgs,
    },
    /// Write an artifact to standard output: a file unchanged, a folder as a tar archive
    Get {
        /// The run: `#14`, `tally#14`, `latest`, REPOSITORY@BRANCH, or the beginning or end of its id
        run: RunSelector,
        /// The name of the artifact; not needed if the run has only one
        name: Option<String>,
    },
}

impl ArtifactsCommand {
    pub(super) fn format(&self) -> OutputArgs {
        match self {
            Self::List { format, .. } => *format,
            // Standard output is the artifact.
            Self::Get { .. } => OutputArgs::default(),
        }
    }
}

#[derive(Serialize)]
struct ArtifactList<'a> {
    artifacts: Vec<ArtifactJson<'a>>,
}

pub(super) fn artifacts(
    context: &Context<'_>,
    store: &Store,
    command: &ArtifactsCommand,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let (ArtifactsCommand::List { run, .. } | ArtifactsCommand::Get { run, .. }) = command;
    let id = store.runs().resolve(run)?;
    let run = store
        .runs()
        .get(id)?
        .ok_or_else(|| CommandError::not_found(format!("there is no run `{id}` any more")))?;
    if let (Some(at), ArtifactsCommand::Get { .. }) = (run.artifacts_removed_at_ms, command) {
        return Err(CommandError::not_found(format!(
            "retention (`:keep`) removed the artifacts of run {} on {at}",
            run.name()
        )));
    }
    let rows = if run.artifacts_removed_at_ms.is_none() {
        store.artifacts().list(id)?
    } else {
        Vec::new()
    };
    match command {
        ArtifactsCommand::List { .. } => list(&rows, out),
        ArtifactsCommand::Get { name, .. } => {
            get(context, &run, chosen(&run, &rows, name.as_deref())?)
        }
    }
}

fn list(rows: &[RunArtifact], out: &mut Output<'_>) -> Result<(), CommandError> {
    if out.json {
        return out.json(&ArtifactList {
            artifacts: views(rows),
        });
    }
    if rows.is_empty() {
        return out.line("no artifacts");
    }
    let cells = |row: &RunArtifact| -> [Cell; 5] {
        let kind = if row.is_folder {
            format!("folder of {}", row.files)
        } else {
            "file".to_owned()
        };
        [
            row.name.as_str().into(),
            kind.into(),
            format_bytes(row.bytes).into(),
            row.job_id.as_str().into(),
            out.time(Some(row.created_at_ms)).into(),
        ]
    };
    let rows: Vec<_> = rows.iter().map(cells).collect();
    out.table(["NAME", "KIND", "SIZE", "JOB", "KEPT"], &rows)
}

/// The artifact of this name, or the only one.
fn chosen<'a>(
    run: &Run,
    rows: &'a [RunArtifact],
    name: Option<&str>,
) -> Result<&'a RunArtifact, CommandError> {
    let known = || {
        rows.iter()
            .map(|row| format!("`{}`", row.name))
            .collect::<Vec<_>>()
            .join(", ")
    };
    match (rows, name) {
        ([], _) => Err(CommandError::not_found(format!(
            "run {} has no artifacts",
            run.name()
        ))),
        ([one], None) => Ok(one),
        (_, None) => {
            Err(
                CommandError::usage(format!("run {} has {} artifacts", run.name(), rows.len()))
                    .hint(format!("choose one of {}", known())),
            )
        }
        (_, Some(name)) => {
            let wanted = name
                .parse::<ArtifactName>()
                .map_or_else(|_| name.to_owned(), |name| name.to_string());
            rows.iter().find(|row| row.name == wanted).ok_or_else(|| {
                CommandError::not_found(format!("run {} has no artifact `{name}`", run.name()))
                    .hint(format!("it has {}", known()))
            })
        }
    }
}

fn get(context: &Context<'_>, run: &Run, row: &RunArtifact) -> Result<(), CommandError> {
    let failed = |error: &dyn std::fmt::Display| {
        CommandError::failed(format!(
            "the artifact `{}` cannot be read: {error}",
            row.name
        ))
    };
    let name = row
        .name
        .parse::<ArtifactName>()
        .map_err(|error| failed(&error))?;
    let folder = context.paths.run_artifacts(&run.repo, run.id);
    let artifact = artifacts::open(&folder, &name).map_err(|error| failed(&error))?;
    let mut out = io::stdout().lock();
    let written = match artifact {
        None => return Err(failed(&"its files were removed")),
        Some(Artifact::File(mut file, _)) => {
            io::copy(&mut file, &mut out).and_then(|_| out.flush())
        }
        Some(Artifact::Folder(folder)) => {
            folder.write_tar(io::BufWriter::with_capacity(64 << 10, &mut out))
        }
    };
    match written {
        // Who took enough of it closes the pipe.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| failed(&error)),
    }
}
