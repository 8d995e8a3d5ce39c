//! How much attention a message asks for.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Something is wrong.
    Failed,
    /// It is not any more.
    Fixed,
    /// Any other end, and tests.
    Other,
}

impl Urgency {
    /// A colour that can be read on light and dark ground, as `#rrggbb`.
    pub(super) fn colour(self) -> &'static str {
        match self {
            Self::Failed => "#c0271e",
            Self::Fixed => "#17713a",
            Self::Other => "#6b6459",
        }
    }
}
