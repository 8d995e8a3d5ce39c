//! Commits that quire makes so that a branch can move to them: merges, and commits that are applied to a branch again.
//!
//! They are made in the bare repository, by `git merge-tree`: no files are checked out. A commit that is applied again keeps
//! its author, message and committer; its committing time is now, and its signature, which would be wrong, is removed.

use std::fs::File;
use std::path::Path;

use super::command::{checked, with_input};
use super::error::{GitError, excerpt, stderr_tail};
use super::git::Git;
use super::raw_object;
use quire_types::clock::Millis;
use quire_types::landing::{BranchRelation, LandingProblem};
use quire_types::names::{ObjectId, RefName};

/// The most commits that are applied again: each takes a few processes.
const MAX_REBASED: usize = 200;
/// How many files of a conflict are named.
const MAX_PATHS: usize = 5;

/// The commit that is landed, and the branch.
#[derive(Debug, Clone, Copy)]
pub struct LandingCommit<'a> {
    pub repo: &'a Path,
    pub branch: &'a RefName,
    /// What the branch refers to.
    pub tip: &'a ObjectId,
    /// The commit that was pushed.
    pub commit: &'a ObjectId,
    pub now: Millis,
}

/// What was made of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemadeCommit {
    Commit(ObjectId),
    /// The branch has all of its changes.
    Contained,
    Impossible(LandingProblem),
}

/// What merging two trees results in.
enum MergedTree {
    Clean(String),
    Conflict(Vec<String>),
}

impl Git {
    /// Whether an object is a commit.
    pub fn is_commit(&self, repo: &Path, id: &ObjectId) -> Result<bool, GitError> {
        const VERB: &str = "cat-file";
        let mut command = self.command_in(repo);
        command.args([VERB, "-t", id.as_str()]);
        let kind = Self::run(&mut command, VERB)?;
        Ok(kind.trim_ascii() == b"commit")
    }

    /// How a branch at `tip` and a commit are related.
    pub async fn branch_relation(
        &self,
        repo: &Path,
        tip: Option<&ObjectId>,
        commit: &ObjectId,
    ) -> Result<BranchRelation, GitError> {
        let Some(tip) = tip else {
            return Ok(BranchRelation::FastForward);
        };
        if self.is_ancestor(repo, commit, tip).await? {
            return Ok(BranchRelation::Contained);
        }
        if self.is_ancestor(repo, tip, commit).await? {
            return Ok(BranchRelation::FastForward);
        }
        const VERB: &str = "merge-base";
        let output = self
            .output(repo, VERB, [tip.as_str(), commit.as_str()])
            .await?;
        match output.status.code() {
            Some(1) => Ok(BranchRelation::Unrelated),
            _ => checked(VERB, output).map(|_| BranchRelation::Diverged),
        }
    }

    /// The branch that keeps another from being created: git stores `a/b` in a folder `a`.
    pub async fn branch_in_the_way(
        &self,
        repo: &Path,
        branch: &RefName,
    ) -> Result<Option<RefName>, GitError> {
        let mut patterns = vec!["--format=%(refname)".to_owned(), format!("{branch}/")];
        let slashes = branch.as_str().match_indices('/').skip(2);
        patterns.extend(slashes.map(|(at, _)| branch.as_str()[..at].to_owned()));
        let output = self.success(repo, "for-each-ref", &patterns).await?;
        let output = String::from_utf8_lossy(&output);
        let mut names = output.lines().filter(|name| {
            let parent = branch.as_str().strip_prefix(name);
            let child = name.strip_prefix(branch.as_str());
            parent.or(child).is_some_and(|rest| rest.starts_with('/'))
        });
        Ok(names.next().and_then(|name| name.parse().ok()))
    }

