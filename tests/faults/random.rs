//! Killed at random moments while several people push.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::forge::TestForge;
use super::{LEAVES_A_PROCESS, check_nothing_is_lost};

/// How long it goes on.
const TIME: Duration = Duration::from_secs(20);

/// A small generator of numbers; good enough for moments.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Tells the pushers that it is over.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_server_killed_at_random_moments_during_pushes() {
    let given = std::env::var("QUIRE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| quire::clock::Clock::system().now().0.unsigned_abs()) | 1;
    println!("seed: QUIRE_TEST_SEED={seed}");
    let mut random = Random(seed);
    let mut forge = TestForge::start();
    let trees: Vec<_> = (0..3).map(|at| forge.tree_with(&format!("app-{at}"), LEAVES_A_PROCESS)).collect();
    let over = AtomicBool::new(false);
    let (mut kills, mut pushed) = (0, BTreeMap::new());
    std::thread::scope(|scope| {
        let pushers: Vec<_> = trees
            .iter()
            .enumerate()
            .map(|(at, tree)| {
                let (over, mut random) = (&over, Random(seed.wrapping_add(at as u64 + 1) | 1));
                scope.spawn(move || {
                    let mut commits = Vec::new();
                    while !over.load(Ordering::Relaxed) {
                        let commit = tree.commit("more");
                        let branch = format!("main:b{}", random.below(3));
                        // Git says yes whatever the server does.
                        tree.push(&["--force", &branch]);
                        commits.push(commit);
                    }
                    commits
                })
            })
            .collect();
        // Also where this thread fails, or the others would go on for ever.
        let ending = Over(&over);
        let end = Instant::now() + TIME;
        while Instant::now() < end {
            // A moment of the test's own making, not a wait for something.
            std::thread::sleep(Duration::from_millis(random.below(600)));
            forge.kill();
            kills += 1;
            if random.below(2) == 0 {
                forge.serve();
            } else {
                forge.spawn();
            }
        }
        drop(ending);
        for (at, pusher) in pushers.into_iter().enumerate() {
            pushed.insert(format!("app-{at}"), pusher.join().unwrap());
        }
    });
    forge.kill();
    forge.serve();
    check_nothing_is_lost(&forge);
    let count: usize = pushed.values().map(Vec::len).sum();
    println!("{kills} kills, {count} pushes, {} runs", forge.runs().len());
    assert!(kills > 3 && count > 3);
    for (repo, commits) in pushed {
        let runs = forge.runs_of(&repo);
        for commit in commits {
            assert!(runs.iter().any(|run| run.sha.as_str() == commit), "{repo} {commit} has no run (seed {seed})");
        }
    }
}
