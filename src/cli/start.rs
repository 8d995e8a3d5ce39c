//! `quire run start`: starts a run by hand.

use super::args::OutputArgs;
use super::async_runtime;
use super::context::Context;
use super::error::CommandError;
use quire_pipeline::Source;
use quire_server::forge::runs::{self, StartRequest};
use quire_types::names::{JobName, RefName, RepoName};
use quire_types::run::{FailureKind, Run};

/// The longest value of a parameter, in bytes.
const MAX_VALUE: usize = 64 << 10;

#[derive(clap::Args)]
pub(super) struct StartArgs {
    /// The repository
    repo: RepoName,
    /// The branch, or the full name of any ref [default: the default branch]
    #[arg(long = "ref", value_name = "REF", visible_alias = "branch", value_parser = RefName::from_user)]
    ref_name: Option<RefName>,
    /// A parameter that jobs read with (jobs :quire/manual)
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = param)]
    params: Vec<(String, String)>,
    /// The source that the run starts from: `manual`, or `push` to run the jobs of a push
    #[arg(long, value_name = "SOURCE", default_value = "manual", value_parser = ["manual", "push"])]
    source: String,
    /// Run only this job and the jobs that it waits for
    #[arg(long)]
    job: Option<JobName>,
    /// Keep the container for a while if the run fails
    #[arg(long)]
    keep: bool,
    /// Pull and build the images of the run afresh, without the cache of earlier builds
    #[arg(long)]
    rebuild: bool,
    #[command(flatten)]
    pub(super) format: OutputArgs,
}

/// `NAME=VALUE`, with a name that can be written in a pipeline.
fn param(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("use the form NAME=VALUE")?;
    let first = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !first
        || name.len() > 64
        || !name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    {
        return Err(
            "a name has letters, digits, `_` and `-`, starts with a letter or `_`, and is at most 64 characters long"
                .to_owned(),
        );
    }
    if value.len() > MAX_VALUE || value.contains('\0') {
        return Err(format!(
            "a value is at most {} KiB long and contains no NUL",
            MAX_VALUE >> 10
        ));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Starts a run and returns it, or the error of its pipeline.
pub(super) fn start(context: &Context<'_>, args: &StartArgs) -> Result<Run, CommandError> {
    let request = StartRequest {
        repo: args.repo.clone(),
        ref_name: args.ref_name.clone(),
        only_job: args.job.clone(),
        parameters: args.params.clone(),
        source: match args.source.as_str() {
            "push" => Source::Push,
            _ => Source::Manual,
        },
        keep_container: args.keep,
        rebuild: args.rebuild,
        started_by: context.caller.name().to_owned(),
    };
    let run = async_runtime::block_on(runs::start(&context.forge(), request))??;
    match (&run.failure_kind, &run.message) {
        (Some(FailureKind::Pipeline), Some(message)) => {
            let failure = CommandError::failed(format!("run {} failed: {message}", run.name()));
            Err(failure
                .hint("`run start` runs the jobs that have :quire/manual among their inputs; `--source push` runs those of a push"))
        }
        _ => Ok(run),
    }
}
