//! What goes, by what is asked to be kept: plain data in, plain data out.

use std::collections::HashSet;

use crate::clock::Millis;
use crate::names::RunId;
use crate::run::RunState;
use crate::store::HeldRun;

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
    let surplus = if keep.runs == 0 { 0 } else { runs.len().saturating_sub(keep.runs as usize) };
    let goes = |(place, run): &(usize, &HeldRun)| {
        let too_many = *place < surplus;
        let too_old = keep.since.is_some_and(|since| run.since < since);
        (too_many || too_old) && !essential.contains(&run.id)
    };
    runs.iter().enumerate().filter(goes).map(|(_, run)| run.id).collect()
}

/// The pieces that go so that the rest takes no more than `budget` bytes, the oldest first; 0 asks for nothing.
pub(super) fn over_budget(mut pieces: Vec<Piece>, essential: &HashSet<RunId>, budget: u64) -> Vec<Piece> {
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
        let places =
            |goes: Vec<RunId>| -> Vec<usize> { goes.iter().map(|id| runs.iter().position(|run| run.id == *id).unwrap()).collect() };
        assert_eq!(places(expired(&runs, &essential, History { runs: 1, since: None })), [0, 2, 5]);
        assert_eq!(places(expired(&runs, &essential, History { runs: 0, since: Some(Millis(5)) })), [0, 2]);
        assert_eq!(places(expired(&runs, &essential, History { runs: 8, since: None })), [0]);
        assert_eq!(places(expired(&runs, &essential, History { runs: 0, since: None })), [0; 0]);
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
}
