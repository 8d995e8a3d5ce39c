//! The requests and responses of the control socket: one line of JSON each way. No I/O here.
//!
//! An older hook may still run while a newer server answers, so names on the wire never change; where
//! a Rust name differs from the one on the wire, serde renames it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::doctor::DoctorFinding;
use quire_types::clock::Millis;
use quire_types::names::{EventId, RefName, RepoName};
use quire_types::run::ExecutorName;

/// What the hook or a command asks the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum ControlRequest {
    /// A push event is in the spool. The server answers with its runs once they are recorded.
    #[serde(rename = "taken")]
    EventSpooled {
        event: EventId,
        /// The address by which the pusher reached this machine.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reached: Option<IpAddr>,
    },
    /// A push to this repository has begun: a run may follow soon.
    PushBegun { repo: RepoName },
    /// Another process (a command over SSH) changed the database: check for new work.
    Wake,
    /// List the caches of one repository or of all. Only the server reaches the engine that holds them.
    Caches { repo: Option<RepoName> },
    /// Remove all caches of a repository, or the one with this name. A cache that a run uses stays,
    /// and is reported as an error.
    ClearCaches {
        repo: RepoName,
        name: Option<String>,
    },
    /// Remove now what the retention settings (`:keep`) do not protect. The server answers when that is done.
    #[serde(rename = "housekeep")]
    CollectGarbage,
    /// List the problems of maintenance and schedules, with the names of repositories.
    #[serde(rename = "findings")]
    ListProblems,
    /// Check everything. The server answers when that is done.
    Doctor,
    /// Send the program itself: its size, and then its bytes.
    Program,
    /// Load the configuration again. The server answers when that is done.
    Reload,
    /// Send a test message to a target of notifications. The server answers when it is delivered.
    TestNotification { target: String },
    /// Push a repository to one of its mirrors, or to all, now. The server answers when that has ended.
    SyncMirrors {
        repo: RepoName,
        name: Option<String>,
        new_host_key: bool,
    },
    /// Import a repository from another machine. The server sends its progress, and answers when that has ended. It stops when the
    /// client disconnects.
    ImportRepo(ImportRequest),
}

/// What the server answers to a [`ControlRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum ControlResponse {
    /// The event is recorded.
    Runs {
        /// Its runs, in the order of the refs.
        runs: Vec<RunLink>,
        /// Sentences for the pusher: why a ref made no run, which push option is unknown.
        #[serde(default)]
        notes: Vec<String>,
    },
    /// The caches that exist, or those that were removed.
    Caches { caches: Vec<CacheEntry> },
    /// Done; there is nothing to report.
    Ok,
    /// The garbage collection has ended.
    #[serde(rename = "freed")]
    Collected(GcReport),
    /// The problems that are known now.
    #[serde(rename = "findings")]
    Problems {
        #[serde(rename = "findings")]
        problems: Vec<ComponentProblem>,
    },
    /// What was found; also what is as it should be.
    Examined { findings: Vec<DoctorFinding> },
    /// The program, whose bytes follow.
    Program { bytes: u64 },
    /// The configuration was loaded again, or does not load.
    Reloaded(ReloadReport),
    /// The mirrors to which a repository was pushed.
    Mirrors { mirrors: Vec<MirrorSyncResult> },
    /// How far a request is. Other responses follow.
    Progress {
        text: String,
        /// Whether the line stays; the next one replaces any other line.
        #[serde(rename = "final")]
        is_final: bool,
    },
    /// The repository was imported.
    Imported(ImportReport),
    /// The request failed; the message is one sentence.
    Error { message: String },
}

/// A cache, as commands show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheEntry {
    /// The repository whose runs share it.
    pub repo: RepoName,
    pub name: String,
    pub executor: ExecutorName,
    /// Its size, if the executor knows it.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// When a run last used it, if that is recorded.
    #[serde(default)]
    pub used_at_ms: Option<Millis>,
    /// The volume that has it on nodes of a swarm, which quire cannot ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// The node of the newest run of its repository, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// What a reload of the configuration did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// Whether the file loads. If it does not, the previous configuration stays in force.
    #[serde(rename = "loaded")]
    pub is_loaded: bool,
    pub changed: Vec<ReloadedSetting>,
    /// What is wrong with the file, or has no effect in it. One line each.
    pub problems: Vec<String>,
}

impl ReloadReport {
    /// The settings that changed.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let names = self.changed.iter().map(|changed| changed.setting.clone());
        names.collect()
    }
}

/// A setting that a reload changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadedSetting {
    pub setting: String,
    /// Empty if it was not set.
    pub before: String,
    /// Empty if it is not set any more.
    pub after: String,
    /// Whether it is in force only after a restart.
    pub needs_restart: bool,
}

