//! Objects read through one `git cat-file --batch-command` process: for the intake what each of
//! many commits holds, for the runner the pipeline's files.
//!
//! Questions are lines `info NAME` and `contents NAME`; each is answered in order, with
//! `ID TYPE SIZE` (and the content) or `NAME missing`. Contents are capped while they are read.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::error::{PATIENCE, excerpt};
use super::{Git, GitError};
use crate::names::{ObjectId, RefName};

const VERB: &str = "cat-file";
/// How much of a commit is looked at for its message.
const MAX_COMMIT: usize = 64 << 10;
/// How large the folder's listing may be.
const MAX_TREE: usize = 1 << 20;
/// How much of a pipeline's file is looked through for a word while a push waits.
const MAX_LOOKED_AT: usize = 1 << 20;
/// How many files of a commit are.
const MAX_FILES_LOOKED_AT: usize = 100;

/// What the intake asks about a commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitFacts {
    /// Whether it holds `.quire/ci.fnl`.
    pub fennel: bool,
    /// Whether it holds `.quire/ci.lua`.
    pub lua: bool,
    /// Whether it holds `.quire/Dockerfile`.
    pub dockerfile: bool,
    /// The whole message, up to 64 KiB; none where the id names no commit.
    pub message: Option<String>,
    /// Whether a pipeline of this commit may name a group: the word stands in one of its files, or
    /// there is too much of them to look.
    pub may_group: bool,
}

/// What the intake asks about a push.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushFacts {
    /// Of each commit, in their order.
    pub commits: Vec<CommitFacts>,
    /// Where each ref stands at this moment, in their order; none for one that is gone.
    pub refs: Vec<Option<ObjectId>>,
}

/// One file of the folder `.quire`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineFile {
    /// Its path within the commit: `.quire/ci.fnl`.
    pub path: String,
    /// Its content; none where it is larger than the limit, not UTF-8 or not a plain file.
    pub text: Option<String>,
}

/// A commit and its folder `.quire`, as far as a run needs them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PipelineFiles {
    /// Every `.fnl` and `.lua` file right in it, in the tree's order.
    pub files: Vec<PipelineFile>,
    /// Whether it holds a `Dockerfile`.
    pub dockerfile: bool,
    /// The id of the commit's whole tree.
    pub tree: Option<ObjectId>,
    /// The commit's message, up to 64 KiB.
    pub message: String,
    /// The commits right before it.
    pub parents: Vec<ObjectId>,
}

impl PipelineFiles {
    /// The file with this path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&PipelineFile> {
        self.files.iter().find(|file| file.path == path)
    }
}

impl Git {
    /// What each of these commits holds, in their order, by one process for all.
    pub async fn commit_facts(
        &self,
        repo: &Path,
        ids: &[ObjectId],
    ) -> Result<Vec<CommitFacts>, GitError> {
        Ok(self.push_facts(repo, ids, &[]).await?.commits)
    }

    /// What these commits hold, then where these refs stand, by one process for all.
    pub async fn push_facts(
        &self,
        repo: &Path,
        ids: &[ObjectId],
        names: &[&RefName],
    ) -> Result<PushFacts, GitError> {
        let mut found = PushFacts::default();
        if ids.is_empty() && names.is_empty() {
            return Ok(found);
        }
        let mut questions = String::with_capacity(ids.len() * 320);
        for id in ids {
            questions += &format!(
                "info {id}:.quire/ci.fnl\ninfo {id}:.quire/ci.lua\ninfo {id}:.quire/Dockerfile\ncontents {id}^{{commit}}\ncontents {id}:.quire\n"
            );
        }
        let mut batch = Batch::start(self, repo)?;
        let mut files = GroupFiles::default();
        let (asked, answered) = tokio::join!(batch.questions.ask(&questions), async {
            for (at, id) in ids.iter().enumerate() {
                let facts = CommitFacts {
                    fennel: batch
                        .answers
                        .header()
                        .await?
                        .is_some_and(|header| header.kind == "blob"),
                    lua: batch
                        .answers
                        .header()
                        .await?
                        .is_some_and(|header| header.kind == "blob"),
                    dockerfile: batch
                        .answers
                        .header()
                        .await?
                        .is_some_and(|header| header.kind == "blob"),
                    message: batch
                        .answers
                        .contents(MAX_COMMIT)
                        .await?
                        .map(|commit| message_of(&commit.bytes)),
                    may_group: false,
                };
                let folder = batch.answers.contents(MAX_TREE).await?;
                if facts.fennel || facts.lua {
                    files.note(at, folder, id.as_str().len() / 2);
                }
                found.commits.push(facts);
            }
            Ok(())
        });
        answered?;
        asked?;
        // The refs last, so that the answer is as fresh as can be.
        let mut questions: String = files
            .blobs
            .keys()
            .map(|blob| format!("contents {blob}\n"))
            .collect();
        questions.extend(names.iter().map(|name| format!("info {name}\n")));
        let (asked, answered) = tokio::join!(batch.questions.ask_last(&questions), async {
            for at in files.blobs.into_values() {
                let content = batch.answers.contents(MAX_LOOKED_AT).await?;
                let may = content
                    .is_some_and(|content| content.cut || has_word(&content.bytes, b"group"));
                at.into_iter()
                    .for_each(|at| found.commits[at].may_group |= may);
            }
            for at in files.unread {
                found.commits[at].may_group = true;
            }
            for _ in names {
                found.refs.push(
                    batch
                        .answers
                        .header()
                        .await?
                        .and_then(|header| header.id.parse().ok()),
                );
            }
            Ok(())
        });
        // Where git died, its missing answer says more than our broken pipe.
        answered?;
        asked?;
        batch.end().await?;
        Ok(found)
    }

