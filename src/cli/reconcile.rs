//! `quire reconcile`: decides what happens after an older copy of the database was put in place.

use super::args::OutputArgs;
use super::context::Context;
use super::error::CommandError;
use super::output::Output;
use quire_server::forge;
use quire_store::Hold;

#[derive(clap::Args)]
pub(super) struct Reconcile {
    #[command(flatten)]
    decision: Decision,
    #[command(flatten)]
    format: OutputArgs,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Decision {
    /// Record what the refs point to now, without runs, and cancel the runs that waited
    #[arg(long)]
    adopt: bool,
    /// Run what the older copy does not know, and the runs that waited
    #[arg(long)]
    run: bool,
}

impl Reconcile {
    pub(super) fn format(&self) -> OutputArgs {
        self.format
    }
}

pub(super) fn reconcile(
    context: &Context<'_>,
    arguments: &Reconcile,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let (decision, words) = if arguments.decision.adopt {
        (
            Hold::Adopt,
            "the refs are recorded as they are, and the runs that waited are canceled",
        )
    } else {
        (Hold::Run, "what is missing in the database runs now")
    };
    forge::reconcile::decide(&context.forge(), decision)?;
    if out.json {
        return out.json(&serde_json::json!({ "decision": if arguments.decision.adopt { "adopt" } else { "run" } }));
    }
    out.line(words)
}
