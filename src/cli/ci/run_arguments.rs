//! The command line of `quire ci run`.

use std::path::PathBuf;

use super::executor_choice::ExecutorArg;
use quire_pipeline::Source;
use quire_server::runner::RunGrants;
use quire_types::image_reference::ImageReference;
use quire_types::names::{JobName, NameError, RefName};

#[derive(Debug, clap::Args)]
pub(super) struct RunArguments {
    /// Run only these jobs and the jobs they depend on
    #[arg(value_name = "JOB")]
    pub(super) jobs: Vec<JobName>,
    /// Where commands run [default: docker if an engine answers, otherwise host]
    #[arg(long, value_enum)]
    pub(super) executor: Option<ExecutorArg>,
    /// Run commands in this image instead of the pipeline's
    #[arg(long, value_name = "REF")]
    pub(super) image: Option<ImageReference>,
    /// The branch that counts as pushed [default: the current branch]
    #[arg(long, conflicts_with = "tag")]
    pub(super) branch: Option<String>,
    /// The tag that counts as pushed, instead of a branch
    #[arg(long)]
    pub(super) tag: Option<String>,
    /// Run this commit instead of the working tree
    #[arg(long, value_name = "REV")]
    pub(super) sha: Option<String>,
    /// Keep artifacts in this folder, which must be empty or not exist yet
    #[arg(long, value_name = "DIR")]
    pub(super) artifacts: Option<PathBuf>,
    /// Let the pipeline have what it asks for beyond an ordinary container
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(super) grant: Vec<GrantArg>,
    /// The source that starts the run: push, manual, or the name of a schedule
    #[arg(long, value_name = "SOURCE", default_value = "push", value_parser = parse_source)]
    pub(super) source: Source,
}

/// What `--grant` accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum GrantArg {
    /// The socket of the Docker engine
    DockerSocket,
    /// Further capabilities
    Privileges,
}

impl RunArguments {
    /// What the pipeline may have.
    pub(super) fn grants(&self) -> RunGrants {
        RunGrants {
            docker_socket: self.grant.contains(&GrantArg::DockerSocket),
            privileges: self.grant.contains(&GrantArg::Privileges),
        }
    }

    /// The ref that counts as pushed, if the user named one.
    pub(super) fn pushed_ref(&self) -> Result<Option<RefName>, NameError> {
        let branch = self
            .branch
            .iter()
            .map(|branch| format!("refs/heads/{branch}"));
        let tag = self.tag.iter().map(|tag| format!("refs/tags/{tag}"));
        branch
            .chain(tag)
            .next()
            .map(|name| name.parse())
            .transpose()
    }
}

/// Parses a source as people type it.
fn parse_source(name: &str) -> Result<Source, String> {
    let full = if name.starts_with("quire/") {
        name.to_owned()
    } else if ["push", "manual"].contains(&name) {
        format!("quire/{name}")
    } else {
        format!("quire/cron/{name}")
    };
    Source::from_name(&full)
        .ok_or_else(|| "a source is push, manual, or the name of a schedule".to_owned())
}
