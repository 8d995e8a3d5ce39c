//! What a new run means for the runs of the same ref that have not ended: plain data in, plain
//! data out. The queue asks, the store writes what was answered in the same transaction.

use crate::names::RunId;
use crate::run::RunState;

/// A run of the same repository and ref that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The run.
    pub id: RunId,
    /// `Pending` or `Active`.
    pub state: RunState,
    /// Whether it has been asked to stop already.
    pub stopping: bool,
}

/// What becomes of a standing run when a newer one enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// It has not started: superseded at once.
    AtOnce(RunId),
    /// It is active: the runner is asked to stop it, and it is superseded when its container is gone.
    Stop(RunId),
}

/// A newer push to the same ref takes the place of everything that stands.
#[must_use]
pub fn on_new_run(standing: &[Standing]) -> Vec<Replace> {
    let replace = |run: &Standing| match run.state {
        RunState::Pending => Some(Replace::AtOnce(run.id)),
        RunState::Active if !run.stopping => Some(Replace::Stop(run.id)),
        _ => None,
    };
    standing.iter().filter_map(replace).collect()
}

/// Whether an orphaned run is queued again: once, and not when it was to be stopped anyway.
#[must_use]
pub fn requeue_orphan(is_second_try: bool, stopping: bool, enabled: bool) -> bool {
    enabled && !is_second_try && !stopping
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// After the answer is carried out at most one run of the ref is left that nobody has asked to stop: the new one.
        #[test]
        fn only_the_new_run_goes_on(states in proptest::collection::vec((0..2_u8, any::<bool>()), 0..8)) {
            let standing: Vec<Standing> = states.iter().map(|(state, stopping)| Standing {
                id: RunId::new(),
                state: if *state == 0 { RunState::Pending } else { RunState::Active },
                stopping: *state == 1 && *stopping,
            }).collect();
            let answers = on_new_run(&standing);
            for run in &standing {
                let at_once = answers.contains(&Replace::AtOnce(run.id));
                let stop = answers.contains(&Replace::Stop(run.id));
                prop_assert_eq!(at_once, run.state == RunState::Pending);
                prop_assert_eq!(stop, run.state == RunState::Active && !run.stopping);
            }
        }
    }

    #[test]
    fn an_orphan_is_queued_again_once() {
        assert!(requeue_orphan(false, false, true));
        assert!(!requeue_orphan(true, false, true));
        assert!(!requeue_orphan(false, true, true));
        assert!(!requeue_orphan(false, false, false));
    }
}
