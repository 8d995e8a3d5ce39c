//! Finds the files of quire in a tree: those in the folder `.quire` and below it. Symbolic links to files are followed as
//! long as they stay in the tree; `.quire` itself may be a link to a folder, but links to folders in it are not searched. A commit and a working tree are searched by the same code ([`TreeReader`]), so a push finds what
//! `quire ci check` has found.

use quire_types::text::excerpt;

/// The folder.
const FOLDER: &str = ".quire";
/// The names in the folder that have a meaning, without those of helpers.
const DOCKERFILE: &str = "Dockerfile";
const PIPELINES: [&str; 2] = ["ci.fnl", "ci.lua"];
/// How many links are followed for one path, as in Linux.
const MAX_LINKS: usize = 40;
/// How many files and folders are searched.
const MAX_FILES: usize = 500;
const MAX_FOLDERS: usize = 2_000;
/// How much of a link's target is shown, in characters.
const MAX_TARGET: usize = 200;

/// What a tree has under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    Folder,
    File,
    Link,
    Submodule,
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderEntry<Id> {
    pub name: String,
    pub kind: EntryKind,
    pub id: Id,
}

impl<Id> FolderEntry<Id> {
    /// Whether its name is that of a Fennel or Lua file.
    pub(super) fn is_source(&self) -> bool {
        matches!(self.name.rsplit_once('.'), Some((stem, "fnl" | "lua")) if !stem.is_empty())
    }

    /// Whether it is a file or a link.
    pub(super) fn is_blob(&self) -> bool {
        matches!(self.kind, EntryKind::File | EntryKind::Link)
    }
}

/// A tree of files.
pub trait TreeReader: Send {
    /// What names a file, a folder or a link of the tree.
    type Id: Clone + PartialEq + Send + Sync;
    type Error: Send;

    /// The entries of a folder. Names that are not UTF-8 are left out.
    fn entries(
        &mut self,
        folder: &Self::Id,
    ) -> impl Future<Output = Result<Vec<FolderEntry<Self::Id>>, Self::Error>> + Send;

    /// The path that a symbolic link contains.
    fn target(
        &mut self,
        link: &Self::Id,
    ) -> impl Future<Output = Result<String, Self::Error>> + Send;
}

/// The files of quire in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineContents<Id> {
    /// The Fennel and Lua files in the folder and below it, with their paths in the tree, sorted.
    pub files: Vec<(String, Id)>,
    /// Whether there is a Dockerfile.
    pub dockerfile: bool,
    pub problems: Vec<UnusableFile>,
    pub misnamed: Vec<Misnamed>,
}

/// A file of quire that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} {problem}")]
pub struct UnusableFile {
    /// The path in the tree.
    pub path: String,
    pub problem: UnusableReason,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnusableReason {
    #[error("is a symbolic link to `{target}`, which is outside of the repository")]
    Outside { target: String },
    #[error("is a symbolic link to `{target}`, which does not exist in the repository")]
    Missing { target: String },
    #[error("is a symbolic link to `{target}`, which is not a file")]
    NotAFile { target: String },
    #[error("is a symbolic link to `{target}`, which is a circle of symbolic links")]
    Circle { target: String },
    #[error("is a symbolic link to `{target}`, which is not a folder")]
    NotAFolder { target: String },
    #[error("is a file, and has to be a folder")]
    File,
    #[error("is a folder, and has to be a file")]
    Folder,
    #[error("is a submodule, in which quire does not look for a pipeline")]
    Submodule,
    #[error("has more than {MAX_FILES} Fennel and Lua files")]
    TooManyFiles,
    #[error("has more than {MAX_FOLDERS} folders")]
    TooManyFolders,
    #[error("is not UTF-8 text of at most {} KiB", .limit >> 10)]
    NotText { limit: usize },
}

/// A file whose name differs from one that quire reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{FOLDER}/{name} is not used: its name has to be {FOLDER}/{intended}")]
pub struct Misnamed {
    pub name: String,
    pub intended: &'static str,
}

/// The names that quire does not read but that were probably meant for it.
pub(super) fn misnamed<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<Misnamed> {
    let has = |name: &str| names.clone().any(|other| other == name);
    let intended = |name: &str| -> Option<&'static str> {
        if name.eq_ignore_ascii_case("containerfile") {
            return Some(DOCKERFILE);
        }
        let known = PIPELINES.into_iter().chain([DOCKERFILE]);
        let mut others = known.filter(|known| *known != name);
        others.find(|known| known.eq_ignore_ascii_case(name))
    };
    let found = names.clone().filter_map(|name| {
        let intended = intended(name).filter(|intended| !has(intended))?;
        Some(Misnamed {
            name: name.to_owned(),
            intended,
        })
    });
    found.collect()
}

