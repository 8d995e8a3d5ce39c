//! The check of the space: how much is free, and what uses it.
//!
//! Each kind has the same time to be measured, and all are measured at the same time; one that is not measured by then is named.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use quire_executor::Executor;
use quire_git::Git;
use quire_runtime::blocking::run_blocking;
use quire_store::Store;
use quire_types::disk_space::{MinFree, free_bytes};
use quire_types::fsutil::{folder_size, folder_size_without};
use quire_types::paths::Paths;
use quire_types::text::format_bytes;

use super::finding::DoctorFinding;

/// How long a kind may be measured.
const MEASURE_TIME: Duration = Duration::from_secs(15);
/// The part of a folder that belongs to the trash.
const TRASH: &str = ".trash";

/// The bytes that are used, `None` if they cannot be determined.
type DiskMeasurement<'a> = BoxFuture<'a, Option<u64>>;

/// What is measured.
pub(super) struct MeasuredParts<'a> {
    pub(super) paths: &'a Paths,
    pub(super) store: &'a Store,
    pub(super) executor: Option<&'a dyn Executor>,
}

/// The space, with what uses it.
pub(super) async fn examine(parts: &MeasuredParts<'_>) -> DoctorFinding {
    let paths = parts.paths;
    let measurements: Vec<(&str, DiskMeasurement<'_>)> = vec![
        ("repositories", without_trash(paths.repos())),
        ("undo", undo(parts).boxed()),
        ("logs", without_trash(paths.runs_dir())),
        ("artifacts", without_trash(paths.artifacts())),
        ("caches", caches(parts).boxed()),
        ("images", images(parts).boxed()),
        ("trash", trash(parts).boxed()),
        ("copies of the database", folder(paths.backups())),
    ];
    let measured = measurements.into_iter().map(|(kind, bytes)| async move {
        (kind, tokio::time::timeout(MEASURE_TIME, bytes).await)
    });
    let used = join_all(measured).await.into_iter().filter_map(|found| {
        let (kind, bytes) = found;
        match bytes {
            Ok(Some(0)) => None,
            // Part of what the repositories use.
            Ok(Some(bytes)) if kind == "undo" => {
                Some(format!("{} of that for undo", format_bytes(bytes)))
            }
            Ok(Some(bytes)) => Some(format!("{kind} {}", format_bytes(bytes))),
            Ok(None) => Some(format!("{kind} unknown")),
            Err(_) => {
                let seconds = MEASURE_TIME.as_secs();
                Some(format!("{kind} more than can be measured in {seconds} s"))
            }
        }
    });
    let used: Vec<String> = used.collect();
    let used = match used.as_slice() {
        [] => "nothing is used yet".to_owned(),
        used => used.join(", "),
    };
    let floor = MinFree::read(paths);
    match free_bytes(paths.data()) {
        Ok(free) if floor.blocks_runs(free) => DoctorFinding::failed(
            "disk",
            format!(
                "{} free, less than the minimum of {}, so runs wait; {used}",
                format_bytes(free),
                format_bytes(floor.0)
            ),
            "free space on the volume, or shorten `:keep` and run `gc`",
        ),
        Ok(free) => DoctorFinding::ok("disk", format!("{} free; {used}", format_bytes(free))),
        Err(error) => DoctorFinding::failed(
            "disk",
            format!("the volume cannot be examined: {error}"),
            "check the mount of /var/quire",
        ),
    }
}

fn folder<'a>(folder: PathBuf) -> DiskMeasurement<'a> {
    run_blocking(move || folder_size(&folder))
        .map(Result::ok)
        .boxed()
}

fn without_trash<'a>(of: PathBuf) -> DiskMeasurement<'a> {
    run_blocking(move || folder_size_without(&of, Some(TRASH)))
        .map(Result::ok)
        .boxed()
}

/// What was removed and can be restored.
async fn trash(parts: &MeasuredParts<'_>) -> Option<u64> {
    let paths = parts.paths;
    let folders = [paths.repos(), paths.runs_dir(), paths.artifacts()];
    let measure = move || folders.iter().map(|of| folder_size(&of.join(TRASH))).sum();
    run_blocking(measure).await.ok()
}

/// The objects that nothing but the hidden refs of an undo keeps.
async fn undo(parts: &MeasuredParts<'_>) -> Option<u64> {
    let git = Git::new(parts.paths);
    let mut bytes = 0;
    for repo in git.call(Git::list).await.ok()?.repos {
        bytes += git.kept_bytes(&parts.paths.repo(&repo)).await.ok()?;
    }
    Some(bytes)
}

/// The caches, on the volume and on the engine.
async fn caches(parts: &MeasuredParts<'_>) -> Option<u64> {
    let mut bytes = folder(parts.paths.caches()).await?;
    // Those of an executor that works on the volume are in the folder.
    let elsewhere = parts
        .executor
        .filter(|executor| !executor.capabilities().workspace_on_disk);
    if let Some(store) = elsewhere.and_then(|executor| executor.caches()) {
        let sizes = store.sizes().await.ok()?;
        bytes += sizes.iter().map(|(_, bytes)| bytes).sum::<u64>();
    }
    Some(bytes)
}

/// The images that were pulled or built for runs. Layers that they share count for each.
async fn images(parts: &MeasuredParts<'_>) -> Option<u64> {
    let Some(images) = parts.executor.and_then(|executor| executor.images()) else {
        return Some(0);
    };
    let engine = images.engine_id().await.ok()?;
    let list = move |store: &Store| store.images().list(&engine);
    let mut sizes = HashMap::new();
    for image in parts.store.call(list).await.ok()? {
        if let Some((id, bytes)) = images.size(&image.name).await.ok()? {
            sizes.insert(id, bytes);
        }
    }
    Some(sizes.values().sum())
}
