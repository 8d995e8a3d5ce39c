//! Many objects, read through one `git cat-file --batch-command`, which starts with the first object that was not read before.
//!
//! Requests are lines `info NAME` and `contents NAME`; git answers each in order, with
//! `ID TYPE SIZE` (and the contents) or `NAME missing`. Contents are truncated while they are read.
//!
//! Git says `missing` for an object that does not exist and for one that it cannot read. So objects are asked for by ids
//! that another object or a ref names ([`ObjectBatch::read`]): those must exist, and `missing` is an error.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;

use super::command::read_capped;
use super::error::{ANSWER_TIMEOUT, GitError, excerpt, stderr_tail};
use super::git::Git;
use super::object_cache::{CachedObject, RepoIdentity, identity};
use super::pipeline_folder::{FolderEntry, TreeReader};
use super::raw_object;

const VERB: &str = "cat-file";
/// How much of a tree is read. `.quire` is among the first names of a commit's tree.
pub(super) const MAX_TREE: usize = 4 << 20;
/// How much of a symbolic link is read, which is the longest path of Linux.
const MAX_LINK: usize = 4096;
/// How long git may take to exit after its standard input was closed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The first line of an answer.
pub(super) struct Header {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) size: u64,
}

/// The first bytes of an object.
pub(super) struct Contents {
    kind: String,
    pub(super) bytes: Vec<u8>,
    /// The object is larger than the limit.
    pub(super) truncated: bool,
}

pub(super) struct ObjectBatch {
    git: Git,
    repo: PathBuf,
    /// `None` if the repository is not there; git says why.
    identity: Option<RepoIdentity>,
    process: Option<BatchProcess>,
}

impl ObjectBatch {
    pub(super) async fn new(git: &Git, repo: &Path) -> Self {
        Self {
            git: git.clone(),
            repo: repo.to_owned(),
            identity: identity(repo).await,
            process: None,
        }
    }

    fn cached(&self, id: &str) -> Option<Arc<CachedObject>> {
        self.git.objects.get(self.identity?, id)
    }

    fn process(&mut self) -> Result<&mut BatchProcess, GitError> {
        let process = match self.process.take() {
            Some(process) => process,
            None => BatchProcess::start(&self.git, &self.repo)?,
        };
        Ok(self.process.insert(process))
    }

    /// What these names stand for, in the same order; `None` for what git calls missing.
    pub(super) async fn headers(
        &mut self,
        names: &[String],
    ) -> Result<Vec<Option<Header>>, GitError> {
        let known: Vec<_> = names.iter().map(|name| self.cached(name)).collect();
        let pairs = names.iter().zip(&known);
        let unknown = pairs.filter(|(_, known)| known.is_none());
        let unknown: Vec<String> = unknown.map(|(name, _)| name.clone()).collect();
        let mut read = match unknown.as_slice() {
            [] => Vec::new(),
            unknown => self.process()?.headers(unknown).await?,
        }
        .into_iter();
        let header = |(name, known): (&String, Option<Arc<CachedObject>>)| match known {
            Some(object) => Some(Header {
                id: name.clone(),
                kind: object.kind.clone(),
                size: object.bytes.len() as u64,
            }),
            None => read.next().flatten(),
        };
        Ok(names.iter().zip(known).map(header).collect())
    }

