//! Writing a run's logs.
//!
//! ```text
//! output ─► redact (per stream) ─► lines ─► one write(2) per chunk ─► wake the followers
//!              │ holds back what        │ holds back an unfinished line until
//!              ▼ may be a secret        ▼ idle(), its newline or finish()
//! ```
//!
//! Invariants: a file holds whole lines only, except behind a write that failed half-way or a
//! crash, and the next write repairs that. All files of a run together stay within the run's cap.
//! Nothing that goes wrong here stops a command: output is lost, the log says where, and
//! [`RunLog::take_error`] says why.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::line::{self, LogLine, MAX_TEXT_BYTES, Stamp, Stream};
use quire_runtime::changes::ChangeNotifier;
use quire_types::clock::Clock;
use quire_types::names::{JobName, RunId};
use quire_types::paths::Paths;
use quire_types::secret::{RedactStream, Redactor};
use quire_types::sync::lock;

/// What the logs of one run may take on disk, where nothing else is said.
pub const DEFAULT_CAP_BYTES: u64 = 256 << 20;

/// Larger chunks are taken in pieces of this size, so that memory stays bounded.
const PIECE_BYTES: usize = 64 << 10;

/// The logs of one run. A clone is the same logs.
#[derive(Debug, Clone)]
pub struct RunLog(Arc<SharedLog>);

#[derive(Debug)]
struct SharedLog {
    folder: PathBuf,
    redactor: Redactor,
    clock: Clock,
    live: ChangeNotifier,
    run: RunId,
    cap: u64,
    used: AtomicU64,
    failed: AtomicBool,
    error: Mutex<Option<io::Error>>,
}

impl RunLog {
    /// Makes the run's folder, where it is missing, and the log of everything in it.
    pub fn create(
        folder: PathBuf,
        redactor: Redactor,
        cap_bytes: u64,
        clock: Clock,
        live: ChangeNotifier,
        run: RunId,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(&folder).map_err(|e| about("make the folder", &folder, &e))?;
        // A run that is taken up again goes on in the files it has, and they count.
        let before = bytes_below(&folder.join("jobs")) + bytes_of(&Paths::run_log(&folder));
        let (used, failed, error) = (
            AtomicU64::new(before),
            AtomicBool::new(false),
            Mutex::new(None),
        );
        Ok(Self(Arc::new(SharedLog {
            folder,
            redactor,
            clock,
            live,
            run,
            cap: cap_bytes,
            used,
            failed,
            error,
        })))
    }

    /// The log of the run's own lines: image, pull, what quire has to say.
    pub fn own(&self) -> io::Result<StepLog> {
        StepLog::open(self.0.clone(), &Paths::run_log(&self.0.folder))
    }

    /// The log of one step.
    pub fn step(&self, job: &JobName, seq: u32) -> io::Result<StepLog> {
        StepLog::open(self.0.clone(), &Paths::step_log(&self.0.folder, job, seq))
    }

    /// The log of one service.
    pub fn service(&self, name: &str) -> io::Result<StepLog> {
        StepLog::open(self.0.clone(), &Paths::service_log(&self.0.folder, name))
    }

    /// What redacts the logs; secrets can be added to it while the run goes on.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        &self.0.redactor
    }

    /// The first write that failed, once.
    #[must_use]
    pub fn take_error(&self) -> Option<io::Error> {
        lock(&self.0.error).take()
    }

    /// Bytes that the run's logs take, as counted against the cap.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed).min(self.0.cap)
    }
}

fn bytes_of(file: &Path) -> u64 {
    file.symlink_metadata().map_or(0, |metadata| {
        if metadata.is_file() {
            metadata.len()
        } else {
            0
        }
    })
}

/// Bytes of the logs in the folders of jobs; what cannot be read counts as nothing.
fn bytes_below(jobs: &Path) -> u64 {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries(jobs)
        .flat_map(|job| entries(&job.path()))
        .map(|log| bytes_of(&log.path()))
        .sum()
}

/// An I/O error that says what was attempted where, and stays of its kind.
fn about(attempt: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("cannot {attempt} {}: {error}", path.display()),
    )
}

impl SharedLog {
    /// Takes `wanted` bytes of the cap. Returns how many were left.
    fn reserve(&self, wanted: usize) -> usize {
        let before = self.used.fetch_add(wanted as u64, Ordering::Relaxed);
        usize::try_from(self.cap.saturating_sub(before)).map_or(wanted, |left| left.min(wanted))
    }

    fn remember(&self, error: io::Error) {
        if !self.failed.swap(true, Ordering::Relaxed) {
            *lock(&self.error) = Some(error);
        }
    }
}

