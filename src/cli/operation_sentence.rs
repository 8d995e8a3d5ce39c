//! What an operation did, in one line.

use quire_types::names::{ObjectId, RepoName, RunId};
use quire_types::operation::{Operation, PullSettings, RefChange, RefChanges};
use quire_types::text::format_elapsed;

/// How many refs of an operation a line names.
const MAX_NAMED: usize = 4;
/// How much of an id of the trash a line has.
const SHORT_ID: usize = 18;

/// The line of an operation that was done.
pub(super) fn sentence(operation: &Operation) -> String {
    match operation {
        Operation::Push { repo, changes } => format!("pushed to {repo}: {}", refs(changes)),
        Operation::FoundRefs { repo, changes } => {
            format!("found changed refs in {repo}: {}", refs(changes))
        }
        Operation::RepoUndo { repo, changes } => {
            format!("moved refs of {repo} back: {}", refs(changes))
        }
        Operation::RepoNew { repo } => format!("created repository {repo}"),
        Operation::RepoImport { repo, url, mirror } => match mirror {
            true => format!("imported {repo} from {url}, as a mirror"),
            false => format!("imported {repo} from {url}"),
        },
        Operation::MirrorSet { .. }
        | Operation::MirrorStop { .. }
        | Operation::MirrorSync { .. } => of_mirror(operation),
        Operation::RepoRename { repo, former_name } => format!("renamed {former_name} to {repo}"),
        Operation::RepoRm {
            repo,
            trash_id,
            deleted,
        } => removed(repo, trash_id.as_deref(), *deleted),
        Operation::RepoDelete { repo, trash_id } => format!(
            "deleted repository {repo} of the trash, trash id {}",
            short(trash_id)
        ),
        Operation::RepoRestore { repo, trash_id } => {
            format!("restored repository {repo}, trash id {}", short(trash_id))
        }
        Operation::RepoDefault { .. }
        | Operation::RepoProtect { .. }
        | Operation::RepoUnprotect { .. }
        | Operation::RepoDescription { .. } => of_repo_setting(operation),
        Operation::KeyAdd {
            name,
            fingerprint,
            may,
        } => format!("added the key {name}, {fingerprint}, which may {may}"),
        Operation::KeyRm {
            name, fingerprint, ..
        } => format!("removed the key {name}, {fingerprint}"),
        Operation::SecretSet { name, version, .. } => match version {
            0 => format!("set the secret {name}"),
            version => format!("set the secret {name}, value {version}"),
        },
        Operation::SecretRm { name } => format!("removed the secret {name}"),
        Operation::SecretRotateKey => "encrypted all secrets with a new key".to_owned(),
        Operation::Login => "made a link that signs a browser in".to_owned(),
        Operation::TokenNew { name, scope } => format!("made the access token {name}, to {scope}"),
        Operation::TokenRevoke { name } => format!("ended the access token {name}"),
        Operation::RunStart { repo, run } => format!("started {} of {repo}", the_run(*run)),
        Operation::RunRetry {
            repo, retried, run, ..
        } => format!("retried run {retried} of {repo}: {}", the_run(*run)),
        Operation::RunCancel { repo, run } => format!("canceled run {run} of {repo}"),
        Operation::RunRelease { repo, run } => {
            format!("released the container of run {run} of {repo}")
        }
        Operation::CacheClear { repo, name } => match name {
            Some(name) => format!("removed the cache {name} of {repo}"),
            None => format!("removed the caches of {repo}"),
        },
        Operation::Gc => "removed what was expired".to_owned(),
        Operation::ConfigSet {
            setting,
            before,
            after,
        } => set(setting, before.as_deref(), after.as_deref()),
        Operation::ConfigReload { changed } => reloaded(changed),
        Operation::Reconcile { decision } => {
            format!("decided what happens after a restored database: {decision}")
        }
    }
}

/// The line of an operation that changed a setting of a repository.
fn of_repo_setting(operation: &Operation) -> String {
    match operation {
        Operation::RepoDefault {
            repo,
            branch,
            before,
        } => {
            let from = before
                .as_ref()
                .map(|before| format!(", from {}", before.short()));
            format!(
                "set the default branch of {repo} to {}{}",
                branch.short(),
                from.unwrap_or_default()
            )
        }
        Operation::RepoProtect { repo, pattern } => {
            format!("protected the refs {pattern} of {repo}")
        }
        Operation::RepoUnprotect { repo, pattern } => {
            format!("ended the protection of the refs {pattern} of {repo}")
        }
        Operation::RepoDescription { repo, after, .. } => match after {
            Some(text) => format!("described {repo}: {text}"),
            None => format!("removed the description of {repo}"),
        },
        _ => String::new(),
    }
}

