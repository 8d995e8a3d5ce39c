use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;

use proptest::prelude::*;

use super::*;
use crate::logs::line::{MAX_TEXT_BYTES, Stamp, Stream, encode};
use quire_types::clock::Millis;

fn job() -> JobName {
    "test".parse().unwrap()
}

fn key(seq: u32, done: bool) -> StepKey {
    StepKey {
        seq,
        job: job(),
        done,
    }
}

fn append(path: &std::path::Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap()
        .write_all(bytes)
        .unwrap();
}

fn line(millis: i64, text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    encode(
        &mut out,
        &Stamp::new(Millis(millis)),
        Stream::Stdout,
        false,
        text.as_bytes(),
    );
    out
}

fn texts(batch: &Batch) -> Vec<&str> {
    batch
        .lines
        .iter()
        .map(|line| std::str::from_utf8(&line.text).unwrap())
        .collect()
}

#[test]
fn files_are_merged_by_time_and_keep_their_own_order() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (
        Paths::step_log(folder.path(), &job(), 1),
        Paths::step_log(folder.path(), &job(), 2),
    );
    append(
        &Paths::run_log(folder.path()),
        &[line(1, "start"), line(7, "end")].concat(),
    );
    // The clock was set back in the middle.
    append(&one, &[line(2, "a"), line(6, "b"), line(3, "c")].concat());
    append(&two, &[line(4, "x"), line(7, "y")].concat());
    let mut follower = LogFollower::open(folder.path().to_owned(), Cursor::default());
    let batch = follower
        .poll(&[key(1, true), key(2, false)], usize::MAX)
        .unwrap();
    assert_eq!(texts(&batch), ["start", "a", "x", "b", "c", "y", "end"]);
    assert_eq!(batch.lines[0].seq, None);
    assert_eq!(
        (batch.lines[2].seq, batch.lines[2].job.clone()),
        (Some(2), Some(job()))
    );
    assert!(follower.cursor().is_read(1) && !follower.cursor().is_read(2));
    assert_eq!(
        follower
            .poll(&[key(1, true), key(2, false)], usize::MAX)
            .unwrap(),
        Batch::default()
    );
}

#[test]
fn a_folder_that_is_moved_is_followed_on() {
    let root = tempfile::tempdir().unwrap();
    let (old, new) = (root.path().join("old"), root.path().join("new"));
    let of = |folder: &PathBuf| Paths::step_log(folder, &job(), 1);
    append(&of(&old), &line(1, "before"));
    let mut follower = LogFollower::open(old.clone(), Cursor::default());
    assert_eq!(
        texts(&follower.poll(&[key(1, false)], 1000).unwrap()),
        ["before"]
    );
    std::fs::rename(&old, &new).unwrap();
    append(&of(&new), &line(2, "after"));
    assert_eq!(
        texts(&follower.poll(&[key(1, true)], 1000).unwrap()),
        ["after"],
        "it holds the folder, not its name"
    );
    // One that was not there yet comes by another name.
    let mut early = LogFollower::open(old, Cursor::default());
    assert_eq!(early.poll(&[], 1000).unwrap(), Batch::default());
    early.lies_in(new);
    assert_eq!(
        texts(&early.poll(&[key(1, true)], 1000).unwrap()),
        ["before", "after"]
    );
}

#[test]
fn a_torn_line_waits_and_is_given_when_the_step_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = Paths::step_log(folder.path(), &job(), 1);
    let torn = line(1, "torn");
    append(&path, &torn[..torn.len() - 3]);
    let mut follower = LogFollower::open(folder.path().to_owned(), Cursor::default());
    assert_eq!(
        texts(&follower.poll(&[key(1, false)], 1000).unwrap()),
        Vec::<&str>::new()
    );
    assert_eq!(
        texts(&follower.poll(&[key(1, true)], 1000).unwrap()),
        ["to"]
    );
    assert_eq!(
        texts(&follower.poll(&[key(1, true)], 1000).unwrap()),
        Vec::<&str>::new()
    );
    assert_eq!(follower.cursor().to_string(), "0.1-1");
}

