//! `quire key`: lists, adds and removes the SSH keys that may connect.

use std::io::{self, Read};

use clap::Subcommand;
use serde::Serialize;

use super::args::OutputArgs;
use super::context::Context;
use super::error::CommandError;
use super::output::{Cell, Output};
use quire_pipeline::parse_duration;
use quire_server::forge::keys::{self, AddRequest, AddedKey, KeyEntry, MAX_KEY_INPUT, RemovedKey};
use quire_server::forge::views::{KeyJson, views};
use quire_types::clock::Millis;
use quire_types::names::RepoName;
use quire_types::ssh_keys::{KeyLimits, parse_end};

/// How messages name what starts the keys' merge.
const NOT_RUNNING: &str = "it takes effect when `quire init` runs";

#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// List the keys that may connect
    List(OutputArgs),
    /// Show a key, what it may do and where it comes from
    Show {
        /// The name or the fingerprint of the key
        #[arg(value_name = "KEY")]
        key: String,
        #[command(flatten)]
        format: OutputArgs,
    },
    /// Add a public key
    ///
    /// A key with limits uses git only: no other command, and no sign-in to pages.
    #[command(
        after_help = "Examples:\n  ssh git@host key add < ~/.ssh/id_ed25519.pub\n  ssh git@host key add --read --repo shop --expires 90d < ci.pub"
    )]
    Add(AddArgs),
    /// Remove a key from the volume
    Rm {
        /// The name or the fingerprint of the key
        #[arg(value_name = "KEY")]
        key: String,
        /// Remove it even if it is the last key that may do everything
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        format: OutputArgs,
    },
}

#[derive(clap::Args)]
pub(super) struct AddArgs {
    /// The line of the .pub file; without it, the line is read from standard input
    #[arg(value_name = "LINE")]
    line: Vec<String>,
    /// The key may fetch only
    #[arg(long)]
    read: bool,
    /// The key reaches this repository only; can be repeated
    #[arg(long = "repo", value_name = "REPO")]
    repos: Vec<RepoName>,
    /// When the key ends: a day such as 2027-12-31, or a time from now such as 90d
    #[arg(long, value_name = "WHEN", value_parser = parse_expiry)]
    expires: Option<Expiry>,
    #[command(flatten)]
    format: OutputArgs,
}

/// When a key ends.
#[derive(Debug, Clone, Copy)]
enum Expiry {
    At(Millis),
    /// Milliseconds from now.
    After(u64),
}

fn parse_expiry(text: &str) -> Result<Expiry, String> {
    if let Some(end) = parse_end(text) {
        return Ok(Expiry::At(end));
    }
    parse_duration(text).map(Expiry::After).map_err(|_| {
        "a day such as 2027-12-31, a time such as 2027-12-31T12:00:00Z, or a duration of at most 366d such as 90d is expected".to_owned()
    })
}

impl KeyCommand {
    pub(super) fn format(&self) -> OutputArgs {
        match self {
            Self::List(format) | Self::Show { format, .. } | Self::Rm { format, .. } => *format,
            Self::Add(arguments) => arguments.format,
        }
    }
}

#[derive(Serialize)]
struct KeyList<'a> {
    keys: Vec<KeyJson<'a>>,
}

/// An added key in JSON.
#[derive(Serialize)]
struct AddedKeyJson<'a> {
    added: KeyJson<'a>,
    in_force: bool,
}

/// A removed key in JSON.
#[derive(Serialize)]
struct RemovedKeyJson<'a> {
    removed: KeyJson<'a>,
    in_force: bool,
    still_from: Option<&'a str>,
}

pub(super) fn key(
    context: &Context<'_>,
    command: KeyCommand,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let forge = context.forge();
    match command {
        KeyCommand::List(_) => print_list(&keys::list(&forge)?, out),
        KeyCommand::Show { key, .. } => print_key(&keys::find(&forge, &key)?, out),
        KeyCommand::Add(arguments) => {
            let added = keys::add(&forge, add_request(context, arguments)?)?;
            print_added(&added, out)
        }
        KeyCommand::Rm { key, yes, .. } => {
            let removed = keys::remove(&forge, &key, yes, context.clock.now())?;
            print_removed(&removed, out)
        }
    }
}

fn add_request(context: &Context<'_>, arguments: AddArgs) -> Result<AddRequest, CommandError> {
    let now = context.clock.now();
    let text = match arguments.line.is_empty() {
        true => read_line()?,
        false => arguments.line.join(" "),
    };
    Ok(AddRequest {
        text,
        limits: KeyLimits {
            read_only: arguments.read,
            repos: arguments.repos,
        },
        expires_at: arguments.expires.map(|expiry| match expiry {
            Expiry::At(end) => end,
            Expiry::After(millis) => now.plus(i64::try_from(millis).unwrap_or(i64::MAX)),
        }),
        now,
    })
}

