//! `quire repo`: lists, shows, creates, renames, removes and restores repositories.

use clap::Subcommand;
use serde::Serialize;

use super::args::OutputArgs;
use super::context::Context;
use super::error::CommandError;
use super::import::{IMPORT_EXAMPLES, ImportArgs, import};
use super::output::{Cell, Output};
use super::repo_settings::{
    DESCRIPTION_EXAMPLES, DescriptionArgs, PROTECT_EXAMPLES, ProtectionArgs, description, protect,
    unprotect,
};
use super::repo_show::print_repo;
use super::trash::{print_trash, restore};
use super::undo::{UndoArgs, undo};
use quire_git::ObjectFormat;
use quire_server::forge::Forge;
use quire_server::forge::repo_details::RepoDetails;
use quire_server::forge::repos::{self, RemoveRequest, Removed, RepoOverview, RepoOverviews};
use quire_server::forge::trash;
use quire_server::forge::views::RunJson;
use quire_types::clock::Millis;
use quire_types::error_chain;
use quire_types::names::{NameError, RepoName};

const RM_EXAMPLES: &str = "\
Examples:
  repo rm shop --yes            move shop to the trash
  repo list --trash             show until when it can be restored
  repo restore shop             bring it back
  repo rm shop --now --yes      delete shop permanently
  repo rm shop --trash --yes    delete the shop that is in the trash";

const RESTORE_EXAMPLES: &str = "\
Examples:
  repo restore shop             bring back the shop that was removed last
  repo restore shop --as old    under another name, beside a new shop
  repo restore 01a2005e-5360    the one with this trash id (`repo list --trash`)";

const UNDO_EXAMPLES: &str = "\
Examples:
  repo undo shop                      list what pushes overwrote in shop
  repo undo shop main                 move main to where it was before the last forced push
  repo undo shop main --to 3f9a1c2    move it to one of the ids in the list
  repo undo shop refs/tags/v1         create the tag again that a push deleted";

#[derive(Subcommand)]
pub(super) enum RepoCommand {
    /// List all repositories
    List {
        /// List those that were removed and can be restored
        #[arg(long)]
        trash: bool,
        #[command(flatten)]
        format: OutputArgs,
    },
    /// Show a repository with its settings, sizes, schedules and mirrors
    Show {
        /// The repository
        name: RepoName,
        #[command(flatten)]
        format: OutputArgs,
    },
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
    /// Import a repository from another machine
    ///
    /// All branches and tags are fetched, and no run is started. Nothing is to be seen of the repository before all of it is here.
    /// An import that was interrupted goes on when the same command is run again. Pushes to the name are refused meanwhile.
    #[command(after_help = IMPORT_EXAMPLES)]
    Import {
        #[command(flatten)]
        arguments: ImportArgs,
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
    #[command(visible_alias = "default-branch")]
    Default {
        /// The repository
        name: RepoName,
        /// A branch that exists
        branch: String,
        #[command(flatten)]
        format: OutputArgs,
    },
    /// Describe a repository in one line
    ///
    /// `repo list`, `repo show` and its page say it. A `:description` in the settings on the default branch is shown instead of this one.
    #[command(after_help = DESCRIPTION_EXAMPLES)]
    Description {
        #[command(flatten)]
        arguments: DescriptionArgs,
        #[command(flatten)]
        format: OutputArgs,
    },
    /// Protect branches or tags from forced pushes and deletion
    ///
    /// Commits can still be added to a protected branch, also by landing and by a mirror. A protected tag stays where it is.
    #[command(after_help = PROTECT_EXAMPLES)]
    Protect {
        #[command(flatten)]
        arguments: ProtectionArgs,
        #[command(flatten)]
        format: OutputArgs,
    },
    /// End the protection of branches or tags
    ///
    /// The pattern is one of those that `repo show` lists.
    Unprotect {
        #[command(flatten)]
        arguments: ProtectionArgs,
        #[command(flatten)]
        format: OutputArgs,
    },
    /// Remove a repository with its runs and their logs
    ///
    /// It goes to the trash, from which `repo restore` brings it back, for as long as `keep.trash` says.
    #[command(after_help = RM_EXAMPLES)]
    Rm {
        /// The repository
        name: RepoName,
        /// Confirm the removal
        #[arg(long)]
        yes: bool,
        /// Delete it at once and permanently
        #[arg(long)]
        now: bool,
        /// Delete a repository that is in the trash: its name, or the beginning of its trash id
        #[arg(long, conflicts_with = "now")]
        trash: bool,
        #[command(flatten)]
        format: OutputArgs,
    },
    /// Restore a repository that was removed, with its runs
    ///
    /// Of several with the same name, the one that was removed last is restored. Its caches are empty.
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore {
        /// The name that it had, or the beginning of its trash id
        #[arg(value_name = "NAME|TRASH-ID")]
        name: RepoName,
        /// Give it this name
        #[arg(long = "as", value_name = "NEW")]
        new_name: Option<RepoName>,
        #[command(flatten)]
        format: OutputArgs,
    },
    /// List what pushes overwrote, or move a ref back
    ///
    /// What a forced push replaced and what a push deleted is kept for as long as `keep.undo` says. A ref that is moved back has
    /// its run, as after a push, and the move can be undone in the same way.
    #[command(after_help = UNDO_EXAMPLES)]
    Undo {
        #[command(flatten)]
        arguments: UndoArgs,
        #[command(flatten)]
        format: OutputArgs,
    },
}

impl RepoCommand {
    pub(super) fn format(&self) -> OutputArgs {
        let (Self::List { format, .. }
        | Self::Show { format, .. }
        | Self::New { format, .. }
        | Self::Import { format, .. }
        | Self::Rename { format, .. }
        | Self::Default { format, .. }
        | Self::Description { format, .. }
        | Self::Protect { format, .. }
        | Self::Unprotect { format, .. }
        | Self::Rm { format, .. }
        | Self::Restore { format, .. }
        | Self::Undo { format, .. }) = self;
        *format
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
    description: Option<&'a str>,
    default_branch: Option<&'a str>,
    last_push_ms: Option<Millis>,
    newest_run: Option<RunJson<'a>>,
}

impl<'a> From<&'a RepoOverview> for RepoRow<'a> {
    fn from(overview: &'a RepoOverview) -> Self {
        Self {
            repo: &overview.repo,
            description: overview.description.as_deref(),
            default_branch: overview.default_branch.as_deref(),
            last_push_ms: overview.last_push,
            newest_run: overview.newest_run.as_ref().map(RunJson::from),
        }
    }
}

/// A repository that was created.
#[derive(Serialize)]
struct RepoItem<'a> {
    repo: &'a RepoName,
}

