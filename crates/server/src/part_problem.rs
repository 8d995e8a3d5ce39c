//! What is wrong with one thing of a part of the appliance.

/// A problem that lasts until its cause is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartProblem {
    /// What it is about, such as a mirror: always the same for the same thing. Empty for the part as a whole.
    pub subject: String,
    /// One sentence.
    pub text: String,
}

impl PartProblem {
    #[must_use]
    pub fn new(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            text: text.into(),
        }
    }

    /// One that is about the part as a whole.
    #[must_use]
    pub fn of_part(text: String) -> Self {
        Self::new("", text)
    }
}
