//! What a workspace holds beside the files of its commit: its history, and the submodules that can be filled.
//!
//! Submodules of this forge are read from their repositories. Others are fetched only if the pipeline asks for them and
//! its runs have a network. What is left out is a line in the log; if the pipeline asks for all, it is an error.

use std::collections::VecDeque;
use std::path::PathBuf;

use quire_git::lfs::{LfsStore, PointerFile};
use quire_git::{
    AssembledTree, FetchedRepo, FilledSubmodule, ForgeAddress, Git, GitError, Submodule,
    SubmoduleOrigin, WorkspaceHistory, WorkspaceRepo,
};
use quire_pipeline::{CheckoutOptions, History};
use quire_types::error_chain;
use quire_types::names::{ObjectId, RefName, RepoName};
use quire_types::text::{excerpt, single_line};

/// How deep submodules of submodules are filled.
const MAX_DEPTH: u32 = 10;
/// The most submodules of a workspace, with those of submodules.
const MAX_FILLED: usize = 500;
/// How many of the submodules that are left out have a line of their own.
const MAX_NOTES: usize = 20;

/// How many files without content are named.
const MAX_LFS_PATHS: usize = 3;

/// A commit whose workspace is planned.
pub(super) struct CheckoutPlanner<'a> {
    pub(super) git: &'a Git,
    pub(super) repo: &'a RepoName,
    /// The folder of the repository.
    pub(super) folder: PathBuf,
    pub(super) commit: &'a ObjectId,
    pub(super) ref_name: &'a RefName,
    /// Whether the commit has a `.gitmodules`.
    pub(super) has_submodules: bool,
    /// Whether its `.gitattributes` puts files into Git LFS.
    pub(super) uses_lfs: bool,
    pub(super) options: CheckoutOptions,
    /// Whether runs of the pipeline have a network.
    pub(super) network: bool,
    /// The addresses of this forge.
    pub(super) forge: &'a [ForgeAddress],
}

/// The result: a tree, if it differs from that of the commit, and lines for the log.
#[derive(Default)]
pub(super) struct PlannedCheckout {
    pub(super) tree: Option<AssembledTree>,
    pub(super) history: Option<WorkspaceRepo>,
    pub(super) notes: Vec<String>,
    /// Where the objects are that fill files in Git LFS.
    pub(super) lfs: Vec<LfsStore>,
    /// Repositories that were fetched; they are removed with this.
    pub(super) fetched: Vec<FetchedRepo>,
}

/// Why a workspace cannot have what its pipeline asks for.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckoutError {
    #[error("the submodule `{path}` cannot be filled: {reason}")]
    Submodule { path: String, reason: String },
    #[error(transparent)]
    Git(#[from] GitError),
}

/// How many commits deep a history is; `None` for all of it.
#[must_use]
pub fn depth(history: History) -> Option<u32> {
    match history {
        History::Commits(count) => Some(count),
        History::Full => None,
    }
}

/// What the log says about files that stay pointers.
fn lfs_note(left: &[PointerFile], wanted: bool) -> Option<String> {
    let count = match left {
        [] => return None,
        [_] => "1 file is a pointer of Git LFS".to_owned(),
        left => format!("{} files are pointers of Git LFS", left.len()),
    };
    if !wanted {
        return Some(format!(
            "{count}; `(ci.checkout {{:lfs true}})` fills such files"
        ));
    }
    let paths = left.iter().take(MAX_LFS_PATHS);
    let paths: Vec<String> = paths
        .map(|file| single_line(&excerpt(&file.path, 100)))
        .collect();
    let more = if left.len() > paths.len() {
        ", …"
    } else {
        ""
    };
    Some(format!(
        "{count}, because their content is not on this forge: {}{more}; `git lfs push --all REMOTE` sends it",
        paths.join(", ")
    ))
}

/// A submodule that is to be filled.
struct OpenSubmodule {
    submodule: Submodule,
    /// Where the repository that names it is.
    parent: SubmoduleOrigin,
    depth: u32,
}

/// A repository with the commit of a submodule.
struct SubmoduleSource {
    folder: PathBuf,
    origin: SubmoduleOrigin,
}