    /// Merges a commit with its branch.
    pub async fn merge_onto(&self, of: LandingCommit<'_>) -> Result<RemadeCommit, GitError> {
        let merged = self
            .merge_trees(of.repo, None, of.tip.as_str(), of.commit.as_str())
            .await?;
        let tree = match merged {
            MergedTree::Clean(tree) => tree,
            MergedTree::Conflict(paths) => return Ok(conflict(&of, paths)),
        };
        let raw = self.raw_commit(of.repo, of.commit).await?;
        let subject = raw_object::commit(&raw).unwrap_or_default().message;
        let subject = subject.lines().next().unwrap_or_default();
        let message = format!(
            "Merge commit '{}' into {}\n\n{subject}\n",
            of.commit.short(),
            of.branch.short()
        );
        let merge = NewCommit {
            tree: &tree,
            parents: &[of.tip, of.commit],
            like: &raw,
            now: of.now,
        };
        let Some(bytes) = merge.with_message(&message) else {
            return Err(unexpected(&raw));
        };
        self.write_commit(of.repo, bytes)
            .await
            .map(RemadeCommit::Commit)
    }

    /// Applies the commits that a branch lacks to it, in their order and without merges.
    pub async fn rebase_onto(&self, of: LandingCommit<'_>) -> Result<RemadeCommit, GitError> {
        let range = format!("{}..{}", of.tip, of.commit);
        let limit = format!("--max-count={}", MAX_REBASED + 1);
        let args = ["--reverse", "--topo-order", "--no-merges", &limit, &range];
        let output = self.success(of.repo, "rev-list", args).await?;
        let output = String::from_utf8_lossy(&output);
        let ids: Vec<ObjectId> = output
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect();
        if ids.len() > MAX_REBASED {
            return Ok(RemadeCommit::Impossible(LandingProblem::TooLong {
                branch: of.branch.short().to_owned(),
                max: MAX_REBASED,
            }));
        }
        let mut onto = of.tip.clone();
        let mut onto_tree = self.tree_of(of.repo, &onto).await?;
        for id in &ids {
            let raw = self.raw_commit(of.repo, id).await?;
            let commit = raw_object::commit(&raw).ok_or_else(|| unexpected(&raw))?;
            let base = match commit.parents.first() {
                Some(parent) => self.tree_of(of.repo, parent).await?,
                None => self.empty_tree(of.repo).await?,
            };
            let merged = self
                .merge_trees(of.repo, Some(&base), &onto_tree, &commit.tree)
                .await?;
            let tree = match merged {
                MergedTree::Clean(tree) => tree,
                MergedTree::Conflict(paths) => return Ok(conflict(&of, paths)),
            };
            // The branch has this change. A commit without any change was made on purpose.
            if tree == onto_tree && base != commit.tree {
                continue;
            }
            let again = NewCommit {
                tree: &tree,
                parents: &[&onto],
                like: &raw,
                now: of.now,
            };
            let bytes = again.with_own_message().ok_or_else(|| unexpected(&raw))?;
            onto = self.write_commit(of.repo, bytes).await?;
            onto_tree = tree;
        }
        Ok(match onto == *of.tip {
            true => RemadeCommit::Contained,
            false => RemadeCommit::Commit(onto),
        })
    }

    /// Syncs all that was written to the file system of a repository: the objects of a commit are in many folders.
    pub fn sync_file_system(&self, repo: &Path) -> Result<(), GitError> {
        let synced = File::open(repo)
            .and_then(|folder| nix::unistd::syncfs(&folder).map_err(std::io::Error::from));
        synced.map_err(|source| GitError::Io {
            action: "sync the file system of",
            path: repo.to_owned(),
            source,
        })
    }

