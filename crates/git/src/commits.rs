//! What quire reads of commits: for the intake what each of many commits contains, for the runner the pipeline's files.
//!
//! Objects are read from the commit downwards, each by the id that the object above names. So an object that cannot be
//! read is an error and never a file that the commit does not have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::error::GitError;
use super::git::Git;
use super::object_batch::{Header, MAX_TREE, ObjectBatch};
use super::pipeline_folder::{
    EntryKind, Misnamed, UnusableFile, UnusableReason, misnamed, pipeline_folder, problem_of_entry,
};
use super::raw_object::{self, RawCommit, TreeEntry};
use quire_types::names::{ObjectId, RefName};
use quire_types::text::single_line;

/// How much of a commit is read for its message.
const MAX_COMMIT: usize = 64 << 10;
/// How much of a file is searched for a word while a push waits.
const MAX_SEARCHED_BYTES: usize = 1 << 20;
/// How many files of a commit are searched.
const MAX_SEARCHED_FILES: usize = 100;

/// What the intake needs to know of a commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitInfo {
    /// Whether it contains `.quire/ci.fnl`.
    pub fennel: bool,
    /// Whether it contains `.quire/ci.lua`.
    pub lua: bool,
    /// Whether it contains `.quire/Dockerfile`.
    pub dockerfile: bool,
    /// What is wrong with its `.quire`, or with files in it, as far as no link in the folder has to be followed to see it.
    pub problems: Vec<UnusableFile>,
    /// The message, up to 64 KiB; `None` if the id is not that of a commit.
    pub message: Option<String>,
    /// Whether the pipeline of this commit may declare a group: the word is in one of its files, or
    /// not all of them are searched.
    pub may_declare_group: bool,
    /// Files that quire does not read but that were probably meant for it.
    pub misnamed: Vec<Misnamed>,
    /// Whether the object does not exist. No ref points to it then: that would be an error.
    pub missing: bool,
    /// The parents of the commit.
    pub parents: Vec<ObjectId>,
    /// Whether it has a change id.
    pub has_change_id: bool,
}

/// The longest subject, in characters.
const MAX_SUBJECT_CHARS: usize = 200;

impl CommitInfo {
    /// Whether it has a pipeline, or was meant to have one: then its run says what is wrong.
    #[must_use]
    pub fn has_pipeline(&self) -> bool {
        let is_meant = self.problems.iter().any(|file| !file.is_dockerfile());
        self.fennel || self.lua || is_meant
    }

    /// The first line of the message, fit for one line of a terminal; `None` if it is empty.
    #[must_use]
    pub fn subject(&self) -> Option<String> {
        let mut lines = self.message.as_deref()?.lines().map(str::trim);
        let line = lines.find(|line| !line.is_empty())?;
        let subject: String = line.chars().take(MAX_SUBJECT_CHARS).collect();
        Some(single_line(&subject))
    }
}

/// What the intake needs to know of a push.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushInfo {
    /// In the order of the request.
    pub commits: Vec<CommitInfo>,
    /// What each ref points to at this moment, in the order of the request; `None` for a deleted ref.
    pub refs: Vec<Option<ObjectId>>,
}

impl Git {
    /// Reads what each of these commits contains, with one process for all. The commits must exist.
    pub async fn commit_infos(
        &self,
        repo: &Path,
        ids: &[ObjectId],
    ) -> Result<Vec<CommitInfo>, GitError> {
        let infos = self.push_info(repo, ids, &[]).await?.commits;
        match ids.iter().zip(&infos).find(|(_, info)| info.missing) {
            Some((id, _)) => Err(GitError::UnreadableObject {
                id: id.to_string(),
                reason: String::new(),
            }),
            None => Ok(infos),
        }
    }

    /// Reads what these commits contain, then what these refs point to, with one process for all.
    ///
    /// Fails if a ref points to an object that cannot be read, or a part of a commit cannot be read.
    pub async fn push_info(
        &self,
        repo: &Path,
        ids: &[ObjectId],
        names: &[&RefName],
    ) -> Result<PushInfo, GitError> {
        if ids.is_empty() && names.is_empty() {
            return Ok(PushInfo::default());
        }
        let mut batch = ObjectBatch::new(self, repo).await;
        let commits = commit_infos(&mut batch, ids).await?;
        // The refs last, so that the answer is as recent as possible.
        let refs = self.current_refs(repo, &mut batch, names).await?;
        batch.finish().await?;
        Ok(PushInfo { commits, refs })
    }

