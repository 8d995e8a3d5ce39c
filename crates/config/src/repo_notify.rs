//! `:notify` in the settings of a repository: when targets of the owner's configuration are told of its runs.
//!
//! Everyone who can push to the default branch writes this. So it names targets and cannot make any: it says when, and never where to.

use serde_json::Value;

use super::entry_fields::{EntryFields, ReadEntry};
use super::mirror_reader::{REFS, ref_patterns};
use super::mirrors::RefPatterns;
use super::notify_target_reader::{OCCASIONS, TRIGGERS, count, occasions, triggers};
use quire_types::names::RefName;
use quire_types::occasion::Occasion;
use quire_types::run::Trigger;

/// When a target is told of the runs of a repository. What is `None` is as the owner's configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetChoice {
    /// Its place in the file, if the file says where it is.
    pub location: Option<String>,
    pub on: Option<Vec<Occasion>>,
    /// Of which refs, among those that the owner's configuration names.
    pub refs: Option<RefPatterns>,
    pub triggers: Option<Vec<Trigger>>,
    pub cron_failures: Option<u32>,
    pub cron_changes: Option<u32>,
}

impl TargetChoice {
    /// Whether it covers a ref.
    #[must_use]
    pub fn covers(&self, ref_name: &RefName) -> bool {
        self.refs.as_ref().is_none_or(|refs| refs.cover(ref_name))
    }
}

/// Reads what is said about one target.
pub(super) fn read_choice(value: &Value) -> ReadEntry<TargetChoice> {
    let mut fields = EntryFields::of(value);
    // Lua's empty table may have become an empty list.
    if !value.is_object() && *value != Value::Array(Vec::new()) {
        let message = "what is said about a target must be a table such as {:on [:failed] :refs [\"refs/heads/main\"]}";
        fields.fail(None, message.to_owned());
    }
    let choice = TargetChoice {
        location: None,
        on: fields.optional("on", OCCASIONS, occasions),
        refs: fields.optional("refs", REFS, ref_patterns),
        triggers: fields.optional("triggers", TRIGGERS, triggers),
        cron_failures: count(&mut fields, "cron-failures", 1),
        cron_changes: count(&mut fields, "cron-changes", 2),
    };
    fields.finish(
        Some(choice),
        "what is said about the target is not complete",
    )
}
