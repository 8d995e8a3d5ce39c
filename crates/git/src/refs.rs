//! What the refs of a repository point to.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::command::checked;
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

    /// Moves, creates or deletes a ref that is still at `from`. Returns false, and changes nothing, if it is not.
    pub fn move_ref(
        &self,
        repo: &Path,
        name: &RefName,
        from: Option<&ObjectId>,
        to: Option<&ObjectId>,
    ) -> Result<bool, GitError> {
        const VERB: &str = "update-ref";
        let mut command = self.command_in(repo);
        command.args([VERB, "--no-deref", "-m", "undo"]);
        match (from, to) {
            (None, None) => return Ok(true),
            (Some(from), None) => command.args(["-d", name.as_str(), from.as_str()]),
            (_, Some(to)) => {
                // Zeros stand for a ref that does not exist.
                let none = "0".repeat(to.as_str().len());
                let from = from.map_or(none.as_str(), ObjectId::as_str);
                command.args([name.as_str(), to.as_str(), from])
            }
        };
        match Self::run(&mut command, VERB) {
            Ok(_) => Ok(true),
            Err(error) if self.ref_value(repo, name)?.as_ref() == from => Err(error),
            Err(_) => Ok(false),
        }
    }
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