    /// What these refs point to; `None` for a ref that does not exist.
    async fn current_refs(
        &self,
        repo: &Path,
        batch: &mut ObjectBatch,
        names: &[&RefName],
    ) -> Result<Vec<Option<ObjectId>>, GitError> {
        let requests: Vec<String> = names.iter().map(ToString::to_string).collect();
        let headers = batch.headers(&requests).await?;
        if headers.iter().any(Option::is_none) {
            // `missing` is said of a ref that was deleted, and of one whose object cannot be read.
            let all = self.refs(repo).await?.refs;
            for (name, _) in names
                .iter()
                .zip(&headers)
                .filter(|(_, found)| found.is_none())
            {
                if let Some((_, id)) = all.iter().find(|(other, _)| other == *name) {
                    let created_since = batch.headers(&[id.to_string()]).await?;
                    if created_since.iter().all(Option::is_none) {
                        return Err(batch.unreadable(id.as_str()).await);
                    }
                }
            }
        }
        let id = |header: Option<Header>| header?.id.parse().ok();
        Ok(headers.into_iter().map(id).collect())
    }
}

/// What an id stands for after tags were followed.
pub(super) enum FoundObject {
    Commit(RawCommit),
    /// A tree or a blob.
    Other,
    Missing,
}

/// Reads the commits that these ids stand for, also through tags.
pub(super) async fn commits(
    batch: &mut ObjectBatch,
    ids: &[ObjectId],
) -> Result<Vec<FoundObject>, GitError> {
    let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let headers = batch.headers(&names).await?;
    let mut found: Vec<FoundObject> = headers
        .iter()
        .map(|header| {
            header
                .as_ref()
                .map_or(FoundObject::Missing, |_| FoundObject::Other)
        })
        .collect();
    let of_kind = |kind: &str| -> Vec<(usize, String)> {
        let is_kind = |(_, header): &(usize, &Option<Header>)| {
            header.as_ref().is_some_and(|header| header.kind == kind)
        };
        let all = headers.iter().enumerate().filter(is_kind);
        all.map(|(at, _)| (at, names[at].clone())).collect()
    };
    let mut commits = of_kind("commit");
    let mut tags = of_kind("tag");
    while !tags.is_empty() {
        let requests: Vec<String> = tags.iter().map(|(_, id)| id.clone()).collect();
        let mut next = Vec::new();
        batch
            .read(
                &requests,
                MAX_COMMIT,
                |at, contents| match raw_object::tag_target(&contents.bytes) {
                    Some((id, kind)) if kind == "commit" => commits.push((tags[at].0, id)),
                    Some((id, kind)) if kind == "tag" => next.push((tags[at].0, id)),
                    _ => {}
                },
            )
            .await?;
        tags = next;
    }
    let requests: Vec<String> = commits.iter().map(|(_, id)| id.clone()).collect();
    batch
        .read(&requests, MAX_COMMIT, |at, contents| {
            if let Some(commit) = raw_object::commit(&contents.bytes) {
                found[commits[at].0] = FoundObject::Commit(commit);
            }
        })
        .await?;
    Ok(found)
}

/// The folder `.quire` of a commit. It is empty if the commit has none.
#[derive(Default, Clone)]
struct PipelineFolder {
    entries: Vec<TreeEntry>,
    truncated: bool,
    /// Why what has its name is not a folder within the commit.
    problem: Option<UnusableReason>,
    /// Whether there is a `.gitmodules` beside it.
    has_submodules: bool,
    /// Whether the `.gitattributes` beside it puts files into Git LFS.
    uses_lfs: bool,
}

impl PipelineFolder {
    fn problems(&self) -> Vec<UnusableFile> {
        let folder = self.problem.clone().map(UnusableFile::of_folder);
        let entries = self.entries.iter().filter_map(|entry| {
            let problem = problem_of_entry(&entry.name, entry.kind)?;
            Some(UnusableFile::of_entry(&entry.name, problem))
        });
        folder.into_iter().chain(entries).collect()
    }
}

/// Reads the folder `.quire` of each of these trees.
async fn pipeline_folders<'a>(
    batch: &mut ObjectBatch,
    trees: &[&'a str],
) -> Result<BTreeMap<&'a str, PipelineFolder>, GitError> {
    let mut found: BTreeMap<&str, PipelineFolder> = trees
        .iter()
        .map(|tree| (*tree, PipelineFolder::default()))
        .collect();
    let trees: Vec<&str> = found.keys().copied().collect();
    let requests: Vec<String> = trees.iter().map(ToString::to_string).collect();
    let mut folders: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut attributes: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut with_submodules: BTreeSet<&str> = BTreeSet::new();
    let mut others = Vec::new();
    batch
        .read(&requests, MAX_TREE, |at, contents| {
            for entry in raw_object::tree_entries(&contents.bytes, trees[at].len() / 2) {
                match (entry.name.as_str(), entry.kind) {
                    (".quire", EntryKind::Folder) => {
                        folders.entry(entry.id).or_default().push(trees[at]);
                    }
                    (".quire", _) => others.push(at),
                    (".gitattributes", EntryKind::File) => {
                        attributes.entry(entry.id).or_default().push(trees[at]);
                    }
                    (".gitmodules", EntryKind::File) => {
                        with_submodules.insert(trees[at]);
                    }
                    (name, _) if name > ".quire" => break,
                    _ => {}
                }
            }
        })
        .await?;
    for at in others {
        match pipeline_folder(batch, &requests[at]).await? {
            Ok(Some(folder)) => folders.entry(folder).or_default().push(trees[at]),
            Ok(None) => {}
            Err(problem) => found.entry(trees[at]).or_default().problem = Some(problem),
        }
    }
    let requests: Vec<String> = folders.keys().cloned().collect();
    batch
        .read(&requests, MAX_TREE, |at, contents| {
            let id = &requests[at];
            let folder = PipelineFolder {
                entries: raw_object::tree_entries(&contents.bytes, id.len() / 2).collect(),
                truncated: contents.truncated,
                problem: None,
                has_submodules: false,
                uses_lfs: false,
            };
            for tree in &folders[id] {
                found.insert(tree, folder.clone());
            }
        })
        .await?;
    let requests: Vec<String> = attributes.keys().cloned().collect();
    batch
        .read(&requests, MAX_SEARCHED_BYTES, |at, contents| {
            if contains_word(&contents.bytes, b"filter=lfs") {
                for tree in &attributes[&requests[at]] {
                    found.entry(tree).or_default().uses_lfs = true;
                }
            }
        })
        .await?;
    for tree in with_submodules {
        found.entry(tree).or_default().has_submodules = true;
    }
    Ok(found)
}

