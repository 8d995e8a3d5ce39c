//! `quire repo show`: one repository with what belongs to it.

use super::error::CommandError;
use super::mirror::print_mirrors;
use super::output::{Cell, Output};
use super::schedule::print_schedules;
use quire_config::RepoVisibility;
use quire_server::forge::repo_details::{GrantedRefs, RepoDetails};
use quire_types::ref_pattern::RefPattern;
use quire_types::text::format_bytes;

pub(super) fn print_repo(details: &RepoDetails, out: &mut Output<'_>) -> Result<(), CommandError> {
    if out.json {
        return out.json(&details.document());
    }
    out.facts(facts(details, out))?;
    if !details.schedules.is_empty() {
        out.line("")?;
        print_schedules(&details.schedules, out)?;
    }
    if !details.mirrors.is_empty() {
        out.line("")?;
        print_mirrors(&details.mirrors, out)?;
    }
    Ok(())
}

fn facts(details: &RepoDetails, out: &Output<'_>) -> Vec<[Cell; 2]> {
    let mut facts: Vec<[Cell; 2]> = vec![["repository".into(), details.repo.as_str().into()]];
    let mut add = |name: &str, value: Cell| facts.push([name.into(), value]);
    if let Some(description) = &details.shown.description {
        add("description", description.as_str().into());
    }
    let visibility = match details.shown.visibility {
        RepoVisibility::Private => "private",
        RepoVisibility::Public => "public",
        RepoVisibility::PublicRuns => "public, with its runs",
    };
    add("visibility", visibility.into());
    let default_branch = details.default_branch.as_deref();
    add("default branch", default_branch.unwrap_or("-").into());
    add("branches", details.branches.to_string().into());
    add("tags", details.tags.to_string().into());
    add("object ids", details.object_format.as_str().into());
    add("last push", out.time(details.last_push).into());
    let newest_run = details.newest_run.as_ref();
    let newest_run = newest_run.map(|run| format!("{} {}", run.name(), run.state));
    add("newest run", newest_run.as_deref().unwrap_or("-").into());
    add("size", size(details).into());
    for (name, granted) in [
        ("secrets", &details.granted.secrets),
        ("docker socket", &details.granted.docker_socket),
        ("privileges", &details.granted.privileges),
    ] {
        if !granted.is_empty() {
            let granted: Vec<_> = granted.iter().map(granted_at).collect();
            add(name, granted.join(", ").into());
        }
    }
    if !details.granted.hooks.is_empty() {
        add("webhooks", details.granted.hooks.join(", ").into());
    }
    if !details.protected.is_empty() {
        let patterns: Vec<_> = details.protected.iter().map(RefPattern::short).collect();
        add("protected", patterns.join(", ").into());
    }
    for problem in details.shown.problems.iter().chain(&details.unreadable) {
        add("problem", problem.as_str().into());
    }
    facts
}

/// The kinds that occupy anything.
fn size(details: &RepoDetails) -> String {
    let sizes = &details.sizes;
    let kinds = [
        ("LFS", sizes.lfs),
        ("logs", sizes.logs),
        ("artifacts", sizes.artifacts),
    ];
    let kinds = kinds
        .iter()
        .filter(|(_, bytes)| *bytes > 0)
        .map(|(kind, bytes)| format!(", {kind} {}", format_bytes(*bytes)));
    format!(
        "git {}{}",
        format_bytes(sizes.git),
        kinds.collect::<String>()
    )
}

/// What is granted, and at which refs if not at all.
fn granted_at(granted: &GrantedRefs) -> String {
    match &granted.refs {
        None => granted.name.clone(),
        Some(refs) => format!("{} at {}", granted.name, refs.join(" ")),
    }
}
