//! `quire mirror`: lists and changes the mirrors of repositories, pushes to them now, and prints the key for remotes.

use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use super::args::OutputArgs;
use super::context::Context;
use super::error::{CommandError, FAILED};
use super::import::interval;
use super::output::{Cell, Output};
use quire_server::control::protocol::MirrorSyncResult;
use quire_server::forge::mirrors::{self, ListedMirror, MirrorChange};
use quire_server::forge::views::{MirrorJson, views};
use quire_store::PullMirror;
use quire_types::names::RepoName;
use quire_types::secret::SecretName;
use quire_types::text::{first_line, format_elapsed};

/// How much of a problem a row shows, in characters.
const MAX_PROBLEM: usize = 200;

const SET_EXAMPLES: &str = "\
Examples:
  mirror set shop --every 10m            fetch it every ten minutes
  mirror set shop --secret new-token     with another token, which `secret set new-token` stored
  mirror set shop --runs                 with runs for what changes there";

#[derive(Subcommand)]
pub(super) enum MirrorCommand {
    /// List mirrors, and what keeps them from being in sync
    List {
        /// Only those of this repository, with each ref that is not in sync
        #[arg(value_name = "REPO")]
        repo: Option<RepoName>,
        #[command(flatten)]
        format: OutputArgs,
    },
    /// Push a repository to its mirrors now
    ///
    /// The server does this by itself after each push. This command does not wait for the delay after a failure.
    #[command(visible_alias = "push")]
    Sync {
        /// The repository
        #[arg(value_name = "REPO")]
        repo: RepoName,
        /// Only the mirror with this name
        #[arg(value_name = "NAME")]
        name: Option<String>,
        /// Forget the host key of the other side, and accept the one that it has now
        #[arg(long, requires = "name")]
        new_host_key: bool,
        #[command(flatten)]
        format: OutputArgs,
    },
    /// Change how a repository follows another one
    ///
    /// What is not named stays as it is. The next fetch is made at once.
    #[command(after_help = SET_EXAMPLES, group(clap::ArgGroup::new("change").required(true).multiple(true)))]
    Set {
        /// The repository
        #[arg(value_name = "REPO")]
        repo: RepoName,
        /// How often it is fetched, such as 10m or 1d; at least 1m
        #[arg(long, value_name = "TIME", value_parser = interval, group = "change")]
        every: Option<u64>,
        /// For HTTPS: the secret that is the token or the password
        #[arg(long, value_name = "SECRET", group = "change")]
        secret: Option<SecretName>,
        /// Use no secret
        #[arg(long, conflicts_with_all = ["secret", "user"], group = "change")]
        no_secret: bool,
        /// For HTTPS: the user of the secret
        #[arg(long, value_name = "USER", group = "change")]
        user: Option<String>,
        /// Start runs for what is fetched, as for a push
        #[arg(long, group = "change")]
        runs: bool,
        /// Start no runs for what is fetched
        #[arg(long, conflicts_with = "runs", group = "change")]
        no_runs: bool,
        #[command(flatten)]
        format: OutputArgs,
    },
    /// Make a repository that follows another one an ordinary one
    ///
    /// It is not fetched any more, and takes pushes. What it has stays.
    Stop {
        /// The repository
        #[arg(value_name = "REPO")]
        repo: RepoName,
        #[command(flatten)]
        format: OutputArgs,
    },
    /// Print the public key by which remotes over SSH know this server
    Key(OutputArgs),
}

impl MirrorCommand {
    pub(super) fn format(&self) -> OutputArgs {
        let (Self::List { format, .. }
        | Self::Sync { format, .. }
        | Self::Set { format, .. }
        | Self::Stop { format, .. }
        | Self::Key(format)) = self;
        *format
    }
}

#[derive(Serialize)]
struct MirrorList<'a> {
    mirrors: Vec<MirrorJson<'a>>,
}

#[derive(Serialize)]
struct SyncedMirrors<'a> {
    mirrors: &'a [MirrorSyncResult],
}

#[derive(Serialize)]
struct StoppedMirror<'a> {
    repo: &'a RepoName,
    url: &'a str,
}

#[derive(Serialize)]
struct FollowedMirror<'a> {
    repo: &'a RepoName,
    url: &'a str,
    every_ms: u64,
    user: Option<&'a str>,
    secret: Option<&'a str>,
    runs: bool,
}

#[derive(Serialize)]
struct RemoteKey<'a> {
    key: &'a str,
}

