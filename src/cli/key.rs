//! `quire key`: lists the SSH keys that may connect.

use clap::Subcommand;
use serde::Serialize;

use super::args::OutputArgs;
use super::context::Context;
use super::error::CommandError;
use super::output::Output;
use quire_server::forge::keys;
use quire_types::ssh_keys::PublicKey;

#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// List the keys that may connect
    List(OutputArgs),
}

impl KeyCommand {
    pub(super) fn json(&self) -> bool {
        let Self::List(format) = self;
        format.json
    }
}

#[derive(Serialize)]
struct KeyList {
    keys: Vec<PublicKey>,
}

pub(super) fn key(
    context: &Context<'_>,
    command: &KeyCommand,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let KeyCommand::List(_) = command;
    show(keys::list(&context.forge())?, out)
}

fn show(keys: Vec<PublicKey>, out: &mut Output<'_>) -> Result<(), CommandError> {
    if out.json {
        return out.json(&KeyList { keys });
    }
    if keys.is_empty() {
        return out.line("no keys yet; add a public key to `authorized_keys` in the volume");
    }
    let rows: Vec<_> = keys
        .into_iter()
        .map(|key| [key.name.into(), key.key_type.into(), key.fingerprint.into()])
        .collect();
    out.table(["NAME", "TYPE", "FINGERPRINT"], &rows)
}
