//! `quire run artifacts`: what runs kept.

use std::io::{self, Write};

use clap::Subcommand;
use serde::Serialize;

use super::manage::{Context, Format};
use super::output::{Cell, Out};
use super::report::Failure;
use crate::artifacts::{self, Artifact, ArtifactName};
use crate::run::{ArtifactRow, Run};
use crate::space::in_words;
use crate::store::Store;

/// What can be done with artifacts.
#[derive(Subcommand)]
pub(super) enum ArtifactsCommand {
    /// List what a run kept.
    List {
        /// The run.
        id: String,
        #[command(flatten)]
        format: Format,
    },
    /// Write an artifact to standard output: a file as it is, a folder as a tar archive.
    Get {
        /// The run.
        id: String,
        /// The artifact's name; not needed where the run kept one.
        name: Option<String>,
    },
}

impl ArtifactsCommand {
    pub(super) fn json(&self) -> bool {
        matches!(self, Self::List { format, .. } if format.json)
    }
}

#[derive(Serialize)]
struct Artifacts<'a> {
    artifacts: &'a [ArtifactRow],
}

/// Carries a command out.
pub(super) fn artifacts(
    context: &Context<'_>,
    store: &Store,
    command: &ArtifactsCommand,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let (ArtifactsCommand::List { id, .. } | ArtifactsCommand::Get { id, .. }) = command;
    let id = store.resolve_run(id)?;
    let run = store
        .run(id)?
        .ok_or_else(|| Failure::not_found(format!("there is no run `{id}` any more")))?;
    if let (Some(at), ArtifactsCommand::Get { .. }) = (run.artifacts_removed_at_ms, command) {
        return Err(Failure::not_found(format!(
            "the artifacts of run {id} were removed by retention on {at}"
        )));
    }
    let rows = if run.artifacts_removed_at_ms.is_none() {
        store.artifacts(id)?
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

fn list(rows: &[ArtifactRow], out: &mut Out<'_>) -> Result<(), Failure> {
    if out.json {
        return out.json(&Artifacts { artifacts: rows });
    }
    if rows.is_empty() {
        return out.line("no artifacts");
    }
    let cells = |row: &ArtifactRow| -> [Cell; 5] {
        let kind = if row.is_folder {
            format!("folder of {}", row.files)
        } else {
            "file".to_owned()
        };
        [
            row.name.as_str().into(),
            kind.into(),
            in_words(row.bytes).into(),
            row.job_id.as_str().into(),
            out.when(Some(row.created_at_ms)).into(),
        ]
    };
    let rows: Vec<_> = rows.iter().map(cells).collect();
    out.table(["NAME", "KIND", "SIZE", "JOB", "KEPT"], &rows)
}

/// The artifact that is meant.
fn chosen<'a>(
    run: &Run,
    rows: &'a [ArtifactRow],
    name: Option<&str>,
) -> Result<&'a ArtifactRow, Failure> {
    let known = || {
        rows.iter()
            .map(|row| format!("`{}`", row.name))
            .collect::<Vec<_>>()
            .join(", ")
    };
    match (rows, name) {
        ([], _) => Err(Failure::not_found(format!(
            "run {} has no artifacts",
            run.id
        ))),
        ([one], None) => Ok(one),
        (_, None) => Err(
            Failure::usage(format!("run {} has {} artifacts", run.id, rows.len()))
                .hint(format!("name one of {}", known())),
        ),
        (_, Some(name)) => {
            let wanted = name
                .parse::<ArtifactName>()
                .map_or_else(|_| name.to_owned(), |name| name.to_string());
            rows.iter().find(|row| row.name == wanted).ok_or_else(|| {
                Failure::not_found(format!("run {} has no artifact `{name}`", run.id))
                    .hint(format!("it has {}", known()))
            })
        }
    }
}

fn get(context: &Context<'_>, run: &Run, row: &ArtifactRow) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::failed(format!(
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
        None => return Err(failed(&"its files are gone")),
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
