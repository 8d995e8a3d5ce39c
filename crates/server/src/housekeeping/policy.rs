//! Decides what is removed. Pure functions over plain data: no I/O.

use std::collections::HashSet;

use quire_executor::OwnedImage;
use quire_store::{ImageUse, LayerUse, RetentionCandidate};
use quire_types::clock::Millis;
use quire_types::names::{RepoName, RunId};
use quire_types::run::RunState;

/// Which runs of a repository are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunLimits {
    /// How many; 0 for all.
    pub(super) runs: u32,
    /// Those that ended since this time; `None` for all.
    pub(super) since: Option<Millis>,
}

/// The size of one run's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunSize {
    pub(super) run: RunId,
    pub(super) bytes: u64,
}

/// Returns the runs that are never removed: those that have not ended, those that other runs need, and the newest
/// and the newest green one of each branch that exists. `runs` is sorted, oldest first.
pub(super) fn protected_runs(runs: &[RetentionCandidate]) -> HashSet<RunId> {
    let mut kept = HashSet::new();
    let mut seen = HashSet::new();
    let mut green = HashSet::new();
    for run in runs.iter().rev() {
        let first_of_branch = run.branch.is_some_and(|branch| {
            let newest = seen.insert(branch);
            let newest_green = run.state == RunState::Complete && green.insert(branch);
            newest || newest_green
        });
        if first_of_branch || run.needed || !run.state.is_final() {
            kept.insert(run.id);
        }
    }
    kept
}

/// Returns the runs to remove, oldest first. `runs` is sorted, oldest first.
pub(super) fn expired(
    runs: &[RetentionCandidate],
    protected: &HashSet<RunId>,
    keep: RunLimits,
) -> Vec<RunId> {
    let surplus = if keep.runs == 0 {
        0
    } else {
        runs.len().saturating_sub(keep.runs as usize)
    };
    let is_expired = |(index, run): &(usize, &RetentionCandidate)| {
        let too_many = *index < surplus;
        let too_old = keep.since.is_some_and(|since| run.since < since);
        (too_many || too_old) && !protected.contains(&run.id)
    };
    runs.iter()
        .enumerate()
        .filter(is_expired)
        .map(|(_, run)| run.id)
        .collect()
}

/// Returns the runs whose files to remove, oldest first, so that the others take at most `budget` bytes; 0 is no
/// limit.
pub(super) fn over_budget(
    mut sizes: Vec<RunSize>,
    protected: &HashSet<RunId>,
    budget: u64,
) -> Vec<RunSize> {
    let mut total: u64 = sizes.iter().map(|size| size.bytes).sum();
    if budget == 0 || total <= budget {
        return Vec::new();
    }
    sizes.retain(|size| !protected.contains(&size.run) && size.bytes > 0);
    sizes.sort_by_key(|size| size.run);
    let is_over = |size: &RunSize| {
        let over = total > budget;
        total -= if over { size.bytes } else { 0 };
        over
    };
    sizes.into_iter().take_while(is_over).collect()
}

/// How many built images of a repository are kept, so that branches that are built in turn keep
/// their layers.
const MAX_KEPT_BUILDS: usize = 3;

/// What is recorded about the images that quire pulled or built.
pub(super) struct ImageInventory<'a> {
    pub(super) rows: &'a [ImageUse],
    /// The layers that builds made, newest first.
    pub(super) layers: &'a [LayerUse],
    /// Repositories of built images that no longer exist.
    pub(super) gone: HashSet<RepoName>,
    /// Repositories with runs that have not ended.
    pub(super) at_work: &'a [RepoName],
    /// Whether one of those runs has not started, so that it is not known yet which image it needs.
    pub(super) image_unknown: bool,
    /// Images last used before this time are removed. `None` if age does not count.
    pub(super) cutoff: Option<Millis>,
    /// Layers that led to no image and were last used before this time are removed: until then the failed build
    /// may be retried. `None` if age does not count.
    pub(super) build_cutoff: Option<Millis>,
}

/// Returns the images to remove. The engine still keeps those that a container uses.
pub(super) fn superfluous_images(inventory: &ImageInventory<'_>) -> Vec<OwnedImage> {
    let is_old = |row: &ImageUse| inventory.cutoff.is_some_and(|cutoff| row.used_at < cutoff);
    let repos: HashSet<&RepoName> = inventory
        .rows
        .iter()
        .filter_map(|row| row.repo.as_ref())
        .collect();
    let mut surplus = HashSet::new();
    for repo in repos {
        let names = surplus_builds(inventory.rows, repo).into_iter();
        surplus.extend(names.map(|row| row.name.as_str()));
    }
    let is_superfluous = |row: &ImageUse| match &row.repo {
        Some(repo) => {
            let unneeded =
                inventory.gone.contains(repo) || surplus.contains(row.name.as_str()) || is_old(row);
            unneeded && !inventory.at_work.contains(repo)
        }
        None => !inventory.image_unknown && is_old(row),
    };
    let images = inventory
        .rows
        .iter()
        .filter(|row| is_superfluous(row))
        .map(owned_image);
    // Layers below an image that exists are removed with it.
    let is_built = |name: &str| {
        let mut rows = inventory.rows.iter();
        rows.any(|row| row.name == name && !row.image_id.is_empty())
    };
    let layers = inventory.layers.iter().filter(|layer| {
        !is_built(&layer.built_for)
            && inventory
                .build_cutoff
                .is_some_and(|then| layer.used_at < then)
    });
    let layers = layers.map(|layer| OwnedImage::Layer {
        id: layer.image_id.clone(),
        since_ms: layer.since.0,
    });
    images.chain(layers).collect()
}

