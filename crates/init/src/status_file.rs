//! The status file: written after every change, without allocating.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use nix::unistd::getpid;

use quire_types::clock::{Clock, Millis};
use quire_types::fsutil;

use super::child::Child;
use super::output::StderrLog;
use quire_types::init_status::{ChildStatus, InitPhase, InitStatus};

#[derive(Debug)]
pub(super) struct StatusFile {
    status: InitStatus,
    /// Whether `status` differs from the file.
    changed: bool,
    /// How many of the warnings are from preflight. Those about keys come and go.
    preflight_warnings: usize,
    path: PathBuf,
    draft: PathBuf,
    bytes: Vec<u8>,
    write_failed: bool,
}

impl StatusFile {
    pub(super) fn new(path: PathBuf, children: [&str; 2], warnings: Vec<String>) -> Self {
        Self {
            preflight_warnings: warnings.len(),
            status: InitStatus {
                pid: getpid().as_raw(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                phase: InitPhase::Starting,
                started_at: Clock::system().now(),
                children: children
                    .map(|name| (name.to_owned(), ChildStatus::default()))
                    .into(),
                keys: 0,
                warnings,
            },
            changed: true,
            draft: fsutil::draft_path(&path),
            path,
            bytes: Vec::with_capacity(4096),
            write_failed: false,
        }
    }

    pub(super) fn phase(&self) -> InitPhase {
        self.status.phase
    }

    pub(super) fn started_at(&self) -> Millis {
        self.status.started_at
    }

    pub(super) fn set_phase(&mut self, phase: InitPhase) {
        self.status.phase = phase;
        self.changed = true;
    }

    pub(super) fn set_keys(&mut self, count: usize, problems: &[String]) {
        self.status.keys = count;
        self.status.warnings.truncate(self.preflight_warnings);
        self.status.warnings.extend_from_slice(problems);
        self.changed = true;
    }

    pub(super) fn child_started(&mut self, name: &str) {
        if let Some(child) = self.status.children.get_mut(name) {
            child.started_at = Some(Clock::system().now());
        }
        self.changed = true;
    }

    /// Notes that the state of a child has changed.
    pub(super) fn child_changed(&mut self) {
        self.changed = true;
    }

    /// Replaces the file if anything has changed. A failure is logged once.
    pub(super) fn publish(&mut self, children: &[Child], log: &mut StderrLog) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        for child in children {
            if let Some(status) = self.status.children.get_mut(child.name) {
                child.update(status);
            }
        }
        let written = self.write();
        if let Err(error) = &written
            && !self.write_failed
        {
            log.write(format_args!(
                "warning: cannot write {}: {error}",
                self.path.display()
            ));
        }
        self.write_failed = written.is_err();
    }

    fn write(&mut self) -> io::Result<()> {
        self.bytes.clear();
        serde_json::to_writer(&mut self.bytes, &self.status)?;
        File::create(&self.draft)?.write_all(&self.bytes)?;
        std::fs::rename(&self.draft, &self.path)
    }
}
