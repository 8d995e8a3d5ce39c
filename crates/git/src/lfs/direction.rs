//! Which way objects go.

/// Which way objects go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LfsDirection {
    /// To the other side.
    Upload,
    /// From there.
    Download,
}

impl LfsDirection {
    /// As both protocols of Git LFS call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Download => "download",
        }
    }
}
