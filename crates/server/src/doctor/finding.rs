//! What `doctor` says about one part of the appliance.

use serde::{Deserialize, Serialize};

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorFinding {
    /// What was checked, in one or two words.
    pub part: String,
    pub grade: Grade,
    /// What was found, in one sentence.
    pub text: String,
    /// What to do about it, with the line of the configuration to change if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    Ok,
    /// It works, but not as its owner may expect.
    Warning,
    /// It does not work.
    Failed,
}

impl Grade {
    /// Its name in tables and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

impl DoctorFinding {
    pub(super) fn ok(part: &str, text: impl Into<String>) -> Self {
        Self::new(part, Grade::Ok, text.into(), None)
    }

    pub(super) fn warning(part: &str, text: impl Into<String>, advice: &str) -> Self {
        Self::new(part, Grade::Warning, text.into(), Some(advice))
    }

    pub(super) fn failed(part: &str, text: impl Into<String>, advice: &str) -> Self {
        Self::new(part, Grade::Failed, text.into(), Some(advice))
    }

    fn new(part: &str, grade: Grade, text: String, advice: Option<&str>) -> Self {
        Self {
            part: part.to_owned(),
            grade,
            text,
            advice: advice.map(str::to_owned),
        }
    }
}