    /// The pipeline's files in a commit, each up to `limit` bytes, and what the commit itself says.
    pub async fn pipeline_files(
        &self,
        repo: &Path,
        id: &ObjectId,
        limit: usize,
    ) -> Result<PipelineFiles, GitError> {
        let mut batch = Batch::start(self, repo)?;
        batch
            .questions
            .ask(&format!(
                "info {id}^{{tree}}\ncontents {id}^{{commit}}\ncontents {id}:.quire\n"
            ))
            .await?;
        let tree = batch
            .answers
            .header()
            .await?
            .and_then(|header| header.id.parse().ok());
        let mut found = PipelineFiles {
            tree,
            ..PipelineFiles::default()
        };
        if let Some(commit) = batch.answers.contents(MAX_COMMIT).await? {
            found.message = message_of(&commit.bytes);
            found.parents = parents_of(&commit.bytes);
        }
        let Some(folder) = batch
            .answers
            .contents(MAX_TREE)
            .await?
            .filter(|folder| folder.kind == "tree")
        else {
            return Ok(found);
        };
        for entry in entries(&folder.bytes, id.as_str().len() / 2) {
            if entry.name == "Dockerfile" {
                found.dockerfile = entry.is_file;
            }
            if !entry.is_source() || entry.is_folder {
                continue;
            }
            let mut text = None;
            if entry.is_file {
                batch
                    .questions
                    .ask(&format!("contents {}\n", entry.id))
                    .await?;
                let content = batch.answers.contents(limit).await?;
                text = content
                    .filter(|content| !content.cut)
                    .and_then(|content| String::from_utf8(content.bytes).ok());
            }
            found.files.push(PipelineFile {
                path: format!(".quire/{}", entry.name),
                text,
            });
        }
        batch.questions.ask_last("").await?;
        batch.end().await?;
        Ok(found)
    }
}

/// Which pipeline files of which commits are to be looked through, each once.
#[derive(Default)]
struct GroupFiles {
    /// The positions of the commits that have it, by the file's id.
    blobs: BTreeMap<String, Vec<usize>>,
    /// Commits with too many files, or too large a folder.
    unread: Vec<usize>,
}

impl GroupFiles {
    fn note(&mut self, at: usize, folder: Option<Contents>, id_bytes: usize) {
        let Some(folder) = folder else { return };
        let files: Vec<Entry> = entries(&folder.bytes, id_bytes)
            .into_iter()
            .filter(|entry| entry.is_file && entry.is_source())
            .collect();
        if folder.cut || files.len() > MAX_FILES_LOOKED_AT {
            self.unread.push(at);
            return;
        }
        for file in files {
            self.blobs.entry(file.id).or_default().push(at);
        }
    }
}

/// Whether a word stands in a text, in whatever context.
#[must_use]
pub fn has_word(text: &[u8], word: &[u8]) -> bool {
    memchr::memmem::find(text, word).is_some()
}

/// The message in a raw commit: what follows the first empty line, without the newline at its end.
fn message_of(commit: &[u8]) -> String {
    let start = commit
        .windows(2)
        .position(|pair| pair == b"\n\n")
        .map_or(commit.len(), |at| at + 2);
    String::from_utf8_lossy(&commit[start..])
        .trim_end()
        .to_owned()
}

/// The parents in a raw commit: lines before the first empty one.
fn parents_of(commit: &[u8]) -> Vec<ObjectId> {
    let lines = commit
        .split(|byte| *byte == b'\n')
        .take_while(|line| !line.is_empty());
    lines
        .filter_map(|line| {
            std::str::from_utf8(line.strip_prefix(b"parent ")?)
                .ok()?
                .parse()
                .ok()
        })
        .collect()
}

struct Entry {
    name: String,
    id: String,
    is_file: bool,
    is_folder: bool,
}