fn removed(repo: &RepoName, trash_id: Option<&str>, deleted: bool) -> String {
    match (deleted, trash_id) {
        (true, _) => format!("deleted repository {repo}"),
        (false, Some(id)) => format!("removed repository {repo}, trash id {}", short(id)),
        (false, None) => format!("removed repository {repo}"),
    }
}

fn mirrored(repo: &RepoName, name: Option<&str>, new_host_key: bool) -> String {
    let mirror = name.map_or_else(
        || "all mirrors".to_owned(),
        |name| format!("the mirror {name}"),
    );
    let key = match new_host_key {
        true => " and accepted a new host key",
        false => "",
    };
    format!("synchronized {mirror} of {repo}{key}")
}

fn set(setting: &str, before: Option<&str>, after: Option<&str>) -> String {
    let [before, after] = [before, after].map(|value| value.unwrap_or("its default"));
    format!("set {setting} to {after}, from {before}")
}

fn reloaded(changed: &[String]) -> String {
    match changed {
        [] => "reloaded the configuration".to_owned(),
        changed => format!("reloaded the configuration: {}", changed.join(", ")),
    }
}

fn the_run(run: Option<RunId>) -> String {
    run.map_or_else(|| "a run".to_owned(), |run| format!("run {run}"))
}

fn short(id: &str) -> &str {
    id.get(..SHORT_ID).unwrap_or(id)
}

fn refs(changes: &RefChanges) -> String {
    let named = changes.refs.iter().take(MAX_NAMED).map(change);
    let mut parts: Vec<String> = named.collect();
    let more = changes.refs.len().saturating_sub(MAX_NAMED) + changes.more;
    if more > 0 {
        parts.push(format!("{more} more"));
    }
    match parts.is_empty() {
        true => "no refs".to_owned(),
        false => parts.join(", "),
    }
}

fn change(change: &RefChange) -> String {
    let name = change.ref_name.short();
    let short = |id: &Option<ObjectId>| id.as_ref().map(|id| id.short().to_owned());
    match (short(&change.old_sha), short(&change.new_sha)) {
        (Some(old), Some(new)) => {
            let forced = match change.overwritten {
                true => " by force",
                false => "",
            };
            format!("{name} {old}..{new}{forced}")
        }
        (None, Some(new)) => format!("{name} created at {new}"),
        (Some(old), None) => format!("{name} deleted at {old}"),
        (None, None) => name.to_owned(),
    }
}

/// The line of an operation on mirrors.
fn of_mirror(operation: &Operation) -> String {
    match operation {
        Operation::MirrorSet {
            repo,
            before,
            after,
        } => changed_mirror(repo, before, after),
        Operation::MirrorStop { repo, url } => format!("{repo} follows {url} no longer"),
        Operation::MirrorSync {
            repo,
            name,
            new_host_key,
        } => mirrored(repo, name.as_deref(), *new_host_key),
        _ => String::new(),
    }
}