/// What is imported, and as what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRequest {
    pub repo: RepoName,
    /// A [`quire_types::git_remote_url::GitRemoteUrl`].
    pub url: String,
    /// For HTTPS.
    pub login: Option<ImportLogin>,
    /// The event that records its refs.
    pub event: EventId,
    /// The name of the user's key.
    pub user: Option<String>,
    /// Whether the repository goes on to follow the other one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<ImportMirror>,
    /// Whether objects of Git LFS are left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_lfs: bool,
}

/// How a repository follows another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportMirror {
    /// How often it is fetched.
    pub every_ms: u64,
    /// Whether what is fetched later has runs.
    pub runs: bool,
}

/// User and secret for a remote over HTTPS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportLogin {
    pub user: String,
    /// The name of the secret, never its value.
    pub secret: String,
}

/// What an import brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportReport {
    pub branches: usize,
    pub tags: usize,
    /// The size of its objects.
    pub bytes: u64,
    pub default_branch: Option<RefName>,
    /// Refs of the other side that are neither branches nor tags, and were not fetched.
    pub left_out: Vec<LeftOutRefs>,
    /// Whether it has files in Git LFS.
    pub uses_lfs: bool,
    /// How many objects of Git LFS were fetched.
    #[serde(default)]
    pub lfs_objects: u64,
    /// Why objects of Git LFS were not fetched, or not all of them.
    #[serde(default)]
    pub lfs_problem: Option<String>,
    /// The fingerprint of the host key that was accepted at the first connection.
    pub host_key: Option<String>,
}

/// Refs that were not fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOutRefs {
    /// What their names begin with, such as `refs/pull`.
    pub refs: String,
    pub count: usize,
}

/// How a push to a mirror ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorSyncResult {
    pub name: String,
    /// What is wrong, if it is not in sync.
    pub problem: Option<String>,
}

/// A problem with one part of the appliance. It may name repositories, so health pages do not show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentProblem {
    /// `maintenance`, `schedules`, `repositories`, `notifications`, `mirrors`, `webhooks` or
    /// `doctor`.
    pub part: String,
    /// One sentence.
    pub text: String,
}

/// A run and the address of its page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLink {
    pub id: String,
    /// Its name, such as `tally#14`; empty from an older server.
    #[serde(default)]
    pub name: String,
    /// The first line of the commit's message.
    #[serde(default)]
    pub subject: Option<String>,
    pub ref_name: RefName,
    pub url: String,
}

