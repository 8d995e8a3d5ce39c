//! `quire repo import`: imports a repository from another machine.

use std::io::{self, Write};

use serde::Serialize;

use super::context::Context;
use super::error::CommandError;
use super::output::{Cell, Output};
use quire_pipeline::parse_duration;
use quire_server::control::protocol::{
    ImportLogin, ImportMirror, ImportReport, ImportRequest, LeftOutRefs,
};
use quire_server::forge::imports;
use quire_types::git_remote_url::GitRemoteUrl;
use quire_types::names::{EventId, RefName, RepoName};
use quire_types::secret::SecretName;
use quire_types::text::{format_bytes, format_elapsed};

pub(super) const IMPORT_EXAMPLES: &str = "\
Examples:
  repo import https://git.example.org/shop.git                 as shop
  repo import git@git.example.org:me/shop.git work/shop        over SSH, with the key of `mirror key`
  repo import https://git.example.org/shop.git --secret token  with a token that `secret set token` stored
  repo import https://git.example.org/shop.git --mirror --runs  and follow it, with runs for what changes there";

#[derive(clap::Args)]
pub(super) struct ImportArgs {
    /// Where it is: https://HOST/PATH, ssh://USER@HOST/PATH or USER@HOST:PATH
    #[arg(value_name = "URL")]
    url: GitRemoteUrl,
    /// Its name here: `name` or `group/name`; without it, the last part of the address
    #[arg(value_name = "NAME")]
    name: Option<RepoName>,
    /// For HTTPS: the secret that is the token or the password
    #[arg(long, value_name = "SECRET")]
    secret: Option<SecretName>,
    /// For HTTPS: the user, if the other side asks for a certain one
    #[arg(long, value_name = "USER", requires = "secret", default_value = "git")]
    user: String,
    /// Follow it: fetch what changes there, refuse pushes here
    #[arg(long)]
    mirror: bool,
    /// How often a mirror is fetched, such as 10m or 1d; at least 1m
    #[arg(long, value_name = "TIME", requires = "mirror", default_value = "1h", value_parser = interval)]
    every: u64,
    /// Start runs for what a mirror fetches later, as for a push
    #[arg(long, requires = "mirror")]
    runs: bool,
    /// Leave out the objects of Git LFS
    #[arg(long, conflicts_with = "mirror")]
    no_lfs: bool,
}

/// The shortest time between two fetches of a mirror, in milliseconds.
const MIN_INTERVAL_MS: u64 = 60_000;

pub(super) fn interval(text: &str) -> Result<u64, String> {
    match parse_duration(text) {
        Ok(every @ MIN_INTERVAL_MS..) => Ok(every),
        _ => Err("a time of at least a minute such as 10m or 1d is expected".to_owned()),
    }
}

/// A repository that was imported.
#[derive(Serialize)]
struct ImportedRepo<'a> {
    repo: &'a RepoName,
    url: &'a str,
    branches: usize,
    tags: usize,
    bytes: u64,
    default_branch: Option<&'a str>,
    left_out: &'a [LeftOutRefs],
    uses_lfs: bool,
    lfs_objects: u64,
    lfs_problem: Option<&'a str>,
    host_key: Option<&'a str>,
}

#[derive(Serialize)]
struct ImportedRepos<'a> {
    repos: [ImportedRepo<'a>; 1],
}

pub(super) fn import(
    context: &Context<'_>,
    arguments: &ImportArgs,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let url = &arguments.url;
    let repo = match &arguments.name {
        Some(name) => name.clone(),
        None => last_part(url.as_str()).parse().map_err(|_| {
            let problem = format!("the last part of {url} is no name of a repository");
            CommandError::usage(problem).hint("add a name: `repo import URL NAME`")
        })?,
    };
    let login = arguments.secret.as_ref().map(|secret| ImportLogin {
        user: arguments.user.clone(),
        secret: secret.to_string(),
    });
    let request = ImportRequest {
        repo: repo.clone(),
        url: url.as_str().to_owned(),
        login,
        event: EventId::new(),
        user: Some(context.caller.name().to_owned()),
        mirror: arguments.mirror.then_some(ImportMirror {
            every_ms: arguments.every,
            runs: arguments.runs,
        }),
        no_lfs: arguments.no_lfs,
    };
    let mut progress = ProgressOutput::default();
    let show = |text: &str, is_final: bool| progress.show(text, is_final);
    let report = imports::import(&context.forge(), request, show);
    progress.end();
    let report = report?;
    if out.json {
        return out.json(&ImportedRepos {
            repos: [json(&repo, url, &report)],
        });
    }
    let mut lines = sentences(&repo, url, &report);
    if arguments.mirror {
        let every = format_elapsed(arguments.every);
        lines.push(format!(
            "{repo} follows it: it is fetched every {every}, and pushes are refused; `mirror stop {repo}` ends that"
        ));
    }
    lines
        .iter()
        .try_for_each(|line| out.line(&Cell::from(line.as_str()).plain()))
}

