//! What a request costs the appliance.

/// How much a request takes to answer, from what is at hand to what reads a whole repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CostClass {
    /// Nothing is read.
    Free,
    /// A folder, a file, a page of a list; also the start of a stream, which holds a place while it lasts.
    Light,
    /// Differences, and the history of a path.
    Medium,
    /// The origin of lines, and searches.
    Heavy,
}

impl CostClass {
    /// What a stranger pays for it.
    pub(crate) fn units(self) -> u32 {
        match self {
            Self::Free => 0,
            Self::Light => 1,
            Self::Medium => 5,
            Self::Heavy => 50,
        }
    }
}
