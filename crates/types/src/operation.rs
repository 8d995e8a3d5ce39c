//! What users do to the appliance, for the log of operations.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::names::{ObjectId, RefName, RepoName, RunId};
use crate::push_event::RefUpdate;

/// How many refs of an operation that overwrote nothing are recorded one by one.
const MAX_LISTED_REFS: usize = 100;

/// The number of an operation. A later operation has a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct OperationId(pub i64);

/// A text that is no number of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an operation is named by its number, which `log` shows")]
pub struct OperationIdError;

impl FromStr for OperationId {
    type Err = OperationIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_prefix('#').unwrap_or(text).parse();
        number.map(Self).map_err(|_| OperationIdError)
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// By which way a user reached the appliance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// A command over SSH.
    Ssh,
    /// A command on the machine itself.
    Local,
    /// A page.
    Web,
    /// A push.
    Push,
    /// None: the server found it.
    Server,
}

impl Channel {
    /// Its name in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Local => "local",
            Self::Web => "web",
            Self::Push => "push",
            Self::Server => "server",
        }
    }
}

/// No channel has this name.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a channel of operations")]
pub struct UnknownChannel(String);

impl FromStr for Channel {
    type Err = UnknownChannel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Ssh, Self::Local, Self::Web, Self::Push, Self::Server]
            .into_iter()
            .find(|channel| channel.as_str() == text)
            .ok_or_else(|| UnknownChannel(text.to_owned()))
    }
}

/// Who does something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The name of the key, or another name if no key was used; `None` if it is not known.
    pub name: Option<String>,
    /// The fingerprint of the key, if it is known.
    pub key_fingerprint: Option<String>,
    /// How.
    pub channel: Channel,
}

impl Actor {
    /// The server itself.
    #[must_use]
    pub fn server() -> Self {
        Self {
            name: None,
            key_fingerprint: None,
            channel: Channel::Server,
        }
    }
}

/// A ref before and after an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefChange {
    /// The full name of the ref.
    pub ref_name: RefName,
    /// `None` if it did not exist.
    pub old_sha: Option<ObjectId>,
    /// `None` if it was deleted.
    pub new_sha: Option<ObjectId>,
    /// Whether what it referred to is kept because nothing else may refer to it any more.
    pub overwritten: bool,
}

/// How a repository follows another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullSettings {
    /// How often it is fetched.
    pub every_ms: u64,
    /// For HTTPS: the user.
    pub user: Option<String>,
    /// For HTTPS: the secret that is the token.
    pub secret: Option<String>,
    /// Whether what is fetched has runs.
    pub runs: bool,
}

/// The refs that one operation changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefChanges {
    /// First those that were overwritten.
    pub refs: Vec<RefChange>,
    /// How many further refs were changed, none of which was overwritten.
    pub more: usize,
}

impl RefChanges {
    /// The changes of a push. Those that are overwritten are among its updates.
    #[must_use]
    pub fn of_updates(updates: &[RefUpdate], overwritten: &[RefUpdate]) -> Self {
        let id = |sha: &ObjectId| (!sha.is_zero()).then(|| sha.clone());
        let change = |update: &RefUpdate, overwritten: bool| RefChange {
            ref_name: update.ref_name.clone(),
            old_sha: id(&update.old_sha),
            new_sha: id(&update.new_sha),
            overwritten,
        };
        let lost = overwritten.iter().map(|update| change(update, true));
        let is_lost = |update: &&RefUpdate| {
            overwritten
                .iter()
                .any(|lost| lost.ref_name == update.ref_name)
        };
        let others: Vec<&RefUpdate> = updates.iter().filter(|update| !is_lost(update)).collect();
        let listed = others.iter().take(MAX_LISTED_REFS);
        Self {
            refs: lost
                .chain(listed.map(|update| change(update, false)))
                .collect(),
            more: others.len().saturating_sub(MAX_LISTED_REFS),
        }
    }
}

