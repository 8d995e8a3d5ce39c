//! The commits of a push with their people and files, for programs on other machines.

use std::collections::HashMap;
use std::path::Path;

use super::command::with_input;
use super::error::{GitError, excerpt};
use super::git::Git;
use quire_types::names::{ObjectId, RefName};

/// The most commits of a push, as GitHub has it.
const MAX_COMMITS: usize = 2048;
/// The most names of files of a push.
const MAX_FILES: usize = 10_000;
/// What is read of a commit, each ended by a NUL.
const FIELDS: [&str; 8] = ["%H", "%T", "%an", "%ae", "%cn", "%ce", "%cI", "%B"];

/// The commits of a ref that was pushed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushedCommits {
    /// Those that the ref did not contain before, the newest [`MAX_COMMITS`] of them, oldest first. Of a new branch: those
    /// that the default branch does not contain. Of a tag: none.
    pub commits: Vec<PushedCommit>,
    /// What the ref refers to; `None` if it was deleted or refers to no commit.
    pub head: Option<PushedCommit>,
    /// Whether the ref does not contain what it referred to before.
    pub forced: bool,
}

/// A commit that was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedCommit {
    pub id: ObjectId,
    pub tree: String,
    pub author: CommitPerson,
    pub committer: CommitPerson,
    /// When it was committed, by RFC 3339 with the offset of the committer.
    pub time: String,
    pub message: String,
    pub files: ChangedFiles,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPerson {
    pub name: String,
    pub email: String,
}

/// The files that a commit changed against its parent; none of a merge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangedFiles {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub modified: Vec<String>,
}

impl Git {
    /// Reads the commits of a ref that was pushed.
    pub async fn pushed_commits(
        &self,
        repo: &Path,
        ref_name: &RefName,
        old: Option<&ObjectId>,
        new: Option<&ObjectId>,
    ) -> Result<PushedCommits, GitError> {
        let Some(new) = new else {
            return Ok(PushedCommits::default());
        };
        let old_commit = match old {
            Some(old) if self.has_commit(repo, old).await? => Some(old),
            _ => None,
        };
        if !self.has_commit(repo, new).await? {
            let forced = old.is_some();
            return Ok(PushedCommits {
                forced,
                ..PushedCommits::default()
            });
        }
        let forced = match old_commit {
            Some(old) => !self.is_ancestor(repo, old, new).await?,
            None => old.is_some(),
        };
        let mut commits = Vec::new();
        if ref_name.branch().is_some() {
            let base = match (old_commit, old) {
                (Some(old), _) => Some(old.clone()),
                (None, Some(_)) => None,
                (None, None) => self.fork_point(repo, ref_name, new).await?,
            };
            commits = self
                .read_commits(repo, new, base.as_ref(), MAX_COMMITS)
                .await?;
        }
        // The newest of them is what the ref refers to.
        let mut head = match commits.is_empty() {
            true => self.read_commits(repo, new, None, 1).await?.pop(),
            false => None,
        };
        let ids = commits.iter().chain(&head).map(|commit| commit.id.clone());
        let mut files = self.changed_files(repo, ids.collect()).await?;
        for commit in commits.iter_mut().chain(&mut head) {
            commit.files = files.remove(&commit.id).unwrap_or_default();
        }
        let head = head.or_else(|| commits.last().cloned());
        Ok(PushedCommits {
            commits,
            head,
            forced,
        })
    }

    /// The newest commits that are reachable from one and not from another, oldest first.
    async fn read_commits(
        &self,
        repo: &Path,
        tip: &ObjectId,
        base: Option<&ObjectId>,
        limit: usize,
    ) -> Result<Vec<PushedCommit>, GitError> {
        const VERB: &str = "log";
        let format = format!("--format=tformat:{}", FIELDS.join("%x00"));
        let limit = format!("--max-count={limit}");
        let mut args = vec!["-z", "--no-patch", "--no-show-signature", "--no-mailmap"];
        args.extend(["--reverse", "--topo-order", &format, &limit, tip.as_str()]);
        let exclude = base.map(|base| format!("^{base}"));
        args.extend(exclude.as_deref());
        args.push("--");
        let output = self.success(repo, VERB, args).await?;
        let text = String::from_utf8_lossy(&output);
        let fields: Vec<&str> = text.split_terminator('\0').collect();
        let commits = fields.chunks(FIELDS.len()).map(parse_commit);
        commits
            .collect::<Option<_>>()
            .ok_or_else(|| GitError::Unexpected {
                verb: VERB,
                output: excerpt(&text),
            })
    }

    async fn changed_files(
        &self,
        repo: &Path,
        ids: Vec<ObjectId>,
    ) -> Result<HashMap<ObjectId, ChangedFiles>, GitError> {
        const VERB: &str = "diff-tree";
        let repo = repo.to_owned();
        self.call(move |git| {
            let mut command = git.command_in(&repo);
            command.args([VERB, "--stdin", "-r", "-z", "--root"]);
            command.args(["--name-status", "--no-renames"]);
            let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
            let output = with_input(command, VERB, lines.as_bytes())?;
            Ok(parse_files(&output))
        })
        .await
    }
}

fn parse_commit(fields: &[&str]) -> Option<PushedCommit> {
    let [
        id,
        tree,
        author,
        author_email,
        committer,
        committer_email,
        time,
        message,
    ] = fields
    else {
        return None;
    };
    let person = |name: &&str, email: &&str| CommitPerson {
        name: (*name).to_owned(),
        email: (*email).to_owned(),
    };
    Some(PushedCommit {
        id: id.parse().ok()?,
        tree: (*tree).to_owned(),
        author: person(author, author_email),
        committer: person(committer, committer_email),
        time: (*time).to_owned(),
        message: message.trim_end().to_owned(),
        files: ChangedFiles::default(),
    })
}

/// Parses `COMMIT\0` and then `STATUS\0PATH\0` for each file, as often as there are commits.
fn parse_files(output: &[u8]) -> HashMap<ObjectId, ChangedFiles> {
    let mut found: HashMap<ObjectId, ChangedFiles> = HashMap::new();
    let mut current = ChangedFiles::default();
    let mut commit: Option<ObjectId> = None;
    let mut count = 0;
    let text = String::from_utf8_lossy(output);
    let mut tokens = text.split_terminator('\0');
    while let Some(token) = tokens.next() {
        if let Ok(id) = token.parse::<ObjectId>() {
            let files = std::mem::take(&mut current);
            if let Some(before) = commit.replace(id) {
                found.insert(before, files);
            }
            continue;
        }
        let Some(path) = tokens.next() else { break };
        count += 1;
        if count > MAX_FILES {
            continue;
        }
        match token {
            "A" => current.added.push(path.to_owned()),
            "D" => current.removed.push(path.to_owned()),
            _ => current.modified.push(path.to_owned()),
        }
    }
    if let Some(last) = commit {
        found.insert(last, current);
    }
    found
}