/// Whether a tree has a `.gitmodules`, and whether its `.gitattributes` puts files into Git LFS.
pub(super) async fn checkout_extras(
    batch: &mut ObjectBatch,
    tree: &str,
) -> Result<(bool, bool), GitError> {
    let found = pipeline_folders(batch, &[tree]).await?;
    let folder = found.into_values().next().unwrap_or_default();
    Ok((folder.has_submodules, folder.uses_lfs))
}

async fn commit_infos(
    batch: &mut ObjectBatch,
    ids: &[ObjectId],
) -> Result<Vec<CommitInfo>, GitError> {
    let objects = commits(batch, ids).await?;
    let trees: Vec<&str> = objects
        .iter()
        .filter_map(|object| match object {
            FoundObject::Commit(commit) => Some(commit.tree.as_str()),
            FoundObject::Other | FoundObject::Missing => None,
        })
        .collect();
    let folders = pipeline_folders(batch, &trees).await?;
    let mut files = GroupFiles::default();
    let mut infos = Vec::with_capacity(objects.len());
    for (at, object) in objects.iter().enumerate() {
        let FoundObject::Commit(commit) = object else {
            infos.push(CommitInfo {
                missing: matches!(object, FoundObject::Missing),
                ..CommitInfo::default()
            });
            continue;
        };
        let folder = &folders[commit.tree.as_str()];
        let has = |name: &str| {
            let entry = folder.entries.iter().find(|entry| entry.name == name);
            entry.is_some_and(TreeEntry::is_blob)
        };
        let info = CommitInfo {
            fennel: has("ci.fnl"),
            lua: has("ci.lua"),
            dockerfile: has("Dockerfile"),
            problems: folder.problems(),
            misnamed: misnamed(folder.entries.iter().map(|entry| entry.name.as_str())),
            message: Some(commit.message.clone()),
            parents: commit.parents.clone(),
            has_change_id: commit.has_change_id,
            ..CommitInfo::default()
        };
        if info.fennel || info.lua {
            files.add(at, folder);
        }
        infos.push(info);
    }
    let blobs: Vec<String> = files.blobs.keys().cloned().collect();
    batch
        .read(&blobs, MAX_SEARCHED_BYTES, |at, contents| {
            let may = contents.truncated || contains_word(&contents.bytes, b"group");
            for at in &files.blobs[&blobs[at]] {
                infos[*at].may_declare_group |= may;
            }
        })
        .await?;
    for at in files.too_many {
        infos[at].may_declare_group = true;
    }
    Ok(infos)
}

/// Which pipeline files of which commits are to be searched, each once.
#[derive(Default)]
struct GroupFiles {
    /// The positions of the commits that contain a file, by the file's id.
    blobs: BTreeMap<String, Vec<usize>>,
    /// The positions of the commits with links, folders or too many files in the folder, or too large a folder.
    too_many: Vec<usize>,
}

impl GroupFiles {
    fn add(&mut self, at: usize, folder: &PipelineFolder) {
        let is_source = |entry: &&TreeEntry| entry.kind == EntryKind::File && entry.is_source();
        let files: Vec<&TreeEntry> = folder.entries.iter().filter(is_source).collect();
        // What a link stands for, and what is in a folder, is not searched while a push waits.
        let has_more = folder
            .entries
            .iter()
            .any(|entry| matches!(entry.kind, EntryKind::Folder | EntryKind::Link));
        if folder.truncated || has_more || files.len() > MAX_SEARCHED_FILES {
            self.too_many.push(at);
            return;
        }
        for file in files {
            self.blobs.entry(file.id.clone()).or_default().push(at);
        }
    }
}

/// Whether a word is anywhere in a text, also within another word.
#[must_use]
pub fn contains_word(text: &[u8], word: &[u8]) -> bool {
    memchr::memmem::find(text, word).is_some()
}