/// Something that a user did. What is written to the database is read by every later version, so a variant and its fields
/// never change their names on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Operation {
    /// A push was recorded.
    Push {
        /// The repository.
        repo: RepoName,
        /// Its refs.
        #[serde(flatten)]
        changes: RefChanges,
    },
    /// Refs had changed, and no push said so.
    FoundRefs {
        /// The repository.
        repo: RepoName,
        /// Its refs.
        #[serde(flatten)]
        changes: RefChanges,
    },
    /// Refs were moved back.
    RepoUndo {
        /// The repository.
        repo: RepoName,
        /// Its refs.
        #[serde(flatten)]
        changes: RefChanges,
    },
    /// A repository was created.
    RepoNew {
        /// Its name.
        repo: RepoName,
    },
    /// A repository was imported from another machine.
    RepoImport {
        /// Its name.
        repo: RepoName,
        /// The address, without any secret.
        url: String,
        /// Whether the repository goes on to follow it.
        #[serde(default)]
        mirror: bool,
    },
    /// A repository was renamed.
    RepoRename {
        /// Its new name.
        repo: RepoName,
        /// The name that it had.
        former_name: RepoName,
    },
    /// A repository was removed.
    RepoRm {
        /// Its name.
        repo: RepoName,
        /// What it is in the trash; `None` if it was deleted, or the removal was cut off.
        trash_id: Option<String>,
        /// Whether it was deleted for good.
        deleted: bool,
    },
    /// A repository of the trash was deleted.
    RepoDelete {
        /// The name that it had.
        repo: RepoName,
        /// What it was in the trash.
        trash_id: String,
    },
    /// A repository was restored.
    RepoRestore {
        /// The name that it has now.
        repo: RepoName,
        /// What it was in the trash.
        trash_id: String,
    },
    /// The default branch of a repository was set.
    RepoDefault {
        /// The repository.
        repo: RepoName,
        /// The branch.
        branch: RefName,
        /// The branch before, if it existed.
        before: Option<RefName>,
    },
    /// Refs were protected.
    RepoProtect {
        /// The repository.
        repo: RepoName,
        /// The pattern of their whole names.
        pattern: String,
    },
    /// Refs are no longer protected.
    RepoUnprotect {
        /// The repository.
        repo: RepoName,
        /// The pattern of their whole names.
        pattern: String,
    },
    /// A repository was described.
    RepoDescription {
        /// The repository.
        repo: RepoName,
        /// What was said of it; `None` for nothing.
        before: Option<String>,
        /// What is said of it now.
        after: Option<String>,
    },
    /// A key was added.
    KeyAdd {
        /// Its name.
        name: String,
        /// Its fingerprint.
        fingerprint: String,
        /// What it may do.
        may: String,
    },
    /// A key was removed.
    KeyRm {
        /// Its name.
        name: String,
        /// Its fingerprint.
        fingerprint: String,
        /// Its lines in the file of the volume.
        lines: Vec<String>,
    },
    /// A secret was set.
    SecretSet {
        /// Its name.
        name: String,
        /// Counts its values; 0 if it was not stored.
        version: u32,
        /// When its first value was set.
        created_at_ms: Option<Millis>,
    },
    /// A secret was removed.
    SecretRm {
        /// Its name.
        name: String,
    },
    /// All secrets were encrypted with a new key.
    SecretRotateKey,
    /// A link was made that signs a browser in.
    Login,
    /// An access token was made.
    TokenNew {
        /// Its name.
        name: String,
        /// What it may do.
        scope: String,
    },
    /// An access token was ended.
    TokenRevoke {
        /// Its name.
        name: String,
    },
    /// A run was started by hand.
    RunStart {
        /// Its repository.
        repo: RepoName,
        /// The run; `None` if it was not queued.
        run: Option<RunId>,
    },
    /// A run was retried.
    RunRetry {
        /// The repository of both.
        repo: RepoName,
        /// The run that was retried.
        retried: RunId,
        /// The new run; `None` if it was not queued.
        run: Option<RunId>,
    },
    /// A run was canceled.
    RunCancel {
        /// Its repository.
        repo: RepoName,
        /// The run.
        run: RunId,
    },
    /// The container of a run is no longer kept.
    RunRelease {
        /// Its repository.
        repo: RepoName,
        /// The run.
        run: RunId,
    },
    /// Caches were removed.
    CacheClear {
        /// Their repository.
        repo: RepoName,
        /// One of them; `None` for all.
        name: Option<String>,
    },
    /// What was expired was removed.
    Gc,
    /// A repository was pushed to its mirrors.
    MirrorSync {
        /// The repository.
        repo: RepoName,
        /// One of them; `None` for all.
        name: Option<String>,
        /// Whether a new host key was accepted.
        new_host_key: bool,
    },
    /// A repository does not follow another one any more.
    MirrorStop {
        /// The repository.
        repo: RepoName,
        /// What it followed.
        url: String,
    },
    /// How a repository follows another one was changed.
    MirrorSet {
        /// The repository.
        repo: RepoName,
        /// How it was.
        before: PullSettings,
        /// How it is now.
        after: PullSettings,
    },
    /// A setting was changed in the configuration file.
    ConfigSet {
        /// Section and name.
        setting: String,
        /// What was written for it.
        before: Option<String>,
        /// What is written for it now.
        after: Option<String>,
    },
    /// The configuration was loaded again.
    ConfigReload {
        /// The settings that changed.
        changed: Vec<String>,
    },
    /// It was decided what happens after an older copy of the database was put in place.
    Reconcile {
        /// `adopt` or `run`.
        decision: String,
    },
}

