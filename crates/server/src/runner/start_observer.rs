//! Records the start of a workspace: in the row of its run, and in its log.

use super::service_log::ServiceLogSink;
use quire_executor::{
    BuiltImage, ImageLook, LookResult, OutputSink, StartObserver, StartSpec, Stream,
};
use quire_run_files::logs::{RunLog, StepLog};
use quire_runtime::changes::ChangeNotifier;
use quire_store::{Store, StoreError};
use quire_types::error_chain::with_sources;
use quire_types::failpoint;
use quire_types::names::{RepoName, RunId};
use quire_types::run::ExecutorName;

/// Records the start of a workspace in the row and the log of its run.
pub(super) struct RunStartObserver {
    pub(super) store: Store,
    pub(super) run: RunId,
    pub(super) repo: RepoName,
    pub(super) live: ChangeNotifier,
    pub(super) log: Option<StepLog>,
    /// Opens the logs of services.
    pub(super) logs: RunLog,
}

impl RunStartObserver {
    /// Records what only housekeeping needs.
    fn note(&self, change: impl FnOnce(&Store) -> Result<(), StoreError>) {
        if let Err(error) = tokio::task::block_in_place(|| change(&self.store)) {
            tracing::error!(run = %self.run, error = with_sources(&error), "cannot record what a run uses");
        }
    }

    /// Writes what the owner should know about the run to its log.
    pub(super) fn notes(&mut self, notes: impl Iterator<Item = String>) {
        for note in notes {
            if let Some(log) = &mut self.log {
                log.line(Stream::Stderr, &format!("quire: {note}"));
            }
        }
    }

    pub(super) fn caches_used(&self, executor: &ExecutorName, spec: &StartSpec) {
        if !spec.caches.is_empty() {
            let names: Vec<String> = spec.caches.iter().map(|cache| cache.name.clone()).collect();
            self.note(|store| store.caches().record_use(executor, &spec.repo, &names));
        }
    }

    fn record(&self, change: impl FnOnce(&Store) -> Result<(), StoreError>) {
        if let Err(error) = tokio::task::block_in_place(|| change(&self.store)) {
            // The container has the run's id as a label, so reconciling finds it without the row.
            tracing::error!(run = %self.run, error = with_sources(&error), "cannot record the progress of a run");
        }
        self.live.notify_run(self.run);
    }
}

impl StartObserver for RunStartObserver {
    fn line(&mut self, stream: Stream, bytes: &[u8]) {
        if let Some(log) = &mut self.log {
            log.write(stream, bytes);
        }
    }

    fn build_started(&mut self, engine: &str, tag: &str) {
        self.note(|store| store.images().build_started(engine, tag, &self.repo));
        self.record(|store| store.runs().build_started(self.run));
    }

    fn build_finished(&mut self, image: &BuiltImage) {
        let BuiltImage { engine, tag, id } = image;
        self.note(|store| store.images().build_finished(engine, tag, &self.repo, id));
        self.record(|store| store.runs().build_finished(self.run, tag));
    }

    fn container_created(&mut self, id: &str, image: &str) {
        self.record(|store| store.runs().container_created(self.run, id, image));
        failpoint::hit("runner-container-created");
    }

    fn container_started(&mut self) {
        self.record(|store| store.runs().container_started(self.run));
        failpoint::hit("runner-container-started");
    }

    fn image_used(&mut self, name: &str) {
        self.note(|store| store.images().record_use(name));
    }

    fn last_look(&mut self, image: &str) -> Option<ImageLook> {
        match tokio::task::block_in_place(|| self.store.images().last_look(image)) {
            Ok(look) => look.map(|look| ImageLook {
                age: look.age,
                result: LookResult {
                    image_id: look.image_id,
                    newer: look.newer,
                },
            }),
            Err(error) => {
                tracing::error!(run = %self.run, error = with_sources(&error), "cannot read when an image was looked for");
                None
            }
        }
    }

    fn looked_for_newer(&mut self, image: &str, result: &LookResult) {
        let LookResult { image_id, newer } = result;
        self.note(|store| store.images().record_look(image, image_id, newer.as_ref()));
    }

    fn image_pulled(&mut self, engine: &str, name: &str, id: &str) {
        self.note(|store| store.images().record_pulled(engine, name, id));
    }

    fn service_output(&mut self, service: &str) -> Box<dyn OutputSink> {
        Box::new(ServiceLogSink::open(&self.logs, service))
    }
}

impl Drop for RunStartObserver {
    fn drop(&mut self) {
        if let Some(log) = self.log.take() {
            log.finish();
        }
    }
}
