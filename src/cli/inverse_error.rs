//! The errors of `quire undo` in words.

use super::error::{CommandError, FAILED, NOT_FOUND};
use quire_server::forge::{InverseError, NoInverse};

impl From<InverseError> for CommandError {
    fn from(error: InverseError) -> Self {
        let code = match error {
            InverseError::NotFound(_) => NOT_FOUND,
            _ => FAILED,
        };
        let failure = Self::from_error(code, &error);
        match error {
            InverseError::NotFound(_) => failure.hint("`log` lists the operations"),
            InverseError::AlreadyUndone { by, .. } => {
                failure.hint(format!("`undo {by}` takes that back"))
            }
            InverseError::Failed(_) => failure,
            InverseError::None { why, .. } => match hint(&why) {
                Some(hint) => failure.hint(hint),
                None => failure,
            },
        }
    }
}

/// What to do in place of an undo.
fn hint(why: &NoInverse) -> Option<&'static str> {
    Some(match why {
        NoInverse::NothingOverwritten => {
            "push the commit that you want instead: `git push --force-with-lease REMOTE COMMIT:BRANCH`"
        }
        NoInverse::OverwrittenNotKept => {
            "`repo undo REPO` lists what can be brought back, for as long as `keep.undo` says"
        }
        NoInverse::Deleted => "restore it from a backup",
        NoInverse::PushesFollowed | NoInverse::NoTrash => {
            "`repo rm REPO` removes the repository all the same"
        }
        NoInverse::NoBranchBefore | NoInverse::DefaultChanged => {
            "`repo default REPO BRANCH` sets it"
        }
        NoInverse::ProtectionChanged => "`repo show REPO` lists the patterns",
        NoInverse::DescriptionChanged => "`repo description REPO TEXT` sets it",
        NoInverse::RenamedAgain => "`repo rename OLD NEW` renames it",
        NoInverse::UnknownKeyLine | NoInverse::UnusableKeyLine => "`key add < FILE.pub` adds it",
        NoInverse::ValueReplaced | NoInverse::ValueRemoved => {
            "set the value again: `secret set NAME < FILE`"
        }
        NoInverse::SecretChanged => "`secret rm NAME` removes it",
        NoInverse::TokenRevoked => "`login --token NAME` makes a new one",
        NoInverse::UnknownRun => "`run list` shows it; `run cancel RUN` cancels it",
        NoInverse::RunStopped => "`run retry RUN` runs the same commit again",
        NoInverse::CacheCleared => "the next run makes it again",
        NoInverse::SettingChanged => "`config set SETTING VALUE` sets it",
        NoInverse::Reloaded => "change the configuration file back, and then `reload`",
        NoInverse::Found => "`repo undo REPO` lists what can be brought back",
        NoInverse::MirrorChanged => "`mirror set` changes it",
        NoInverse::MirrorStopped => "`repo import URL NAME --mirror` makes another mirror",
        NoInverse::KeyRotated
        | NoInverse::Link
        | NoInverse::ContainerReleased
        | NoInverse::Collected
        | NoInverse::Mirrored
        | NoInverse::Decided => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_types::operation::OperationId;

    #[test]
    fn each_reason_has_a_sentence_and_most_have_a_way_out() {
        let (id, by) = (OperationId(41), OperationId(42));
        let reasons = [
            NoInverse::MirrorStopped,
            NoInverse::MirrorChanged,
            NoInverse::NothingOverwritten,
            NoInverse::OverwrittenNotKept,
            NoInverse::Deleted,
            NoInverse::PushesFollowed,
            NoInverse::NoTrash,
            NoInverse::NoBranchBefore,
            NoInverse::DefaultChanged,
            NoInverse::ProtectionChanged,
            NoInverse::DescriptionChanged,
            NoInverse::RenamedAgain,
            NoInverse::UnknownKeyLine,
            NoInverse::UnusableKeyLine,
            NoInverse::ValueReplaced,
            NoInverse::SecretChanged,
            NoInverse::ValueRemoved,
            NoInverse::KeyRotated,
            NoInverse::Link,
            NoInverse::TokenRevoked,
            NoInverse::UnknownRun,
            NoInverse::RunStopped,
            NoInverse::ContainerReleased,
            NoInverse::CacheCleared,
            NoInverse::Collected,
            NoInverse::Mirrored,
            NoInverse::Decided,
            NoInverse::SettingChanged,
            NoInverse::Reloaded,
            NoInverse::Found,
        ];
        let mut errors = vec![
            InverseError::NotFound(id),
            InverseError::AlreadyUndone { id, by },
            InverseError::Failed(id),
        ];
        errors.extend(reasons.map(|why| InverseError::None { id, why }));
        let texts: Vec<String> = errors
            .into_iter()
            .map(|error| {
                let error = CommandError::from(error);
                format!("exit code {}\n{}", error.code, error.text())
            })
            .collect();
        insta::assert_snapshot!(texts.join("\n"));
    }
}