    async fn merge_trees(
        &self,
        repo: &Path,
        base: Option<&str>,
        ours: &str,
        theirs: &str,
    ) -> Result<MergedTree, GitError> {
        const VERB: &str = "merge-tree";
        let base = base.map(|base| format!("--merge-base={base}"));
        let mut args = vec!["--write-tree", "-z", "--name-only", "--no-messages"];
        args.extend(base.as_deref());
        args.extend([ours, theirs]);
        let output = self.output(repo, VERB, args).await?;
        let is_conflict = output.status.code() == Some(1);
        if is_conflict && output.stdout.is_empty() {
            let output = stderr_tail(&output.stderr);
            return Err(GitError::Unexpected { verb: VERB, output });
        }
        let stdout = match is_conflict {
            true => output.stdout,
            false => checked(VERB, output)?,
        };
        let text = String::from_utf8_lossy(&stdout);
        let mut parts = text.split('\0').filter(|part| !part.is_empty());
        let tree = parts.next().unwrap_or_default().to_owned();
        Ok(match is_conflict {
            true => MergedTree::Conflict(parts.map(str::to_owned).collect()),
            false => MergedTree::Clean(tree),
        })
    }

    async fn tree_of(&self, repo: &Path, commit: &ObjectId) -> Result<String, GitError> {
        let raw = self.raw_commit(repo, commit).await?;
        raw_object::commit(&raw)
            .map(|commit| commit.tree)
            .ok_or_else(|| unexpected(&raw))
    }

    async fn empty_tree(&self, repo: &Path) -> Result<String, GitError> {
        let args = ["-t", "tree", "-w", "/dev/null"];
        let output = self.success(repo, "hash-object", args).await?;
        Ok(String::from_utf8_lossy(&output).trim().to_owned())
    }

    async fn raw_commit(&self, repo: &Path, commit: &ObjectId) -> Result<Vec<u8>, GitError> {
        self.success(repo, "cat-file", ["commit", commit.as_str()])
            .await
    }

    async fn write_commit(&self, repo: &Path, bytes: Vec<u8>) -> Result<ObjectId, GitError> {
        const VERB: &str = "hash-object";
        let repo = repo.to_owned();
        self.call(move |git| {
            let mut command = git.command_in(&repo);
            command.args([VERB, "-t", "commit", "-w", "--stdin"]);
            let output = with_input(command, VERB, &bytes)?;
            let output = String::from_utf8_lossy(&output);
            output.trim().parse().map_err(|_| GitError::Unexpected {
                verb: VERB,
                output: excerpt(&output),
            })
        })
        .await
    }
}

fn unexpected(raw: &[u8]) -> GitError {
    GitError::Unexpected {
        verb: "cat-file",
        output: excerpt(&String::from_utf8_lossy(raw)),
    }
}

fn conflict(of: &LandingCommit<'_>, mut paths: Vec<String>) -> RemadeCommit {
    paths.dedup();
    let more = paths.len().saturating_sub(MAX_PATHS);
    paths.truncate(MAX_PATHS);
    if more > 0 {
        paths.push(format!("{more} more"));
    }
    RemadeCommit::Impossible(LandingProblem::Conflict {
        branch: of.branch.short().to_owned(),
        paths,
    })
}

/// A commit that is made of another.
struct NewCommit<'a> {
    tree: &'a str,
    parents: &'a [&'a ObjectId],
    /// The raw commit whose people and message it has.
    like: &'a [u8],
    now: Millis,
}

