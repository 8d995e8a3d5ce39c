//! `quire ci check`: prints the job graph of a pipeline, or all of its errors.

use std::io::Write as _;
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::json;

use super::error::CiError;
use super::{show, source_tree::SourceTree};
use quire_pipeline::Pipeline;

#[derive(Debug, clap::Args)]
pub(super) struct CheckArguments {
    /// The output format
    #[arg(long, value_enum, default_value_t = CheckFormat::Text)]
    format: CheckFormat,
    /// Check the pipeline of this commit instead of the working tree's
    #[arg(long, value_name = "REV")]
    sha: Option<String>,
}

/// Output formats of `quire ci check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CheckFormat {
    /// For a person.
    Text,
    /// For programs.
    Json,
    /// For Graphviz.
    Dot,
}

/// Runs `quire ci check`.
pub(super) fn check(arguments: &CheckArguments) -> ExitCode {
    let json = arguments.format == CheckFormat::Json;
    match check_tree(arguments.sha.as_deref()) {
        Ok((tree, pipeline)) => {
            let file = &tree.source.file;
            let text = match arguments.format {
                CheckFormat::Text => show::render_text(file, &pipeline),
                CheckFormat::Json => {
                    let mut json = show::render_json(file, &pipeline);
                    let warnings = tree.misnamed.iter().map(ToString::to_string);
                    json["warnings"] = warnings.collect();
                    format!("{json:#}\n")
                }
                CheckFormat::Dot => show::render_dot(&pipeline),
            };
            if !json {
                tree.print_warnings();
            }
            // A reader that closes the pipe early is not an error.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) if json => {
            let errors = match &error {
                CiError::Invalid(diagnostics, _) => json!(diagnostics),
                other => json!([{ "message": other.message() }]),
            };
            let _ = std::io::stdout()
                .write_all(format!("{:#}\n", json!({ "errors": errors })).as_bytes());
            ExitCode::from(error.code())
        }
        Err(error) => error.print(),
    }
}

fn check_tree(revision: Option<&str>) -> Result<(SourceTree, Pipeline), CiError> {
    let folder = super::source_tree::working_dir()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CiError::Start)?;
    runtime.block_on(async {
        let program = std::env::current_exe().map_err(CiError::Start)?;
        let tree = SourceTree::find(&folder, revision).await?;
        let (pipeline, driver) = tree.register(&program).await?;
        driver.kill().await;
        Ok((tree, pipeline))
    })
}
