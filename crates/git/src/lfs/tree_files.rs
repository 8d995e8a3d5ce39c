//! The files of a tree that are pointers.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::pointer::{LfsPointer, MAX_POINTER};
use crate::command::checked;
use crate::error::{GitError, excerpt};

/// No pointer is shorter: the first line and an id.
const MIN_POINTER: u64 = 100;
const LIST: &str = "ls-tree";
const READ: &str = "cat-file";

/// A file of a tree that is a pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointerFile {
    pub path: String,
    pub pointer: LfsPointer,
}

/// Finds the pointers of a tree. `command` makes a git process that reads its objects.
pub(crate) async fn pointer_files(
    command: impl Fn(&'static str) -> Command,
    tree: &str,
) -> Result<Vec<PointerFile>, GitError> {
    let files = small_files(command(LIST), tree).await?;
    let mut child = command(READ)
        .args(["--batch", "--buffer"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| GitError::Start { verb: READ, source })?;
    let pipe = |source| GitError::Pipe { verb: READ, source };
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Ok(Vec::new());
    };
    let ask = async {
        for (id, _) in &files {
            stdin.write_all(format!("{id}\n").as_bytes()).await?;
        }
        stdin.shutdown().await?;
        drop(stdin);
        Ok(())
    };
    let answer = async {
        let mut found = Vec::new();
        let mut reader = BufReader::new(stdout);
        for (_, path) in &files {
            let mut line = String::new();
            reader.read_line(&mut line).await?;
            let size = line.trim_end().rsplit(' ').next();
            let size: usize = size
                .and_then(|size| size.parse().ok())
                .ok_or_else(|| std::io::Error::other(excerpt(&line)))?;
            let mut content = vec![0; size + 1];
            reader.read_exact(&mut content).await?;
            content.pop();
            found.extend(LfsPointer::parse(&content).map(|pointer| PointerFile {
                path: path.clone(),
                pointer,
            }));
        }
        Ok(found)
    };
    let ((), found) = tokio::try_join!(ask, answer).map_err(pipe)?;
    Ok(found)
}

/// The files of a tree that may be pointers by their size: their ids and paths.
async fn small_files(mut command: Command, tree: &str) -> Result<Vec<(String, String)>, GitError> {
    let output = command
        .args(["-r", "-z", "--full-tree", "--long", tree])
        .output()
        .await
        .map_err(|source| GitError::Start { verb: LIST, source })?;
    let listing = checked(LIST, output)?;
    let mut files = Vec::new();
    for entry in listing.split(|byte| *byte == 0) {
        // `MODE TYPE ID SIZE<tab>PATH`
        let entry = String::from_utf8_lossy(entry);
        let Some((facts, path)) = entry.split_once('\t') else {
            continue;
        };
        let facts: Vec<&str> = facts.split_whitespace().collect();
        if let ["100644" | "100755", "blob", id, size] = facts.as_slice()
            && (MIN_POINTER..=MAX_POINTER).contains(&size.parse().unwrap_or(0))
        {
            files.push(((*id).to_owned(), path.to_owned()));
        }
    }
    Ok(files)
}
