//! What preflight logs: information and warnings. The warnings are also kept for the status file.

use std::fmt;

use super::output::StderrLog;

#[derive(Debug)]
pub(super) struct PreflightReport {
    pub(super) log: StderrLog,
    pub(super) warnings: Vec<String>,
}

impl PreflightReport {
    pub(super) fn info(&mut self, text: fmt::Arguments<'_>) {
        self.log.write(text);
    }

    pub(super) fn warn(&mut self, text: String) {
        self.log.write(format_args!("warning: {text}"));
        self.warnings.push(text);
    }
}
