//! What branches refer to because another machine did: by an import or a pull mirror, and not by a push to this appliance.
//!
//! A file in the repository has these branches, each with its commit. A push moves a branch to another commit, so it ends this without any write.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::error::GitError;
use super::git::Git;
use super::refs::RefMove;
use quire_types::fsutil::replace_file_durably;
use quire_types::names::{ObjectId, RefName, RepoName};

/// In each repository that was imported: a line with a commit and a ref for each branch.
const FILE: &str = "quire-foreign-tips";
const MODE: u32 = 0o644;

/// Who decided what a branch refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TipOrigin {
    /// A push, or a command of this appliance.
    Here,
    /// The other side of an import, or of a pull mirror that was stopped.
    Import,
    /// The repository follows another one.
    PullMirror,
}

impl Git {
    /// Who decided that a branch refers to this commit. Blocks.
    pub fn tip_origin(
        &self,
        repo: &RepoName,
        branch: &RefName,
        commit: &ObjectId,
    ) -> Result<TipOrigin, GitError> {
        if self.mirrored_from(repo)?.is_some() {
            return Ok(TipOrigin::PullMirror);
        }
        let path = self.paths.repo(repo).join(FILE);
        let tips = match fs::read_to_string(&path) {
            Ok(tips) => tips,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(TipOrigin::Here),
            Err(source) => {
                return Err(GitError::Io {
                    action: "read",
                    path,
                    source,
                });
            }
        };
        let line = line_of(branch, commit);
        match tips.lines().any(|known| known == line) {
            true => Ok(TipOrigin::Import),
            false => Ok(TipOrigin::Here),
        }
    }

    /// Records that branches refer to what they do because another machine did, and that the next moves are of this kind too. Blocks.
    pub fn record_foreign_tips(&self, folder: &Path, next: &[RefMove]) -> Result<(), GitError> {
        const VERB: &str = "for-each-ref";
        let mut command = self.command_in(folder);
        command.args([VERB, "--format=%(objectname) %(refname)", "refs/heads/"]);
        let mut tips = Self::run(&mut command, VERB)?;
        for one in next {
            if let (Some(commit), Some(_)) = (&one.to, one.ref_name.branch()) {
                tips.extend(line_of(&one.ref_name, commit).bytes());
                tips.push(b'\n');
            }
        }
        let path = folder.join(FILE);
        replace_file_durably(&path, &tips, MODE).map_err(|source| GitError::Io {
            action: "write",
            path,
            source,
        })
    }
}

fn line_of(branch: &RefName, commit: &ObjectId) -> String {
    format!("{commit} {branch}")
}
