//! `quire ci check`: the graph of a pipeline, or everything that is wrong with it.

use std::io::Write as _;
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::json;

use super::{CiError, show, tree::Subject};
use crate::pipeline::Pipeline;

#[derive(Debug, clap::Args)]
pub(super) struct CheckArguments {
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Check the pipeline of this commit instead of the working tree's
    #[arg(long, value_name = "REV")]
    sha: Option<String>,
}

/// How `ci check` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For Graphviz.
    Dot,
}

/// Runs `quire ci check`.
pub(super) fn check(arguments: &CheckArguments) -> ExitCode {
    let json = arguments.format == Format::Json;
    match checked(arguments.sha.as_deref()) {
        Ok((subject, pipeline)) => {
            let file = &subject.source.file;
            let text = match arguments.format {
                Format::Text => show::text(file, &pipeline),
                Format::Json => format!("{:#}\n", show::json(file, &pipeline)),
                Format::Dot => show::dot(&pipeline),
            };
            // Who does not read it to its end has seen enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) if json => {
            let errors = match &error {
                CiError::Wrong(diagnostics, _) => json!(diagnostics),
                other => json!([{ "message": other.words() }]),
            };
            let _ = std::io::stdout()
                .write_all(format!("{:#}\n", json!({ "errors": errors })).as_bytes());
            ExitCode::from(error.code())
        }
        Err(error) => error.print(),
    }
}

fn checked(revision: Option<&str>) -> Result<(Subject, Pipeline), CiError> {
    let folder = super::tree::here()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CiError::Start)?;
    runtime.block_on(async {
        let program = std::env::current_exe().map_err(CiError::Start)?;
        let subject = Subject::find(&folder, revision).await?;
        let (pipeline, driver) = subject.register(&program).await?;
        driver.kill().await;
        Ok((subject, pipeline))
    })
}