/// What was changed of a mirror.
fn changed_mirror(repo: &RepoName, before: &PullSettings, after: &PullSettings) -> String {
    let mut changes = Vec::new();
    if before.every_ms != after.every_ms {
        changes.push(format!("every {}", format_elapsed(after.every_ms)));
    }
    if (&before.user, &before.secret) != (&after.user, &after.secret) {
        changes.push(match (&after.secret, &after.user) {
            (Some(secret), Some(user)) => format!("the secret {secret} as user {user}"),
            _ => "no secret".to_owned(),
        });
    }
    match (before.runs, after.runs) {
        (false, true) => changes.push("runs".to_owned()),
        (true, false) => changes.push("no runs".to_owned()),
        _ => {}
    }
    format!("{repo} follows with {}", changes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: &str) -> Option<ObjectId> {
        Some(digit.repeat(40).parse().unwrap())
    }

    fn ref_change(name: &str, old: Option<ObjectId>, new: Option<ObjectId>) -> RefChange {
        RefChange {
            ref_name: name.parse().unwrap(),
            overwritten: old.is_some(),
            old_sha: old,
            new_sha: new,
        }
    }

    #[test]
    fn each_operation_has_a_line() {
        let repo: RepoName = "work/app".parse().unwrap();
        let run: RunId = "0197a1b2-0000-7000-8000-000000000001".parse().unwrap();
        let name = || "token".to_owned();
        let changes = RefChanges {
            refs: vec![
                ref_change("refs/heads/main", id("1"), id("2")),
                ref_change("refs/heads/gone", id("1"), None),
                ref_change("refs/tags/v1", None, id("2")),
                ref_change("refs/heads/a", None, id("2")),
                ref_change("refs/heads/b", None, id("2")),
            ],
            more: 3,
        };
        let operations = [
            Operation::Push {
                repo: repo.clone(),
                changes: changes.clone(),
            },
            Operation::FoundRefs {
                repo: repo.clone(),
                changes: RefChanges::default(),
            },
            Operation::RepoUndo {
                repo: repo.clone(),
                changes,
            },
            Operation::RepoNew { repo: repo.clone() },
            Operation::RepoImport {
                repo: repo.clone(),
                url: "git@nas:app".to_owned(),
                mirror: true,
            },
            Operation::MirrorStop {
                repo: repo.clone(),
                url: "git@nas:app".to_owned(),
            },
            Operation::MirrorSet {
                repo: repo.clone(),
                before: PullSettings {
                    every_ms: 3_600_000,
                    user: None,
                    secret: None,
                    runs: false,
                },
                after: PullSettings {
                    every_ms: 60_000,
                    user: Some("git".to_owned()),
                    secret: Some("token".to_owned()),
                    runs: true,
                },
            },
            Operation::RepoRename {
                repo: repo.clone(),
                former_name: "app".parse().unwrap(),
            },
            Operation::RepoRm {
                repo: repo.clone(),
                trash_id: Some(run.to_string()),
                deleted: false,
            },
            Operation::RepoRm {
                repo: repo.clone(),
                trash_id: None,
                deleted: true,
            },
            Operation::RepoDelete {
                repo: repo.clone(),
                trash_id: run.to_string(),
            },
            Operation::RepoRestore {
                repo: repo.clone(),
                trash_id: run.to_string(),
            },
            Operation::RepoDefault {
                repo: repo.clone(),
                branch: "refs/heads/a".parse().unwrap(),
                before: Some("refs/heads/main".parse().unwrap()),
            },
            Operation::RepoProtect {
                repo: repo.clone(),
                pattern: "refs/heads/main".to_owned(),
            },
            Operation::RepoUnprotect {
                repo: repo.clone(),
                pattern: "refs/tags/v*".to_owned(),
            },
            Operation::RepoDescription {
                repo: repo.clone(),
                before: None,
                after: Some("Tools of mine".to_owned()),
            },
            Operation::RepoDescription {
                repo: repo.clone(),
                before: Some("Tools of mine".to_owned()),
                after: None,
            },
            Operation::KeyAdd {
                name: "laptop".to_owned(),
                fingerprint: "SHA256:x".to_owned(),
                may: "do everything".to_owned(),
            },
            Operation::KeyRm {
                name: "laptop".to_owned(),
                fingerprint: "SHA256:x".to_owned(),
                lines: Vec::new(),
            },
            Operation::SecretSet {
                name: name(),
                version: 2,
                created_at_ms: None,
            },
            Operation::SecretRm { name: name() },
            Operation::SecretRotateKey,
            Operation::Login,
            Operation::TokenNew {
                name: name(),
                scope: "read".to_owned(),
            },
            Operation::TokenRevoke { name: name() },
            Operation::RunStart {
                repo: repo.clone(),
                run: Some(run),
            },
            Operation::RunRetry {
                repo: repo.clone(),
                retried: run,
                run: None,
            },
            Operation::RunCancel {
                repo: repo.clone(),
                run,
            },
            Operation::RunRelease {
                repo: repo.clone(),
                run,
            },
            Operation::CacheClear {
                repo: repo.clone(),
                name: Some("npm".to_owned()),
            },
            Operation::Gc,
            Operation::MirrorSync {
                repo,
                name: None,
                new_host_key: true,
            },
            Operation::Reconcile {
                decision: "adopt".to_owned(),
            },
            Operation::ConfigSet {
                setting: "ci.pids".to_owned(),
                before: None,
                after: Some("7".to_owned()),
            },
            Operation::ConfigReload {
                changed: vec!["ci.pids".to_owned(), "ci.memory".to_owned()],
            },
        ];
        let lines: Vec<_> = operations.iter().map(sentence).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
