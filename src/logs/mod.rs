//! Run logs: one append-only file per step, in the Kubernetes CRI log format.
//!
//! (being built: a stand-in for the reader, so that the web can be built and tested beside it)
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::names::JobName;
use crate::paths::Paths;

/// Which of a command's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor(BTreeMap<u32, u64>);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(seq, at)| format!("{seq}.{at}")).collect();
        f.write_str(&parts.join("-"))
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut map = BTreeMap::new();
        for part in text.split('-').filter(|p| !p.is_empty()) {
            let (seq, at) = part.split_once('.').ok_or("no dot")?;
            map.insert(seq.parse().map_err(|_| "bad number")?, at.parse().map_err(|_| "bad number")?);
        }
        Ok(Self(map))
    }
}

#[derive(Debug, Clone)]
pub struct StepKey {
    pub seq: u32,
    pub job: JobName,
    pub done: bool,
}

#[derive(Debug, Clone)]
pub struct LogLine {
    pub seq: Option<u32>,
    pub job: Option<JobName>,
    pub time: Millis,
    pub stream: Stream,
    pub partial: bool,
    pub text: Vec<u8>,
}

#[derive(Debug)]
pub struct Batch {
    pub lines: Vec<LogLine>,
    pub cursor: Cursor,
}

#[derive(Debug)]
pub struct LogFollower {
    folder: PathBuf,
    cursor: Cursor,
}

impl LogFollower {
    #[must_use]
    pub fn open(run_folder: PathBuf, cursor: Cursor) -> Self {
        Self { folder: run_folder, cursor }
    }

    pub fn poll(&mut self, steps: &[StepKey], max_bytes: usize) -> io::Result<Batch> {
        let mut files = vec![(0, None, Paths::run_log(&self.folder))];
        files.extend(steps.iter().map(|s| (s.seq, Some(s.job.clone()), Paths::step_log(&self.folder, &s.job, s.seq))));
        let (mut lines, mut left) = (Vec::new(), max_bytes);
        for (seq, job, path) in files {
            let at = self.cursor.0.entry(seq).or_default();
            let mut file = match std::fs::File::open(path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            file.seek(SeekFrom::Start(*at))?;
            let mut text = Vec::new();
            file.take(left as u64).read_to_end(&mut text)?;
            for line in text.split_inclusive(|b| *b == b'\n').filter(|l| l.ends_with(b"\n")) {
                *at += line.len() as u64;
                left = left.saturating_sub(line.len());
                let mut parts = line[..line.len() - 1].splitn(4, |b| *b == b' ');
                let (Some(time), Some(stream), Some(flag), Some(text)) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
                    continue;
                };
                let time = String::from_utf8_lossy(time).parse::<jiff::Timestamp>().map_or(Millis(0), |t| Millis(t.as_millisecond()));
                let stream = if stream == b"stderr" { Stream::Stderr } else { Stream::Stdout };
                let seq = (seq > 0).then_some(seq);
                lines.push(LogLine { seq, job: job.clone(), time, stream, partial: flag == b"P", text: text.to_vec() });
            }
        }
        Ok(Batch { lines, cursor: self.cursor.clone() })
    }
}
