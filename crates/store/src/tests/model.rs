//! Random lives of runs against a simple model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What the model knows of a run.
#[derive(Debug, Clone, PartialEq)]
struct Model {
    state: RunState,
    container: bool,
    stop: bool,
    slot: u8,
}

#[derive(Debug, Clone)]
enum Act {
    Push(u8),
    Claim,
    Container(usize),
    Gone(usize),
    Finish(usize, u8),
    Cancel(usize),
    Orphan(usize),
    Clock(i64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..3_u8).prop_map(Act::Push),
        3 => Just(Act::Claim),
        1 => any::<usize>().prop_map(Act::Container),
        1 => any::<usize>().prop_map(Act::Gone),
        2 => (any::<usize>(), 0..3_u8).prop_map(|(run, how)| Act::Finish(run, how)),
        1 => any::<usize>().prop_map(Act::Cancel),
        1 => any::<usize>().prop_map(Act::Orphan),
        1 => (-5_000_000..5_000_000_i64).prop_map(Act::Clock),
    ]
}

/// Plays an act on the model: whether the store must accept it.
fn play(f: &Fixture, model: &mut BTreeMap<RunId, Model>, order: &mut Vec<RunId>, act: Act) {
    let pick = |index: usize| (!order.is_empty()).then(|| order[index % order.len()]);
    match act {
        Act::Push(slot) => {
            let id = record(&f.store, "app", &[&format!("b{slot}")])[0];
            for run in model.values_mut().filter(|run| run.slot == slot) {
                match run.state {
                    RunState::Pending => run.state = RunState::Superseded,
                    RunState::Active => run.stop = true,
                    _ => {}
                }
            }
            model.insert(
                id,
                Model {
                    state: RunState::Pending,
                    container: false,
                    stop: false,
                    slot,
                },
            );
            order.push(id);
        }
        Act::Claim => {
            let busy: Vec<u8> = model
                .values()
                .filter(|run| run.state == RunState::Active)
                .map(|run| run.slot)
                .collect();
            let free = order
                .iter()
                .any(|id| model[id].state == RunState::Pending && !busy.contains(&model[id].slot));
            let claimed = f.store.queue().claim_next(&ExecutorName::DOCKER).unwrap();
            assert_eq!(claimed.is_some(), free);
            if let Some(run) = claimed {
                let entry = model.get_mut(&run.id).unwrap();
                assert!(entry.state == RunState::Pending && !busy.contains(&entry.slot));
                entry.state = RunState::Active;
            }
        }
        Act::Container(index) => {
            let Some(id) = pick(index) else { return };
            let entry = model.get_mut(&id).unwrap();
            let accepted = f.store.runs().container_created(id, "c", "i").is_ok();
            assert_eq!(accepted, entry.state == RunState::Active);
            entry.container |= accepted;
        }
        Act::Gone(index) => {
            let Some(id) = pick(index) else { return };
            let entry = model.get_mut(&id).unwrap();
            assert_eq!(
                f.store.runs().container_ended(id).is_ok(),
                entry.state == RunState::Active
            );
            entry.container &= entry.state != RunState::Active;
        }
        Act::Finish(index, how) => {
            let Some(id) = pick(index) else { return };
            let entry = model.get_mut(&id).unwrap();
            let outcome = match how {
                0 => Outcome::Complete,
                1 => Outcome::Failed(FailureKind::Job, "no".into()),
                2 => Outcome::Canceled,
                _ => Outcome::Superseded,
            };
            let accepted = f.store.runs().finish(id, &outcome).is_ok();
            assert_eq!(
                accepted,
                entry.state == RunState::Active && !entry.container
            );
            if accepted {
                entry.state = outcome.state();
            }
        }
        Act::Cancel(index) => {
            let Some(id) = pick(index) else { return };
            let entry = model.get_mut(&id).unwrap();
            let accepted = f.store.runs().request_cancel(id).unwrap();
            match entry.state {
                RunState::Pending => {
                    assert!(accepted);
                    entry.state = RunState::Canceled;
                }
                RunState::Active => {
                    assert_eq!(accepted, !entry.stop);
                    entry.stop = true;
                }
                _ => assert!(!accepted),
            }
        }
        Act::Orphan(index) => {
            let Some(id) = pick(index) else { return };
            let entry = model.get_mut(&id).unwrap();
            let accepted = f
                .store
                .runs()
                .orphan(id, "gone", false, supersede::superseded_runs)
                .is_ok();
            assert_eq!(
                accepted,
                entry.state == RunState::Active && !entry.container
            );
            if accepted {
                entry.state = f.store.runs().get(id).unwrap().unwrap().state;
                assert!(entry.state.is_final());
            }
        }
        Act::Clock(by) => {
            f.clock.fetch_add(by, Ordering::SeqCst);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is asked of the store, in whatever order and with whatever clock, its rows are the model's.
    #[test]
    fn random_lives_follow_the_model(acts in proptest::collection::vec(act(), 1..60)) {
        let f = fixture();
        let (mut model, mut order) = (BTreeMap::new(), Vec::new());
        for act in acts {
            play(&f, &mut model, &mut order, act);
            for (id, expected) in &model {
                let row = f.store.runs().get(*id).unwrap().unwrap();
                prop_assert_eq!(row.state, expected.state);
                prop_assert_eq!(row.container_id.is_some(), expected.container);
                prop_assert!(row.finished_at_ms.is_none_or(|end| end >= row.queued_at_ms));
            }
        }
    }
}