/// What a garbage collection removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcReport {
    /// Runs, each with its logs and artifacts.
    pub runs: u64,
    /// Runs that lost their logs only.
    pub logs: u64,
    /// Runs that lost their artifacts only.
    pub artifacts: u64,
    /// Recorded pushes without runs.
    pub events: u64,
    /// Images that were built or pulled for runs.
    #[serde(default)]
    pub images: u64,
    #[serde(default)]
    pub caches: u64,
    /// Repositories that were in the trash.
    #[serde(default)]
    pub trash: u64,
    /// Refs that pushes overwrote, and that can no longer be brought back.
    #[serde(default)]
    pub overwritten: u64,
    /// Files and folders that belong to nothing, and old copies of the database.
    pub leftovers: u64,
    /// The size of all these files and caches. Images are not counted: they share layers.
    pub bytes: u64,
    /// What could not be removed, one sentence each. The next collection retries it.
    pub problems: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Grade;

    /// What an older hook sends and understands.
    #[test]
    fn the_bytes_on_the_wire_stay_as_they_are() {
        let repo: RepoName = "work/app".parse().unwrap();
        let requests = [
            ControlRequest::EventSpooled {
                event: "0197a1b2-0000-7000-8000-000000000001".parse().unwrap(),
                reached: None,
            },
            ControlRequest::PushBegun { repo: repo.clone() },
            ControlRequest::Wake,
            ControlRequest::Caches {
                repo: Some(repo.clone()),
            },
            ControlRequest::ClearCaches {
                repo: repo.clone(),
                name: None,
            },
            ControlRequest::CollectGarbage,
            ControlRequest::ListProblems,
            ControlRequest::Doctor,
            ControlRequest::Program,
            ControlRequest::Reload,
            ControlRequest::TestNotification {
                target: "ops".to_owned(),
            },
            ControlRequest::SyncMirrors {
                repo: repo.clone(),
                name: None,
                new_host_key: false,
            },
            ControlRequest::ImportRepo(ImportRequest {
                repo: repo.clone(),
                url: "https://h/app.git".to_owned(),
                login: Some(ImportLogin {
                    user: "git".to_owned(),
                    secret: "token".to_owned(),
                }),
                event: "0197a1b2-0000-7000-8000-000000000001".parse().unwrap(),
                user: None,
                mirror: Some(ImportMirror {
                    every_ms: 1000,
                    runs: false,
                }),
                no_lfs: false,
            }),
        ];
        let responses = [
            ControlResponse::Program { bytes: 22_000_000 },
            ControlResponse::Runs {
                runs: vec![RunLink {
                    id: "r1".to_owned(),
                    name: "app#1".to_owned(),
                    subject: Some("Add a test".to_owned()),
                    ref_name: "refs/heads/main".parse().unwrap(),
                    url: "http://h/r1".to_owned(),
                }],
                notes: vec!["note".to_owned()],
            },
            ControlResponse::Caches {
                caches: vec![CacheEntry {
                    repo,
                    name: "npm".to_owned(),
                    executor: ExecutorName::DOCKER,
                    bytes: Some(1),
                    used_at_ms: None,
                    volume: None,
                    node: None,
                }],
            },
            ControlResponse::Ok,
            ControlResponse::Collected(GcReport::default()),
            ControlResponse::Problems {
                problems: vec![ComponentProblem {
                    part: "schedules".to_owned(),
                    text: "text".to_owned(),
                }],
            },
            ControlResponse::Examined {
                findings: vec![DoctorFinding {
                    part: "disk".to_owned(),
                    grade: Grade::Failed,
                    text: "text".to_owned(),
                    advice: Some("advice".to_owned()),
                }],
            },
            ControlResponse::Reloaded(ReloadReport {
                is_loaded: true,
                changed: vec![ReloadedSetting {
                    setting: "ci.pids".to_owned(),
                    before: "1".to_owned(),
                    after: "2".to_owned(),
                    needs_restart: false,
                }],
                problems: Vec::new(),
            }),
            ControlResponse::Mirrors {
                mirrors: vec![MirrorSyncResult {
                    name: "nas".to_owned(),
                    problem: None,
                }],
            },
            ControlResponse::Progress {
                text: "text".to_owned(),
                is_final: true,
            },
            ControlResponse::Imported(ImportReport {
                branches: 1,
                tags: 2,
                bytes: 3,
                default_branch: Some("refs/heads/main".parse().unwrap()),
                left_out: vec![LeftOutRefs {
                    refs: "refs/pull".to_owned(),
                    count: 4,
                }],
                uses_lfs: false,
                lfs_objects: 0,
                lfs_problem: None,
                host_key: None,
            }),
            ControlResponse::Error {
                message: "message".to_owned(),
            },
        ];
        let lines: Vec<String> = requests
            .iter()
            .map(|request| serde_json::to_string(request).unwrap())
            .chain(
                responses
                    .iter()
                    .map(|response| serde_json::to_string(response).unwrap()),
            )
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
{"request":"taken","event":"0197a1b2-0000-7000-8000-000000000001"}
{"request":"push-begun","repo":"work/app"}
{"request":"wake"}
{"request":"caches","repo":"work/app"}
{"request":"clear-caches","repo":"work/app","name":null}
{"request":"housekeep"}
{"request":"findings"}
{"request":"doctor"}
{"request":"program"}
{"request":"reload"}
{"request":"test-notification","target":"ops"}
{"request":"sync-mirrors","repo":"work/app","name":null,"new_host_key":false}
{"request":"import-repo","repo":"work/app","url":"https://h/app.git","login":{"user":"git","secret":"token"},"event":"0197a1b2-0000-7000-8000-000000000001","user":null,"mirror":{"every_ms":1000,"runs":false}}
{"answer":"program","bytes":22000000}
{"answer":"runs","runs":[{"id":"r1","name":"app#1","subject":"Add a test","ref_name":"refs/heads/main","url":"http://h/r1"}],"notes":["note"]}
{"answer":"caches","caches":[{"repo":"work/app","name":"npm","executor":"docker","bytes":1,"used_at_ms":null}]}
{"answer":"ok"}
{"answer":"freed","runs":0,"logs":0,"artifacts":0,"events":0,"images":0,"caches":0,"trash":0,"overwritten":0,"leftovers":0,"bytes":0,"problems":[]}
{"answer":"findings","findings":[{"part":"schedules","text":"text"}]}
{"answer":"examined","findings":[{"part":"disk","grade":"failed","text":"text","advice":"advice"}]}
{"answer":"reloaded","loaded":true,"changed":[{"setting":"ci.pids","before":"1","after":"2","needs_restart":false}],"problems":[]}
{"answer":"mirrors","mirrors":[{"name":"nas","problem":null}]}
{"answer":"progress","text":"text","final":true}
{"answer":"imported","branches":1,"tags":2,"bytes":3,"default_branch":"refs/heads/main","left_out":[{"refs":"refs/pull","count":4}],"uses_lfs":false,"lfs_objects":0,"lfs_problem":null,"host_key":null}
{"answer":"error","message":"message"}
"#);
    }
}
