//! What goes, by what is asked to be kept: plain data in, plain data out.

use std::collections::HashSet;

use crate::clock::Millis;
use crate::executor::{BuiltImage, OwnImage};
use crate::names::{RepoName, RunId};
use crate::run::RunState;
use crate::store::{HeldRun, ImageRow, LayerRow};

/// How much of a repository's history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct History {
    /// So many runs; 0 for all.
    pub(super) runs: u32,
    /// Those that ended since; none for all.
    pub(super) since: Option<Millis>,
}

/// The files of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) run: RunId,
    pub(super) bytes: u64,
}

/// Runs that are never touched: those that have not ended, those that somebody needs, and of each
/// branch that there is the newest and the newest green one. `runs` is ordered, oldest first.
pub(super) fn essential(runs: &[HeldRun]) -> HashSet<RunId> {
    let (mut kept, mut seen, mut green) = (HashSet::new(), HashSet::new(), HashSet::new());
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

/// The runs that go, oldest first. `runs` is ordered, oldest first.
pub(super) fn expired(runs: &[HeldRun], essential: &HashSet<RunId>, keep: History) -> Vec<RunId> {
    let surplus = if keep.runs == 0 {
        0
    } else {
        runs.len().saturating_sub(keep.runs as usize)
    };
    let goes = |(place, run): &(usize, &HeldRun)| {
        let too_many = *place < surplus;
        let too_old = keep.since.is_some_and(|since| run.since < since);
        (too_many || too_old) && !essential.contains(&run.id)
    };
    runs.iter()
        .enumerate()
        .filter(goes)
        .map(|(_, run)| run.id)
        .collect()
}

/// The pieces that go so that the rest takes no more than `budget` bytes, the oldest first; 0 asks for nothing.
pub(super) fn over_budget(
    mut pieces: Vec<Piece>,
    essential: &HashSet<RunId>,
    budget: u64,
) -> Vec<Piece> {
    let mut total: u64 = pieces.iter().map(|piece| piece.bytes).sum();
    if budget == 0 || total <= budget {
        return Vec::new();
    }
    pieces.retain(|piece| !essential.contains(&piece.run) && piece.bytes > 0);
    pieces.sort_by_key(|piece| piece.run);
    let goes = |piece: &Piece| {
        let over = total > budget;
        total -= if over { piece.bytes } else { 0 };
        over
    };
    pieces.into_iter().take_while(goes).collect()
}

/// What of images there is, and what is known of each.
pub(super) struct Shelf<'a> {
    /// Built ones.
    pub(super) built: &'a [BuiltImage],
    /// Those that were pulled or built, by name.
    pub(super) rows: &'a [ImageRow],
    /// What builds stood on, the newest first.
    pub(super) layers: &'a [LayerRow],
    /// Repositories of built ones that are gone.
    pub(super) gone: HashSet<RepoName>,
    /// Repositories with runs that have not ended.
    pub(super) at_work: &'a [RepoName],
    /// Whether one of those has not begun: nobody knows yet which image it needs.
    pub(super) waits: bool,
    /// What was last used before goes; none for nothing.
    pub(super) cutoff: Option<Millis>,
    /// What came to nothing before may go: a build that failed may be tried again soon. None for nothing.
    pub(super) a_day_ago: Option<Millis>,
}