impl CheckoutPlanner<'_> {
    /// Plans the workspace.
    pub(super) async fn plan(&self) -> Result<PlannedCheckout, CheckoutError> {
        let mut planned = PlannedCheckout::default();
        if self.has_submodules {
            planned = self.plan_submodules().await?;
        }
        if self.options.lfs || self.uses_lfs {
            self.plan_lfs(&mut planned).await?;
        }
        if let Some(history) = self.options.history {
            let history = WorkspaceHistory {
                repo: &self.folder,
                commit: self.commit,
                branch: self.ref_name.branch().map(|_| self.ref_name),
                depth: depth(history),
                origin: self.forge.first().map(|address| address.url(self.repo)),
            };
            planned.history = Some(self.git.workspace_repo(&history).await?);
        }
        Ok(planned)
    }

    /// Plans the files in Git LFS, and notes which stay pointers.
    async fn plan_lfs(&self, planned: &mut PlannedCheckout) -> Result<(), CheckoutError> {
        let files = match &planned.tree {
            Some(tree) => tree.lfs_files().await?,
            None => self.git.lfs_files(&self.folder, self.commit).await?,
        };
        let mut stores = std::mem::take(&mut planned.lfs);
        stores.insert(0, LfsStore::of(&self.folder));
        let wanted = self.options.lfs;
        let find = move |_: &Git| {
            let is_here =
                |file: &PointerFile| wanted && stores.iter().any(|store| store.has(&file.pointer));
            let left: Vec<PointerFile> = files.into_iter().filter(|file| !is_here(file)).collect();
            Ok((stores, left))
        };
        let (stores, left) = self.git.call(find).await?;
        planned.notes.extend(lfs_note(&left, wanted));
        if wanted {
            planned.lfs = stores;
        }
        Ok(())
    }

    /// Plans the submodules of a commit that has a `.gitmodules`.
    async fn plan_submodules(&self) -> Result<PlannedCheckout, CheckoutError> {
        let mut planned = PlannedCheckout::default();
        let top = self.git.submodules(&self.folder, self.commit).await?;
        if self.options.submodules == Some(false) {
            if !top.is_empty() {
                let count = match top.len() {
                    1 => "1 submodule is".to_owned(),
                    count => format!("{count} submodules are"),
                };
                planned
                    .notes
                    .push(format!("{count} left out, because the pipeline says so"));
            }
            return Ok(planned);
        }
        let mut filled: Vec<FilledSubmodule> = Vec::new();
        let mut left_out = Vec::new();
        let origin = SubmoduleOrigin::Forge(self.repo.clone());
        let open = |submodule, parent: &SubmoduleOrigin, depth| OpenSubmodule {
            submodule,
            parent: parent.clone(),
            depth,
        };
        let mut queue: VecDeque<OpenSubmodule> =
            top.into_iter().map(|one| open(one, &origin, 1)).collect();
        while let Some(next) = queue.pop_front() {
            let found = if next.depth > MAX_DEPTH || filled.len() >= MAX_FILLED {
                Err("there are too many submodules".to_owned())
            } else {
                self.source(&next, &mut planned.fetched).await?
            };
            let submodule = next.submodule;
            match found {
                Ok(source) => {
                    let below = self
                        .git
                        .submodules(&source.folder, &submodule.commit)
                        .await?;
                    for mut inner in below {
                        inner.path = format!("{}/{}", submodule.path, inner.path);
                        queue.push_back(open(inner, &source.origin, next.depth + 1));
                    }
                    filled.push(FilledSubmodule {
                        path: submodule.path,
                        commit: submodule.commit,
                        repo: source.folder,
                    });
                }
                Err(reason) if self.options.submodules == Some(true) => {
                    let path = single_line(&excerpt(&submodule.path, 100));
                    return Err(CheckoutError::Submodule { path, reason });
                }
                Err(reason) => left_out.push((submodule.path, reason)),
            }
        }
        for (path, reason) in left_out.iter().take(MAX_NOTES) {
            let path = single_line(&excerpt(path, 100));
            planned
                .notes
                .push(format!("the submodule `{path}` is left out: {reason}"));
        }
        if left_out.len() > MAX_NOTES {
            let more = left_out.len() - MAX_NOTES;
            planned
                .notes
                .push(format!("{more} more submodules are left out"));
        }
        if !filled.is_empty() {
            let stores = filled.iter().map(|one| LfsStore::of(&one.repo));
            planned.lfs = stores.collect();
            let tree = self.git.assemble(&self.folder, self.commit, &filled);
            planned.tree = Some(tree.await?);
        }
        Ok(planned)
    }

    /// The repository that has the commit of a submodule, or why there is none.
    async fn source(
        &self,
        open: &OpenSubmodule,
        fetched: &mut Vec<FetchedRepo>,
    ) -> Result<Result<SubmoduleSource, String>, CheckoutError> {
        let submodule = &open.submodule;
        match SubmoduleOrigin::resolve(&submodule.url, &open.parent, self.forge) {
            SubmoduleOrigin::Forge(name) => self.forge_source(name, &submodule.commit).await,
            SubmoduleOrigin::Url(url) => {
                let shown = single_line(&excerpt(&url, 200));
                if self.options.submodules != Some(true) {
                    return Ok(Err(format!(
                        "{shown} is not on this forge; `(ci.checkout {{:submodules true}})` fetches it"
                    )));
                }
                if !self.network {
                    return Ok(Err(format!(
                        "{shown} is not on this forge, and this run has no network"
                    )));
                }
                if !url.starts_with("https://") {
                    return Ok(Err(format!(
                        "{shown} is not on this forge, and only https:// addresses are fetched"
                    )));
                }
                match self.git.fetch_commit(&url, &submodule.commit).await {
                    Ok(repo) => {
                        let folder = repo.path().to_owned();
                        fetched.push(repo);
                        Ok(Ok(SubmoduleSource {
                            folder,
                            origin: SubmoduleOrigin::Url(url),
                        }))
                    }
                    Err(error) => Ok(Err(error_chain::chain(&error))),
                }
            }
        }
    }

    async fn forge_source(
        &self,
        name: RepoName,
        commit: &ObjectId,
    ) -> Result<Result<SubmoduleSource, String>, CheckoutError> {
        let wanted = name.clone();
        let found = self
            .git
            .call(move |git| {
                let current = git.resolve(&wanted);
                Ok(git.exists(&current)?.then_some(current))
            })
            .await?;
        let Some(current) = found else {
            return Ok(Err(format!(
                "there is no repository `{name}` on this forge"
            )));
        };
        let folder = self.git.folder(&current);
        if !self.git.has_commit(&folder, commit).await? {
            return Ok(Err(format!(
                "the repository `{current}` has no commit {}; push it there",
                commit.short()
            )));
        }
        Ok(Ok(SubmoduleSource {
            folder,
            origin: SubmoduleOrigin::Forge(current),
        }))
    }
}
