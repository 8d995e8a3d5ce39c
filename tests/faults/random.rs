//! Killed at random moments while several people push.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quire_testkit::{TestForge, Tree};

use super::{LEAVES_A_PROCESS, Random, settled, settled_well};
use crate::QUIRE;

/// Tells the others that it is over, also where a thread fails: they would go on for ever.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What may be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Server,
    Driver,
    Hook,
    /// `quire exec`, or the git it became.
    Git,
}

/// Kills one process of the kind where there is one just now.
fn kill_one(forge: &TestForge, victim: Victim) -> bool {
    let is_it = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line
            .split(|byte| *byte == 0)
            .map(String::from_utf8_lossy)
            .collect();
        let program = words
            .first()
            .map(|word| word.rsplit('/').next().unwrap_or_default().to_owned())
            .unwrap_or_default();
        let verb = words.get(1).map(AsRef::as_ref).unwrap_or_default();
        match victim {
            Victim::Server => false,
            Victim::Driver => program == "quire" && verb == "driver",
            Victim::Hook => program == "post-receive",
            Victim::Git => {
                program == "git" && verb == "receive-pack" || program == "quire" && verb == "exec"
            }
        }
    };
    let mut all = forge.processes();
    // A driver's environment is empty: it is known by its parent.
    if victim == Victim::Driver {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", forge.pid()))
            .unwrap_or_default();
        all.extend(
            children
                .split_whitespace()
                .filter_map(|pid| pid.parse::<i32>().ok()),
        );
        let threads = fs::read_dir(format!("/proc/{}/task", forge.pid()))
            .into_iter()
            .flatten()
            .flatten();
        for thread in threads {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            all.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<i32>().ok()),
            );
        }
    }
    all.into_iter()
        .find(is_it)
        .is_some_and(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok())
}

/// Pushes at random branches; gives the commits that were accepted.
fn push(
    tree: &Tree,
    pushes: usize,
    over: &AtomicBool,
    done: &AtomicUsize,
    mut random: Random,
) -> Vec<String> {
    let mut accepted = Vec::new();
    for _ in 0..pushes {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let commit = tree.commit("more");
        let branch = format!("main:b{}", random.below(3));
        if tree
            .git(&["push", "-q", "origin", "--force", &branch])
            .status
            .success()
        {
            accepted.push(commit);
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    accepted
}

/// Several people push while these are killed at random moments; gives what was accepted, by repository.
fn storm(
    forge: &mut TestForge,
    victims: &[Victim],
    pushes: usize,
) -> (BTreeMap<String, Vec<String>>, BTreeMap<Victim, usize>) {
    const PEOPLE: usize = 4;
    let (mut random, seed) = Random::seeded();
    let trees: Vec<_> = (0..PEOPLE)
        .map(|at| forge.tree_with(&format!("app-{at}"), LEAVES_A_PROCESS))
        .collect();
    let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut kills, mut accepted) = (BTreeMap::new(), BTreeMap::new());
    std::thread::scope(|scope| {
        let (over, done) = (&over, &done);
        let people: Vec<_> = trees
            .iter()
            .enumerate()
            .map(|(at, tree)| {
                let random = Random(seed.wrapping_add(at as u64 + 1) | 1);
                scope.spawn(move || push(tree, pushes / PEOPLE, over, done, random))
            })
            .collect();
        let ending = Over(over);
        let mut struck = 0;
        while done.load(Ordering::Relaxed) < pushes
            && !people
                .iter()
                .all(std::thread::ScopedJoinHandle::is_finished)
        {
            let victim = victims[usize::try_from(random.below(victims.len() as u64)).unwrap()];
            // A moment of the test's own making, not a wait for something.
            let longest = if victim == Victim::Server { 600 } else { 60 };
            std::thread::sleep(Duration::from_millis(random.below(longest)));
            if victim != Victim::Server {
                // On a slow machine a push takes many moments; some have to get through.
                let so_far = done.load(Ordering::Relaxed);
                if so_far > struck && kill_one(forge, victim) {
                    *kills.entry(victim).or_default() += 1;
                    struck = so_far;
                }
                continue;
            }
            forge.kill();
            *kills.entry(victim).or_default() += 1;
            if random.below(2) == 0 {
                forge.serve();
            } else {
                forge.spawn();
            }
        }
        for (at, person) in people.into_iter().enumerate() {
            accepted.insert(format!("app-{at}"), person.join().unwrap());
        }
        drop(ending);
    });
    forge.kill();
    forge.serve();
    let count: usize = accepted.values().map(Vec::len).sum();
    println!(
        "{kills:?} killed, {} pushes, {count} accepted, seed {seed}",
        done.load(Ordering::Relaxed)
    );
    (accepted, kills)
}

#[test]
fn the_server_killed_at_random_moments_during_pushes() {
    let mut forge = TestForge::start(QUIRE);
    let (accepted, kills) = storm(&mut forge, &[Victim::Server], 80);
    settled_well(&forge);
    assert!(kills[&Victim::Server] > 3, "{kills:?}");
    // Git says yes whatever the server does, and each push has its run.
    for (repo, commits) in accepted {
        assert_eq!(commits.len(), 20, "{repo}");
        let runs = forge.runs_of(&repo);
        for commit in commits {
            assert!(
                runs.iter().any(|run| run.sha.as_str() == commit),
                "{repo} {commit} has no run"
            );
        }
    }
}

#[test]
fn anything_killed_at_random_moments_during_two_hundred_pushes() {
    let mut forge = TestForge::start(QUIRE);
    let victims = [
        Victim::Server,
        Victim::Driver,
        Victim::Hook,
        Victim::Git,
        Victim::Git,
    ];
    let (accepted, kills) = storm(&mut forge, &victims, 200);
    settled(&forge);
    assert!(
        victims
            .iter()
            .all(|victim| kills.get(victim).is_some_and(|count| *count > 0)),
        "{kills:?}"
    );
    assert!(accepted.values().map(Vec::len).sum::<usize>() > 40);
}
