use std::sync::atomic::AtomicI64;

use super::*;
use crate::logs::file::{TextChunks, tail};
use crate::logs::line::LogLine;
use quire_types::secret::Secret;

struct Fixture {
    folder: tempfile::TempDir,
    live: ChangeNotifier,
    run: RunId,
    redactor: Redactor,
}

impl Fixture {
    fn new() -> Self {
        let secret = Secret::new("s3cret-t0ken".to_owned());
        let redactor = Redactor::new([("token", &secret)]);
        Self {
            folder: tempfile::tempdir().unwrap(),
            live: ChangeNotifier::default(),
            run: RunId::new(),
            redactor,
        }
    }

    fn log(&self, cap: u64) -> RunLog {
        let clock = Clock::manual(Arc::new(AtomicI64::new(1_767_323_045_678)));
        RunLog::create(
            self.folder.path().join("run"),
            self.redactor.clone(),
            cap,
            clock,
            self.live.clone(),
            self.run,
        )
        .unwrap()
    }

    fn path(&self, seq: u32) -> PathBuf {
        Paths::step_log(
            &self.folder.path().join("run"),
            &"test".parse().unwrap(),
            seq,
        )
    }

    fn lines(&self, seq: u32) -> Vec<LogLine> {
        tail(&self.path(seq), usize::MAX).unwrap().lines
    }

    /// `1F one` and so on.
    fn shown(&self, seq: u32) -> Vec<String> {
        let show = |line: LogLine| {
            let stream = if line.stream == Stream::Stdout {
                '1'
            } else {
                '2'
            };
            let flag = if line.partial { 'P' } else { 'F' };
            format!("{stream}{flag} {}", String::from_utf8_lossy(&line.text))
        };
        self.lines(seq).into_iter().map(show).collect()
    }
}

fn step(log: &RunLog, seq: u32) -> StepLog {
    log.step(&"test".parse().unwrap(), seq).unwrap()
}

#[test]
fn lines_however_they_are_cut() {
    let fixture = Fixture::new();
    let log = fixture.log(DEFAULT_CAP_BYTES);
    let mut step = step(&log, 1);
    step.write(Stream::Stdout, b"on");
    step.write(Stream::Stderr, b"err\n");
    step.write(Stream::Stdout, b"");
    step.write(Stream::Stdout, b"e\n\ntwo\nthr");
    step.write(Stream::Stdout, b"ee\r\nlast");
    step.finish();
    assert_eq!(
        fixture.shown(1),
        ["2F err", "1F one", "1F ", "1F two", "1F three\r", "1F last"]
    );
    let raw = std::fs::read(fixture.path(1)).unwrap();
    assert!(raw.starts_with(b"2026-01-02T03:04:05.678000000Z stderr F err\n2026-01-02T03:04:05.678000000Z stdout F one\n"));
}

#[test]
fn bytes_that_are_no_text_are_kept() {
    let fixture = Fixture::new();
    let log = fixture.log(DEFAULT_CAP_BYTES);
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let mut step = step(&log, 1);
    for chunk in bytes.chunks(777) {
        step.write(Stream::Stdout, chunk);
    }
    step.finish();
    let text = TextChunks::open(&fixture.path(1), true)
        .unwrap()
        .map(Result::unwrap)
        .collect::<Vec<_>>()
        .concat();
    assert_eq!(&text[..bytes.len()], bytes);
    assert_eq!(&text[bytes.len()..], b"\n");
}

#[test]
fn long_lines_are_split() {
    let fixture = Fixture::new();
    let log = fixture.log(DEFAULT_CAP_BYTES);
    for (seq, length, sizes) in [
        (1, MAX_TEXT_BYTES, vec![MAX_TEXT_BYTES]),
        (2, MAX_TEXT_BYTES + 1, vec![MAX_TEXT_BYTES, 1]),
        (3, 2 * MAX_TEXT_BYTES, vec![MAX_TEXT_BYTES; 2]),
        (
            4,
            5 * MAX_TEXT_BYTES + 3,
            [vec![MAX_TEXT_BYTES; 5], vec![3]].concat(),
        ),
    ] {
        for chunk in [1000, usize::MAX] {
            let seq = if chunk == 1000 { seq } else { seq + 10 };
            let mut step = step(&log, seq);
            for chunk in [vec![b'x'; length], b"\nnext\n".to_vec()]
                .concat()
                .chunks(chunk)
            {
                step.write(Stream::Stdout, chunk);
            }
            step.finish();
            let lines = fixture.lines(seq);
            let (last, long) = lines.split_last().unwrap();
            assert_eq!(last.text, b"next");
            assert_eq!(
                long.iter().map(|line| line.text.len()).collect::<Vec<_>>(),
                sizes
            );
            assert_eq!(
                long.iter()
                    .map(|line| line.partial)
                    .filter(|partial| !partial)
                    .count(),
                1
            );
            assert!(!long.last().unwrap().partial);
        }
    }
}

#[test]
fn a_prompt_is_seen_when_the_output_pauses() {
    let fixture = Fixture::new();
    let log = fixture.log(DEFAULT_CAP_BYTES);
    let mut step = step(&log, 1);
    step.idle();
    step.write(Stream::Stdout, b"Name: ");
    assert_eq!(fixture.shown(1).len(), 0);
    step.idle();
    step.idle();
    assert_eq!(fixture.shown(1), ["1P Name: "]);
    step.write(Stream::Stdout, b"me\nCity: ");
    step.idle();
    step.finish();
    assert_eq!(fixture.shown(1), ["1P Name: ", "1F me", "1P City: ", "1F "]);
}

