//! Imports: a repository of another machine becomes one of this appliance.
//!
//! ```text
//! read the refs there ─► draft ─► fetch the default branch ─► all branches and tags ─► objects of Git LFS ─► one rename ─► record
//! ```
//! Nothing of it is visible before the rename. What is cut off before stays in the draft, and the next import of the same name and
//! address fetches the rest: what a fetch has completed is not fetched again. After the rename, if this is cut off, the
//! comparison of refs records them, and starts no runs either.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::attempt_error::AttemptError;
use super::import_error::ImportError;
use super::lfs::{LfsSummary, LfsTransfer};
use super::pull::secret_login;
use super::remote_connection::{RemoteAddress, RemoteConnection};
use super::settings::{MirrorOrigin, MirrorSettings};
use super::shared::MirrorShared;
use crate::control::protocol::{ImportReport, ImportRequest, LeftOutRefs};
use crate::notify::SecretReader;
use quire_git::lfs::{LfsDirection, LfsStore};
use quire_git::{Git, ImportDraft, ProgressLine, RemoteError, RemoteFetch, RemoteRefs};
use quire_runtime::blocking::run_blocking;
use quire_store::{MirrorKey, PULL_MIRROR, PullMirror, Store, StoreError};
use quire_types::error_chain::{chain, with_sources};
use quire_types::failpoint;
use quire_types::fsutil::folder_size;
use quire_types::git_remote_url::{GitRemoteUrl, RemoteTransport};
use quire_types::names::{ObjectId, RefName, RepoName};
use quire_types::ssh_keys::host_key_fingerprint;

/// What is fetched: branches and tags.
const REFSPECS: [&str; 2] = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];

/// Objects of Git LFS of an import.
struct ImportedObjects {
    /// What was fetched before.
    refs: Vec<(RefName, ObjectId)>,
    uses_lfs: bool,
    /// How many were fetched.
    count: u64,
    /// Why not all are here.
    problem: Option<String>,
}

/// An import that is under way.
pub(super) struct Import<'a> {
    pub(super) shared: &'a MirrorShared,
    pub(super) settings: &'a MirrorSettings,
    pub(super) request: &'a ImportRequest,
    pub(super) progress: &'a UnboundedSender<ProgressLine>,
}

