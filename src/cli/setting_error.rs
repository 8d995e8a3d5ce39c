//! The errors of `quire config set` and `quire reload` in words.

use super::error::{CommandError, FAILED, NOT_FOUND, USAGE};
use quire_config::EditError;
use quire_server::forge::SettingError;

impl From<SettingError> for CommandError {
    fn from(error: SettingError) -> Self {
        let error = match error {
            SettingError::Edit(error) => return error.into(),
            SettingError::NotLoaded(problems) => {
                let message = "the configuration does not load; the previous one stays in force";
                let lines: Vec<_> = [message.to_owned()].into_iter().chain(problems).collect();
                return Self::failed(lines.join("; "));
            }
            error => error,
        };
        let failure = Self::from_error(FAILED, &error);
        match error {
            SettingError::NotRegular(_) => {
                failure.hint("change the file that it links to, and then `reload`")
            }
            SettingError::Io { .. } => failure.hint(
                "if the file is mounted into the container, change it where it is kept, and then `reload`",
            ),
            _ => failure,
        }
    }
}

impl From<EditError> for CommandError {
    fn from(error: EditError) -> Self {
        let code = match error {
            EditError::Unknown { .. } => NOT_FOUND,
            EditError::Value { .. } => USAGE,
            _ => FAILED,
        };
        let failure = Self::from_error(code, &error);
        match error {
            EditError::Unknown {
                closest: Some(near),
                ..
            } => failure.hint(format!("did you mean `{near}`?")),
            EditError::Unknown { .. } => failure.hint(
                "`config show` lists the settings; targets, mirrors, webhooks and secrets are changed in the file",
            ),
            EditError::NotWrittenOut { advice, .. } => {
                failure.hint(format!("{advice}, and then `reload`"))
            }
            EditError::NotSet { .. } => failure.hint("its default is in force already"),
            EditError::Config(_) => {
                failure.hint("correct the file; `config check < FILE` says what is wrong with one")
            }
            EditError::Value { .. } | EditError::TooLarge => failure,
        }
    }
}
