//! Log throughput: output through redaction into a file, and out of it again by a follower.
//! Each figure is of an answer that was checked. Run it with `cargo bench --bench logs`.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot do its work has to fail"
)]

use std::time::Instant;

use quire_run_files::logs::{Cursor, LogFollower, RunLog, StepKey, Stream};
use quire_runtime::changes::ChangeNotifier;
use quire_types::clock::Clock;
use quire_types::names::{JobName, RunId};
use quire_types::secret::{Redactor, Secret};

/// The size of a read from a busy pipe.
const CHUNK_BYTES: usize = 32 << 10;
/// How much each case writes.
const TOTAL_BYTES: usize = 128 << 20;

fn main() {
    let token = (
        "token",
        "ghp-aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY".to_owned(),
    );
    let key: String = (0..38_u32)
        .map(|n| format!("{}\n", letters(70, 1_000_000 + n)))
        .collect();
    let key = (
        "key",
        format!("-----BEGIN PRIVATE KEY-----\n{key}-----END PRIVATE KEY-----\n"),
    );
    let odd = ("password", "pa ss/w0rd+\"'\\%ü€".to_owned());
    println!(
        "{:<28} {:>12} {:>12} {:>14}",
        "output, secrets", "write MB/s", "read MB/s", "lines/s written"
    );
    for (what, secrets) in [
        ("none", vec![]),
        ("a token", vec![token.clone()]),
        ("a key, a token, a password", vec![key, token, odd]),
    ] {
        measure(&format!("lines, {what}"), &secrets, &chunk(72));
        measure(
            &format!("one line, {what}"),
            &secrets,
            &letters(CHUNK_BYTES, 1).into_bytes(),
        );
    }
    measure("lines of 5, none", &[], &chunk(5));
}

/// Text that looks like nothing in particular.
fn letters(length: usize, seed: u32) -> String {
    let mut state = seed;
    let mut letter = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 /"
                [(state >> 26) as usize],
        )
    };
    (0..length).map(|_| letter()).collect()
}

/// A chunk of whole lines of this length.
fn chunk(line: usize) -> Vec<u8> {
    (0..CHUNK_BYTES / (line + 1))
        .flat_map(|n| format!("{}\n", letters(line, n as u32)).into_bytes())
        .collect()
}

fn measure(what: &str, secrets: &[(&str, String)], chunk: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let secrets: Vec<(&str, Secret)> = secrets
        .iter()
        .map(|(name, value)| (*name, Secret::new(value.clone())))
        .collect();
    let redactor = Redactor::new(secrets.iter().map(|(name, secret)| (*name, secret)));
    let log = RunLog::create(
        folder.path().to_owned(),
        redactor,
        u64::MAX,
        Clock::system(),
        ChangeNotifier::default(),
        RunId::new(),
    )
    .unwrap();
    let job: JobName = "bench".parse().unwrap();
    let chunks = TOTAL_BYTES / chunk.len();

    let start = Instant::now();
    let mut step = log.step(&job, 1).unwrap();
    for _ in 0..chunks {
        step.write(Stream::Stdout, chunk);
    }
    step.finish();
    let written = start.elapsed().as_secs_f64();
    assert!(log.take_error().is_none());

    let start = Instant::now();
    let mut follower = LogFollower::open(folder.path().to_owned(), Cursor::default());
    let steps = [StepKey {
        seq: 1,
        job,
        done: true,
    }];
    let (mut bytes, mut lines) = (0, 0_usize);
    loop {
        let batch = follower.poll(&steps, 1 << 20).unwrap();
        bytes += batch
            .lines
            .iter()
            .map(|line| line.text.len() + usize::from(!line.partial))
            .sum::<usize>();
        lines += batch.lines.iter().filter(|line| !line.partial).count();
        if !batch.more {
            break;
        }
    }
    let read = start.elapsed().as_secs_f64();
    let newlines = chunk.iter().filter(|byte| **byte == b'\n').count();
    let unfinished = usize::from(chunk.last() != Some(&b'\n'));
    assert_eq!(
        (lines, bytes),
        (
            (newlines * chunks).max(unfinished),
            chunk.len() * chunks + unfinished
        ),
        "{what}"
    );

    let megabytes = (chunk.len() * chunks) as f64 / 1e6;
    println!(
        "{what:<28} {:>12.0} {:>12.0} {:>14.0}",
        megabytes / written,
        megabytes / read,
        lines as f64 / written
    );
}
