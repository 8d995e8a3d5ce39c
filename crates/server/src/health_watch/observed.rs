//! What the checks of health say at a moment.

use quire_types::finding::FindingLevel;

/// A part of the appliance that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedPart {
    pub part: &'static str,
    /// Whether the check is in time, so that what it does not find is right.
    pub is_fresh: bool,
    /// What is wrong, at most one of each subject.
    pub findings: Vec<ObservedFinding>,
}

/// Something that is wrong with a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedFinding {
    /// What of the part; empty for the part as a whole.
    pub subject: String,
    pub level: FindingLevel,
    pub text: String,
}