/// What a path stands for once its links are followed.
pub(super) enum Resolved<Id> {
    File(Id),
    Folder(Id),
}

/// Searches a tree, whose top folder is `root`.
///
/// # Errors
/// The tree cannot be read.
pub async fn find_pipeline_folder<R: TreeReader>(
    reader: &mut R,
    root: &R::Id,
) -> Result<PipelineContents<R::Id>, R::Error> {
    let mut search = Search {
        reader,
        root,
        folders: Vec::new(),
        found: PipelineContents {
            files: Vec::new(),
            dockerfile: false,
            problems: Vec::new(),
            misnamed: Vec::new(),
        },
    };
    match pipeline_folder(search.reader, root).await? {
        Ok(Some(folder)) => {
            search.folders.push((FOLDER.to_owned(), folder));
            search.run().await?;
        }
        Ok(None) => {}
        Err(problem) => search.problem(FOLDER, problem),
    }
    search.found.files.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(search.found)
}

/// The folder `.quire` of a tree, which may be a symbolic link; `None` if there is nothing of this name. Anything but a folder
/// is a problem.
pub(super) async fn pipeline_folder<R: TreeReader>(
    reader: &mut R,
    root: &R::Id,
) -> Result<Result<Option<R::Id>, UnusableReason>, R::Error> {
    let entries = reader.entries(root).await?;
    let Some(entry) = entries.into_iter().find(|entry| entry.name == FOLDER) else {
        return Ok(Ok(None));
    };
    match entry.kind {
        EntryKind::Folder => return Ok(Ok(Some(entry.id))),
        EntryKind::File => return Ok(Err(UnusableReason::File)),
        EntryKind::Submodule => return Ok(Err(UnusableReason::Submodule)),
        EntryKind::Link => {}
    }
    Ok(match resolve(reader, root, FOLDER).await? {
        Ok(Resolved::Folder(id)) => Ok(Some(id)),
        Ok(Resolved::File(_)) => {
            let target = excerpt(&reader.target(&entry.id).await?, MAX_TARGET);
            Err(UnusableReason::NotAFolder { target })
        }
        Err(problem) => Err(problem),
    })
}

/// What is wrong with an entry of the folder `.quire` that has to be a file but is none. The target of a link is not looked at.
pub(super) fn problem_of_entry(name: &str, kind: EntryKind) -> Option<UnusableReason> {
    if name != DOCKERFILE && !PIPELINES.contains(&name) {
        return None;
    }
    match kind {
        EntryKind::Folder => Some(UnusableReason::Folder),
        EntryKind::Submodule => Some(UnusableReason::Submodule),
        EntryKind::File | EntryKind::Link => None,
    }
}

impl UnusableFile {
    /// A problem with the folder itself.
    pub(super) fn of_folder(problem: UnusableReason) -> Self {
        Self {
            path: FOLDER.to_owned(),
            problem,
        }
    }

    /// A problem with a file in the folder.
    pub(super) fn of_entry(name: &str, problem: UnusableReason) -> Self {
        Self {
            path: format!("{FOLDER}/{name}"),
            problem,
        }
    }

    /// Whether the file is the Dockerfile, without which a commit can have a pipeline.
    pub(super) fn is_dockerfile(&self) -> bool {
        let name = self.path.strip_prefix(FOLDER);
        name.and_then(|name| name.strip_prefix('/')) == Some(DOCKERFILE)
    }
}

struct Search<'a, R: TreeReader> {
    reader: &'a mut R,
    root: &'a R::Id,
    /// The path and id of each folder that is still to be searched.
    folders: Vec<(String, R::Id)>,
    found: PipelineContents<R::Id>,
}

