//! `quire secret`: sets, lists and removes secrets. A value comes from standard input only, and is never printed.

use std::io::{self, IsTerminal, Read, Write};

use clap::Subcommand;
use serde::Serialize;
use zeroize::Zeroizing;

use super::args::OutputArgs;
use super::configuration;
use super::context::Context;
use super::error::CommandError;
use super::output::{Cell, Output};
use super::terminal::NoEcho;
use quire_server::forge::secrets::{self, MAX_STORED_SECRET, NewSecret, SecretEntry};
use quire_server::forge::views::{SecretJson, SecretUseJson, views};
use quire_store::SecretUse;
use quire_types::secret::{FinalNewline, Secret, SecretName, SecretScope};

#[derive(Subcommand)]
pub(super) enum SecretCommand {
    /// Set a secret to the value on standard input
    ///
    /// On a terminal (ssh -t) the value is asked for, and is not shown while it is typed.
    #[command(
        after_help = "Examples:\n  ssh git@host secret set npm-token < token.txt\n  ssh -t git@host secret set npm-token --repo shop --ref refs/heads/main"
    )]
    Set(SetArgs),
    /// List the secrets, without their values
    List(OutputArgs),
    /// Remove a secret
    Rm {
        /// The name of the secret
        #[arg(value_name = "NAME")]
        name: SecretName,
        #[command(flatten)]
        format: OutputArgs,
    },
    /// List the runs that used a secret, newest first
    ShowUses {
        /// The name of the secret
        #[arg(value_name = "NAME")]
        name: SecretName,
        #[command(flatten)]
        format: OutputArgs,
    },
    /// Encrypt all secrets with a new key, and forget the old one
    RotateKey(OutputArgs),
}

#[derive(clap::Args)]
pub(super) struct SetArgs {
    /// The name of the secret
    #[arg(value_name = "NAME")]
    name: SecretName,
    /// A value must not stand in a command line, where it would be seen.
    #[arg(hide = true)]
    value: Option<String>,
    /// Only runs of this repository may use it; `*` stands for any characters; can be repeated
    #[arg(long = "repo", value_name = "REPO")]
    repos: Vec<String>,
    /// Only runs of this ref may use it, such as refs/heads/main or refs/tags/*; can be repeated
    #[arg(long = "ref", value_name = "REF", value_parser = ref_pattern)]
    refs: Vec<String>,
    /// Keep newlines at the end of the value
    #[arg(long)]
    keep_newline: bool,
    #[command(flatten)]
    format: OutputArgs,
}

/// A short name of a branch would match nothing.
fn ref_pattern(text: &str) -> Result<String, String> {
    match text.starts_with("refs/") || text.starts_with('*') {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "a whole ref such as refs/heads/{text} is expected, in which `*` stands for any characters"
        )),
    }
}

impl SecretCommand {
    pub(super) fn format(&self) -> OutputArgs {
        match self {
            Self::Set(arguments) => arguments.format,
            Self::List(format)
            | Self::RotateKey(format)
            | Self::Rm { format, .. }
            | Self::ShowUses { format, .. } => *format,
        }
    }
}

#[derive(Serialize)]
struct SecretList<'a> {
    secrets: Vec<SecretJson<'a>>,
    /// The names that the configuration defines.
    configured: Vec<&'a str>,
}

#[derive(Serialize)]
struct RemovedSecret<'a> {
    removed: &'a str,
}

#[derive(Serialize)]
struct UseList<'a> {
    uses: Vec<SecretUseJson<'a>>,
}

#[derive(Serialize)]
struct RotatedSecrets {
    secrets: usize,
}

pub(super) fn secret(
    context: &Context<'_>,
    command: SecretCommand,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let forge = context.forge();
    match command {
        SecretCommand::Set(arguments) => set(context, arguments, out),
        SecretCommand::List(_) => {
            let configured = configuration::secret_names(context.paths)?;
            print_secrets(&secrets::list(&forge)?, &configured, out)
        }
        SecretCommand::Rm { name, .. } => {
            secrets::remove(&forge, &name)?;
            if out.json {
                let removed = name.as_str();
                return out.json(&RemovedSecret { removed });
            }
            out.line(&format!("removed {name}"))
        }
        SecretCommand::ShowUses { name, .. } => print_uses(&secrets::uses(&forge, &name)?, out),
        SecretCommand::RotateKey(_) => {
            let secrets = secrets::rotate_key(&forge)?;
            if out.json {
                return out.json(&RotatedSecrets { secrets });
            }
            out.line(&match secrets {
                1 => "1 secret is encrypted with a new key".to_owned(),
                count => format!("{count} secrets are encrypted with a new key"),
            })
        }
    }
}

