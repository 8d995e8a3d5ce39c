//! `quire key`: the keys that may connect.

use clap::Subcommand;
use serde::Serialize;

use super::manage::{Context, Format};
use super::output::Out;
use super::report::Failure;
use crate::public_keys::{self, Key};

/// What can be done with keys.
#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// List the keys that may connect.
    List(Format),
}

impl KeyCommand {
    pub(super) fn json(&self) -> bool {
        let Self::List(format) = self;
        format.json
    }
}

#[derive(Serialize)]
struct Keys {
    keys: Vec<Key>,
}

/// Carries a command out.
pub(super) fn key(
    context: &Context<'_>,
    command: &KeyCommand,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let KeyCommand::List(_) = command;
    let text = public_keys::read(context.paths)
        .map_err(|error| Failure::failed(format!("the keys cannot be read: {error}")))?;
    show(public_keys::parse_all(&text), out)
}

fn show(keys: Vec<Key>, out: &mut Out<'_>) -> Result<(), Failure> {
    if out.json {
        return out.json(&Keys { keys });
    }
    if keys.is_empty() {
        return out.line("no keys yet; add a public key to `authorized_keys` in the volume");
    }
    let rows: Vec<_> = keys
        .into_iter()
        .map(|key| [key.name.into(), key.kind.into(), key.fingerprint.into()])
        .collect();
    out.table(["NAME", "TYPE", "FINGERPRINT"], &rows)
}