/// The part of an address that names the repository.
fn last_part(url: &str) -> &str {
    let url = url.trim_end_matches('/');
    let url = url.strip_suffix(".git").unwrap_or(url);
    url.rsplit(['/', ':']).next().unwrap_or_default()
}

fn json<'a>(
    repo: &'a RepoName,
    url: &'a GitRemoteUrl,
    report: &'a ImportReport,
) -> ImportedRepo<'a> {
    ImportedRepo {
        repo,
        url: url.as_str(),
        branches: report.branches,
        tags: report.tags,
        bytes: report.bytes,
        default_branch: report.default_branch.as_ref().map(RefName::short),
        left_out: &report.left_out,
        uses_lfs: report.uses_lfs,
        lfs_objects: report.lfs_objects,
        lfs_problem: report.lfs_problem.as_deref(),
        host_key: report.host_key.as_deref(),
    }
}

/// What was imported, and what was not.
fn sentences(repo: &RepoName, url: &GitRemoteUrl, report: &ImportReport) -> Vec<String> {
    let counted = |count: usize, one: &str, many: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    };
    let branches = counted(report.branches, "branch", "branches");
    let tags = counted(report.tags, "tag", "tags");
    let size = format_bytes(report.bytes);
    let mut lines = vec![format!(
        "imported {repo} from {url}: {branches}, {tags}, {size}"
    )];
    match &report.default_branch {
        Some(branch) => lines.push(format!(
            "the default branch is {}; no run was started, and `run start {repo}` starts one",
            branch.short()
        )),
        None => lines.push("it has no branch".to_owned()),
    }
    for left_out in &report.left_out {
        let refs = counted(left_out.count, "ref", "refs");
        lines.push(format!("not fetched: {refs} in {}", left_out.refs));
    }
    if report.lfs_objects > 0 {
        let fetched = usize::try_from(report.lfs_objects).unwrap_or(usize::MAX);
        let objects = counted(fetched, "object", "objects");
        lines.push(format!("fetched: {objects} of Git LFS"));
    }
    if let Some(problem) = &report.lfs_problem {
        lines.push(format!(
            "not fetched: objects of Git LFS: {problem}; `git lfs push --all` from a clone that has them sends them to {repo}"
        ));
    }
    if let Some(host_key) = &report.host_key {
        let authority = url.authority();
        lines.push(format!(
            "the host key of {authority} was not known, and was accepted: {host_key}"
        ));
    }
    lines
}

/// Lines of progress on standard error, as git writes them: a line that does not stay ends with a carriage return.
#[derive(Default)]
struct ProgressOutput {
    /// How long the line is that the next one replaces, in characters.
    shown: usize,
}

impl ProgressOutput {
    fn show(&mut self, text: &str, is_final: bool) -> io::Result<()> {
        let length = text.chars().count();
        let padding = " ".repeat(self.shown.saturating_sub(length));
        let end = if is_final { "\n" } else { "\r" };
        self.shown = if is_final { 0 } else { length };
        io::stderr().write_all(format!("{text}{padding}{end}").as_bytes())
    }

    /// Leaves the last line.
    fn end(&mut self) {
        if std::mem::take(&mut self.shown) > 0 {
            let _ = io::stderr().write_all(b"\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_named_by_its_address() {
        for (url, name) in [
            ("https://h/me/shop.git", "shop"),
            ("https://h/me/shop/", "shop"),
            ("git@h:shop", "shop"),
            ("ssh://git@h/~/a/shop.git", "shop"),
        ] {
            assert_eq!(last_part(url), name);
        }
    }

    #[test]
    fn what_was_imported_is_said() {
        let report = ImportReport {
            branches: 1,
            tags: 12,
            bytes: 5000,
            default_branch: Some("refs/heads/master".parse().unwrap()),
            left_out: vec![LeftOutRefs {
                refs: "refs/pull".to_owned(),
                count: 210,
            }],
            uses_lfs: true,
            lfs_objects: 3,
            lfs_problem: Some("the other side has no Git LFS (404 Not Found)".to_owned()),
            host_key: Some("SHA256:x".to_owned()),
        };
        let empty = ImportReport {
            branches: 0,
            tags: 0,
            default_branch: None,
            left_out: Vec::new(),
            uses_lfs: false,
            lfs_objects: 0,
            lfs_problem: None,
            host_key: None,
            ..report.clone()
        };
        let (repo, url) = ("shop".parse().unwrap(), "git@nas:shop.git".parse().unwrap());
        let lines = [&report, &empty].map(|report| sentences(&repo, &url, report).join("\n"));
        let json = serde_json::to_string(&json(&repo, &url, &report)).unwrap();
        insta::assert_snapshot!([&lines[0], &lines[1], &json].map(String::as_str).join("\n"));
    }
}
