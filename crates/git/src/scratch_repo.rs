//! A bare repository that exists while a workspace is made, and is removed when it is dropped.

use std::fs;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::error::GitError;
use super::git::Git;
use super::object_format::ObjectFormat;
use quire_types::names::ObjectId;

/// A bare repository in `.new`. What a crash leaves is removed with the other leftovers there.
#[derive(Debug)]
pub(super) struct ScratchRepo {
    path: PathBuf,
}

impl ScratchRepo {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchRepo {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Git {
    /// A new bare repository for objects like this one.
    pub(super) fn scratch_repo(&self, like: &ObjectId) -> Result<ScratchRepo, GitError> {
        let folder = self.paths.repos().join(".new");
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| GitError::Io {
                action: "create",
                path,
                source,
            }
        };
        fs::create_dir_all(&folder).map_err(failed(&folder))?;
        let scratch = ScratchRepo {
            path: folder.join(Uuid::now_v7().to_string()),
        };
        let mut command = self.command();
        command.args(["init", "--quiet", "--bare", "--template=", "-b", "main"]);
        command
            .arg(format!(
                "--object-format={}",
                ObjectFormat::of(like).as_str()
            ))
            .arg("--")
            .arg(&scratch.path);
        Self::run(&mut command, "init")?;
        // What a commit says about archives of releases does not count for a checkout.
        let info = scratch.path.join("info");
        fs::create_dir_all(&info).map_err(failed(&info))?;
        let attributes = info.join("attributes");
        fs::write(&attributes, "* -export-ignore -export-subst\n").map_err(failed(&attributes))?;
        Ok(scratch)
    }
}