#[test]
fn a_secret_cut_by_a_pause_stays_back() {
    let fixture = Fixture::new();
    let log = fixture.log(DEFAULT_CAP_BYTES);
    let mut step = step(&log, 1);
    step.write(Stream::Stdout, b"x s3cret");
    step.idle();
    assert_eq!(fixture.shown(1), ["1P x "]);
    step.write(Stream::Stdout, b"-t0ken y\n");
    step.write(Stream::Stderr, b"s3cret");
    step.finish();
    assert_eq!(fixture.shown(1), ["1P x ", "1F {{ token }} y", "2F s3cret"]);
}

#[test]
fn own_lines_do_not_mix_with_unfinished_ones() {
    let fixture = Fixture::new();
    let log = fixture.log(DEFAULT_CAP_BYTES);
    let mut step = step(&log, 1);
    step.write(Stream::Stdout, b"begun");
    step.line(Stream::Stdout, "said s3cret-t0ken\ntwice");
    step.write(Stream::Stdout, b" and.");
    step.idle();
    step.line(Stream::Stdout, "");
    step.write(Stream::Stdout, b" ended\n");
    step.finish();
    assert_eq!(
        fixture.shown(1),
        [
            "1F said {{ token }}",
            "1F twice",
            "1P begun and.",
            "1F ",
            "1F ",
            "1F  ended"
        ]
    );
}

#[test]
fn what_is_dropped_is_finished() {
    let fixture = Fixture::new();
    let log = fixture.log(DEFAULT_CAP_BYTES);
    let mut step = step(&log, 1);
    step.write(Stream::Stdout, b"held");
    drop(step);
    assert_eq!(fixture.shown(1), ["1F held"]);
}

#[test]
fn the_cap_is_of_all_files_together_and_each_says_so_once() {
    let fixture = Fixture::new();
    let log = fixture.log(900);
    let (mut one, mut two) = (step(&log, 1), step(&log, 2));
    for n in 0..20 {
        one.write(Stream::Stdout, format!("line {n}\n").as_bytes());
    }
    two.write(Stream::Stdout, b"gone\n");
    two.line(Stream::Stdout, "gone");
    two.write(Stream::Stdout, b"held");
    two.idle();
    one.finish();
    two.finish();
    step(&log, 3).finish();
    let notice = "2F quire: the log of this run has reached its limit of 900 bytes; what comes after this is not kept";
    let shown = fixture.shown(1);
    // Ten lines of 47 bytes, eight of 48.
    assert_eq!(
        (shown.len(), shown[17].as_str(), shown[18].as_str()),
        (19, "1F line 17", notice)
    );
    assert_eq!(fixture.shown(2), [notice]);
    assert_eq!(fixture.shown(3), Vec::<String>::new());
    assert_eq!(log.bytes(), 900);
    assert!(log.take_error().is_none());
}

#[test]
fn a_torn_line_is_mended_when_the_run_is_taken_up_again() {
    let fixture = Fixture::new();
    let mut first = step(&fixture.log(DEFAULT_CAP_BYTES), 1);
    first.write(Stream::Stdout, b"one\ntwo\n");
    first.finish();
    let length = std::fs::metadata(fixture.path(1)).unwrap().len();
    OpenOptions::new()
        .write(true)
        .open(fixture.path(1))
        .unwrap()
        .set_len(length - 2)
        .unwrap();
    let log = fixture.log(DEFAULT_CAP_BYTES);
    let mut again = step(&log, 1);
    again.write(Stream::Stdout, b"three\n");
    again.finish();
    // What was there counts, and once only.
    step(&log, 1).finish();
    assert_eq!(log.bytes(), length - 2 + 46);
    assert_eq!(fixture.shown(1), ["1F one", "1F tw", "1F three"]);
}

#[test]
fn a_failed_write_is_reported_once_and_marked_when_it_works_again() {
    let fixture = Fixture::new();
    let log = fixture.log(DEFAULT_CAP_BYTES);
    let mut step = step(&log, 1);
    step.write(Stream::Stdout, b"before\n");
    let good = std::mem::replace(
        &mut step.file,
        OpenOptions::new().write(true).open("/dev/full").unwrap(),
    );
    step.write(Stream::Stdout, b"lost\n");
    step.write(Stream::Stdout, b"lost\n");
    step.file = good;
    step.torn = true;
    step.write(Stream::Stdout, b"after\nend\n");
    step.finish();
    assert_eq!(
        fixture.shown(1),
        [
            "1F before",
            "2F quire: some output is missing here: it could not be written",
            "1F after",
            "1F end"
        ]
    );
    let error = log.take_error().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(
        error.to_string().contains("1.log: No space left"),
        "{error}"
    );
    assert!(log.take_error().is_none());
}

#[test]
fn followers_are_woken_by_what_they_can_read() {
    let fixture = Fixture::new();
    let log = fixture.log(DEFAULT_CAP_BYTES);
    let mut step = step(&log, 1);
    let mut watch = fixture.live.subscribe_run(fixture.run);
    watch.mark_unchanged();
    step.write(Stream::Stdout, b"unfinished");
    assert!(!watch.has_changed().unwrap());
    step.write(Stream::Stdout, b"\n");
    assert!(watch.has_changed().unwrap());
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let fixture = Fixture::new();
    let path = fixture.folder.path().join("file");
    std::fs::write(&path, "").unwrap();
    let error = RunLog::create(
        path.join("run"),
        Redactor::default(),
        1,
        Clock::system(),
        ChangeNotifier::default(),
        fixture.run,
    )
    .unwrap_err();
    assert!(error.to_string().contains("file/run"), "{error}");
}
