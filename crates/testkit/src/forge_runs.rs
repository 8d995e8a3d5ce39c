//! What a forge knows of its pushes and runs, and waiting for them.

use std::fs;
use std::path::PathBuf;

use quire_store::{RunFilter, Store};
use quire_types::clock::Clock;
use quire_types::names::RunId;
use quire_types::run::{Run, RunJob, RunState, RunStep};

use crate::forge::TestForge;
use crate::wait::{WAIT_TIMEOUT, wait_for_or_report, wait_until};

impl TestForge {
    /// The database as a second reader sees it.
    #[track_caller]
    pub fn store(&self) -> Store {
        Store::open_existing(&self.paths.database(), Clock::system()).unwrap()
    }

    /// All runs, oldest first.
    #[track_caller]
    pub fn runs(&self) -> Vec<Run> {
        let filter = RunFilter {
            repo: None,
            ref_name: None,
            state: None,
            before: None,
            limit: 100_000,
        };
        let mut runs = self.store().runs().list(&filter).unwrap();
        runs.reverse();
        runs
    }

    /// The runs of a repository, oldest first.
    #[track_caller]
    pub fn runs_of(&self, repo: &str) -> Vec<Run> {
        self.runs()
            .into_iter()
            .filter(|run| run.repo.as_str() == repo)
            .collect()
    }

    /// Waits until the server, where it runs, has recorded all that was pushed. On a busy machine
    /// a push can end before that: the hook does not wait for the server for ever.
    #[track_caller]
    pub fn wait_for_empty_spool(&self) {
        let is_draft = |file: &PathBuf| {
            let name = file.file_name().unwrap_or_default();
            name.as_encoded_bytes().starts_with(b".")
        };
        if self.is_serving() {
            wait_for_or_report(
                "the spool to be empty",
                || self.spooled().iter().all(is_draft).then_some(()),
                || self.log(),
            );
        }
    }

    /// The newest run of a repository, of those that its pushes made so far.
    #[track_caller]
    pub fn newest(&self, repo: &str) -> Run {
        self.wait_for_empty_spool();
        self.runs_of(repo)
            .pop()
            .unwrap_or_else(|| panic!("{repo} has no run: {}", self.log()))
    }

    /// A run as it stands.
    #[track_caller]
    pub fn run(&self, id: RunId) -> Run {
        self.store().runs().get(id).unwrap().unwrap()
    }

    /// Waits until a run has ended.
    #[track_caller]
    pub fn end_of(&self, id: RunId) -> Run {
        let ended = wait_until(WAIT_TIMEOUT, || {
            Some(self.run(id)).filter(|run| run.state.is_final())
        });
        ended.unwrap_or_else(|| panic!("it never ended: {:?}\n{}", self.run(id), self.log()))
    }

    /// Waits until a run is in a state.
    #[track_caller]
    pub fn wait_for_state(&self, id: RunId, state: RunState) -> Run {
        let there = wait_until(WAIT_TIMEOUT, || {
            Some(self.run(id)).filter(|run| run.state == state)
        });
        there.unwrap_or_else(|| panic!("it never was {state}: {:?}\n{}", self.run(id), self.log()))
    }

    /// Waits until nothing is pending or active.
    #[track_caller]
    pub fn wait_for_quiet(&self) {
        let open = || {
            self.runs()
                .into_iter()
                .filter(|run| !run.state.is_final())
                .collect::<Vec<_>>()
        };
        let quiet = wait_until(WAIT_TIMEOUT * 2, || open().is_empty().then_some(()));
        quiet.unwrap_or_else(|| panic!("these go on: {:?}\n{}", open(), self.log()));
    }

    /// The jobs of a run.
    pub fn jobs(&self, id: RunId) -> Vec<RunJob> {
        self.store().jobs().list(id).unwrap()
    }

    /// The steps of a run.
    pub fn steps(&self, id: RunId) -> Vec<RunStep> {
        self.store().steps().list(id).unwrap()
    }

    /// The folder of a run.
    pub fn run_folder(&self, run: &Run) -> PathBuf {
        self.paths.run_dir(&run.repo, run.id)
    }

    /// The spool's files, sorted; drafts included.
    pub fn spooled(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.paths.spool())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.retain(|path| !path.ends_with("damaged"));
        files.sort();
        files
    }
}
