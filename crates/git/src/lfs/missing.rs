//! Which objects a push refers to that are not here. Called by the hook, before the refs change.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::pointer::{LfsPointer, MAX_POINTER};
use super::store::LfsStore;
use crate::error::GitError;
use crate::git::Git;
use quire_types::names::{ObjectId, RepoName};

/// How many new files are looked at; a first push of a large history has more.
const MAX_FILES: usize = 20_000;
/// How long new files are looked for.
const MAX_DURATION: Duration = Duration::from_secs(10);
/// How many new refs are looked at.
const MAX_REFS: usize = 200;
/// How many paths are named.
const MAX_PATHS: usize = 3;

/// Objects that a push refers to, and that are not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingObjects {
    pub count: usize,
    /// The paths of the first of them.
    pub paths: Vec<String>,
    /// Whether all new files were looked at.
    pub is_complete: bool,
}

impl Git {
    /// Looks for pointers in the commits that a push brings, whose objects are not here. Returns `None` if nothing is missing.
    ///
    /// # Errors
    /// Git cannot read the new commits.
    pub fn missing_lfs_objects(
        &self,
        repo: &RepoName,
        tips: &[ObjectId],
    ) -> Result<Option<MissingObjects>, GitError> {
        let folder = self.paths.repo(repo);
        let tips = &tips[..tips.len().min(MAX_REFS)];
        let store = LfsStore::of(&folder);
        if tips.is_empty() || !(store.folder().is_dir() || self.use_lfs(&folder, tips)) {
            return Ok(None);
        }
        let mut missing = MissingObjects {
            count: 0,
            paths: Vec::new(),
            is_complete: true,
        };
        let mut files = NewFiles::start(self, &folder, tips)?;
        let started = Instant::now();
        let mut seen = 0;
        while let Some(file) = files.next().map_err(|source| GitError::Pipe {
            verb: NewFiles::VERB,
            source,
        })? {
            seen += 1;
            if seen > MAX_FILES || started.elapsed() > MAX_DURATION {
                missing.is_complete = false;
                break;
            }
            let Some(pointer) = LfsPointer::parse(&file.content) else {
                continue;
            };
            // One that cannot be looked at is not missing.
            let found = store.size(&pointer.oid);
            if matches!(found, Ok(found) if found != Some(pointer.size)) {
                missing.count += 1;
                if missing.paths.len() < MAX_PATHS {
                    missing.paths.push(file.path);
                }
            }
        }
        Ok((missing.count > 0).then_some(missing))
    }

    /// Whether the `.gitattributes` at the top of one of these commits puts files into Git LFS.
    #[must_use]
    pub fn use_lfs(&self, repo: &Path, tips: &[ObjectId]) -> bool {
        let mut command = self.in_quarantine(repo);
        command
            .args(["grep", "--quiet", "--fixed-strings", "-e", "filter=lfs"])
            .args(tips.iter().map(ObjectId::as_str))
            .args(["--", ".gitattributes"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // It fails for a tag of something other than a commit, which has no files.
        command.status().is_ok_and(|status| status.success())
    }
}

/// The files that a push brings and that are small enough to be pointers: `git rev-list` lists them, and `git cat-file` reads
/// what it lists. Both are killed when this is dropped.
struct NewFiles {
    list: Child,
    read: Child,
    output: BufReader<Box<dyn Read>>,
}

struct NewFile {
    path: String,
    content: Vec<u8>,
}

impl NewFiles {
    const VERB: &str = "cat-file";

    fn start(git: &Git, repo: &Path, tips: &[ObjectId]) -> Result<Self, GitError> {
        let start = |command: &mut Command, verb| {
            let command = command.stdout(Stdio::piped()).stderr(Stdio::null());
            let started = command.spawn();
            started.map_err(|source| GitError::Start { verb, source })
        };
        let limit = MAX_POINTER + 1;
        let mut list = git.in_quarantine(repo);
        list.args(["rev-list", "--objects"])
            .arg(format!(
                "--filter=combine:object:type=blob+blob:limit={limit}"
            ))
            .args(tips.iter().map(ObjectId::as_str))
            .args(["--not", "--all"]);
        let mut list = start(&mut list, "rev-list")?;
        let mut read = git.in_quarantine(repo);
        read.args([Self::VERB, "--buffer"])
            .arg("--batch=%(objecttype) %(objectsize) %(rest)")
            .stdin(list.stdout.take().map_or_else(Stdio::null, Stdio::from));
        let read = start(&mut read, Self::VERB);
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
    fn next(&mut self) -> io::Result<Option<NewFile>> {
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

impl Drop for NewFiles {
    fn drop(&mut self) {
        for child in [&mut self.list, &mut self.read] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
