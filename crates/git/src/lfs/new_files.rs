//! The small files that commits bring, among which are the pointers.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::pointer::MAX_POINTER;
use crate::error::GitError;
use crate::git::Git;
use quire_types::names::ObjectId;

const LIST: &str = "rev-list";
const READ: &str = "cat-file";

/// Commits whose files are not listed, and neither are those of the commits before them.
#[derive(Debug, Clone, Copy)]
pub(super) enum KnownCommits<'a> {
    /// Those of all refs of the repository.
    OfAllRefs,
    /// These, as far as they exist.
    These(&'a [ObjectId]),
}

/// The files that commits bring and that are small enough to be pointers: `git rev-list` lists them, and `git cat-file` reads
/// what it lists. Both are killed when this is dropped.
pub(super) struct NewFiles {
    list: Child,
    read: Child,
    output: BufReader<Box<dyn Read>>,
}

pub(super) struct NewFile {
    pub(super) path: String,
    pub(super) content: Vec<u8>,
}

impl NewFiles {
    /// Lists the files of these commits in a repository. In a hook, the objects of the push are read as well.
    pub(super) fn start(
        git: &Git,
        repo: &Path,
        tips: &[ObjectId],
        known: KnownCommits<'_>,
    ) -> Result<Self, GitError> {
        let start = |command: &mut Command, verb| {
            let command = command.stdout(Stdio::piped()).stderr(Stdio::null());
            let started = command.spawn();
            started.map_err(|source| GitError::Start { verb, source })
        };
        let limit = MAX_POINTER + 1;
        let mut list = git.in_quarantine(repo);
        list.args([LIST, "--objects"]).arg(format!(
            "--filter=combine:object:type=blob+blob:limit={limit}"
        ));
        match known {
            KnownCommits::OfAllRefs => list
                .args(tips.iter().map(ObjectId::as_str))
                .args(["--not", "--all"]),
            KnownCommits::These(_) => list
                .args(["--ignore-missing", "--stdin"])
                .stdin(Stdio::piped()),
        };
        let mut list = start(&mut list, LIST)?;
        // It prints nothing before it has read all of this.
        let told = match (known, list.stdin.take()) {
            (KnownCommits::These(known), Some(stdin)) => tell(stdin, tips, known),
            _ => Ok(()),
        };
        let mut read = git.in_quarantine(repo);
        read.args([READ, "--buffer"])
            .arg("--batch=%(objecttype) %(objectsize) %(rest)")
            .stdin(list.stdout.take().map_or_else(Stdio::null, Stdio::from));
        let read = told
            .map_err(|source| GitError::Pipe { verb: LIST, source })
            .and_then(|()| start(&mut read, READ));
        if read.is_err() {
            let _ = list.kill();
            let _ = list.wait();
        }
        let mut read = read?;
        let output: Box<dyn Read> = match read.stdout.take() {
            Some(pipe) => Box::new(pipe),
            None => Box::new(io::empty()),
        };
        Ok(Self {
            list,
            read,
            output: BufReader::new(output),
        })
    }

    /// The next file, or `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<NewFile>, GitError> {
        let next = self.next_in_output();
        next.map_err(|source| GitError::Pipe { verb: READ, source })
    }

    /// After the end: whether both have listed and read all.
    pub(super) fn finish(mut self) -> Result<(), GitError> {
        for (child, verb) in [(&mut self.list, LIST), (&mut self.read, READ)] {
            let ended = child.wait();
            let status = ended.map_err(|source| GitError::Pipe { verb, source })?;
            if !status.success() {
                return Err(GitError::Failed {
                    verb,
                    status,
                    stderr: String::new(),
                });
            }
        }
        Ok(())
    }

    fn next_in_output(&mut self) -> io::Result<Option<NewFile>> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if self.output.read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            let text = String::from_utf8_lossy(&line);
            let mut words = text.trim_end_matches('\n').splitn(3, ' ');
            let (kind, size) = (words.next(), words.next());
            // `ID missing` has no content.
            let Some(size) = size.and_then(|size| size.parse::<u64>().ok()) else {
                continue;
            };
            // A line feed follows the content.
            let mut object = (&mut self.output).take(size + 1);
            if kind != Some("blob") || size > MAX_POINTER {
                io::copy(&mut object, &mut io::sink())?;
                continue;
            }
            let mut content = Vec::new();
            object.read_to_end(&mut content)?;
            content.pop();
            let path = words.next().unwrap_or_default().to_owned();
            return Ok(Some(NewFile { path, content }));
        }
    }
}

/// Writes which commits are meant, and which are known.
fn tell(stdin: impl Write, tips: &[ObjectId], known: &[ObjectId]) -> io::Result<()> {
    let mut lines = io::BufWriter::new(stdin);
    for tip in tips {
        writeln!(lines, "{}", tip.as_str())?;
    }
    for id in known {
        writeln!(lines, "^{}", id.as_str())?;
    }
    lines.flush()
}

impl Drop for NewFiles {
    fn drop(&mut self) {
        for child in [&mut self.list, &mut self.read] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
