//! Undoing an operation: each has an inverse among the other operations, or a reason why it has none.
//!
//! The inverse is an operation like any other: it checks what is there now and is recorded, so it can be undone in the same
//! way. An operation that was cut off is undone as far as it came: its inverse fails if there is nothing to take back.

use std::net::IpAddr;

use super::access::Forge;
use super::error::ForgeError;
use super::inverse_error::{InverseError, NoInverse};
use super::repo_setting_error::RepoSettingError;
use super::repos::{self, RemoveRequest};
use super::undo::{self, UndoRequest, UndoTarget};
use super::{
    configuration, keys, mirrors, operation_log, protection, runs, secrets, tokens, trash,
};
use quire_store::{LoggedOperation, OperationState};
use quire_types::keep_times::KeepTimes;
use quire_types::names::{RefName, RepoName, RunId};
use quire_types::operation::{Operation, OperationId, RefChanges};
use quire_types::secret::SecretName;

/// Which operation is undone, and by whom.
#[derive(Debug, Clone)]
pub struct InverseRequest {
    pub operation: OperationId,
    /// The name of the user's key.
    pub user: String,
    /// The address by which the user reached this machine.
    pub reached: Option<IpAddr>,
}

/// An operation that was undone.
#[derive(Debug)]
pub struct UndoneOperation {
    pub undone: LoggedOperation,
    /// What undid it, if the log has it.
    pub by: Option<LoggedOperation>,
}

/// Undoes an operation.
pub fn apply(forge: &Forge, request: &InverseRequest) -> Result<UndoneOperation, ForgeError> {
    let id = request.operation;
    let undone = operation_log::find(forge, id)?;
    if let Some(by) = undone.undone_by {
        return Err(InverseError::AlreadyUndone { id, by }.into());
    }
    if let OperationState::Failed(_) = undone.state {
        return Err(InverseError::Failed(id).into());
    }
    let inverse = Inverse {
        forge: &forge.undoing(id),
        request,
        id,
    };
    inverse.act(&undone.operation)?;
    let by = forge.store()?.operations().newest_undoing(id)?;
    Ok(UndoneOperation { undone, by })
}

struct Inverse<'a> {
    forge: &'a Forge,
    request: &'a InverseRequest,
    id: OperationId,
}