/// Returns the builds of a repository beyond those that were used last, and all that were replaced: nothing can use
/// an image without a name.
pub(super) fn surplus_builds<'a>(rows: &'a [ImageUse], repo: &RepoName) -> Vec<&'a ImageUse> {
    let of_repo = rows.iter().filter(|row| row.repo.as_ref() == Some(repo));
    let (mut surplus, mut tags): (Vec<_>, Vec<_>) = of_repo.partition(|row| is_replaced(row));
    tags.sort_by_key(|row| std::cmp::Reverse(row.used_at));
    surplus.extend(tags.into_iter().skip(MAX_KEPT_BUILDS));
    surplus
}

fn is_replaced(row: &ImageUse) -> bool {
    row.name == row.image_id
}

/// Returns the image of a row, as it is removed.
pub(super) fn owned_image(row: &ImageUse) -> OwnedImage {
    let name = row.name.clone();
    let id = row.image_id.clone();
    match row.repo {
        None => OwnedImage::Pulled { name, id },
        Some(_) if is_replaced(row) => OwnedImage::Replaced { id },
        Some(_) => OwnedImage::Built {
            tag: name,
            id: (!id.is_empty()).then_some(id),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn held(rows: &[(Option<u32>, RunState, i64, bool)]) -> Vec<RetentionCandidate> {
        // Ids sort in the order in which they are made.
        let mut runs: Vec<RetentionCandidate> = rows
            .iter()
            .map(|(branch, state, since, needed)| RetentionCandidate {
                id: RunId::new(),
                branch: *branch,
                state: *state,
                since: Millis(*since),
                needed: *needed,
            })
            .collect();
        let mut ids: Vec<RunId> = runs.iter().map(|run| run.id).collect();
        ids.sort();
        runs.iter_mut().zip(ids).for_each(|(run, id)| run.id = id);
        runs
    }

    #[test]
    fn the_newest_and_newest_green_run_of_each_branch_stay() {
        use RunState::{Active, Complete, Failed, Pending};
        let runs = held(&[
            (Some(0), Complete, 0, false), // an older green one
            (Some(0), Complete, 1, false), // the newest green one
            (Some(0), Failed, 2, false),
            (Some(0), Failed, 3, false),   // the newest
            (Some(1), Complete, 4, false), // both
            (None, Complete, 5, false),    // its branch was deleted
            (None, Failed, 6, true),       // another run needs it
            (None, Active, 7, false),
            (None, Pending, 8, false),
        ]);
        let protected = protected_runs(&runs);
        let indexes = |expired: Vec<RunId>| -> Vec<usize> {
            expired
                .iter()
                .map(|id| runs.iter().position(|run| run.id == *id).unwrap())
                .collect()
        };
        assert_eq!(
            indexes(expired(
                &runs,
                &protected,
                RunLimits {
                    runs: 1,
                    since: None
                }
            )),
            [0, 2, 5]
        );
        assert_eq!(
            indexes(expired(
                &runs,
                &protected,
                RunLimits {
                    runs: 0,
                    since: Some(Millis(5))
                }
            )),
            [0, 2]
        );
        assert_eq!(
            indexes(expired(
                &runs,
                &protected,
                RunLimits {
                    runs: 8,
                    since: None
                }
            )),
            [0]
        );
        assert_eq!(
            indexes(expired(
                &runs,
                &protected,
                RunLimits {
                    runs: 0,
                    since: None
                }
            )),
            [0; 0]
        );
    }

    fn state() -> impl Strategy<Value = RunState> {
        proptest::sample::select(RunState::ALL)
    }

    proptest! {
        /// The reference: a run is removed if and only if it is surplus or old, and not protected.
        #[test]
        fn a_run_is_removed_if_surplus_or_old_and_not_protected(
            rows in proptest::collection::vec((proptest::option::of(0..4_u32), state(), 0..20_i64, any::<bool>()), 0..40),
            keep in (0..10_u32, proptest::option::of(0..20_i64)),
        ) {
            let runs = held(&rows);
            let keep = RunLimits { runs: keep.0, since: keep.1.map(Millis) };
            let gone: HashSet<RunId> = expired(&runs, &protected_runs(&runs), keep).into_iter().collect();
            for (place, run) in runs.iter().enumerate() {
                let newer = &runs[place + 1..];
                let same = |other: &&RetentionCandidate| run.branch.is_some() && other.branch == run.branch;
                let newest = run.branch.is_some() && !newer.iter().any(|other| same(&other));
                let newest_green = run.branch.is_some() && run.state == RunState::Complete
                    && !newer.iter().any(|other| same(&other) && other.state == RunState::Complete);
                let protected = newest || newest_green || run.needed || !run.state.is_final();
                let surplus = keep.runs > 0 && newer.len() >= keep.runs as usize;
                let old = keep.since.is_some_and(|since| run.since < since);
                prop_assert_eq!(gone.contains(&run.id), (surplus || old) && !protected);
            }
        }

        #[test]
        fn the_rest_fits_and_no_more_is_removed_than_needed(
            rows in proptest::collection::vec((0..50_u64, any::<bool>()), 0..20), budget in 0..300_u64,
        ) {
            let mut ids: Vec<RunId> = rows.iter().map(|_| RunId::new()).collect();
            ids.sort();
            let sizes: Vec<RunSize> = ids.iter().zip(&rows).map(|(run, (bytes, _))| RunSize { run: *run, bytes: *bytes }).collect();
            let kept: HashSet<RunId> = ids.iter().zip(&rows).filter(|(_, row)| row.1).map(|(id, _)| *id).collect();
            let gone = over_budget(sizes.iter().rev().copied().collect(), &kept, budget);
            let total: u64 = sizes.iter().map(|size| size.bytes).sum();
            let freed: u64 = gone.iter().map(|size| size.bytes).sum();
            let may: Vec<RunSize> = sizes.iter().filter(|size| size.bytes > 0 && !kept.contains(&size.run)).copied().collect();
            // The oldest of those that may go.
            prop_assert_eq!(&may[..gone.len()], &gone[..]);
            if budget > 0 {
                prop_assert!(total - freed <= budget || gone.len() == may.len());
            }
            if let Some(last) = gone.last() {
                prop_assert!(budget > 0 && total - freed + last.bytes > budget);
            }
        }
    }

    fn image(name: &str, id: &str, of: Option<&str>, used: i64) -> ImageUse {
        ImageUse {
            name: name.into(),
            image_id: id.into(),
            repo: of.map(|repo| repo.parse().unwrap()),
            used_at: Millis(used),
        }
    }

    fn layer(id: &str, of: &str, used: i64) -> LayerUse {
        LayerUse {
            image_id: id.into(),
            since: Millis(1),
            built_for: of.into(),
            used_at: Millis(used),
        }
    }

    #[test]
    fn unused_images_are_removed_except_of_repositories_at_work() {
        let repo = |name: &str| name.parse::<RepoName>().unwrap();
        let rows = [
            image("app:new", "1", Some("app"), 90),
            image("app:old", "2", Some("app"), 10),
            image("app:interrupted", "", Some("app"), 11),
            image("busy:old", "3", Some("busy"), 10),
            image("gone:new", "4", Some("gone"), 90),
            image("sha256:9", "sha256:9", Some("app"), 90),
            image("debian", "5", None, 90),
            image("node", "6", None, 10),
        ];
        let layers = [
            layer("a", "app:new", 1),
            layer("b", "app:failed", 80),
            layer("c", "app:failed", 20),
        ];
        let removed = |image_unknown: bool,
                       at_work: &[RepoName],
                       cutoff: Option<i64>,
                       day: Option<i64>|
         -> Vec<String> {
            let inventory = ImageInventory {
                rows: &rows,
                layers: &layers,
                gone: HashSet::from([repo("gone")]),
                at_work,
                image_unknown,
                cutoff: cutoff.map(Millis),
                build_cutoff: day.map(Millis),
            };
            superfluous_images(&inventory)
                .iter()
                .map(|image| image.name().to_owned())
                .collect()
        };
        assert_eq!(
            removed(false, &[repo("busy")], Some(50), Some(60)),
            [
                "app:old",
                "app:interrupted",
                "gone:new",
                "sha256:9",
                "node",
                "c"
            ]
        );
        assert_eq!(
            removed(true, &[repo("busy"), repo("app")], Some(50), Some(60)),
            ["gone:new", "c"]
        );
        assert_eq!(removed(false, &[repo("app")], None, None), ["gone:new"]);
        assert_eq!(removed(false, &[], None, None), ["gone:new", "sha256:9"]);
    }

    #[test]
    fn the_builds_used_last_are_kept_and_a_row_proves_what_it_can() {
        let rows = [
            image("app:1", "1", Some("app"), 10),
            image("app:2", "2", Some("app"), 40),
            image("app:3", "", Some("app"), 20),
            image("app:4", "4", Some("app"), 30),
            image("sha256:5", "sha256:5", Some("app"), 50),
            image("other:1", "6", Some("other"), 1),
            image("debian", "7", None, 1),
        ];
        let surplus: Vec<OwnedImage> = surplus_builds(&rows, &"app".parse().unwrap())
            .into_iter()
            .map(owned_image)
            .collect();
        let expected = [
            OwnedImage::Replaced {
                id: "sha256:5".into(),
            },
            OwnedImage::Built {
                tag: "app:1".into(),
                id: Some("1".into()),
            },
        ];
        assert_eq!(surplus, expected);
        let interrupted = OwnedImage::Built {
            tag: "app:3".into(),
            id: None,
        };
        assert_eq!(owned_image(&rows[2]), interrupted);
    }
}