    /// Reads objects that must exist, each up to `limit` bytes, and passes each to `take` with its position: first those that were
    /// read before.
    pub(super) async fn read(
        &mut self,
        ids: &[String],
        limit: usize,
        mut take: impl FnMut(usize, Contents),
    ) -> Result<(), GitError> {
        let (mut unknown, mut places) = (Vec::new(), Vec::new());
        for (at, id) in ids.iter().enumerate() {
            match self.cached(id) {
                Some(object) => take(at, Contents::of(&object, limit)),
                None => {
                    unknown.push(id.clone());
                    places.push(at);
                }
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let (cache, repo) = (self.git.objects.clone(), self.identity);
        let process = self.process()?;
        let read = process.read(&unknown, limit, |at, contents| {
            if let (Some(repo), false) = (repo, contents.truncated) {
                cache.insert(repo, &unknown[at], &contents.kind, &contents.bytes);
            }
            take(places[at], contents);
        });
        read.await
    }

    /// The error about an object that must exist and that git calls missing.
    pub(super) async fn unreadable(&mut self, id: &str) -> GitError {
        match &mut self.process {
            Some(process) => process.unreadable(id).await,
            None => unreadable(id),
        }
    }

    /// Waits until git has exited, if it was started.
    pub(super) async fn finish(self) -> Result<(), GitError> {
        match self.process {
            Some(process) => process.finish().await,
            None => Ok(()),
        }
    }
}

impl Contents {
    fn of(object: &CachedObject, limit: usize) -> Self {
        Self {
            kind: object.kind.clone(),
            bytes: object.bytes[..object.bytes.len().min(limit)].to_vec(),
            truncated: object.bytes.len() > limit,
        }
    }
}

/// A running `git cat-file`.
struct BatchProcess {
    child: Child,
    writer: Option<ChildStdin>,
    reader: BatchReader,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl BatchProcess {
    fn start(git: &Git, repo: &Path) -> Result<Self, GitError> {
        let mut command = git.tokio_in(repo);
        command
            .args([VERB, "--batch-command"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|source| GitError::Start { verb: VERB, source })?;
        Ok(Self {
            writer: child.stdin.take(),
            reader: BatchReader(child.stdout.take().map(BufReader::new)),
            stderr: child
                .stderr
                .take()
                .map(|pipe| tokio::spawn(read_capped(pipe))),
            child,
        })
    }

    async fn headers(&mut self, names: &[String]) -> Result<Vec<Option<Header>>, GitError> {
        let mut found = Vec::with_capacity(names.len());
        // An error of one ends the other, so that neither waits for a git that waits.
        let exchanged = tokio::try_join!(write(&mut self.writer, "info", names), async {
            for _ in names {
                found.push(self.reader.header().await?);
            }
            Ok(())
        });
        self.explained(exchanged.map(drop)).await?;
        Ok(found)
    }

    async fn read(
        &mut self,
        ids: &[String],
        limit: usize,
        mut take: impl FnMut(usize, Contents),
    ) -> Result<(), GitError> {
        let exchanged = tokio::try_join!(write(&mut self.writer, "contents", ids), async {
            for (at, id) in ids.iter().enumerate() {
                match self.reader.contents(limit).await? {
                    Some(contents) => take(at, contents),
                    None => return Err(unreadable(id)),
                }
            }
            Ok(())
        });
        self.explained(exchanged.map(drop)).await
    }

    async fn unreadable(&mut self, id: &str) -> GitError {
        match self.explained(Err(unreadable(id))).await {
            Ok(()) => unreadable(id),
            Err(error) => error,
        }
    }

    /// Closes git's standard input, upon which it exits.
    async fn finish(mut self) -> Result<(), GitError> {
        self.writer = None;
        let exited = tokio::time::timeout(ANSWER_TIMEOUT, self.child.wait()).await;
        let status = exited
            .map_err(|_| GitError::TimedOut { verb: VERB })?
            .map_err(|source| GitError::Pipe { verb: VERB, source })?;
        if status.success() {
            return Ok(());
        }
        Err(GitError::Failed {
            verb: VERB,
            status,
            stderr: self.stderr_tail().await,
        })
    }

    /// Adds to a failed exchange what git wrote to standard error. The process cannot be used afterwards.
    async fn explained(&mut self, exchanged: Result<(), GitError>) -> Result<(), GitError> {
        let Err(error) = exchanged else { return Ok(()) };
        if matches!(error, GitError::TimedOut { .. }) {
            return Err(error);
        }
        self.writer = None;
        // The unread answers must not keep git from exiting.
        self.reader.0 = None;
        let exited = tokio::time::timeout(EXIT_TIMEOUT, self.child.wait()).await;
        match (error, exited) {
            (GitError::UnreadableObject { id, .. }, Ok(_)) => Err(GitError::UnreadableObject {
                id,
                reason: self.stderr_tail().await,
            }),
            (GitError::Unexpected { .. } | GitError::Pipe { .. }, Ok(Ok(status)))
                if !status.success() =>
            {
                Err(GitError::Failed {
                    verb: VERB,
                    status,
                    stderr: self.stderr_tail().await,
                })
            }
            (error, _) => Err(error),
        }
    }

    async fn stderr_tail(&mut self) -> String {
        match self.stderr.take() {
            Some(task) => stderr_tail(&task.await.unwrap_or_default()),
            None => String::new(),
        }
    }
}

impl TreeReader for ObjectBatch {
    type Id = String;
    type Error = GitError;

    async fn entries(&mut self, folder: &String) -> Result<Vec<FolderEntry<String>>, GitError> {
        let mut entries = Vec::new();
        self.read(std::slice::from_ref(folder), MAX_TREE, |_, contents| {
            entries.extend(raw_object::tree_entries(&contents.bytes, folder.len() / 2));
        })
        .await?;
        Ok(entries)
    }

    async fn target(&mut self, link: &String) -> Result<String, GitError> {
        let mut target = String::new();
        self.read(std::slice::from_ref(link), MAX_LINK, |_, contents| {
            target = String::from_utf8_lossy(&contents.bytes).into_owned();
        })
        .await?;
        Ok(target)
    }
}

async fn write(
    pipe: &mut Option<ChildStdin>,
    request: &str,
    names: &[String],
) -> Result<(), GitError> {
    let Some(pipe) = pipe else { return Ok(()) };
    let lines: String = names
        .iter()
        .map(|name| format!("{request} {name}\n"))
        .collect();
    with_timeout(pipe.write_all(lines.as_bytes())).await
}

struct BatchReader(Option<BufReader<ChildStdout>>);

impl BatchReader {
    fn pipe(&mut self) -> Result<&mut BufReader<ChildStdout>, GitError> {
        self.0.as_mut().ok_or_else(|| unexpected("no pipe"))
    }

    /// Reads one header line; `None` if git calls the object missing.
    async fn header(&mut self) -> Result<Option<Header>, GitError> {
        let mut line = Vec::new();
        let pipe = self.pipe()?;
        // Long enough for a request that git prints back, the only text of any length here.
        with_timeout(pipe.take(4096).read_until(b'\n', &mut line)).await?;
        let line = String::from_utf8_lossy(&line);
        let Some(line) = line.strip_suffix('\n') else {
            return Err(unexpected(&line));
        };
        let mut words = line.rsplit(' ');
        let (last, kind, id) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        match last.parse() {
            Ok(size) => Ok(Some(Header {
                id: id.to_owned(),
                kind: kind.to_owned(),
                size,
            })),
            Err(_) if matches!(last, "missing" | "ambiguous") => Ok(None),
            Err(_) => Err(unexpected(line)),
        }
    }

    /// Reads a header and the contents after it, of which at most `limit` bytes are kept.
    async fn contents(&mut self, limit: usize) -> Result<Option<Contents>, GitError> {
        let Some(header) = self.header().await? else {
            return Ok(None);
        };
        let kept = header.size.min(limit as u64);
        let mut bytes = Vec::new();
        let pipe = self.pipe()?;
        with_timeout(pipe.take(kept).read_to_end(&mut bytes)).await?;
        let rest = header.size - kept + 1;
        let skipped = with_timeout(tokio::io::copy(
            &mut pipe.take(rest),
            &mut tokio::io::sink(),
        ))
        .await?;
        if bytes.len() as u64 != kept || skipped != rest {
            return Err(unexpected("it ends in the middle of an object"));
        }
        Ok(Some(Contents {
            kind: header.kind,
            bytes,
            truncated: header.size > kept,
        }))
    }
}

/// Limits the time of one read or write.
async fn with_timeout<T>(
    exchange: impl Future<Output = std::io::Result<T>>,
) -> Result<T, GitError> {
    let done = tokio::time::timeout(ANSWER_TIMEOUT, exchange)
        .await
        .map_err(|_| GitError::TimedOut { verb: VERB })?;
    done.map_err(|source| GitError::Pipe { verb: VERB, source })
}

fn unexpected(output: &str) -> GitError {
    GitError::Unexpected {
        verb: VERB,
        output: excerpt(output),
    }
}

fn unreadable(id: &str) -> GitError {
    GitError::UnreadableObject {
        id: id.to_owned(),
        reason: String::new(),
    }
}
