//! Importing repositories. Only the server connects to remotes.

use super::access::Forge;
use super::error::ForgeError;
use super::operation_log::record_with_event;
use crate::control::import_client::import_repo;
use crate::control::protocol::{ImportReport, ImportRequest};
use quire_types::operation::Operation;

/// Imports a repository from another machine. `show` gets each line of progress, and whether it stays.
pub fn import(
    forge: &Forge,
    request: ImportRequest,
    show: impl FnMut(&str, bool) -> std::io::Result<()>,
) -> Result<ImportReport, ForgeError> {
    let name = &request.repo;
    let target = forge.git.resolve(name);
    if target != *name {
        return Err(ForgeError::NameRedirects {
            name: name.clone(),
            repo: target,
        });
    }
    if forge.git.exists(name)? {
        return Err(ForgeError::RepositoryExists(name.clone()));
    }
    let operation = Operation::RepoImport {
        repo: name.clone(),
        url: request.url.clone(),
        mirror: request.mirror.is_some(),
    };
    let event = request.event;
    record_with_event(forge, operation, Some(event), |_| {
        let report = import_repo(&forge.paths, request, show)?;
        // Its schedules are read now.
        forge.notifier.notify(&[]);
        Ok(report)
    })
}
