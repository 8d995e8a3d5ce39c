//! Objects that are fetched for a repository, and are no part of it before all of them are here and checked.
//!
//! Git fetches into a repository of its own that borrows the objects of the other one. So the configuration of that one, which a
//! session could write, has no effect on the fetch, and a fetch that is cut off leaves nothing in it.

use std::fs;
use std::io;
use std::path::Path;

use super::error::GitError;
use super::git::Git;
use super::scratch_repo::ScratchRepo;
use quire_types::names::ObjectId;

/// Objects on their way into a repository. They are removed when this is dropped.
#[derive(Debug)]
pub struct FetchedObjects(ScratchRepo);

impl Git {
    /// Begins to fetch objects for a repository, one of which is `like` this.
    pub fn fetched_objects(
        &self,
        repo: &Path,
        like: &ObjectId,
    ) -> Result<FetchedObjects, GitError> {
        let scratch = self.scratch_repo(like)?;
        let objects = repo.join("objects");
        let borrowed = std::path::absolute(&objects).unwrap_or(objects);
        let alternates = scratch.path().join("objects/info/alternates");
        fs::write(&alternates, format!("{}\n", borrowed.display())).map_err(|source| {
            GitError::Io {
                action: "write",
                path: alternates,
                source,
            }
        })?;
        Ok(FetchedObjects(scratch))
    }
}

impl FetchedObjects {
    /// The repository into which they are fetched.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Moves the packs of what was fetched to the repository. Its refs do not refer to them yet.
    pub fn add_to(&self, repo: &Path) -> Result<(), GitError> {
        let (from, to) = (self.path().join("objects/pack"), repo.join("objects/pack"));
        let add = || -> io::Result<()> {
            fs::create_dir_all(&to)?;
            let mut files: Vec<_> = fs::read_dir(&from)?
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<io::Result<_>>()?;
            files.retain(|name| name.to_string_lossy().starts_with("pack-"));
            // Git finds a pack by its index, which comes last.
            files.sort_by_key(|name| name.to_string_lossy().ends_with(".idx"));
            for name in files {
                fs::rename(from.join(&name), to.join(&name))?;
            }
            Ok(())
        };
        add().map_err(|source| GitError::Io {
            action: "add fetched objects to",
            path: to.clone(),
            source,
        })
    }
}