impl Operation {
    /// The repository that it concerns, by the name that it had afterwards.
    #[must_use]
    pub fn repo(&self) -> Option<&RepoName> {
        match self {
            Self::Push { repo, .. }
            | Self::FoundRefs { repo, .. }
            | Self::RepoUndo { repo, .. }
            | Self::RepoNew { repo }
            | Self::RepoImport { repo, .. }
            | Self::RepoRename { repo, .. }
            | Self::RepoRm { repo, .. }
            | Self::RepoDelete { repo, .. }
            | Self::RepoRestore { repo, .. }
            | Self::RepoDefault { repo, .. }
            | Self::RepoProtect { repo, .. }
            | Self::RepoUnprotect { repo, .. }
            | Self::RepoDescription { repo, .. }
            | Self::RunStart { repo, .. }
            | Self::RunRetry { repo, .. }
            | Self::RunCancel { repo, .. }
            | Self::RunRelease { repo, .. }
            | Self::CacheClear { repo, .. }
            | Self::MirrorStop { repo, .. }
            | Self::MirrorSet { repo, .. }
            | Self::MirrorSync { repo, .. } => Some(repo),
            Self::KeyAdd { .. }
            | Self::KeyRm { .. }
            | Self::SecretSet { .. }
            | Self::SecretRm { .. }
            | Self::SecretRotateKey
            | Self::Login
            | Self::TokenNew { .. }
            | Self::TokenRevoke { .. }
            | Self::Gc
            | Self::ConfigSet { .. }
            | Self::ConfigReload { .. }
            | Self::Reconcile { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(name: &str, old: &str, new: &str) -> RefUpdate {
        RefUpdate {
            ref_name: name.parse().unwrap(),
            old_sha: old.repeat(40).parse().unwrap(),
            new_sha: new.repeat(40).parse().unwrap(),
        }
    }

    #[test]
    fn overwritten_refs_come_first_and_are_never_left_out() {
        let mut updates: Vec<_> = (0..300)
            .map(|at| update(&format!("refs/tags/v{at}"), "0", "1"))
            .collect();
        let lost = [
            update("refs/heads/a", "2", "1"),
            update("refs/heads/b", "2", "0"),
        ];
        updates.extend(lost.clone());
        let changes = RefChanges::of_updates(&updates, &lost);
        assert_eq!((changes.refs.len(), changes.more), (102, 200));
        assert!(changes.refs[1].overwritten && changes.refs[1].new_sha.is_none());
        assert!(!changes.refs[2].overwritten && changes.refs[2].old_sha.is_none());
    }

    /// What the database of an earlier version has.
    #[test]
    fn what_was_written_once_is_read_for_ever() {
        let repo: RepoName = "work/app".parse().unwrap();
        let run: RunId = "0197a1b2-0000-7000-8000-000000000001".parse().unwrap();
        let changes = RefChanges::of_updates(&[update("refs/heads/a", "0", "1")], &[]);
        let operations = [
            Operation::Push {
                repo: repo.clone(),
                changes: changes.clone(),
            },
            Operation::FoundRefs {
                repo: repo.clone(),
                changes: RefChanges::default(),
            },
            Operation::RepoUndo {
                repo: repo.clone(),
                changes: RefChanges::default(),
            },
            Operation::RepoNew { repo: repo.clone() },
            Operation::RepoImport {
                repo: repo.clone(),
                url: "git@nas:app".to_owned(),
                mirror: true,
            },
            Operation::MirrorStop {
                repo: repo.clone(),
                url: "git@nas:app".to_owned(),
            },
            Operation::MirrorSet {
                repo: repo.clone(),
                before: PullSettings {
                    every_ms: 60_000,
                    user: Some("git".to_owned()),
                    secret: Some("token".to_owned()),
                    runs: true,
                },
                after: PullSettings {
                    every_ms: 3_600_000,
                    user: None,
                    secret: None,
                    runs: false,
                },
            },
            Operation::RepoRename {
                repo: repo.clone(),
                former_name: "app".parse().unwrap(),
            },
            Operation::RepoRm {
                repo: repo.clone(),
                trash_id: Some(run.to_string()),
                deleted: false,
            },
            Operation::RepoDelete {
                repo: repo.clone(),
                trash_id: run.to_string(),
            },
            Operation::RepoRestore {
                repo: repo.clone(),
                trash_id: run.to_string(),
            },
            Operation::RepoDefault {
                repo: repo.clone(),
                branch: "refs/heads/a".parse().unwrap(),
                before: None,
            },
            Operation::RepoProtect {
                repo: repo.clone(),
                pattern: "refs/heads/main".to_owned(),
            },
            Operation::RepoUnprotect {
                repo: repo.clone(),
                pattern: "refs/tags/v*".to_owned(),
            },
            Operation::RepoDescription {
                repo: repo.clone(),
                before: None,
                after: Some("Tools of mine".to_owned()),
            },
            Operation::KeyAdd {
                name: "laptop".to_owned(),
                fingerprint: "SHA256:x".to_owned(),
                may: "do everything".to_owned(),
            },
            Operation::KeyRm {
                name: "laptop".to_owned(),
                fingerprint: "SHA256:x".to_owned(),
                lines: vec!["ssh-ed25519 AAAA laptop".to_owned()],
            },
            Operation::SecretSet {
                name: "token".to_owned(),
                version: 1,
                created_at_ms: Some(Millis(5)),
            },
            Operation::SecretRm {
                name: "token".to_owned(),
            },
            Operation::SecretRotateKey,
            Operation::Login,
            Operation::TokenNew {
                name: "ci".to_owned(),
                scope: "read".to_owned(),
            },
            Operation::TokenRevoke {
                name: "ci".to_owned(),
            },
            Operation::RunStart {
                repo: repo.clone(),
                run: Some(run),
            },
            Operation::RunRetry {
                repo: repo.clone(),
                retried: run,
                run: None,
            },
            Operation::RunCancel {
                repo: repo.clone(),
                run,
            },
            Operation::RunRelease {
                repo: repo.clone(),
                run,
            },
            Operation::CacheClear {
                repo: repo.clone(),
                name: None,
            },
            Operation::Gc,
            Operation::MirrorSync {
                repo,
                name: None,
                new_host_key: false,
            },
            Operation::Reconcile {
                decision: "adopt".to_owned(),
            },
            Operation::ConfigSet {
                setting: "ci.pids".to_owned(),
                before: None,
                after: Some("7".to_owned()),
            },
            Operation::ConfigReload {
                changed: vec!["ci.pids".to_owned()],
            },
        ];
        let lines: Vec<String> = operations
            .iter()
            .map(|operation| serde_json::to_string(operation).unwrap())
            .collect();
        for (line, operation) in lines.iter().zip(&operations) {
            assert_eq!(&serde_json::from_str::<Operation>(line).unwrap(), operation);
        }
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn numbers_of_operations() {
        for (text, id) in [("7", Some(7)), ("#7", Some(7)), ("x", None), ("", None)] {
            assert_eq!(text.parse::<OperationId>().ok(), id.map(OperationId));
        }
    }
}