/// The images that go. Whether something needs one after all, the engine knows best.
pub(super) fn superfluous_images(shelf: &Shelf<'_>) -> Vec<OwnImage> {
    let named = |row: &ImageRow| OwnImage::Named {
        name: row.name.clone(),
        id: row.image_id.clone(),
    };
    let is_old = |row: &ImageRow| shelf.cutoff.is_some_and(|cutoff| row.used_at < cutoff);
    let is_built = |name: &str| shelf.built.iter().any(|image| image.name == name);
    let built = shelf.built.iter().filter_map(|image| {
        let row = shelf
            .rows
            .iter()
            .find(|row| row.name == image.name && row.image_id == image.id)?;
        // Without a name nobody asks for it.
        let goes = shelf.gone.contains(&image.repo) || image.name == image.id || is_old(row);
        (goes && !shelf.at_work.contains(&image.repo)).then(|| named(row))
    });
    let pulled = shelf
        .rows
        .iter()
        .filter(|row| !shelf.waits && !is_built(&row.name) && is_old(row))
        .map(named);
    // They go with what was built on them.
    let layers = shelf.layers.iter().filter(|layer| {
        !is_built(&layer.built_for) && shelf.a_day_ago.is_some_and(|then| layer.used_at < then)
    });
    let layers = layers.map(|layer| OwnImage::Layer {
        id: layer.image_id.clone(),
        since_ms: layer.since.0,
    });
    built.chain(pulled).chain(layers).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn held(rows: &[(Option<u32>, RunState, i64, bool)]) -> Vec<HeldRun> {
        // Ids made one after the other sort so.
        let mut runs: Vec<HeldRun> = rows
            .iter()
            .map(|(branch, state, since, needed)| HeldRun {
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
    fn the_newest_and_the_newest_green_of_each_branch_stay() {
        use RunState::{Active, Complete, Failed, Pending};
        let runs = held(&[
            (Some(0), Complete, 0, false), // an older green one
            (Some(0), Complete, 1, false), // the newest green one
            (Some(0), Failed, 2, false),
            (Some(0), Failed, 3, false),   // the newest
            (Some(1), Complete, 4, false), // both
            (None, Complete, 5, false),    // its branch is gone
            (None, Failed, 6, true),       // somebody needs it
            (None, Active, 7, false),
            (None, Pending, 8, false),
        ]);
        let essential = essential(&runs);
        let places = |goes: Vec<RunId>| -> Vec<usize> {
            goes.iter()
                .map(|id| runs.iter().position(|run| run.id == *id).unwrap())
                .collect()
        };
        assert_eq!(
            places(expired(
                &runs,
                &essential,
                History {
                    runs: 1,
                    since: None
                }
            )),
            [0, 2, 5]
        );
        assert_eq!(
            places(expired(
                &runs,
                &essential,
                History {
                    runs: 0,
                    since: Some(Millis(5))
                }
            )),
            [0, 2]
        );
        assert_eq!(
            places(expired(
                &runs,
                &essential,
                History {
                    runs: 8,
                    since: None
                }
            )),
            [0]
        );
        assert_eq!(
            places(expired(
                &runs,
                &essential,
                History {
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
        /// Against its statement: what goes may go, and what stays has a reason.
        #[test]
        fn what_goes_may_go_and_what_stays_has_a_reason(
            rows in proptest::collection::vec((proptest::option::of(0..4_u32), state(), 0..20_i64, any::<bool>()), 0..40),
            keep in (0..10_u32, proptest::option::of(0..20_i64)),
        ) {
            let runs = held(&rows);
            let keep = History { runs: keep.0, since: keep.1.map(Millis) };
            let gone: HashSet<RunId> = expired(&runs, &essential(&runs), keep).into_iter().collect();
            for (place, run) in runs.iter().enumerate() {
                let newer = &runs[place + 1..];
                let same = |other: &&HeldRun| run.branch.is_some() && other.branch == run.branch;
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
        fn what_is_left_fits_and_no_more_goes_than_has_to(
            rows in proptest::collection::vec((0..50_u64, any::<bool>()), 0..20), budget in 0..300_u64,
        ) {
            let mut ids: Vec<RunId> = rows.iter().map(|_| RunId::new()).collect();
            ids.sort();
            let pieces: Vec<Piece> = ids.iter().zip(&rows).map(|(run, (bytes, _))| Piece { run: *run, bytes: *bytes }).collect();
            let kept: HashSet<RunId> = ids.iter().zip(&rows).filter(|(_, row)| row.1).map(|(id, _)| *id).collect();
            let gone = over_budget(pieces.iter().rev().copied().collect(), &kept, budget);
            let total: u64 = pieces.iter().map(|piece| piece.bytes).sum();
            let freed: u64 = gone.iter().map(|piece| piece.bytes).sum();
            let may: Vec<Piece> = pieces.iter().filter(|piece| piece.bytes > 0 && !kept.contains(&piece.run)).copied().collect();
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

    #[test]
    fn images_go_when_nobody_uses_them_and_never_from_a_repository_at_work() {
        let repo = |name: &str| name.parse::<RepoName>().unwrap();
        let built = |name: &str, of: &str| BuiltImage {
            name: name.into(),
            id: format!("id of {name}"),
            repo: repo(of),
        };
        let row = |name: &str, used: i64| ImageRow {
            name: name.into(),
            image_id: format!("id of {name}"),
            used_at: Millis(used),
        };
        let layer = |id: &str, of: &str, used: i64| LayerRow {
            image_id: id.into(),
            since: Millis(1),
            built_for: of.into(),
            used_at: Millis(used),
        };
        let unnamed = BuiltImage {
            name: "sha256:9".into(),
            id: "sha256:9".into(),
            repo: repo("app"),
        };
        let all = [
            built("app:new", "app"),
            built("app:old", "app"),
            built("busy:old", "busy"),
            built("gone:new", "gone"),
            unnamed,
        ];
        let mut rows: Vec<ImageRow> = [
            ("app:new", 90),
            ("app:old", 10),
            ("busy:old", 10),
            ("gone:new", 90),
            ("debian", 90),
            ("node", 10),
        ]
        .map(|(name, used)| row(name, used))
        .to_vec();
        rows.push(ImageRow {
            name: "sha256:9".into(),
            image_id: "sha256:9".into(),
            used_at: Millis(90),
        });
        let layers = [
            layer("a", "app:new", 1),
            layer("b", "app:failed", 80),
            layer("c", "app:failed", 20),
        ];
        let goes = |waits: bool,
                    at_work: &[RepoName],
                    cutoff: Option<i64>,
                    day: Option<i64>|
         -> Vec<String> {
            let shelf = Shelf {
                built: &all,
                rows: &rows,
                layers: &layers,
                gone: HashSet::from([repo("gone")]),
                at_work,
                waits,
                cutoff: cutoff.map(Millis),
                a_day_ago: day.map(Millis),
            };
            superfluous_images(&shelf)
                .iter()
                .map(|image| image.name().to_owned())
                .collect()
        };
        assert_eq!(
            goes(false, &[repo("busy")], Some(50), Some(60)),
            ["app:old", "gone:new", "sha256:9", "node", "c"]
        );
        assert_eq!(
            goes(true, &[repo("busy"), repo("app")], Some(50), Some(60)),
            ["gone:new", "c"]
        );
        assert_eq!(goes(false, &[repo("app")], None, None), ["gone:new"]);
        assert_eq!(goes(false, &[], None, None), ["gone:new", "sha256:9"]);
    }
}