impl Import<'_> {
    /// Imports a repository. If this is dropped, the next import goes on from there.
    pub(super) async fn run(&self) -> Result<ImportReport, ImportError> {
        let url: GitRemoteUrl = self.request.url.parse()?;
        let login = self.login(&url)?;
        let git = &self.shared.git;
        let failed = |error: AttemptError| ImportError::of_attempt(&error, &url, login.is_some());
        let remote = RemoteAddress {
            origin: MirrorOrigin::Owner,
            url: &url,
            login: login.as_ref(),
            host_key: None,
        };
        let remote = RemoteConnection::open(git, self.settings, remote).await;
        let mut remote = remote.map_err(failed)?;
        let refs = remote.refs(git).await;
        let refs = refs.map_err(|error| failed(error.into()))?;
        let draft = self.draft(&url, &refs).await?;
        let fetched = self.fetch(&draft, &refs, &remote).await;
        fetched.map_err(|error| failed(error.into()))?;
        failpoint::hit("import-fetched");
        let objects = self.fetch_objects(&draft, &remote).await?;
        let report = self.report(&draft, &refs, &remote, &objects).await?;
        let mirror = self.mirror(&url);
        if let Some(mirror) = mirror.clone() {
            let put = move |store: &Store| store.pull_mirrors().put(&mirror);
            self.shared.deps.store.call(put).await?;
            failpoint::hit("import-mirror-recorded");
        }
        self.finish(draft, report.default_branch.clone()).await?;
        failpoint::hit("import-placed");
        self.record().await;
        if let Some(mirror) = mirror
            && let Err(error) = self.begin_mirror(&mirror, &refs, &remote, &objects).await
        {
            // The worker of the mirror finds out.
            tracing::error!(repo = %mirror.repo, error = with_sources(&error), "what is known of a mirror cannot be recorded yet");
        }
        Ok(report)
    }

    fn login(&self, url: &GitRemoteUrl) -> Result<Option<(String, SecretReader)>, ImportError> {
        let login = self.secret();
        match (&login, url.transport()) {
            (Some(_), RemoteTransport::Ssh) => Err(ImportError::SecretForSsh),
            _ => Ok(secret_login(self.settings, login.as_ref())),
        }
    }

    /// The user, and the name of the secret.
    fn secret(&self) -> Option<(String, String)> {
        let login = self.request.login.as_ref()?;
        Some((login.user.clone(), login.secret.clone()))
    }

    async fn draft(
        &self,
        url: &GitRemoteUrl,
        refs: &RemoteRefs,
    ) -> Result<ImportDraft, ImportError> {
        let repo = &self.request.repo;
        let (name, url, format) = (repo.clone(), url.clone(), refs.format());
        let begin = move |git: &Git| git.begin_import(&name, &url, format);
        let draft = self.shared.git.call(begin).await?;
        let draft = draft.ok_or_else(|| ImportError::UnderWay(repo.clone()))?;
        if draft.is_continued {
            self.say("an earlier import goes on: what it has fetched is not fetched again");
        }
        Ok(draft)
    }

    /// Fetches the default branch, and then the rest, so that not all has to be fetched again if this is cut off.
    async fn fetch(
        &self,
        draft: &ImportDraft,
        refs: &RemoteRefs,
        remote: &RemoteConnection,
    ) -> Result<(), RemoteError> {
        let count = refs.branches_and_tags().count();
        if let Some(first) = refs.default_branch().filter(|_| count > 1) {
            self.say(&format!("fetching {}", first.short()));
            let refspec = format!("+{first}:{first}");
            self.fetch_refs(draft, vec![refspec], remote).await?;
            failpoint::hit("import-first-fetched");
        }
        self.say("fetching all branches and tags");
        let refspecs = REFSPECS.map(str::to_owned).to_vec();
        self.fetch_refs(draft, refspecs, remote).await
    }

    async fn fetch_refs(
        &self,
        draft: &ImportDraft,
        refspecs: Vec<String>,
        remote: &RemoteConnection,
    ) -> Result<(), RemoteError> {
        let fetch = RemoteFetch {
            into: draft.path(),
            lock: Some(draft.lock()),
            refspecs,
        };
        let git = &self.shared.git;
        git.fetch_remote(&fetch, &remote.access, self.progress)
            .await
    }

    /// Fetches the objects of Git LFS that what was fetched refers to.
    async fn fetch_objects(
        &self,
        draft: &ImportDraft,
        remote: &RemoteConnection,
    ) -> Result<ImportedObjects, ImportError> {
        let git = &self.shared.git;
        let refs = git.refs(draft.path()).await?.refs;
        let tips: Vec<ObjectId> = refs.iter().map(|(_, id)| id.clone()).collect();
        let (folder, heads) = (draft.path().to_owned(), tips.clone());
        let use_lfs = move |git: &Git| Ok(git.use_lfs(&folder, &heads));
        let uses_lfs = git.call(use_lfs).await?;
        let mut objects = ImportedObjects {
            refs,
            uses_lfs,
            count: 0,
            problem: None,
        };
        if !uses_lfs {
            return Ok(objects);
        }
        if self.request.no_lfs {
            objects.problem = Some("--no-lfs leaves them out".to_owned());
            return Ok(objects);
        }
        self.say("fetching objects of Git LFS");
        let transfer = LfsTransfer {
            git,
            remote: &remote.access,
            reachable: self.settings.reachable(MirrorOrigin::Owner),
            direction: LfsDirection::Download,
            commits: draft.path().to_owned(),
            store: LfsStore::of(draft.path()),
        };
        match transfer.run(tips, Vec::new()).await {
            Ok(LfsSummary { moved, absent }) => {
                objects.count = moved;
                objects.problem = absent.map(|(count, path)| match count {
                    1 => format!("the other side does not have that of {path}"),
                    count => format!(
                        "the other side does not have {count} of them, such as that of {path}"
                    ),
                });
            }
            // A mirror fetches them later.
            Err(error) if error.is_passing() && self.request.mirror.is_none() => {
                return Err(ImportError::Lfs(chain(&error)));
            }
            Err(error) => objects.problem = Some(chain(&error)),
        }
        Ok(objects)
    }

    /// What the draft has now.
    async fn report(
        &self,
        draft: &ImportDraft,
        refs: &RemoteRefs,
        remote: &RemoteConnection,
        objects: &ImportedObjects,
    ) -> Result<ImportReport, ImportError> {
        let fetched = &objects.refs;
        let branches = fetched.iter().filter(|(name, _)| name.branch().is_some());
        let branches = branches.count();
        let folder = draft.path().join("objects");
        let bytes = run_blocking(move || folder_size(&folder)).await?;
        let left_out = refs.others().into_iter().map(|other| LeftOutRefs {
            refs: other.folder,
            count: other.count,
        });
        Ok(ImportReport {
            branches,
            tags: fetched.len() - branches,
            bytes,
            default_branch: refs.default_branch().cloned(),
            left_out: left_out.collect(),
            uses_lfs: objects.uses_lfs,
            lfs_objects: objects.count,
            lfs_problem: objects.problem.clone(),
            host_key: remote
                .accepted_host_key()
                .as_deref()
                .and_then(host_key_fingerprint),
        })
    }

    /// The mirror that the repository becomes.
    fn mirror(&self, url: &GitRemoteUrl) -> Option<PullMirror> {
        let mirror = self.request.mirror.as_ref()?;
        Some(PullMirror {
            repo: self.request.repo.clone(),
            url: url.as_str().to_owned(),
            login: self.secret(),
            every: Duration::from_millis(mirror.every_ms),
            has_runs: mirror.runs,
        })
    }

    /// Records what is known of the other side already.
    async fn begin_mirror(
        &self,
        mirror: &PullMirror,
        refs: &RemoteRefs,
        remote: &RemoteConnection,
        objects: &ImportedObjects,
    ) -> Result<(), StoreError> {
        let store = &self.shared.deps.store;
        let key = MirrorKey {
            repo: mirror.repo.clone(),
            name: PULL_MIRROR.to_owned(),
        };
        let (new, known) = (mirror.mirror(), key.clone());
        let there: Vec<_> = refs.branches_and_tags().cloned().collect();
        let problem = objects.problem.clone();
        let with_objects = match (&problem, objects.uses_lfs) {
            (None, true) => objects.refs.clone(),
            _ => Vec::new(),
        };
        let begin = move |store: &Store| {
            store.mirrors().begin(&new)?;
            store.mirrors().want(&known, &there, true)?;
            store.mirrors().compared(&known, &there, true)?;
            store
                .mirrors()
                .set_lfs(&known, &with_objects, problem.as_deref())?;
            store.mirrors().succeeded(&known)
        };
        store.call(begin).await?;
        remote.record_host_key(store, &key).await
    }

    /// Makes the draft a repository.
    async fn finish(
        &self,
        draft: ImportDraft,
        default: Option<RefName>,
    ) -> Result<(), ImportError> {
        let repo = self.request.repo.clone();
        let name: RepoName = repo.clone();
        let is_mirror = self.request.mirror.is_some();
        let finish = move |git: &Git| {
            draft.set_mirror_mark(is_mirror)?;
            git.finish_import(&draft, &name, default.as_ref())
        };
        match self.shared.git.call(finish).await? {
            true => Ok(()),
            false => Err(ImportError::CreatedMeanwhile(repo)),
        }
    }

    /// Records the refs. If that fails, the comparison of refs does it.
    async fn record(&self) {
        let (repo, user) = (&self.request.repo, self.request.user.clone());
        let intake = &self.shared.deps.intake;
        if let Err(error) = intake.record_import(repo, self.request.event, user).await {
            tracing::error!(%repo, error = with_sources(&error), "the refs of an import cannot be recorded yet");
        }
    }

    fn say(&self, text: &str) {
        let text = text.to_owned();
        // The client may have ended.
        let _ = self.progress.send(ProgressLine {
            text,
            is_final: true,
        });
    }
}