/// A repository that was removed; without the other values if it was deleted.
#[derive(Serialize)]
struct RemovedRepo<'a> {
    repo: &'a RepoName,
    trash_id: Option<String>,
    until_ms: Option<Millis>,
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
        RepoCommand::List { trash: true, .. } => print_trash(&trash::list(&forge)?, out),
        RepoCommand::List { .. } => print_list(&repos::list(&forge)?, out),
        RepoCommand::Show { name, .. } => print_repo(&RepoDetails::read(&forge, name)?, out),
        RepoCommand::New {
            name,
            object_format,
            ..
        } => create(&forge, name, object_format, out),
        RepoCommand::Import { arguments, .. } => import(context, arguments, out),
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
        RepoCommand::Description { arguments, .. } => description(&forge, arguments, out),
        RepoCommand::Protect { arguments, .. } => protect(&forge, arguments, out),
        RepoCommand::Unprotect { arguments, .. } => unprotect(&forge, arguments, out),
        RepoCommand::Rm {
            name,
            yes,
            trash: true,
            ..
        } => {
            let deleted = trash::delete(&forge, name, *yes)?;
            print_removed(&deleted.repo, Removed::Deleted, out)
        }
        RepoCommand::Rm { name, yes, now, .. } => {
            let request = RemoveRequest {
                repo: name.clone(),
                now: *now,
                confirmed: *yes,
                removed_by: context.caller.name().to_owned(),
            };
            print_removed(name, repos::remove(&forge, &request)?, out)
        }
        RepoCommand::Restore { name, new_name, .. } => {
            restore(context, name, new_name.as_ref(), out)
        }
        RepoCommand::Undo { arguments, .. } => undo(context, arguments, out),
    }
}

fn create(
    forge: &Forge,
    name: &RepoName,
    object_format: &str,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let object_format = match object_format {
        "sha256" => ObjectFormat::Sha256,
        _ => ObjectFormat::Sha1,
    };
    let redirected_to = repos::create(forge, name, object_format)?;
    let note = redirected_to.map_or_else(String::new, |target| {
        format!("; the name no longer redirects to {target}")
    });
    print_item(
        RepoItem { repo: name },
        format!("created repository {name}{note}"),
        out,
    )
}

fn print_removed(
    repo: &RepoName,
    removed: Removed,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let (trash_id, until_ms, sentence) = match removed {
        Removed::ToTrash { id, until } => (
            Some(id.to_string()),
            Some(until),
            format!(
                "removed repository {repo}; `repo restore {repo}` brings it back until {until}"
            ),
        ),
        Removed::Deleted => (None, None, format!("deleted repository {repo}")),
    };
    let item = RemovedRepo {
        repo,
        trash_id,
        until_ms,
    };
    print_item(item, sentence, out)
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
            overview.description.as_deref().unwrap_or_default().into(),
        ]
    };
    let rows: Vec<[Cell; 5]> = repos.iter().map(cells).collect();
    let head = [
        "REPOSITORY",
        "BRANCH",
        "LAST PUSH",
        "NEWEST RUN",
        "DESCRIPTION",
    ];
    out.table(head, &rows)?;
    unreadable.iter().try_for_each(|entry| {
        let text = format!("{} is not readable: {}", entry.name, entry.problem);
        out.line(&Cell::from(text).plain())
    })
}