impl NewCommit<'_> {
    /// With the author, the further headers and the message of the other commit. `None` if that has no committer.
    fn with_own_message(&self) -> Option<Vec<u8>> {
        let end = memchr::memmem::find(self.like, b"\n\n")?;
        let mut bytes = self.beginning();
        let (mut is_kept, mut has_committer) = (true, false);
        for line in self.like[..end].split(|byte| *byte == b'\n') {
            // A line that begins with a space goes on with the header before it.
            if !line.starts_with(b" ") {
                let key = line.split(|byte| *byte == b' ').next().unwrap_or_default();
                is_kept = !matches!(
                    key,
                    b"tree" | b"parent" | b"gpgsig" | b"gpgsig-sha256" | b"mergetag"
                );
            }
            if !is_kept {
                continue;
            }
            if let Some(person) = line.strip_prefix(b"committer ") {
                bytes.extend_from_slice(b"committer ");
                bytes.extend_from_slice(&self.person_now(person)?);
                has_committer = true;
            } else {
                bytes.extend_from_slice(line);
            }
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(&self.like[end + 1..]);
        has_committer.then_some(bytes)
    }

    /// By the committer of the other commit. `None` if that has none.
    fn with_message(&self, message: &str) -> Option<Vec<u8>> {
        let mut lines = self.like.split(|byte| *byte == b'\n');
        let person = lines.find_map(|line| line.strip_prefix(b"committer "))?;
        let person = self.person_now(person)?;
        let mut bytes = self.beginning();
        for role in ["author ", "committer "] {
            bytes.extend_from_slice(role.as_bytes());
            bytes.extend_from_slice(&person);
            bytes.push(b'\n');
        }
        bytes.push(b'\n');
        bytes.extend_from_slice(message.as_bytes());
        Some(bytes)
    }

    fn beginning(&self) -> Vec<u8> {
        let parents = self
            .parents
            .iter()
            .map(|parent| format!("parent {parent}\n"));
        let head: String = std::iter::once(format!("tree {}\n", self.tree))
            .chain(parents)
            .collect();
        head.into_bytes()
    }

    /// `NAME <MAIL> SECONDS ZONE` with the present time.
    fn person_now(&self, person: &[u8]) -> Option<Vec<u8>> {
        let mut fields = person.rsplitn(3, |byte| *byte == b' ');
        let (zone, _, name) = (fields.next()?, fields.next()?, fields.next()?);
        let seconds = (self.now.0 / 1000).max(0).to_string();
        Some([name, b" ", seconds.as_bytes(), b" ", zone].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW: &[u8] = b"tree 1111111111111111111111111111111111111111\n\
        parent 2222222222222222222222222222222222222222\n\
        author J\xfcrgen <j@example.org> 1600000000 +0200\n\
        committer A. N. Other <a@example.org> 1600000001 -0330\n\
        gpgsig -----BEGIN PGP SIGNATURE-----\n \n abc\n -----END PGP SIGNATURE-----\n\
        encoding ISO-8859-1\n\nAdd a f\xfcr\n\nMore.\n";

    fn id(digit: &str) -> ObjectId {
        digit.repeat(40).parse().unwrap()
    }

    #[test]
    fn a_commit_that_is_applied_again_keeps_its_people_and_words() {
        let (tree, parent) = ("3".repeat(40), id("4"));
        let again = NewCommit {
            tree: &tree,
            parents: &[&parent],
            like: RAW,
            now: Millis(1_700_000_000_999),
        };
        let expected: &[u8] = b"tree 3333333333333333333333333333333333333333\n\
            parent 4444444444444444444444444444444444444444\n\
            author J\xfcrgen <j@example.org> 1600000000 +0200\n\
            committer A. N. Other <a@example.org> 1700000000 -0330\n\
            encoding ISO-8859-1\n\nAdd a f\xfcr\n\nMore.\n";
        let made = again.with_own_message().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&made),
            String::from_utf8_lossy(expected)
        );
        assert_eq!(made, expected);
        let merge = NewCommit {
            parents: &[&parent, &id("5")],
            ..again
        };
        let expected = "tree 3333333333333333333333333333333333333333\n\
            parent 4444444444444444444444444444444444444444\n\
            parent 5555555555555555555555555555555555555555\n\
            author A. N. Other <a@example.org> 1700000000 -0330\n\
            committer A. N. Other <a@example.org> 1700000000 -0330\n\nMerge\n";
        assert_eq!(merge.with_message("Merge\n").unwrap(), expected.as_bytes());
    }

    #[test]
    fn what_is_no_commit_makes_none() {
        for raw in [&b""[..], b"tree 1\n\nx", b"tree 1\ncommitter x\n\nx"] {
            let made = NewCommit {
                tree: "1",
                parents: &[],
                like: raw,
                now: Millis(0),
            };
            assert_eq!(made.with_own_message(), None);
            assert_eq!(made.with_message("x"), None);
        }
    }
}