impl Entry {
    /// Whether its name is that of a Fennel or Lua file.
    fn is_source(&self) -> bool {
        matches!(self.name.rsplit_once('.'), Some((stem, "fnl" | "lua")) if !stem.is_empty())
    }
}

/// The entries of a raw tree: `MODE NAME\0` and the raw id. A cut-off last one is dropped.
fn entries(mut tree: &[u8], id_bytes: usize) -> Vec<Entry> {
    let mut found = Vec::new();
    while let (Some(space), Some(nul)) = (
        tree.iter().position(|b| *b == b' '),
        tree.iter().position(|b| *b == 0),
    ) {
        let Some(raw) = tree.get(nul + 1..nul + 1 + id_bytes) else {
            break;
        };
        if space >= nul {
            break;
        }
        let mode = &tree[..space];
        if let Ok(name) = std::str::from_utf8(&tree[space + 1..nul]) {
            found.push(Entry {
                name: name.to_owned(),
                id: raw.iter().map(|byte| format!("{byte:02x}")).collect(),
                is_file: mode.starts_with(b"100"),
                is_folder: mode == b"40000",
            });
        }
        tree = &tree[nul + 1 + id_bytes..];
    }
    found
}

/// One running `git cat-file`.
struct Batch {
    child: Child,
    questions: Questions,
    answers: Answers,
}

impl Batch {
    fn start(git: &Git, repo: &Path) -> Result<Self, GitError> {
        let mut command = git.tokio_in(repo);
        command
            .args([VERB, "--batch-command"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command
            .spawn()
            .map_err(|source| GitError::Start { verb: VERB, source })?;
        let questions = Questions(child.stdin.take());
        let answers = Answers(child.stdout.take().map(BufReader::new));
        Ok(Self {
            child,
            questions,
            answers,
        })
    }

    async fn end(mut self) -> Result<(), GitError> {
        let status = patiently(self.child.wait()).await?;
        if status.success() {
            Ok(())
        } else {
            Err(GitError::Failed {
                verb: VERB,
                status,
                stderr: String::new(),
            })
        }
    }
}

struct Questions(Option<ChildStdin>);

impl Questions {
    async fn ask(&mut self, lines: &str) -> Result<(), GitError> {
        match &mut self.0 {
            Some(pipe) => patiently(pipe.write_all(lines.as_bytes())).await,
            None => Ok(()),
        }
    }

    /// Asks and closes the pipe, upon which git ends.
    async fn ask_last(&mut self, lines: &str) -> Result<(), GitError> {
        self.ask(lines).await?;
        self.0 = None;
        Ok(())
    }
}

struct Header {
    id: String,
    kind: String,
    size: u64,
}

struct Contents {
    kind: String,
    bytes: Vec<u8>,
    /// There was more than the limit.
    cut: bool,
}

struct Answers(Option<BufReader<ChildStdout>>);

impl Answers {
    fn pipe(&mut self) -> Result<&mut BufReader<ChildStdout>, GitError> {
        self.0.as_mut().ok_or_else(|| unexpected("no pipe"))
    }

    /// One header line; none where there is no such object.
    async fn header(&mut self) -> Result<Option<Header>, GitError> {
        let mut line = Vec::new();
        let pipe = self.pipe()?;
        // Long enough for a question echoed back, which is all that is unbounded here.
        patiently(pipe.take(4096).read_until(b'\n', &mut line)).await?;
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

    /// A header and the content after it, of which at most `limit` bytes are kept.
    async fn contents(&mut self, limit: usize) -> Result<Option<Contents>, GitError> {
        let Some(header) = self.header().await? else {
            return Ok(None);
        };
        let kept = header.size.min(limit as u64);
        let mut bytes = Vec::new();
        let pipe = self.pipe()?;
        patiently(pipe.take(kept).read_to_end(&mut bytes)).await?;
        let rest = header.size - kept + 1;
        let skipped = patiently(tokio::io::copy(
            &mut pipe.take(rest),
            &mut tokio::io::sink(),
        ))
        .await?;
        if bytes.len() as u64 != kept || skipped != rest {
            return Err(unexpected("it ended in the middle of an object"));
        }
        Ok(Some(Contents {
            kind: header.kind,
            bytes,
            cut: header.size > kept,
        }))
    }
}

/// One exchange with git, within its time.
async fn patiently<T>(exchange: impl Future<Output = std::io::Result<T>>) -> Result<T, GitError> {
    let done = tokio::time::timeout(PATIENCE, exchange)
        .await
        .map_err(|_| GitError::TimedOut { verb: VERB })?;
    done.map_err(|source| GitError::Talk { verb: VERB, source })
}

fn unexpected(answer: &str) -> GitError {
    GitError::Unexpected {
        verb: VERB,
        answer: excerpt(answer),
    }
}