/// One log file of a run, open for appending.
#[derive(Debug)]
pub struct StepLog {
    shared: Arc<SharedLog>,
    path: PathBuf,
    file: File,
    /// Encoded lines on their way to the file; empty between calls.
    out: Vec<u8>,
    stdout: Unfinished,
    stderr: Unfinished,
    /// The file ends in the middle of a line: a newline goes before the next one.
    torn: bool,
    /// Output was lost since the last good write.
    gap: bool,
    /// The run's cap is reached and the log says so.
    full: bool,
}

/// What one stream holds back.
#[derive(Debug)]
struct Unfinished {
    redact: RedactStream,
    /// The beginning of a line whose end has not come.
    text: Vec<u8>,
    /// A piece of that line is in the file already.
    open: bool,
}

impl StepLog {
    fn open(shared: Arc<SharedLog>, path: &Path) -> io::Result<Self> {
        let attempt = || -> io::Result<(File, bool)> {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let mut file = OpenOptions::new()
                .create(true)
                .append(true)
                .read(true)
                .open(path)?;
            let length = file.metadata()?.len();
            let mut last = [b'\n'];
            if length > 0 {
                file.seek(SeekFrom::Start(length - 1))?;
                file.read_exact(&mut last)?;
            }
            Ok((file, last != [b'\n']))
        };
        let (file, torn) = attempt().map_err(|e| about("open the log", path, &e))?;
        let unfinished = || Unfinished {
            redact: shared.redactor.stream(),
            text: Vec::new(),
            open: false,
        };
        let (stdout, stderr) = (unfinished(), unfinished());
        Ok(Self {
            path: path.to_owned(),
            file,
            out: Vec::new(),
            stdout,
            stderr,
            torn,
            gap: false,
            full: false,
            shared,
        })
    }

    /// Takes output as it comes, cut anywhere.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE_BYTES) {
            if self.full {
                return;
            }
            let stamp = Stamp::new(self.shared.clock.now());
            let (unfinished, out) = self.stream(stream);
            let shown = unfinished.redact.push(piece);
            split(
                &shown,
                &mut unfinished.text,
                &mut unfinished.open,
                stream,
                &stamp,
                out,
            );
            self.append(&stamp);
        }
    }

    /// Writes whole lines of quire's own, redacted. They come before a line of the same stream that is not finished yet.
    pub fn line(&mut self, stream: Stream, text: &str) {
        if self.full {
            return;
        }
        let stamp = Stamp::new(self.shared.clock.now());
        let redacted = self.shared.redactor.redact_text(text);
        let (unfinished, out) = self.stream(stream);
        if std::mem::take(&mut unfinished.open) {
            line::encode(out, &stamp, stream, false, b"");
        }
        let (mut rest, mut open) = (Vec::new(), false);
        split(
            redacted.as_bytes(),
            &mut rest,
            &mut open,
            stream,
            &stamp,
            out,
        );
        if !rest.is_empty() || open || redacted.is_empty() {
            line::encode(out, &stamp, stream, false, &rest);
        }
        self.append(&stamp);
    }

    /// Writes the beginnings of unfinished lines as pieces, so that a prompt is seen. Call it when no output came
    /// for a moment (about 100 ms). What may be the beginning of a secret stays back.
    pub fn idle(&mut self) {
        if self.full || (self.stdout.text.is_empty() && self.stderr.text.is_empty()) {
            return;
        }
        let stamp = Stamp::new(self.shared.clock.now());
        for stream in [Stream::Stdout, Stream::Stderr] {
            let (unfinished, out) = self.stream(stream);
            if !unfinished.text.is_empty() {
                line::encode(out, &stamp, stream, true, &unfinished.text);
                unfinished.text.clear();
                unfinished.open = true;
            }
        }
        self.append(&stamp);
    }

    /// Writes what was held back: no more comes. Dropping does the same; this says that it is meant.
    pub fn finish(self) {}

    /// Writes what was held back as whole lines: the command has ended. Processes that it left in
    /// the background may still write.
    pub fn write_held(&mut self) {
        let stamp = Stamp::new(self.shared.clock.now());
        for stream in [Stream::Stdout, Stream::Stderr] {
            let (unfinished, out) = self.stream(stream);
            let held = unfinished.redact.finish();
            split(
                &held,
                &mut unfinished.text,
                &mut unfinished.open,
                stream,
                &stamp,
                out,
            );
            if !unfinished.text.is_empty() || unfinished.open {
                line::encode(out, &stamp, stream, false, &unfinished.text);
                unfinished.text.clear();
                unfinished.open = false;
            }
        }
        self.append(&stamp);
    }

    fn stream(&mut self, stream: Stream) -> (&mut Unfinished, &mut Vec<u8>) {
        let unfinished = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        (unfinished, &mut self.out)
    }

    /// Appends what is encoded, as far as the cap allows, and wakes the followers.
    fn append(&mut self, stamp: &Stamp) {
        if self.full {
            self.out.clear();
            return;
        }
        if self.out.is_empty() {
            return;
        }
        let allowed = self.shared.reserve(self.out.len());
        if allowed < self.out.len() {
            let whole = memchr::memrchr(b'\n', &self.out[..allowed]).map_or(0, |at| at + 1);
            self.out.truncate(whole);
            let limit = size(self.shared.cap);
            let words = format!("{CAP_NOTICE} of {limit}; what comes after this is not kept");
            line::encode(
                &mut self.out,
                stamp,
                Stream::Stderr,
                false,
                words.as_bytes(),
            );
            self.full = true;
        }
        let repaired = self.repair(stamp);
        let result = write_once(&mut self.file, repaired.as_deref().unwrap_or(&self.out));
        self.out.clear();
        self.out.shrink_to(4 * PIECE_BYTES);
        match result {
            Ok(()) => {
                (self.torn, self.gap) = (false, false);
                self.shared.live.notify_log(self.shared.run);
            }
            Err((written, error)) => {
                self.torn = if written == 0 { self.torn } else { true };
                self.gap = true;
                // The line that says so may be what was lost.
                self.full = false;
                self.shared
                    .used
                    .fetch_sub(allowed as u64, Ordering::Relaxed);
                self.shared
                    .remember(about("write the log", &self.path, &error));
            }
        }
    }

    /// What is to be written after what repairs the end of the file; `None` if the end is intact.
    fn repair(&self, stamp: &Stamp) -> Option<Vec<u8>> {
        if !self.torn && !self.gap {
            return None;
        }
        let mut repaired = Vec::with_capacity(self.out.len() + 128);
        if self.torn {
            repaired.push(b'\n');
        }
        if self.gap {
            line::encode(
                &mut repaired,
                stamp,
                Stream::Stderr,
                false,
                b"quire: some output is missing here: it could not be written",
            );
        }
        repaired.extend_from_slice(&self.out);
        Some(repaired)
    }
}

