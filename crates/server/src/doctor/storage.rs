//! The checks of what the volume holds: the database and repositories.

use std::path::Path;
use std::time::Duration;

use quire_git::Git;
use quire_store::DatabaseSummary;
use quire_types::error_chain::chain;
use quire_types::names::RepoName;
use quire_types::paths::Paths;
use quire_types::text::format_bytes;
use tokio::time::Instant;

use super::finding::DoctorFinding;

/// How long git may check repositories.
const FSCK_TIME: Duration = Duration::from_secs(60);
/// The most repositories that are checked, the last changed ones first.
const FSCK_SAMPLE: usize = 10;

pub(super) async fn examine(paths: &Paths) -> Vec<DoctorFinding> {
    let owned = paths.clone();
    let checked = tokio::task::spawn_blocking(move || database(&owned)).await;
    let database = checked.unwrap_or_else(|error| {
        DoctorFinding::failed(
            "database",
            format!("internal error: the check ended early: {error}"),
            "the log of the container has the details",
        )
    });
    vec![database, repositories(paths).await]
}

fn database(paths: &Paths) -> DoctorFinding {
    match DatabaseSummary::read(&paths.database()) {
        Ok(found) => DoctorFinding::ok(
            "database",
            format!(
                "sound: {}; runs: {}, pushes: {}",
                format_bytes(file_size(&paths.database())),
                found.runs,
                found.pushes
            ),
        ),
        Err(error) => DoctorFinding::failed(
            "database",
            chain(&error),
            "stop the appliance, keep a copy of quire.db, and restore the newest backup (docs/operations.md)",
        ),
    }
}

fn file_size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}

/// Lets git check the repositories that were changed last.
async fn repositories(paths: &Paths) -> DoctorFinding {
    let part = "repositories";
    let git = Git::new(paths);
    let listing = match git.call(Git::list).await {
        Ok(listing) => listing,
        Err(error) => {
            return DoctorFinding::failed(
                part,
                chain(&error),
                "check the folder repos on the volume",
            );
        }
    };
    let total = listing.repos.len();
    let sample = newest(paths, listing.repos);
    let deadline = Instant::now() + FSCK_TIME;
    let mut checked = 0;
    for repo in &sample {
        match tokio::time::timeout_at(deadline, git.check(repo)).await {
            // The rest takes longer than a person waits.
            Err(_) => break,
            Ok(Ok(None)) => checked += 1,
            Ok(Ok(Some(words))) => return broken(repo, &words),
            Ok(Err(error)) => return broken(repo, &chain(&error)),
        }
    }
    let text = match (checked, total) {
        (_, 0) => "there are none yet".to_owned(),
        (checked, total) if checked == total => {
            format!("git finds nothing wrong with any of the {total}")
        }
        (checked, total) => {
            format!(
                "git finds nothing wrong with {checked} of the {total}, which were changed last"
            )
        }
    };
    DoctorFinding::ok(part, text)
}

fn broken(repo: &RepoName, words: &str) -> DoctorFinding {
    DoctorFinding::failed(
        "repositories",
        format!("{repo}: git fsck reports: {words}"),
        "push again from a clone that has everything, or restore the repository from a backup (docs/operations.md)",
    )
}

/// Those that were changed last, newest first.
fn newest(paths: &Paths, repos: Vec<RepoName>) -> Vec<RepoName> {
    let changed = |repo: &RepoName| {
        let folder = paths.repo(repo).join("objects/pack");
        std::fs::metadata(folder)
            .and_then(|found| found.modified())
            .ok()
    };
    let mut dated: Vec<_> = repos
        .into_iter()
        .map(|repo| (changed(&repo), repo))
        .collect();
    dated.sort_by_key(|(changed, _)| std::cmp::Reverse(*changed));
    dated.truncate(FSCK_SAMPLE);
    dated.into_iter().map(|(_, repo)| repo).collect()
}