#[test]
fn a_torn_head_is_nothing_when_the_step_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    append(&Paths::step_log(folder.path(), &job(), 1), b"2026-01-0");
    let mut follower = LogFollower::open(folder.path().to_owned(), Cursor::default());
    assert_eq!(
        follower.poll(&[key(1, true)], 1000).unwrap(),
        Batch::default()
    );
    assert_eq!(follower.cursor().to_string(), "0.1-1");
}

#[test]
fn a_step_without_a_log_is_read_once_it_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let mut follower = LogFollower::open(folder.path().to_owned(), Cursor::default());
    assert_eq!(
        follower.poll(&[key(1, true), key(2, false)], 1000).unwrap(),
        Batch::default()
    );
    assert_eq!(follower.cursor().to_string(), "0.1-1");
}

#[test]
fn memory_is_bounded_and_running_steps_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    for seq in 1..=3 {
        let lines: Vec<u8> = (0..200).flat_map(|n| line(n, "")).collect();
        append(&Paths::step_log(folder.path(), &job(), seq), &lines);
    }
    let steps = [key(1, false), key(2, false), key(3, false)];
    let mut follower = LogFollower::open(folder.path().to_owned(), Cursor::default());
    let mut turns = Vec::new();
    for _ in 0..3 {
        let batch = follower.poll(&steps, 1000).unwrap();
        assert!(batch.more && batch.lines.len() < 20);
        turns.push(batch.lines[0].seq.unwrap());
    }
    turns.sort_unstable();
    assert_eq!(turns, [1, 2, 3]);
}

#[test]
fn an_error_moves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    append(&Paths::run_log(folder.path()), &line(1, "own"));
    let path = Paths::step_log(folder.path(), &job(), 1);
    std::fs::create_dir_all(&path).unwrap();
    let mut follower = LogFollower::open(folder.path().to_owned(), Cursor::default());
    assert!(follower.poll(&[key(1, false)], 1000).is_err());
    std::fs::remove_dir(&path).unwrap();
    assert_eq!(
        texts(&follower.poll(&[key(1, false)], 1000).unwrap()),
        ["own"]
    );
}

/// One thing that happens to a run's logs or its follower.
#[derive(Debug, Clone)]
enum Act {
    /// A step (0: the run itself) writes so many lines of this length; the last one may come in two halves.
    Write {
        seq: u32,
        lines: u8,
        length: usize,
        torn: bool,
    },
    /// A step ends.
    End(u32),
    /// The follower polls.
    Poll(usize),
    /// The follower goes, and another comes with its position as text.
    Resume,
}

fn act() -> impl Strategy<Value = Act> {
    let length = prop_oneof![0..80_usize, Just(MAX_TEXT_BYTES)];
    prop_oneof![
        6 => (0..6_u32, 0..12_u8, length, any::<bool>()).prop_map(|(seq, lines, length, torn)| Act::Write { seq, lines, length, torn }),
        2 => (1..6_u32).prop_map(Act::End),
        5 => prop_oneof![Just(0), 1..3000_usize, Just(1 << 20)].prop_map(Act::Poll),
        3 => Just(Act::Resume),
    ]
}

/// Files as they are written, and what a follower got of them.
struct Model {
    folder: tempfile::TempDir,
    ended: [bool; 6],
    /// What is still to be written of a line whose beginning is in the file.
    halves: BTreeMap<u32, Vec<u8>>,
    written: BTreeMap<u32, Vec<Vec<u8>>>,
    got: BTreeMap<u32, Vec<Vec<u8>>>,
    count: u64,
}

impl Model {
    fn path(&self, seq: u32) -> PathBuf {
        if seq == 0 {
            Paths::run_log(self.folder.path())
        } else {
            Paths::step_log(self.folder.path(), &job(), seq)
        }
    }

    fn complete_half(&mut self, seq: u32) {
        if let Some(half) = self.halves.remove(&seq) {
            append(&self.path(seq), &half);
        }
    }

