//! The newest result of the checks, kept in a file on the volume, so that `status` and health can name what failed.

use std::fs;
use std::io;
use std::path::PathBuf;

use quire_types::clock::Millis;
use quire_types::fsutil::replace_file;
use quire_types::paths::Paths;
use serde::{Deserialize, Serialize};

use super::finding::{DoctorFinding, Grade};
use crate::part_problem::PartProblem;

const FILE: &str = "doctor.json";
/// Only the owner of the volume reads it, as findings name repositories.
const MODE: u32 = 0o600;

/// What the checks found, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorReport {
    pub examined_at: Millis,
    pub findings: Vec<DoctorFinding>,
}

fn path(paths: &Paths) -> PathBuf {
    paths.data().join(FILE)
}

impl DoctorReport {
    /// Reads the newest report; `None` if there is none.
    pub(super) fn read(paths: &Paths) -> io::Result<Option<Self>> {
        match fs::read(path(paths)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the one before.
    pub(super) fn write(&self, paths: &Paths) -> io::Result<()> {
        replace_file(&path(paths), &serde_json::to_vec(self)?, MODE)
    }

    /// The checks that failed.
    pub fn failed(&self) -> impl Iterator<Item = &DoctorFinding> {
        let findings = self.findings.iter();
        findings.filter(|finding| finding.grade == Grade::Failed)
    }

    /// Each check that failed, with its time and what to do.
    #[must_use]
    pub fn problems(&self) -> Vec<PartProblem> {
        let problem = |finding: &DoctorFinding| {
            let advice = finding
                .advice
                .as_deref()
                .map(|advice| format!("; {advice}"));
            let text = format!(
                "{} (at {}): {}{}",
                finding.part,
                self.examined_at,
                finding.text,
                advice.unwrap_or_default()
            );
            PartProblem::new(&finding.part, text)
        };
        self.failed().map(problem).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_kept_and_names_what_failed() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path(), folder.path());
        assert_eq!(DoctorReport::read(&paths).unwrap(), None);
        let report = DoctorReport {
            examined_at: Millis(1_700_000_000_000),
            findings: vec![
                DoctorFinding::ok("database", "sound"),
                DoctorFinding::failed("container", "no run can start", "start the engine"),
                DoctorFinding::warning("network", "no way out", "nothing needs to be done"),
            ],
        };
        report.write(&paths).unwrap();
        assert_eq!(DoctorReport::read(&paths).unwrap(), Some(report.clone()));
        assert_eq!(
            report.problems(),
            [PartProblem::new(
                "container",
                "container (at 2023-11-14T22:13:20.000Z): no run can start; start the engine"
            )]
        );
        fs::write(path(&paths), "{").unwrap();
        assert!(DoctorReport::read(&paths).is_err());
    }
}
