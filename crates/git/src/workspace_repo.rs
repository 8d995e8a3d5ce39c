//! The `.git` of a workspace: a repository of its own, with the history that its pipeline asks for.
//!
//! It borrows no objects. Its `origin` can be read by who has a key, and is not pushed to.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

use super::command::checked;
use super::error::GitError;
use super::git::Git;
use super::scratch_repo::ScratchRepo;
use quire_types::clock::Clock;
use quire_types::names::{ObjectId, RefName};

/// The size of a block of a tar archive.
const BLOCK: u64 = 512;
/// The size of a read.
const CHUNK: usize = 128 << 10;
/// Where the commit is while the repository is made.
const COMMIT_REF: &str = "refs/workspace/commit";
/// The address for pushes to `origin`. Nothing is there.
const NO_PUSH: &str = "/pushes-from-a-run-are-not-accepted";
/// The folders of a repository, which git looks for.
const FOLDERS: [&str; 7] = [
    "",
    "objects",
    "objects/info",
    "objects/pack",
    "refs",
    "refs/heads",
    "refs/tags",
];

/// Which history a workspace has.
#[derive(Debug)]
pub struct WorkspaceHistory<'a> {
    /// The folder of the repository that has it.
    pub repo: &'a Path,
    pub commit: &'a ObjectId,
    /// The branch that is checked out; with `None`, `HEAD` is detached.
    pub branch: Option<&'a RefName>,
    /// How many commits deep; `None` for all, with all branches and tags.
    pub depth: Option<u32>,
    /// The URL of `origin`.
    pub origin: Option<String>,
}

/// The `.git` of a workspace.
#[derive(Debug, Clone)]
pub struct WorkspaceRepo(Arc<ScratchRepo>);

impl Git {
    /// Makes the `.git` of a workspace.
    pub async fn workspace_repo(
        &self,
        history: &WorkspaceHistory<'_>,
    ) -> Result<WorkspaceRepo, GitError> {
        let like = history.commit.clone();
        let scratch = self.call(move |git| git.scratch_repo(&like)).await?;
        self.fetch_history(scratch.path(), history).await?;
        let commit = history.commit.as_str();
        let mut refs = String::new();
        match history.branch {
            Some(branch) => {
                let head = ["HEAD", branch.as_str()];
                self.success(scratch.path(), "symbolic-ref", head).await?;
                let _ = writeln!(refs, "update {branch} {commit}");
                if history.depth.is_some() {
                    let name = branch.short();
                    let _ = writeln!(refs, "update refs/remotes/origin/{name} {commit}");
                }
            }
            None => {
                let _ = writeln!(refs, "option no-deref\nupdate HEAD {commit}^{{commit}}");
            }
        }
        let _ = writeln!(refs, "delete {COMMIT_REF}");
        let mut update = self.tokio_in(scratch.path());
        update.args(["update-ref", "--stdin"]);
        with_input(update, "update-ref", refs.as_bytes()).await?;
        self.success(scratch.path(), "pack-refs", ["--all"]).await?;
        self.success(scratch.path(), "read-tree", [commit]).await?;
        let config = config(history);
        let path = scratch.path().join("config");
        fs::write(&path, config).map_err(|source| GitError::Io {
            action: "write",
            path,
            source,
        })?;
        Ok(WorkspaceRepo(Arc::new(scratch)))
    }

    /// Fetches the history into a scratch repository. May take long, so it has no limit of its own.
    async fn fetch_history(
        &self,
        scratch: &Path,
        history: &WorkspaceHistory<'_>,
    ) -> Result<(), GitError> {
        const VERB: &str = "fetch";
        let source = std::path::absolute(history.repo);
        let source = source.unwrap_or_else(|_| history.repo.to_owned());
        let mut command = tokio::process::Command::from(self.command());
        // The objects were checked when they were pushed.
        for setting in ["fetch.fsckObjects=false", "fetch.unpackLimit=1"] {
            command.args(["-c", setting]);
        }
        command
            .arg("--git-dir")
            .arg(scratch)
            .args([VERB, "--quiet", "--no-auto-gc", "--no-write-fetch-head"])
            .arg("--update-shallow");
        if let Some(depth) = history.depth {
            command.arg(format!("--depth={depth}"));
        }
        command
            .arg("--end-of-options")
            .arg(source)
            .arg(format!("{}:{COMMIT_REF}", history.commit));
        if history.depth.is_none() {
            command.args([
                "+refs/heads/*:refs/remotes/origin/*",
                "+refs/tags/*:refs/tags/*",
            ]);
        }
        command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let output = command.output().await;
        let output = output.map_err(|source| GitError::Start { verb: VERB, source })?;
        checked(VERB, output).map(drop)
    }
}

