//! Reads one incoming webhook of `:hooks`.

use serde_json::Value;

use super::entry_fields::{EntryFields, ReadEntry, SECRET};
use super::hooks::HookConfig;
use super::secrets::SecretSource;
use super::setting_types::{Positive, SettingType as _};
use quire_types::names::{JobName, RefName};

/// How many requests a minute start runs if the webhook does not say.
const DEFAULT_PER_MINUTE: u32 = 30;

/// Reads a webhook. Its name is part of the name of a source, so it is one that a job can have.
pub(super) fn read_hook(name: &str, value: &Value) -> ReadEntry<HookConfig> {
    let mut fields = EntryFields::of(value);
    if name.parse::<JobName>().is_err() {
        let message = "the name of a webhook is one that a job can have: letters, digits, `.`, `_` and `-`, of which the first is a letter or a digit";
        fields.fail(None, message.to_owned());
    } else if !value.is_object() {
        let message = "a webhook must be a table such as {:repo \"app\" :secret {:file \"/path\"}}";
        fields.fail(None, message.to_owned());
    }
    let settings = settings(&mut fields);
    fields.finish(settings, "the webhook is not complete")
}

fn settings(fields: &mut EntryFields) -> Option<HookConfig> {
    let repo = fields.required("repo", "the name of a repository", |value| {
        value.as_str()?.parse().ok()
    });
    let ref_name = fields.optional("ref", "a branch, or the whole name of a ref", |value| {
        RefName::from_user(value.as_str()?).ok()
    });
    let secret = fields.required("secret", SECRET, SecretSource::from_data);
    let per_minute = fields.optional("per-minute", "a number from 1 to 6000", |value| {
        Positive::data(value).filter(|count| *count <= 6000)
    });
    Some(HookConfig {
        repo: repo?,
        ref_name,
        secret: secret?,
        per_minute: per_minute.unwrap_or(DEFAULT_PER_MINUTE),
    })
}