impl Drop for StepLog {
    fn drop(&mut self) {
        self.write_held();
    }
}

/// Cuts text into lines and appends them to `out`; what has no end yet goes to `rest`.
fn split(
    mut text: &[u8],
    rest: &mut Vec<u8>,
    open: &mut bool,
    stream: Stream,
    stamp: &Stamp,
    out: &mut Vec<u8>,
) {
    if !rest.is_empty() {
        let end = memchr::memchr(b'\n', text);
        rest.extend_from_slice(&text[..end.unwrap_or(text.len())]);
        let begun = std::mem::take(rest);
        let left = pieces(&begun, stream, stamp, out, open);
        if let Some(end) = end {
            line::encode(out, stamp, stream, false, left);
            *open = false;
            text = &text[end + 1..];
        } else {
            rest.extend_from_slice(left);
            return;
        }
    }
    let mut from = 0;
    for end in memchr::memchr_iter(b'\n', text) {
        let left = pieces(&text[from..end], stream, stamp, out, open);
        line::encode(out, stamp, stream, false, left);
        *open = false;
        from = end + 1;
    }
    rest.extend_from_slice(pieces(&text[from..], stream, stamp, out, open));
}

/// Writes all but the last [`MAX_TEXT_BYTES`] of a text as pieces, and returns those.
fn pieces<'a>(
    mut text: &'a [u8],
    stream: Stream,
    stamp: &Stamp,
    out: &mut Vec<u8>,
    open: &mut bool,
) -> &'a [u8] {
    while text.len() > MAX_TEXT_BYTES {
        let (piece, left) = text.split_at(MAX_TEXT_BYTES);
        line::encode(out, stamp, stream, true, piece);
        *open = true;
        text = left;
    }
    text
}

/// Like `write_all`, and says how much got through where it fails.
fn write_once(file: &mut File, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err((written, e)),
        }
    }
    Ok(())
}

/// What the line begins with that a log ends with when the run's logs are too large.
const CAP_NOTICE: &str = "quire: the log of this run has reached its limit";

/// Whether a line says that the log ends here because the run's logs are too large.
#[must_use]
pub fn is_cap_notice(line: &LogLine) -> bool {
    line.stream == Stream::Stderr && line.text.starts_with(CAP_NOTICE.as_bytes())
}

/// A cap in words.
fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 20 && b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 && b % (1 << 10) == 0 => format!("{} KiB", b >> 10),
        b => format!("{b} bytes"),
    }
}

#[cfg(test)]
mod tests;
