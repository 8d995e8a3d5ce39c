//! Changing the configuration file, and reloading it.
//!
//! One command at a time changes the file, which is replaced as a whole: if the process is killed, the file is the old one or the new
//! one. The server loads it after that; if it is not told, it does so at its next start.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::access::Forge;
use super::error::ForgeError;
use super::operation_log::recorded;
use super::setting_error::SettingError;
use crate::control::client::{self, ControlError};
use crate::control::protocol::ReloadReport;
use quire_config::{Config, NewSetting, SettingEdit};
use quire_store::{NewOperation, OperationState, Store, StoreError};
use quire_types::failpoint;
use quire_types::fsutil;
use quire_types::operation::{Actor, Operation};

/// Only the owner of the volume reads a new file, as it may say where secrets are.
const NEW_FILE_MODE: u32 = 0o600;

/// A setting that was changed.
#[derive(Debug)]
pub struct ChangedSetting {
    pub setting: String,
    pub file: PathBuf,
    /// What was written for it.
    pub before: Option<String>,
    /// What is written for it now.
    pub after: Option<String>,
    pub needs_restart: bool,
    /// What the server made of the file.
    pub reloaded: Result<ReloadReport, ControlError>,
}

/// Changes a setting in the configuration file, and reloads it.
pub fn set(
    forge: &Forge,
    setting: &str,
    new: NewSetting<'_>,
) -> Result<ChangedSetting, ForgeError> {
    let _lock = lock(forge)?;
    let edit = Config::edit(&forge.paths, setting, new).map_err(SettingError::from)?;
    let operation = Operation::ConfigSet {
        setting: setting.to_owned(),
        before: edit.before.clone(),
        after: edit.after.clone(),
    };
    if edit.before != edit.after {
        recorded(forge, operation, |_| Ok(write(&edit)?))?;
    }
    let SettingEdit {
        file,
        before,
        after,
        needs_restart,
        ..
    } = edit;
    Ok(ChangedSetting {
        setting: setting.to_owned(),
        file,
        before,
        after,
        needs_restart,
        reloaded: client::reload(&forge.paths),
    })
}

/// Sets a setting back to what was written for it, if it is still what it was set to.
pub(super) fn set_back(
    forge: &Forge,
    setting: &str,
    before: Option<&str>,
    after: Option<&str>,
) -> Result<bool, ForgeError> {
    let new = before.map_or(NewSetting::Default, NewSetting::Written);
    let edit = Config::edit(&forge.paths, setting, new).map_err(SettingError::from)?;
    if edit.before.as_deref() != after {
        return Ok(false);
    }
    set(forge, setting, new).map(|_| true)
}

/// Lets the server load the configuration again.
pub fn reload(forge: &Forge) -> Result<ReloadReport, ForgeError> {
    let operation = Operation::ConfigReload {
        changed: Vec::new(),
    };
    recorded(forge, operation, |operation| {
        let report = client::reload(&forge.paths)?;
        if !report.is_loaded {
            return Err(SettingError::NotLoaded(report.problems).into());
        }
        if let Operation::ConfigReload { changed } = operation {
            *changed = report.names();
        }
        Ok(report)
    })
}

/// Records a reload that nothing but a signal asked for.
pub fn record_reload(store: &Store, report: &ReloadReport) -> Result<(), StoreError> {
    let operation = Operation::ConfigReload {
        changed: report.names(),
    };
    let new = NewOperation {
        actor: &Actor::server(),
        operation: &operation,
        undoes: None,
        event: None,
    };
    let state = match report.is_loaded {
        true => OperationState::Done,
        false => OperationState::Failed(report.problems.join("; ")),
    };
    store.operations().record(&new, &state).map(drop)
}

/// Waits until no other command changes the file.
fn lock(forge: &Forge) -> Result<File, SettingError> {
    let path = forge.paths.config_lock();
    let lock = File::create(&path).and_then(|file| file.lock().map(|()| file));
    lock.map_err(io_error("lock", &path))
}

fn write(edit: &SettingEdit) -> Result<(), SettingError> {
    let path = &edit.file;
    let mode = match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => found.permissions().mode() & 0o777,
        Ok(_) => return Err(SettingError::NotRegular(path.clone())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => NEW_FILE_MODE,
        Err(error) => return Err(io_error("read", path)(error)),
    };
    failpoint::hit("config-edited");
    let draft = fsutil::write_draft(path, edit.text.as_bytes(), mode);
    let draft = draft.map_err(io_error("write", path))?;
    failpoint::hit("config-drafted");
    fsutil::rename_durably(&draft, path).map_err(io_error("replace", path))?;
    failpoint::hit("config-written");
    Ok(())
}

fn io_error(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SettingError {
    let path = path.to_owned();
    move |source| SettingError::Io {
        attempt,
        path,
        source,
    }
}
