//! The store with a million runs: claiming the next one, the newest fifty, an older page, and
//! recording a push. Each answer is checked. Run it with `cargo bench --bench store`.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot do its work has to fail"
)]

use std::time::{Duration, Instant};

use quire_store::{CurrentRefs, Journal, NewRun, RunFilter, Store};
use quire_types::clock::{Clock, Millis};
use quire_types::names::{EventId, ObjectId, RefName, RepoName, RunId};
use quire_types::push_event::{EventType, PushEvent, RefUpdate};
use quire_types::run::{ExecutorName, Outcome};
use quire_types::supersede;

/// Runs in the database, ended ones but for those that wait.
const RUNS: u64 = 1_000_000;
/// Runs that wait, each of a ref of its own.
const WAITING: u64 = 1_000;
/// What the medians should stay below.
const AIM: Duration = Duration::from_millis(10);

fn main() {
    // `cargo test --benches` and `--quick` runs: the same with less.
    let quick = std::env::var_os("QUIRE_BENCH_QUICK").is_some()
        || !std::env::args().any(|argument| argument == "--bench");
    let (runs, rounds) = if quick { (20_000, 50) } else { (RUNS, 500) };
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("quire.db");
    let open = || {
        Store::open(
            &database,
            &folder.path().join("backups"),
            Journal::Wal,
            Clock::system(),
        )
        .unwrap()
    };
    drop(open());
    fill(&database, runs);
    let store = open();
    let repo: RepoName = "app-7".parse().unwrap();

    println!(
        "{runs} runs, {WAITING} of them waiting, in {} MB",
        store.database_bytes() / 1_000_000
    );
    println!("{:<44} {:>10} {:>10} {:>10}", "", "median", "99th", "least");
    let mut claimed = Vec::new();
    figure("claim the next run (durable)", rounds, || {
        claimed.push(
            store
                .queue()
                .claim_next(&ExecutorName::HOST)
                .unwrap()
                .unwrap()
                .id,
        )
    });
    assert!(claimed.is_sorted(), "the oldest comes first");
    figure("end a run (durable)", rounds, || {
        store
            .runs()
            .finish(claimed.pop().unwrap(), &Outcome::Complete)
            .unwrap()
    });
    figure("look whether one can be claimed", rounds, || {
        assert!(store.queue().has_claimable().unwrap())
    });
    let newest = |filter: RunFilter| {
        let page = store
            .runs()
            .list(&RunFilter {
                limit: 50,
                ..filter
            })
            .unwrap();
        assert!(page.len() == 50 && page.is_sorted_by(|a, b| a.id > b.id));
        page
    };
    figure("the newest 50 runs", rounds, || {
        drop(newest(RunFilter::default()))
    });
    figure("the newest 50 of a repository", rounds, || {
        drop(newest(RunFilter {
            repo: Some(repo.clone()),
            ..RunFilter::default()
        }))
    });
    let middle: RunId = id(runs / 2).parse().unwrap();
    figure("50 runs from the middle", rounds, || {
        assert!(
            newest(RunFilter {
                before: Some(middle),
                ..RunFilter::default()
            })[0]
                .id
                < middle
        );
    });
    figure("one run by its id", rounds, || {
        assert!(store.runs().get(middle).unwrap().is_some())
    });
    figure("what reconciling asks for", rounds, || {
        assert!(store.runs().active().unwrap().len() <= 1000)
    });
    figure("open it again, as at a start", rounds.min(50), || {
        drop(open())
    });
    let mut pushes = 0;
    figure("record a push with its run (durable)", rounds, || {
        pushes += 1;
        let (event, run) = push(&repo, pushes);
        let recorded = store
            .events()
            .record(
                &event,
                &[run],
                &CurrentRefs::new(),
                supersede::superseded_runs,
            )
            .unwrap();
        assert!(recorded.is_new && recorded.runs.len() == 1);
    });
}

/// Measures and prints, with a word where the median misses the aim.
fn figure(what: &str, rounds: u32, mut work: impl FnMut()) {
    work();
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed()
        })
        .collect();
    times.sort();
    let (median, late) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    let shown = |time: Duration| format!("{:.3} ms", time.as_secs_f64() * 1000.0);
    println!(
        "{what:<44} {:>10} {:>10} {:>10}{}",
        shown(median),
        shown(late),
        shown(times[0]),
        if median > AIM { "  over 10 ms" } else { "" }
    );
}

/// The id of the run with this number; they sort by it.
fn id(number: u64) -> String {
    format!("01900000-0000-7000-8000-{number:012}")
}

/// Fills the tables by SQL: the store's own way would take minutes.
fn fill(database: &std::path::Path, runs: u64) {
    let connection = rusqlite::Connection::open(database).unwrap();
    let ended = runs - WAITING;
    let sql = format!(
        "PRAGMA synchronous = OFF;
         BEGIN;
         WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {runs} - 1)
         INSERT INTO runs (id, repo, number, ref_name, sha, \"trigger\", pusher, state, failure_kind, pushed_at_ms, queued_at_ms, started_at_ms,
                           finished_at_ms, executor)
         SELECT printf('01900000-0000-7000-8000-%012d', i), 'app-' || (i % 40), i + 1, 'refs/heads/' || CASE WHEN i < {ended} THEN i % 7 ELSE i END,
                printf('%040x', i), 'push', 'laptop',
                CASE WHEN i >= {ended} THEN 'pending' WHEN i % 10 = 0 THEN 'failed' ELSE 'complete' END,
                CASE WHEN i < {ended} AND i % 10 = 0 THEN 'job' END,
                1700000000000 + i, 1700000000000 + i,
                CASE WHEN i < {ended} THEN 1700000000000 + i END, CASE WHEN i < {ended} THEN 1700000000900 + i END,
                CASE WHEN i < {ended} THEN 'docker' END
         FROM n;
         INSERT INTO run_numbers (repo, last) SELECT repo, max(number) FROM runs GROUP BY repo;
         COMMIT;
         PRAGMA wal_checkpoint(TRUNCATE);"
    );
    connection.execute_batch(&sql).unwrap();
    let count: i64 = connection
        .query_row("SELECT count(*) FROM runs", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, i64::try_from(runs).unwrap());
}

/// A push of one branch to a commit of its own.
fn push(repo: &RepoName, number: u64) -> (PushEvent, NewRun) {
    let ref_name: RefName = format!("refs/heads/bench-{number}").parse().unwrap();
    let sha: ObjectId = format!("{:040x}", (1_u64 << 40) + number).parse().unwrap();
    let old_sha: ObjectId = "0".repeat(40).parse().unwrap();
    let pushed_at = Millis(1_800_000_000_000);
    let update = RefUpdate {
        ref_name: ref_name.clone(),
        old_sha,
        new_sha: sha.clone(),
    };
    let event = PushEvent {
        id: EventId::new(),
        event_type: EventType::Push,
        repo: repo.clone(),
        pusher: Some("laptop".to_owned()),
        pushed_at,
        options: Vec::new(),
        refs: vec![update],
    };
    let run = NewRun {
        pusher: event.pusher.clone(),
        ..NewRun::of_push(repo.clone(), ref_name, sha, pushed_at)
    };
    (event, run)
}