    fn write(&mut self, seq: u32, lines: u8, length: usize, torn: bool) {
        self.complete_half(seq);
        for n in 0..lines {
            self.count += 1;
            let mut text = format!("{}:", self.count).into_bytes();
            text.resize(length.max(text.len()), b'x');
            let mut bytes = Vec::new();
            encode(
                &mut bytes,
                &Stamp::new(Millis(1_000_000 + self.count as i64 * 7 % 50)),
                Stream::Stderr,
                false,
                &text,
            );
            self.written.entry(seq).or_default().push(text);
            if torn && n + 1 == lines {
                let rest = bytes.split_off(bytes.len() * usize::from(n) / 12);
                self.halves.insert(seq, rest);
            }
            append(&self.path(seq), &bytes);
        }
    }

    fn steps(&self) -> Vec<StepKey> {
        (1..6)
            .map(|seq| key(seq, self.ended[seq as usize]))
            .collect()
    }

    fn take(&mut self, batch: Batch) {
        for line in batch.lines {
            self.got
                .entry(line.seq.unwrap_or(0))
                .or_default()
                .push(line.text);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn nothing_is_missing_and_nothing_doubled(acts in prop::collection::vec(act(), 0..60)) {
        let mut model = Model {
            folder: tempfile::tempdir().unwrap(), ended: [false; 6], halves: BTreeMap::new(),
            written: BTreeMap::new(), got: BTreeMap::new(), count: 0,
        };
        let open = |cursor| LogFollower::open(model.folder.path().to_owned(), cursor);
        let folder = model.folder.path().to_owned();
        let mut follower = open(Cursor::default());
        for act in acts {
            match act {
                Act::Write { seq, lines, length, torn } if !model.ended[seq as usize] => model.write(seq, lines, length, torn),
                Act::Write { .. } => {}
                Act::End(seq) => {
                    model.complete_half(seq);
                    model.ended[seq as usize] = true;
                }
                Act::Poll(max_bytes) => {
                    let batch = follower.poll(&model.steps(), max_bytes).unwrap();
                    let size: usize = batch.lines.iter().map(|line| line.text.len()).sum();
                    prop_assert!(size <= max_bytes + MAX_TEXT_BYTES);
                    model.take(batch);
                }
                Act::Resume => follower = LogFollower::open(folder.clone(), follower.cursor().to_string().parse().unwrap()),
            }
        }
        for seq in 0..6 {
            model.complete_half(seq);
            model.ended[seq as usize] = true;
        }
        loop {
            let batch = follower.poll(&model.steps(), 500).unwrap();
            let more = batch.more;
            model.take(batch);
            if !more {
                break;
            }
        }
        prop_assert!((1..6).all(|seq| follower.cursor().is_read(seq)));
        prop_assert_eq!(model.got, model.written.into_iter().filter(|(_, lines)| !lines.is_empty()).collect::<BTreeMap<_, _>>());
    }

    #[test]
    fn any_position_does_no_harm(text in "[0-9]{1,4}(\\.[0-9]{1,2}-[0-9]{1,2}){0,2}(\\.[0-9]{1,2}_[0-9]{1,4}){0,3}") {
        let Ok(cursor) = text.parse::<Cursor>() else { return Ok(()) };
        let folder = tempfile::tempdir().unwrap();
        let lines: Vec<u8> = (0..9).flat_map(|n| line(n, &format!("line {n}"))).collect();
        for seq in 1..4 {
            append(&Paths::step_log(folder.path(), &job(), seq), &lines);
        }
        append(&Paths::run_log(folder.path()), &lines);
        let mut follower = LogFollower::open(folder.path().to_owned(), cursor);
        let batch = follower.poll(&[key(1, true), key(2, false), key(3, true)], usize::MAX).unwrap();
        for line in &batch.lines {
            prop_assert!(line.text.starts_with(b"line ") && line.text.len() == 6);
        }
    }
}
