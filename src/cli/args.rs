//! Arguments that several commands take.

use quire_types::run::RunSelector;

#[derive(clap::Args, Clone, Copy)]
pub(super) struct OutputArgs {
    /// Print JSON and nothing else
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(clap::Args)]
pub(super) struct RunArg {
    /// The run: `#14`, `tally#14`, `latest`, REPOSITORY@BRANCH, or the beginning or end of its id
    #[arg(value_name = "RUN")]
    pub(super) run: RunSelector,
    #[command(flatten)]
    pub(super) format: OutputArgs,
}