/// Reads standard input, a little more than a key may have.
fn read_line() -> Result<String, CommandError> {
    let mut text = Vec::new();
    let limit = MAX_KEY_INPUT as u64 + 1;
    let read = io::stdin().lock().take(limit).read_to_end(&mut text);
    read.map_err(|error| CommandError::failed(format!("standard input cannot be read: {error}")))?;
    // What is no text is no key, which the parser says.
    Ok(String::from_utf8_lossy(&text).into_owned())
}

pub(super) fn print_list(keys: &[KeyEntry], out: &mut Output<'_>) -> Result<(), CommandError> {
    if out.json {
        return out.json(&KeyList { keys: views(keys) });
    }
    if keys.is_empty() {
        return out.line("no keys yet; `key add < FILE.pub` adds one");
    }
    let row = |entry: &KeyEntry| -> [Cell; 7] {
        let key = &entry.key;
        [
            key.key.name.as_str().into(),
            key.key.key_type.as_str().into(),
            key.key.fingerprint.as_str().into(),
            access(&key.limits).into(),
            key.valid_until
                .map_or_else(|| "-".to_owned(), |end| out.remaining(end))
                .into(),
            out.time(entry.last_used_at).into(),
            match entry.is_stored {
                true => "volume".into(),
                false => key.source.as_deref().unwrap_or("-").into(),
            },
        ]
    };
    let rows: Vec<_> = keys.iter().map(row).collect();
    let headings = [
        "NAME",
        "TYPE",
        "FINGERPRINT",
        "ACCESS",
        "EXPIRES",
        "LAST USE",
        "SOURCE",
    ];
    out.table(headings, &rows)
}

/// What a key may do, as a cell of a table.
fn access(limits: &KeyLimits) -> String {
    let repos: Vec<_> = limits.repos.iter().map(RepoName::as_str).collect();
    match (limits.read_only, repos.is_empty()) {
        (false, true) => "full".to_owned(),
        (true, true) => "read".to_owned(),
        (true, false) => format!("read {}", repos.join(", ")),
        (false, false) => format!("push {}", repos.join(", ")),
    }
}

pub(super) fn print_key(entry: &KeyEntry, out: &mut Output<'_>) -> Result<(), CommandError> {
    if out.json {
        return out.json(&KeyJson::from(entry));
    }
    let key = &entry.key;
    let fields = [
        ("name", key.key.name.clone()),
        ("type", key.key.key_type.clone()),
        ("fingerprint", key.key.fingerprint.clone()),
        ("may", key.limits.to_string()),
        (
            "expires",
            key.valid_until
                .map_or_else(|| "never".to_owned(), |end| out.remaining(end)),
        ),
        (
            "options",
            match key.options.as_str() {
                "" => "none".to_owned(),
                options => options.to_owned(),
            },
        ),
        ("last use", out.time(entry.last_used_at)),
        ("source", entry.source_name().to_owned()),
    ];
    for (name, value) in fields {
        out.line(&format!("{name:<12} {}", Cell::from(value).plain()))?;
    }
    Ok(())
}

pub(super) fn print_added(added: &AddedKey, out: &mut Output<'_>) -> Result<(), CommandError> {
    let entry = &added.entry;
    if out.json {
        return out.json(&AddedKeyJson {
            added: entry.into(),
            in_force: added.is_in_force,
        });
    }
    let name = Cell::from(entry.key.key.name.as_str()).plain();
    let until = match entry.key.valid_until {
        Some(end) => format!(" until {end}"),
        None => String::new(),
    };
    let limits = &entry.key.limits;
    out.line(&format!(
        "added {name}, {}; it may {limits}{until}",
        entry.key.key.fingerprint
    ))?;
    match added.is_in_force {
        true => Ok(()),
        false => out.line(NOT_RUNNING),
    }
}

pub(super) fn print_removed(
    removed: &RemovedKey,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let entry = &removed.entry;
    if out.json {
        return out.json(&RemovedKeyJson {
            removed: entry.into(),
            in_force: removed.is_in_force,
            still_from: removed.still_from.as_deref(),
        });
    }
    let name = Cell::from(entry.key.key.name.as_str()).plain();
    out.line(&format!("removed {name}, {}", entry.key.key.fingerprint))?;
    if let Some(source) = &removed.still_from {
        out.line(&format!(
            "it may connect all the same, because it also comes from {source}; remove it there"
        ))?;
    }
    match removed.is_in_force {
        true => Ok(()),
        false => out.line(NOT_RUNNING),
    }
}
