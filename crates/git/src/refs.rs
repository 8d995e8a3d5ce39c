//! What the refs of a repository point to.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::command::{checked, with_input};
use super::error::{GitError, excerpt, stderr_tail};
use super::git::Git;
use quire_types::names::{ObjectId, RefName};

/// All refs of a repository at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refs {
    /// Each ref with the object it points to (a tag object for an annotated tag), by name.
    pub refs: Vec<(RefName, ObjectId)>,
    /// Refs whose names are not UTF-8. They cannot be recorded, so they have no runs.
    pub unsupported: Vec<String>,
}

impl Git {
    /// All refs except quire's own (`refs/quire/`). Fails if one of them cannot be read.
    pub async fn refs(&self, repo: &Path) -> Result<Refs, GitError> {
        let output = self
            .output(repo, "for-each-ref", ["--format=%(objectname) %(refname)"])
            .await?;
        // Git leaves out a ref that it cannot read, with a warning, and a folder that it cannot list, without one.
        let warned = stderr_tail(&output.stderr);
        let output = checked("for-each-ref", output)?;
        if !warned.is_empty() {
            return Err(GitError::UnreadableRefs(warned));
        }
        let folder = repo.join("refs");
        self.call(move |_| list_folders(&folder)).await?;
        let mut refs = Refs::default();
        for line in output
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
        {
            let unexpected = || GitError::Unexpected {
                verb: "for-each-ref",
                output: excerpt(&String::from_utf8_lossy(line)),
            };
            let space = line
                .iter()
                .position(|b| *b == b' ')
                .ok_or_else(unexpected)?;
            let (id, name) = (&line[..space], &line[space + 1..]);
            let id: ObjectId = std::str::from_utf8(id)
                .ok()
                .and_then(|id| id.parse().ok())
                .ok_or_else(unexpected)?;
            if name.starts_with(b"refs/quire/") {
                continue;
            }
            match std::str::from_utf8(name)
                .ok()
                .and_then(|name| name.parse().ok())
            {
                Some(name) => refs.refs.push((name, id)),
                None => refs
                    .unsupported
                    .push(excerpt(&String::from_utf8_lossy(name))),
            }
        }
        Ok(refs)
    }

    /// Whether there is a commit with this id.
    pub async fn has_commit(&self, repo: &Path, id: &ObjectId) -> Result<bool, GitError> {
        let object = format!("{id}^{{commit}}");
        let output = self.output(repo, "cat-file", ["-e", &object]).await?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(1 | 128) => Ok(false),
            _ => checked("cat-file", output).map(|_| false),
        }
    }

    /// Whether one commit is an ancestor of another, so that moving a ref from `old` to `new` loses no commits.
    pub async fn is_ancestor(
        &self,
        repo: &Path,
        old: &ObjectId,
        new: &ObjectId,
    ) -> Result<bool, GitError> {
        let output = self
            .output(
                repo,
                "merge-base",
                ["--is-ancestor", old.as_str(), new.as_str()],
            )
            .await?;
        match output.status.code() {
            Some(1) => Ok(false),
            _ => checked("merge-base", output).map(|_| true),
        }
    }

    /// What a ref refers to; `None` if it does not exist.
    pub fn ref_value(&self, repo: &Path, name: &RefName) -> Result<Option<ObjectId>, GitError> {
        const VERB: &str = "for-each-ref";
        let mut command = self.command_in(repo);
        command.args([VERB, "--format=%(objectname) %(refname)", name.as_str()]);
        let output = Self::run(&mut command, VERB)?;
        let output = String::from_utf8_lossy(&output);
        let found = output.lines().find_map(|line| {
            let (id, found) = line.split_once(' ')?;
            (found == name.as_str()).then_some(id)
        });
        found
            .map(|id| {
                id.parse().map_err(|_| GitError::Unexpected {
                    verb: VERB,
                    output: excerpt(id),
                })
            })
            .transpose()
    }

    /// Moves, creates and deletes refs that are still where they are said to be, all or none of them. Returns false, and
    /// changes nothing, if one is not. `reason` is for the reflogs.
    pub fn move_refs(
        &self,
        repo: &Path,
        moves: &[RefMove],
        reason: &str,
    ) -> Result<bool, GitError> {
        const VERB: &str = "update-ref";
        let line = |one: &RefMove| {
            let name = &one.ref_name;
            match (&one.from, &one.to) {
                (None, None) => String::new(),
                (Some(from), None) => format!("delete {name} {from}\n"),
                (None, Some(to)) => format!("create {name} {to}\n"),
                (Some(from), Some(to)) => format!("update {name} {to} {from}\n"),
            }
        };
        let lines: String = moves.iter().map(line).collect();
        let mut command = self.command_in(repo);
        command.args([VERB, "--no-deref", "-m", reason, "--stdin"]);
        let Err(error) = with_input(command, VERB, lines.as_bytes()) else {
            return Ok(true);
        };
        for one in moves {
            if self.ref_value(repo, &one.ref_name)? != one.from {
                return Ok(false);
            }
        }
        Err(error)
    }
}

/// A ref that is to be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefMove {
    pub ref_name: RefName,
    /// What it refers to; `None` if it does not exist.
    pub from: Option<ObjectId>,
    /// What it is to refer to; `None` if it is to be deleted.
    pub to: Option<ObjectId>,
}

/// Lists a folder and all folders below it, to see that it can be done.
fn list_folders(folder: &Path) -> Result<(), GitError> {
    let failed = |source| GitError::Io {
        action: "list",
        path: folder.to_owned(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        // Git removes folders that are empty, and packs the refs in them.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list_folders(&entry.path())?;
        }
    }
    Ok(())
}
