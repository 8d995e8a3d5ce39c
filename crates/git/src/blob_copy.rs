//! Large blobs of a repository, one after the other, through `git cat-file`.
//!
//! The library that reads objects in this process returns each as a whole. Git copies a large one to a pipe in pieces.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use super::git::Git;
use super::read::LargeBlobs;
use quire_types::names::ObjectId;

/// From which size git copies in pieces what it does not have to assemble from deltas.
const IN_PIECES: &str = "core.bigFileThreshold=1m";

/// Reads large blobs of one repository. The git process starts with the first of them, and is killed when this is dropped.
pub struct BlobCopy {
    git: Git,
    repo: PathBuf,
    process: Option<CatFile>,
}

struct CatFile {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// What separates the last content from the next header.
    ends_line: bool,
}

impl Git {
    /// Reads large blobs of the repository in a folder.
    #[must_use]
    pub fn copy_blobs(&self, repo: PathBuf) -> BlobCopy {
        BlobCopy {
            git: self.clone(),
            repo,
            process: None,
        }
    }

    fn start_cat_file(&self, repo: &Path) -> io::Result<CatFile> {
        let mut command = self.command_in(repo);
        command
            .args(["-c", IN_PIECES, "cat-file", "--batch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (requests, answers) = pipes.ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(CatFile {
            child,
            requests,
            answers: BufReader::new(answers),
            ends_line: false,
        })
    }
}

impl LargeBlobs for BlobCopy {
    fn open(&mut self, id: &ObjectId, size: u64) -> io::Result<Box<dyn Read + '_>> {
        let process = match self.process.take() {
            Some(process) => process,
            None => self.git.start_cat_file(&self.repo)?,
        };
        let process = self.process.insert(process);
        if process.ends_line {
            process.answers.read_exact(&mut [0])?;
        }
        writeln!(process.requests, "{id}")?;
        let mut header = String::new();
        process.answers.read_line(&mut header)?;
        if header.trim_end() != format!("{id} blob {size}") {
            let message = format!("git cat-file does not have the blob {id}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        process.ends_line = true;
        Ok(Box::new((&mut process.answers).take(size)))
    }
}

impl Drop for CatFile {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
