//! A transfer of the objects that commits refer to: they are found while others are transferred.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc::{Receiver, channel};

use super::error::LfsError;
use super::remote::LfsRemote;
use super::room::{RoomCheck, check_room};
use super::stall::{TRANSFER_TIME, unless_too_slow};
use crate::addresses::ReachableAddresses;
use quire_git::lfs::{
    LfsDirection, LfsOid, LfsPointer, LfsProgress, LfsStore, PointerFile, RefusedObject,
};
use quire_git::{Git, GitError, RemoteAccess};
use quire_runtime::blocking::{BlockingInterrupted, run_blocking};
use quire_types::names::ObjectId;

/// How many objects the other side is asked about at once, as git-lfs does.
const MAX_BATCH: usize = 100;
/// How many batches are found before they are needed.
const MAX_FOUND: usize = 2;

/// Objects of a repository, and the remote.
pub(in crate::mirror) struct LfsTransfer<'a> {
    pub(in crate::mirror) git: &'a Git,
    pub(in crate::mirror) remote: &'a RemoteAccess,
    /// Where servers may be that the remote names.
    pub(in crate::mirror) reachable: ReachableAddresses<'a>,
    pub(in crate::mirror) direction: LfsDirection,
    /// The folder of the repository that has the commits.
    pub(in crate::mirror) commits: PathBuf,
    pub(in crate::mirror) store: LfsStore,
}

/// What became of the objects.
#[derive(Debug, Default)]
pub(in crate::mirror) struct LfsSummary {
    pub(in crate::mirror) moved: u64,
    /// How many are on neither side, and the path of the first one.
    pub(in crate::mirror) absent: Option<(usize, String)>,
}

/// Objects that were not accepted.
#[derive(Default)]
struct Refusals {
    count: usize,
    /// The path of the first one, and what the other side said.
    first: Option<(String, String)>,
}

impl LfsTransfer<'_> {
    /// Transfers the objects that these commits and those before them refer to, but for those of the `known` ones.
    pub(in crate::mirror) async fn run(
        &self,
        tips: Vec<ObjectId>,
        known: Vec<ObjectId>,
    ) -> Result<LfsSummary, LfsError> {
        let store = self.store.clone();
        // What is here is not fetched. Nothing is stored in another repository that gets the name meanwhile.
        let (store, here) = match self.direction {
            LfsDirection::Upload => (store, None),
            LfsDirection::Download => {
                let store = run_blocking(move || store.pinned()).await??;
                (store.clone(), Some(store))
            }
        };
        let (batches, found) = channel(MAX_FOUND);
        let (git, commits) = (self.git.clone(), self.commits.clone());
        let find = run_blocking(move || {
            let mut batch = FoundObjects::default();
            let is_wanted = || !batches.is_closed();
            let found = git.referred_lfs_objects(&commits, (&tips, &known), is_wanted, |file| {
                if here.as_ref().is_some_and(|store| store.has(&file.pointer)) {
                    return ControlFlow::Continue(());
                }
                match batch.add(file).map(|full| batches.blocking_send(full)) {
                    // The one that transfers them has ended early.
                    Some(Err(_)) => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            });
            if found.is_ok() && !batch.files.is_empty() {
                let _ = batches.blocking_send(batch.files);
            }
            found
        });
        let progress = LfsProgress::default();
        // It has an end, since the refs wait for it.
        let transfer = self.transfer(&store, found, &progress);
        let transfer = unless_too_slow(&progress, TRANSFER_TIME, transfer);
        let (transferred, listed) = tokio::join!(transfer, find);
        let summary = transferred.map_err(|_| LfsError::TooSlow)??;
        let listed: Result<Result<(), GitError>, BlockingInterrupted> = listed;
        listed??;
        Ok(summary)
    }

    async fn transfer(
        &self,
        store: &LfsStore,
        mut found: Receiver<Vec<PointerFile>>,
        progress: &LfsProgress,
    ) -> Result<LfsSummary, LfsError> {
        let paths = self.git.paths().clone();
        let room: RoomCheck = Arc::new(move |size| check_room(&paths, size));
        let mut summary = LfsSummary::default();
        let mut refusals = Refusals::default();
        let mut remote: Option<LfsRemote<'_>> = None;
        while let Some(files) = found.recv().await {
            let remote = match &mut remote {
                Some(remote) => remote,
                None => {
                    let open = LfsRemote::open(
                        self.git,
                        self.remote,
                        self.reachable,
                        self.direction,
                        progress,
                    );
                    remote.insert(open.await?)
                }
            };
            let objects: Vec<LfsPointer> = files.iter().map(|file| file.pointer.clone()).collect();
            let transferred = remote.transfer(store, &objects, &room).await?;
            summary.moved += transferred.moved;
            if let Some(first) = transferred.absent.first() {
                let (count, _) = summary
                    .absent
                    .get_or_insert_with(|| (0, path_of(&files, first)));
                *count += transferred.absent.len();
            }
            refusals.add(&files, transferred.refused);
        }
        if let Some(remote) = remote {
            remote.quit().await;
        }
        match refusals.first {
            Some((path, words)) => Err(LfsError::Refused {
                count: refusals.count,
                path,
                words,
            }),
            None => Ok(summary),
        }
    }
}

impl Refusals {
    fn add(&mut self, files: &[PointerFile], refused: Vec<RefusedObject>) {
        self.count += refused.len();
        for RefusedObject { oid, words } in refused {
            self.first
                .get_or_insert_with(|| (path_of(files, &oid), words));
        }
    }
}

/// Files whose objects differ.
#[derive(Default)]
struct FoundObjects {
    files: Vec<PointerFile>,
    oids: HashSet<LfsOid>,
    /// Whether there was a batch.
    has_begun: bool,
}

impl FoundObjects {
    /// Returns a batch once it is full.
    fn add(&mut self, file: PointerFile) -> Option<Vec<PointerFile>> {
        if self.oids.insert(file.pointer.oid.clone()) {
            self.files.push(file);
        }
        // The first object shows whether the other side has Git LFS, before a long history is listed to its end.
        if self.has_begun && self.files.len() < MAX_BATCH || self.files.is_empty() {
            return None;
        }
        self.has_begun = true;
        self.oids.clear();
        Some(std::mem::take(&mut self.files))
    }
}

fn path_of(files: &[PointerFile], oid: &LfsOid) -> String {
    let file = files.iter().find(|file| file.pointer.oid == *oid);
    file.map_or_else(|| oid.to_string(), |file| file.path.clone())
}
