//! Arguments that several commands take.

use quire_types::run::RunSelector;

#[derive(clap::Args, Clone, Copy, Default)]
pub(super) struct OutputArgs {
    /// Print JSON and nothing else
    #[arg(long)]
    pub(super) json: bool,
    /// Print times in UTC also on a terminal, where they are relative to now
    #[arg(long)]
    pub(super) utc: bool,
}

impl OutputArgs {
    /// As JSON, if `json`.
    pub(super) fn of_json(json: bool) -> Self {
        Self { json, utc: false }
    }
}

#[derive(clap::Args)]
pub(super) struct RunArg {
    /// The run: `#14`, `tally#14`, `latest`, REPOSITORY@BRANCH, or the beginning or end of its id
    #[arg(value_name = "RUN")]
    pub(super) run: RunSelector,
    #[command(flatten)]
    pub(super) format: OutputArgs,
}