pub(super) fn mirror(
    context: &Context<'_>,
    command: &MirrorCommand,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let forge = context.forge();
    match command {
        MirrorCommand::List { repo, .. } => {
            let listed = mirrors::list(&forge, repo.as_ref())?;
            context.explain_empty_list(&listed, repo.as_ref())?;
            list(&listed, repo.is_some(), out)
        }
        MirrorCommand::Sync {
            repo,
            name,
            new_host_key,
            ..
        } => {
            let synced = mirrors::sync(&forge, repo, name.as_deref(), *new_host_key)?;
            show_synced(&synced, out)
        }
        MirrorCommand::Set {
            repo,
            every,
            secret,
            no_secret,
            user,
            runs,
            no_runs,
            ..
        } => {
            let secret = secret.as_ref().map(ToString::to_string);
            let change = MirrorChange {
                every: every.map(Duration::from_millis),
                secret: match (secret, no_secret) {
                    (Some(secret), _) => Some(Some(secret)),
                    (None, true) => Some(None),
                    (None, false) => None,
                },
                user: user.clone(),
                has_runs: (*runs || *no_runs).then_some(*runs),
            };
            show_followed(&mirrors::set(&forge, repo, &change)?, out)
        }
        MirrorCommand::Stop { repo, .. } => {
            let url = mirrors::stop(&forge, repo)?;
            if out.json {
                let url = url.as_str();
                out.json(&StoppedMirror { repo, url })
            } else {
                let url = Cell::from(url.as_str()).plain();
                out.line(&format!("{repo} follows {url} no longer, and takes pushes"))
            }
        }
        MirrorCommand::Key(_) => {
            let key = mirrors::key(&forge)?;
            if out.json {
                out.json(&RemoteKey { key: &key })
            } else {
                out.line(&key)
            }
        }
    }
}

fn show_followed(mirror: &PullMirror, out: &mut Output<'_>) -> Result<(), CommandError> {
    let every = u64::try_from(mirror.every.as_millis()).unwrap_or(u64::MAX);
    let login = mirror.login.as_ref();
    if out.json {
        return out.json(&FollowedMirror {
            repo: &mirror.repo,
            url: &mirror.url,
            every_ms: every,
            user: login.map(|(user, _)| user.as_str()),
            secret: login.map(|(_, secret)| secret.as_str()),
            runs: mirror.has_runs,
        });
    }
    let login = login.map_or("without a secret".to_owned(), |(user, secret)| {
        format!("with the secret {secret} as user {user}")
    });
    let line = format!(
        "{} follows {} every {}, {login}, {}",
        mirror.repo,
        mirror.url,
        format_elapsed(every),
        if mirror.has_runs {
            "with runs"
        } else {
            "without runs"
        }
    );
    out.line(&Cell::from(line).plain())
}

fn list(listed: &[ListedMirror], of_repo: bool, out: &mut Output<'_>) -> Result<(), CommandError> {
    if out.json {
        return out.json(&MirrorList {
            mirrors: views(listed),
        });
    }
    if listed.is_empty() {
        return out.line("no mirrors");
    }
    print_mirrors(listed, out)?;
    if !of_repo {
        return Ok(());
    }
    for mirror in listed {
        let name = Cell::from(mirror.state.name.as_str()).plain();
        out.line("")?;
        out.line(&format!(
            "{name}: {}",
            Cell::from(mirror.state.url.as_str()).plain()
        ))?;
        if let Some(host_key) = &mirror.host_key {
            out.line(&format!("  host key {host_key}"))?;
        }
        if let Some(problem) = &mirror.state.lfs_problem {
            let problem = Cell::from(problem.as_str()).plain();
            out.line(&format!("  objects of Git LFS are not mirrored: {problem}"))?;
        }
        for differing in &mirror.differing {
            let since = out.time(differing.failed_since_ms.or(differing.waiting_since_ms));
            let what = match (&differing.problem, &differing.wanted) {
                (Some(problem), _) => format!("failed since {since}: {problem}"),
                (None, Some(_)) => format!("waits since {since}"),
                (None, None) => format!("waits for its deletion since {since}"),
            };
            out.line(&format!(
                "  {} {}",
                Cell::from(differing.ref_name.as_str()).plain(),
                Cell::from(what).plain()
            ))?;
        }
    }
    Ok(())
}

/// One row for each mirror.
pub(super) fn print_mirrors(
    listed: &[ListedMirror],
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let rows: Vec<_> = listed.iter().map(|mirror| row(mirror, out)).collect();
    out.table(
        [
            "REPO",
            "MIRROR",
            "DIRECTION",
            "STATE",
            "WAITING",
            "LAST IN SYNC",
            "WHY",
        ],
        &rows,
    )
}

fn row(mirror: &ListedMirror, out: &Output<'_>) -> [Cell; 7] {
    let state = &mirror.state;
    let failure = state.failure.as_ref();
    let problem = match (failure, &state.lfs_problem) {
        (Some(failure), _) => failure.problem.clone(),
        (None, Some(problem)) => format!("objects of Git LFS are not mirrored: {problem}"),
        (None, None) => String::new(),
    };
    [
        state.repo.as_str().into(),
        state.name.as_str().into(),
        if state.is_pull { "pull" } else { "push" }.into(),
        state.word().phrase().into(),
        state.waiting.to_string().into(),
        out.time(state.in_sync_ms).into(),
        first_line(&problem, MAX_PROBLEM).into(),
    ]
}

fn show_synced(synced: &[MirrorSyncResult], out: &mut Output<'_>) -> Result<(), CommandError> {
    if out.json {
        out.json(&SyncedMirrors { mirrors: synced })?;
    } else {
        for mirror in synced {
            let name = Cell::from(mirror.name.as_str()).plain();
            match &mirror.problem {
                None => out.line(&format!("{name}: in sync"))?,
                Some(problem) => {
                    let problem = Cell::from(problem.as_str()).plain();
                    out.line(&format!("{name}: not in sync: {problem}"))?;
                }
            }
        }
    }
    match synced.iter().all(|mirror| mirror.problem.is_none()) {
        true => Ok(()),
        false => Err(CommandError::exit_only(FAILED)),
    }
}