fn set(
    context: &Context<'_>,
    arguments: SetArgs,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    if arguments.value.map(Zeroizing::new).is_some() {
        return Err(CommandError::usage(
            "the value of a secret is not an argument, because command lines are seen and kept",
        )
        .hint(format!(
            "change the value, and give the new one on standard input: `secret set {} < FILE`",
            arguments.name
        )));
    }
    let forge = context.forge();
    let configured = configuration::secret_names(context.paths)?;
    secrets::check_name(&arguments.name, &configured)?;
    let request = NewSecret {
        value: read_value(&arguments.name)?,
        name: arguments.name,
        newline: match arguments.keep_newline {
            true => FinalNewline::Keep,
            false => FinalNewline::Trim,
        },
        repos: (!arguments.repos.is_empty()).then_some(arguments.repos),
        refs: (!arguments.refs.is_empty()).then_some(arguments.refs),
        set_by: context.caller.name().to_owned(),
    };
    let entry = SecretEntry {
        secret: secrets::set(&forge, request, &configured)?,
        problem: None,
    };
    if out.json {
        return out.json(&SecretJson::from(&entry));
    }
    out.line(&format!(
        "set {}, for {}",
        entry.secret.name,
        scope_words(&entry.secret.scope)
    ))
}

/// The value on standard input, a little more than it may have.
fn read_value(name: &SecretName) -> Result<Secret, CommandError> {
    let failed =
        |error: io::Error| CommandError::failed(format!("the value cannot be read: {error}"));
    let input = io::stdin();
    if input.is_terminal() {
        return ask_value(name).map_err(failed);
    }
    let limit = MAX_STORED_SECRET + 1;
    // Reserves the whole size: a growing buffer would leave copies of the secret in freed memory.
    let mut value = Zeroizing::new(Vec::with_capacity(limit));
    input
        .lock()
        .take(limit as u64)
        .read_to_end(&mut value)
        .map_err(failed)?;
    if value.len() == limit {
        return Err(secrets::StoredSecretError::TooLarge.into());
    }
    let text = std::str::from_utf8(&value).map_err(|_| secrets::StoredSecretError::NotText)?;
    Ok(Secret::new(text.to_owned()))
}

/// Asks for a value of one line.
fn ask_value(name: &SecretName) -> io::Result<Secret> {
    let mut stderr = io::stderr();
    write!(stderr, "value of {name} (it is not shown): ")?;
    stderr.flush()?;
    let mut line = Zeroizing::new(String::with_capacity(4096));
    let read = {
        let _echo_is_off = NoEcho::enter()?;
        io::stdin().read_line(&mut line)
    };
    writeln!(stderr)?;
    read.map(|_| Secret::new(line.trim_end_matches(['\n', '\r']).to_owned()))
}

fn scope_words(scope: &SecretScope) -> String {
    let words = |patterns: &Option<Vec<String>>, all: &str| match patterns {
        Some(patterns) => patterns.join(", "),
        None => all.to_owned(),
    };
    format!(
        "runs of {} at {}",
        words(&scope.repos, "all repositories"),
        words(&scope.refs, "all refs")
    )
}

pub(super) fn print_secrets(
    secrets: &[SecretEntry],
    configured: &[String],
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    if out.json {
        return out.json(&SecretList {
            secrets: views(secrets),
            configured: configured.iter().map(String::as_str).collect(),
        });
    }
    if secrets.is_empty() && configured.is_empty() {
        return out.line("no secrets yet; `secret set NAME < FILE` sets one");
    }
    let list = |patterns: &Option<Vec<String>>| match patterns {
        Some(patterns) => Cell::from(patterns.join(" ")),
        None => "all".into(),
    };
    let stored = secrets.iter().map(|entry| -> [Cell; 7] {
        let secret = &entry.secret;
        let is_configured = configured.iter().any(|name| name == secret.name.as_str());
        [
            secret.name.as_str().into(),
            match (&entry.problem, is_configured) {
                (_, true) => "not used: the configuration has it".into(),
                (Some(problem), _) => problem.as_str().into(),
                (None, _) => "ok".into(),
            },
            list(&secret.scope.repos),
            list(&secret.scope.refs),
            out.time(Some(secret.updated_at)).into(),
            secret.updated_by.as_str().into(),
            out.time(secret.used_at).into(),
        ]
    });
    let configured = configured.iter().map(|name| -> [Cell; 7] {
        let state = "in the configuration";
        [name.as_str(), state, "-", "-", "-", "-", "-"].map(Cell::from)
    });
    let rows: Vec<_> = stored.chain(configured).collect();
    out.table(
        ["NAME", "STATE", "REPOS", "REFS", "SET", "BY", "LAST USE"],
        &rows,
    )
}

pub(super) fn print_uses(uses: &[SecretUse], out: &mut Output<'_>) -> Result<(), CommandError> {
    if out.json {
        return out.json(&UseList { uses: views(uses) });
    }
    if uses.is_empty() {
        return out.line("no run has used it yet");
    }
    let row = |used: &SecretUse| -> [Cell; 4] {
        let (repo, ref_name) = match &used.of {
            Some((repo, ref_name)) => (repo.as_str(), ref_name.as_str()),
            None => ("-", "-"),
        };
        [
            used.run.to_string().into(),
            repo.into(),
            ref_name.into(),
            out.time(Some(used.used_at)).into(),
        ]
    };
    let rows: Vec<_> = uses.iter().map(row).collect();
    out.table(["RUN", "REPO", "REF", "USED"], &rows)
}