impl Inverse<'_> {
    fn act(&self, operation: &Operation) -> Result<(), ForgeError> {
        match operation {
            Operation::Push { repo, changes } => self.move_back(repo, changes, true),
            Operation::RepoUndo { repo, changes } => self.move_back(repo, changes, false),
            Operation::FoundRefs { .. } => self.none(NoInverse::Found),
            Operation::RepoNew { repo }
            | Operation::RepoImport { repo, .. }
            | Operation::RepoRestore { repo, .. } => self.remove(repo),
            Operation::RepoRename { repo, former_name } => self.rename_back(repo, former_name),
            Operation::RepoRm { deleted: true, .. } | Operation::RepoDelete { .. } => {
                self.none(NoInverse::Deleted)
            }
            Operation::RepoRm { repo, trash_id, .. } => self.restore(repo, trash_id.as_deref()),
            Operation::RepoDefault {
                repo,
                branch,
                before,
            } => self.default_back(repo, branch, before.as_ref()),
            Operation::RepoProtect { repo, pattern } => self.unprotect(repo, pattern),
            Operation::RepoUnprotect { repo, pattern } => self.protect(repo, pattern),
            Operation::RepoDescription {
                repo,
                before,
                after,
            } => self.describe_back(repo, before.as_deref(), after.as_deref()),
            Operation::KeyAdd { fingerprint, .. } => {
                let now = self.forge.store()?.clock().now();
                keys::remove(self.forge, fingerprint, false, now).map(drop)
            }
            Operation::KeyRm { lines, .. } => self.add_key_again(lines),
            Operation::SecretSet { .. } => self.remove_secret(operation),
            Operation::TokenNew { name, .. } => match name.parse() {
                Ok(name) => tokens::revoke(self.forge, &name),
                Err(_) => self.none(NoInverse::TokenRevoked),
            },
            Operation::RunStart { run, .. } | Operation::RunRetry { run, .. } => self.cancel(*run),
            Operation::ConfigSet {
                setting,
                before,
                after,
            } => {
                let (before, after) = (before.as_deref(), after.as_deref());
                match configuration::set_back(self.forge, setting, before, after)? {
                    true => Ok(()),
                    false => self.none(NoInverse::SettingChanged),
                }
            }
            Operation::ConfigReload { .. } => self.none(NoInverse::Reloaded),
            Operation::SecretRm { .. } => self.none(NoInverse::ValueRemoved),
            Operation::SecretRotateKey => self.none(NoInverse::KeyRotated),
            Operation::Login => self.none(NoInverse::Link),
            Operation::TokenRevoke { .. } => self.none(NoInverse::TokenRevoked),
            Operation::RunCancel { .. } => self.none(NoInverse::RunStopped),
            Operation::RunRelease { .. } => self.none(NoInverse::ContainerReleased),
            Operation::CacheClear { .. } => self.none(NoInverse::CacheCleared),
            Operation::Gc => self.none(NoInverse::Collected),
            Operation::MirrorStop { .. } => self.none(NoInverse::MirrorStopped),
            Operation::MirrorSet {
                repo,
                before,
                after,
            } => match mirrors::set_back(self.forge, repo, before, after)? {
                true => Ok(()),
                false => self.none(NoInverse::MirrorChanged),
            },
            Operation::MirrorSync { .. } => self.none(NoInverse::Mirrored),
            Operation::Reconcile { .. } => self.none(NoInverse::Decided),
        }
    }

    fn none(&self, why: NoInverse) -> Result<(), ForgeError> {
        Err(InverseError::None { id: self.id, why }.into())
    }

    /// Moves refs back to where they were. Of a push only those that it overwrote: the others lost nothing.
    fn move_back(
        &self,
        repo: &RepoName,
        changes: &RefChanges,
        only_overwritten: bool,
    ) -> Result<(), ForgeError> {
        let changes = changes.refs.iter();
        let refs: Vec<(RefName, UndoTarget)> = changes
            .filter(|change| change.overwritten || !only_overwritten)
            .map(|change| {
                let target = UndoTarget::Before {
                    now: change.new_sha.clone(),
                    to: change.old_sha.clone(),
                };
                (change.ref_name.clone(), target)
            })
            .collect();
        if refs.is_empty() {
            return self.none(NoInverse::NothingOverwritten);
        }
        let request = UndoRequest {
            repo: repo.clone(),
            refs,
            user: self.request.user.clone(),
            reached: self.request.reached,
        };
        match undo::apply(self.forge, &request) {
            Ok(_) => Ok(()),
            Err(ForgeError::NothingToUndo { .. }) => self.none(NoInverse::OverwrittenNotKept),
            Err(error) => Err(error),
        }
    }

    /// Moves a repository to the trash, if nothing was pushed to it since.
    fn remove(&self, repo: &RepoName) -> Result<(), ForgeError> {
        let store = self.forge.store()?;
        // Only the other side changes a pull mirror.
        let is_mirror = store.pull_mirrors().find(repo)?.is_some();
        if !is_mirror && store.operations().has_later_push(self.id, repo)? {
            return self.none(NoInverse::PushesFollowed);
        }
        if KeepTimes::read(&self.forge.paths).trash.is_zero() {
            return self.none(NoInverse::NoTrash);
        }
        let request = RemoveRequest {
            repo: repo.clone(),
            now: false,
            confirmed: true,
            removed_by: self.request.user.clone(),
        };
        repos::remove(self.forge, &request).map(drop)
    }

    fn restore(&self, repo: &RepoName, trash_id: Option<&str>) -> Result<(), ForgeError> {
        let id = trash_id.and_then(|id| id.parse().ok());
        trash::restore(self.forge, id.as_ref().unwrap_or(repo), Some(repo)).map(drop)
    }

    fn rename_back(&self, repo: &RepoName, former_name: &RepoName) -> Result<(), ForgeError> {
        let git = &self.forge.git;
        if git.resolve(former_name) != *repo || !git.exists(repo)? {
            return self.none(NoInverse::RenamedAgain);
        }
        repos::rename(self.forge, repo, former_name)
    }

    fn default_back(
        &self,
        repo: &RepoName,
        branch: &RefName,
        before: Option<&RefName>,
    ) -> Result<(), ForgeError> {
        let Some(before) = before else {
            return self.none(NoInverse::NoBranchBefore);
        };
        let current = repos::existing(self.forge, repo)?;
        if self.forge.git.head_branch(&current)?.as_ref() != Some(branch) {
            return self.none(NoInverse::DefaultChanged);
        }
        repos::set_default_branch(self.forge, repo, before)
    }

    fn unprotect(&self, repo: &RepoName, pattern: &str) -> Result<(), ForgeError> {
        let Ok(pattern) = pattern.parse() else {
            return self.none(NoInverse::ProtectionChanged);
        };
        match protection::unprotect(self.forge, repo, &pattern) {
            Ok(_) => Ok(()),
            Err(ForgeError::RepoSetting(RepoSettingError::NotProtected { .. })) => {
                self.none(NoInverse::ProtectionChanged)
            }
            Err(error) => Err(error),
        }
    }

    fn protect(&self, repo: &RepoName, pattern: &str) -> Result<(), ForgeError> {
        let Ok(pattern) = pattern.parse() else {
            return self.none(NoInverse::ProtectionChanged);
        };
        match protection::protect(self.forge, repo, &pattern)?.has_changed {
            true => Ok(()),
            false => self.none(NoInverse::ProtectionChanged),
        }
    }

    fn describe_back(
        &self,
        repo: &RepoName,
        before: Option<&str>,
        after: Option<&str>,
    ) -> Result<(), ForgeError> {
        let current = repos::existing(self.forge, repo)?;
        if self.forge.git.description(&current)?.as_deref() != after {
            return self.none(NoInverse::DescriptionChanged);
        }
        repos::describe(self.forge, &current, before).map(drop)
    }

    fn add_key_again(&self, lines: &[String]) -> Result<(), ForgeError> {
        if lines.is_empty() {
            return self.none(NoInverse::UnknownKeyLine);
        }
        let now = self.forge.store()?.clock().now();
        match keys::add_lines(self.forge, lines, now)? {
            Some(_) => Ok(()),
            None => self.none(NoInverse::UnusableKeyLine),
        }
    }

    /// Removes a secret that had no value before.
    fn remove_secret(&self, set: &Operation) -> Result<(), ForgeError> {
        let Operation::SecretSet {
            name,
            version,
            created_at_ms,
        } = set
        else {
            return Ok(());
        };
        if *version > 1 {
            return self.none(NoInverse::ValueReplaced);
        }
        let found = self.forge.store()?.secrets().find(name)?;
        let is_same = |secret: &quire_store::SealedSecret| {
            secret.version == 1 && created_at_ms.is_none_or(|created| secret.created_at == created)
        };
        match (found.filter(is_same), name.parse::<SecretName>()) {
            (Some(_), Ok(name)) => secrets::remove(self.forge, &name),
            _ => self.none(NoInverse::SecretChanged),
        }
    }

    fn cancel(&self, run: Option<RunId>) -> Result<(), ForgeError> {
        match run {
            Some(run) => runs::cancel(self.forge, run).map(drop),
            None => self.none(NoInverse::UnknownRun),
        }
    }
}
