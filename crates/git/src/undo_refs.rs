//! Hidden refs, which keep the objects that pushes overwrote: `refs/quire/undo/ID`, each named after its object.
//!
//! No client sees a ref below `refs/quire` (`transfer.hideRefs` of image/gitconfig), and nothing of quire lists it as a branch
//! or tag. For git they are refs like all others, so what they refer to is never unreachable. Since the name says all, a
//! ref that is created a second time is no error.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use quire_runtime::process::{self, Limits};
use quire_types::names::ObjectId;

use super::command::{checked, with_input};
use super::error::{GitError, excerpt};
use super::git::Git;
use super::ref_folders::sync_ref_folders;

/// The folder of the hidden refs.
const FOLDER: &str = "refs/quire/undo";
/// How long the size of what they keep may be computed.
const SIZE_TIMEOUT: Duration = Duration::from_secs(10 * 60);

impl Git {
    /// Keeps objects from being removed by `git gc`. Returns those that are kept: all but those that do not exist.
    pub fn keep_objects(&self, repo: &Path, ids: &[ObjectId]) -> Result<Vec<ObjectId>, GitError> {
        // Git rejects two updates of one ref.
        let ids: BTreeSet<&ObjectId> = ids.iter().collect();
        let ids: Vec<ObjectId> = ids.into_iter().cloned().collect();
        if ids.is_empty() {
            return Ok(ids);
        }
        let kept = match self.create_hidden(repo, &ids) {
            Ok(()) => ids,
            // One that does not exist fails the creation of all.
            Err(error) => {
                let existing = self.existing_objects(repo, &ids)?;
                if existing.len() == ids.len() {
                    return Err(error);
                }
                self.create_hidden(repo, &existing)?;
                existing
            }
        };
        let name = format!("{FOLDER}/any");
        sync_ref_folders(repo, [name.as_str()]).map_err(|source| GitError::Io {
            action: "sync the refs of",
            path: repo.to_owned(),
            source,
        })?;
        Ok(kept)
    }

    fn create_hidden(&self, repo: &Path, ids: &[ObjectId]) -> Result<(), GitError> {
        self.update_refs(
            repo,
            ids.iter().map(|id| format!("update {FOLDER}/{id} {id}\n")),
        )
    }

    /// Ends what [`Git::keep_objects`] began.
    pub fn release_objects(&self, repo: &Path, ids: &BTreeSet<ObjectId>) -> Result<(), GitError> {
        self.update_refs(repo, ids.iter().map(|id| format!("delete {FOLDER}/{id}\n")))
    }

    /// Executes lines of `git update-ref --stdin`, all or none of them.
    fn update_refs(
        &self,
        repo: &Path,
        lines: impl Iterator<Item = String>,
    ) -> Result<(), GitError> {
        let lines: String = lines.collect();
        let mut command = self.command_in(repo);
        // The names of hidden refs say what they refer to, so they need no log.
        command.args(["-c", "core.logAllRefUpdates=false", "update-ref", "--stdin"]);
        with_input(command, "update-ref", lines.as_bytes()).map(drop)
    }

    /// Those of the objects that exist.
    fn existing_objects(&self, repo: &Path, ids: &[ObjectId]) -> Result<Vec<ObjectId>, GitError> {
        let mut command = self.command_in(repo);
        command.args(["cat-file", "--batch-check=%(objectname)"]);
        let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
        let output = with_input(command, "cat-file", lines.as_bytes())?;
        let output = String::from_utf8_lossy(&output);
        Ok(output
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect())
    }

    /// The objects that hidden refs keep.
    pub fn kept_objects(&self, repo: &Path) -> Result<BTreeSet<ObjectId>, GitError> {
        if !has_hidden_refs(repo) {
            return Ok(BTreeSet::new());
        }
        let mut command = self.command_in(repo);
        command.args(["for-each-ref", "--format=%(objectname)", FOLDER]);
        let output = Self::run(&mut command, "for-each-ref")?;
        let output = String::from_utf8_lossy(&output);
        output
            .lines()
            .map(|line| {
                line.parse().map_err(|_| GitError::Unexpected {
                    verb: "for-each-ref",
                    output: excerpt(line),
                })
            })
            .collect()
    }

    /// The bytes on disk of the objects that nothing but hidden refs keeps, apart from reflogs.
    pub async fn kept_bytes(&self, repo: &Path) -> Result<u64, GitError> {
        const VERB: &str = "rev-list";
        if !has_hidden_refs(repo) {
            return Ok(0);
        }
        let mut command = tokio::process::Command::from(self.background_command());
        command.arg("--git-dir").arg(repo).args([
            VERB,
            "--disk-usage",
            "--objects",
            "--glob=refs/quire/undo/*",
            "--not",
            "--exclude=refs/quire/*",
            "--all",
        ]);
        let limits = Limits {
            deadline: SIZE_TIMEOUT,
            ..Limits::default()
        };
        let ended = process::capture(&mut command, limits).await;
        let ended = ended.map_err(|error| GitError::Pipe {
            verb: VERB,
            source: std::io::Error::other(error),
        })?;
        let output = std::process::Output {
            status: ended.status,
            stdout: ended.stdout,
            stderr: ended.stderr,
        };
        let output = checked(VERB, output)?;
        let output = String::from_utf8_lossy(&output);
        output.trim().parse().map_err(|_| GitError::Unexpected {
            verb: VERB,
            output: excerpt(&output),
        })
    }
}

/// Whether a repository may have hidden refs, without a git process.
fn has_hidden_refs(repo: &Path) -> bool {
    repo.join(FOLDER).is_dir()
        || fs::read(repo.join("packed-refs"))
            .is_ok_and(|packed| memchr::memmem::find(&packed, FOLDER.as_bytes()).is_some())
}