impl<R: TreeReader> Search<'_, R> {
    async fn run(&mut self) -> Result<(), R::Error> {
        let mut searched = 0;
        while let Some((folder, id)) = self.folders.pop() {
            searched += 1;
            let too_many = if searched > MAX_FOLDERS {
                Some(UnusableReason::TooManyFolders)
            } else {
                (self.found.files.len() > MAX_FILES).then_some(UnusableReason::TooManyFiles)
            };
            if let Some(problem) = too_many {
                self.problem(FOLDER, problem);
                return Ok(());
            }
            let entries = self.reader.entries(&id).await?;
            let is_top = searched == 1;
            if is_top {
                self.found.misnamed = misnamed(entries.iter().map(|entry| entry.name.as_str()));
            }
            for entry in entries {
                self.entry(format!("{folder}/{}", entry.name), is_top, entry)
                    .await?;
            }
        }
        if self.found.files.len() > MAX_FILES {
            self.problem(FOLDER, UnusableReason::TooManyFiles);
        }
        Ok(())
    }

    async fn entry(
        &mut self,
        path: String,
        is_top: bool,
        entry: FolderEntry<R::Id>,
    ) -> Result<(), R::Error> {
        if is_top && let Some(problem) = problem_of_entry(&entry.name, entry.kind) {
            self.problem(&path, problem);
            return Ok(());
        }
        let is_dockerfile = is_top && entry.name == DOCKERFILE;
        let is_source = entry.is_source();
        let file = match entry.kind {
            EntryKind::File => entry.id,
            EntryKind::Folder => {
                self.folders.push((path, entry.id));
                return Ok(());
            }
            EntryKind::Link if is_dockerfile || is_source => {
                match resolve(self.reader, self.root, &path).await? {
                    Ok(Resolved::File(id)) => id,
                    // A link in a folder below may be anything, and is no helper then.
                    Ok(Resolved::Folder(_)) | Err(_) if !is_top => return Ok(()),
                    Ok(Resolved::Folder(_)) => {
                        let target = excerpt(&self.reader.target(&entry.id).await?, MAX_TARGET);
                        self.problem(&path, UnusableReason::NotAFile { target });
                        return Ok(());
                    }
                    Err(problem) => {
                        self.problem(&path, problem);
                        return Ok(());
                    }
                }
            }
            EntryKind::Link | EntryKind::Submodule => return Ok(()),
        };
        if is_dockerfile {
            self.found.dockerfile = true;
        } else if is_source {
            self.found.files.push((path, file));
        }
        Ok(())
    }

    fn problem(&mut self, path: &str, problem: UnusableReason) {
        self.found.problems.push(UnusableFile {
            path: path.to_owned(),
            problem,
        });
    }
}

/// Follows a path from the top of a tree, and every symbolic link in it.
async fn resolve<R: TreeReader>(
    reader: &mut R,
    root: &R::Id,
    path: &str,
) -> Result<Result<Resolved<R::Id>, UnusableReason>, R::Error> {
    let parts = |path: &str| -> Vec<String> { path.rsplit('/').map(str::to_owned).collect() };
    let mut folders = vec![root.clone()];
    // The next part is the last one.
    let mut rest = parts(path);
    let mut links = 0;
    let mut target = String::new();
    while let Some(name) = rest.pop() {
        match name.as_str() {
            "" | "." => continue,
            ".." if folders.len() == 1 => return Ok(Err(UnusableReason::Outside { target })),
            ".." => {
                folders.pop();
                continue;
            }
            _ => {}
        }
        let entries = match folders.last() {
            Some(folder) => reader.entries(folder).await?,
            None => Vec::new(),
        };
        let entry = entries.into_iter().find(|entry| entry.name == name);
        match entry {
            Some(entry) if entry.kind == EntryKind::Folder => folders.push(entry.id),
            Some(entry) if entry.kind == EntryKind::File && rest.is_empty() => {
                return Ok(Ok(Resolved::File(entry.id)));
            }
            Some(entry) if entry.kind == EntryKind::Link => {
                let next = reader.target(&entry.id).await?;
                links += 1;
                if links == 1 {
                    target = excerpt(&next, MAX_TARGET);
                }
                if next.starts_with('/') {
                    return Ok(Err(UnusableReason::Outside { target }));
                }
                if links > MAX_LINKS {
                    return Ok(Err(UnusableReason::Circle { target }));
                }
                rest.extend(parts(&next));
            }
            _ => return Ok(Err(UnusableReason::Missing { target })),
        }
    }
    Ok(match folders.pop() {
        Some(folder) => Ok(Resolved::Folder(folder)),
        None => Err(UnusableReason::Missing { target }),
    })
}