/// Runs git with this input.
async fn with_input(
    mut command: tokio::process::Command,
    verb: &'static str,
    input: &[u8],
) -> Result<(), GitError> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| GitError::Start { verb, source })?;
    let pipe = |source| GitError::Pipe { verb, source };
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input).await.map_err(pipe)?;
    }
    checked(verb, child.wait_with_output().await.map_err(pipe)?).map(drop)
}

/// The configuration of the workspace's repository.
fn config(history: &WorkspaceHistory<'_>) -> String {
    let is_sha256 = history.commit.as_str().len() == 64;
    let mut text = format!(
        "[core]\n\trepositoryformatversion = {}\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n",
        u8::from(is_sha256)
    );
    if is_sha256 {
        text.push_str("[extensions]\n\tobjectformat = sha256\n");
    }
    let Some(origin) = &history.origin else {
        return text;
    };
    let _ = write!(
        text,
        "[remote \"origin\"]\n\turl = {}\n\tpushurl = {NO_PUSH}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n",
        quoted(origin)
    );
    if let Some(branch) = history.branch {
        let _ = write!(
            text,
            "[branch {}]\n\tremote = origin\n\tmerge = {}\n",
            quoted(branch.short()),
            quoted(branch.as_str())
        );
    }
    text
}

/// A text in the quotes of git's configuration.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('\n', "\\n"))
}

impl WorkspaceRepo {
    /// The files as entries of a tar archive below `.git`, without the end of the archive: other entries follow.
    pub fn entries(&self) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let scratch = Arc::clone(&self.0);
        let listed = files(scratch.path());
        let entries = match listed {
            Ok(files) => {
                let folders = FOLDERS.map(|name| folder_entry(&format!(".git/{name}")));
                stream::iter(folders)
                    .chain(stream::iter(files).flat_map(file_entry))
                    .boxed()
            }
            Err(error) => stream::iter([Err(error)]).boxed(),
        };
        // The scratch repository stays until the stream ends.
        entries.map(move |chunk| {
            let _ = &scratch;
            chunk
        })
    }
}

/// The files of a scratch repository that belong to a workspace, with their names.
fn files(scratch: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for name in ["HEAD", "config", "packed-refs", "shallow", "index"] {
        let path = scratch.join(name);
        if path.exists() {
            found.push((format!(".git/{name}"), path));
        }
    }
    for entry in fs::read_dir(scratch.join("objects/pack"))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if [".pack", ".idx", ".rev"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            found.push((format!(".git/objects/pack/{name}"), entry.path()));
        }
    }
    Ok(found)
}

fn folder_entry(name: &str) -> io::Result<Bytes> {
    header(name.trim_end_matches('/'), tar::EntryType::Directory, 0)
}

/// A file as an entry: its header, its content and its padding.
fn file_entry((name, path): (String, PathBuf)) -> BoxStream<'static, io::Result<Bytes>> {
    stream::once(async move {
        let file = tokio::fs::File::open(&path).await?;
        let size = file.metadata().await?.len();
        let header = header(&name, tar::EntryType::Regular, size)?;
        let padding = usize::try_from(size.wrapping_neg() % BLOCK).unwrap_or_default();
        let start = stream::iter([Ok(header)]);
        let content = ReaderStream::with_capacity(file, CHUNK);
        let end = stream::iter([Ok(Bytes::from(vec![0; padding]))]);
        Ok(start.chain(content).chain(end))
    })
    .flat_map(|entry: io::Result<_>| match entry {
        Ok(entry) => StreamExt::boxed(entry),
        Err(error) => stream::iter([Err(error)]).boxed(),
    })
    .boxed()
}

fn header(name: &str, kind: tar::EntryType, size: u64) -> io::Result<Bytes> {
    let now = Clock::system().now().0 / 1000;
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mtime(u64::try_from(now).unwrap_or(0));
    header.set_mode(if kind == tar::EntryType::Directory {
        0o755
    } else {
        0o644
    });
    header.set_cksum();
    Ok(Bytes::copy_from_slice(header.as_bytes()))
}
