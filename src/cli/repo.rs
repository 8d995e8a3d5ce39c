//! `quire repo`: lists, creates, renames and removes repositories.

use clap::Subcommand;
use serde::Serialize;

use super::args::OutputArgs;
use super::context::Context;
use super::error::CommandError;
use super::output::{Cell, Output};
use quire_git::ObjectFormat;
use quire_server::forge::repos::{self, RepoOverview, RepoOverviews};
use quire_server::forge::views::RunJson;
use quire_types::clock::Millis;
use quire_types::error_chain;
use quire_types::names::{NameError, RepoName};

#[derive(Subcommand)]
pub(super) enum RepoCommand {
    /// List all repositories
    List(OutputArgs),
    /// Create an empty repository
    ///
    /// A push to a new name creates it too.
    New {
        /// `name` or `group/name`
        name: RepoName,
        /// The format of its object ids: `sha1` or `sha256`
        #[arg(long, value_name = "FORMAT", default_value = "sha1", value_parser = ["sha1", "sha256"])]
        object_format: String,
        #[command(flatten)]
        format: OutputArgs,
    },
    /// Rename a repository
    ///
    /// Its runs continue. The old name redirects to it until a new repository takes the name.
    Rename {
        /// The repository
        name: RepoName,
        /// Its new name: `name` or `group/name`
        new_name: RepoName,
        #[command(flatten)]
        format: OutputArgs,
    },
    /// Set the default branch of a repository
    ///
    /// A clone checks it out, its schedules are in force, and `run start` uses it.
    Default {
        /// The repository
        name: RepoName,
        /// A branch that exists
        branch: String,
        #[command(flatten)]
        format: OutputArgs,
    },
    /// Remove a repository with its runs and their logs, permanently
    Rm {
        /// The repository
        name: RepoName,
        /// Confirm the removal
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        format: OutputArgs,
    },
}

impl RepoCommand {
    pub(super) fn json(&self) -> bool {
        let (Self::List(format)
        | Self::New { format, .. }
        | Self::Rename { format, .. }
        | Self::Default { format, .. }
        | Self::Rm { format, .. }) = self;
        format.json
    }
}

#[derive(Serialize)]
struct RepoList<T> {
    repos: Vec<T>,
}

/// A repository in `repo list --json`.
#[derive(Debug, Serialize)]
struct RepoRow<'a> {
    repo: &'a RepoName,
    default_branch: Option<&'a str>,
    last_push_ms: Option<Millis>,
    newest_run: Option<RunJson<'a>>,
}

impl<'a> From<&'a RepoOverview> for RepoRow<'a> {
    fn from(overview: &'a RepoOverview) -> Self {
        Self {
            repo: &overview.repo,
            default_branch: overview.default_branch.as_deref(),
            last_push_ms: overview.last_push,
            newest_run: overview.newest_run.as_ref().map(RunJson::from),
        }
    }
}

/// A repository that was created or removed.
#[derive(Serialize)]
struct RepoItem<'a> {
    repo: &'a RepoName,
}

#[derive(Serialize)]
struct DefaultBranch<'a> {
    repo: &'a RepoName,
    default_branch: &'a str,
}

#[derive(Serialize)]
struct RenamedRepo<'a> {
    repo: &'a RepoName,
    former_name: &'a RepoName,
}

pub(super) fn repo(
    context: &Context<'_>,
    command: &RepoCommand,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let forge = context.forge();
    match command {
        RepoCommand::List(_) => print_list(&repos::list(&forge)?, out),
        RepoCommand::New {
            name,
            object_format,
            ..
        } => {
            let object_format = match object_format.as_str() {
                "sha256" => ObjectFormat::Sha256,
                _ => ObjectFormat::Sha1,
            };
            let redirected_to = repos::create(&forge, name, object_format)?;
            let note = redirected_to.map_or_else(String::new, |target| {
                format!("; the name no longer redirects to {target}")
            });
            print_item(
                RepoItem { repo: name },
                format!("created repository {name}{note}"),
                out,
            )
        }
        RepoCommand::Rename { name, new_name, .. } => {
            repos::rename(&forge, name, new_name)?;
            print_item(
                RenamedRepo {
                    repo: new_name,
                    former_name: name,
                },
                format!(
                    "renamed {name} to {new_name}; {name} redirects to it until a new repository takes the name"
                ),
                out,
            )
        }
        RepoCommand::Default { name, branch, .. } => {
            let ref_name = format!("refs/heads/{branch}")
                .parse()
                .map_err(|error: NameError| CommandError::usage(error.to_string()))?;
            repos::set_default_branch(&forge, name, &ref_name)?;
            print_item(
                DefaultBranch {
                    repo: name,
                    default_branch: branch,
                },
                format!("the default branch of {name} is {branch}"),
                out,
            )
        }
        RepoCommand::Rm { name, yes, .. } => {
            repos::remove(&forge, name, *yes)?;
            print_item(
                RepoItem { repo: name },
                format!("removed repository {name}"),
                out,
            )
        }
    }
}

fn print_item(
    item: impl Serialize,
    sentence: String,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    if out.json {
        out.json(&RepoList { repos: vec![item] })
    } else {
        out.line(&sentence)
    }
}

/// `repo list --json`.
#[derive(Serialize)]
struct RepoListJson<'a> {
    repos: Vec<RepoRow<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<UnreadableRow<'a>>,
}

/// A repository or a group that cannot be looked at.
#[derive(Serialize)]
struct UnreadableRow<'a> {
    name: &'a str,
    problem: String,
}

pub(super) fn print_list(
    RepoOverviews { repos, unreadable }: &RepoOverviews,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let unreadable = unreadable.iter().map(|entry| UnreadableRow {
        name: &entry.name,
        problem: error_chain::chain(&entry.error),
    });
    if out.json {
        return out.json(&RepoListJson {
            repos: repos.iter().map(RepoRow::from).collect(),
            unreadable: unreadable.collect(),
        });
    }
    let unreadable: Vec<_> = unreadable.collect();
    if repos.is_empty() && unreadable.is_empty() {
        return out.line("no repositories yet; push to a new name to create one");
    }
    let cells = |overview: &RepoOverview| {
        let state = overview
            .newest_run
            .as_ref()
            .map_or_else(|| "-".into(), |run| Cell::from(run.state));
        [
            overview.repo.as_str().into(),
            overview.default_branch.as_deref().unwrap_or("-").into(),
            out.time(overview.last_push).into(),
            state,
        ]
    };
    let rows: Vec<_> = repos.iter().map(cells).collect();
    out.table(["REPOSITORY", "BRANCH", "LAST PUSH", "NEWEST RUN"], &rows)?;
    unreadable.iter().try_for_each(|entry| {
        let text = format!("{} is not readable: {}", entry.name, entry.problem);
        out.line(&Cell::from(text).plain())
    })
}
