//! `quire ci`: pipelines on the author's own machine.
//!
//! ```text
//! working tree or commit ([`source_tree`]) ─► driver ─► checked graph ─┬─► printed ([`show`], [`check`])
//!                                                                      └─► executed ([`run`], by the runner's own code)
//! ```
//! The driver, the checks, the job graph, the executors and the redaction are the appliance's. Only
//! the source of the tree and the destination of the progress are this module's own. [`init`] writes
//! a starter pipeline.

mod check;
mod disk_files;
mod error;
mod execute;
mod executor_choice;
mod init;
mod interrupt;
mod live_output;
mod local_push;
mod printer;
mod progress;
mod run;
mod run_arguments;
mod run_plan;
mod scratch_dir;
mod show;
mod source_tree;
mod status_lines;
mod style;
mod working_tree;

use std::process::ExitCode;

use clap::Subcommand;

/// Check and run pipelines on this machine
#[derive(Debug, clap::Args)]
pub(super) struct CiArguments {
    #[command(subcommand)]
    command: CiCommand,
}

#[derive(Debug, Subcommand)]
enum CiCommand {
    /// Check the pipeline of this working tree and print its job graph or its errors
    Check(check::CheckArguments),
    /// Run the pipeline of this working tree, as the appliance would after a push
    Run(run_arguments::RunArguments),
    /// Write a starter pipeline, .quire/ci.fnl, for the kind of project found here
    Init,
}

/// Runs `quire ci …`.
pub(super) fn run(arguments: CiArguments) -> ExitCode {
    match arguments.command {
        CiCommand::Check(arguments) => check::check(&arguments),
        CiCommand::Run(arguments) => run::run(&arguments),
        CiCommand::Init => init::init(),
    }
}
