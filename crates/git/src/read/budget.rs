//! What one call may cost, and lists that end where the budget ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::error::ReadError;

/// What one call may cost.
#[derive(Debug, Clone)]
pub struct Budget {
    deadline: Instant,
    interrupt: Arc<AtomicBool>,
    /// Lines of text or entries of a list at most.
    pub lines: usize,
    /// Bytes of one object at most.
    pub bytes: u64,
}

impl Budget {
    /// A budget whose time begins now.
    #[must_use]
    pub fn new(time: Duration, lines: usize, bytes: u64) -> Self {
        Self {
            deadline: Instant::now() + time,
            interrupt: Arc::default(),
            lines,
            bytes,
        }
    }

    /// The flag that ends the call.
    pub(super) fn interrupt(&self) -> Arc<AtomicBool> {
        self.interrupt.clone()
    }

    /// The same budget with less time.
    #[must_use]
    pub fn within(&self, time: Duration) -> Self {
        Self {
            deadline: self.deadline.min(Instant::now() + time),
            ..self.clone()
        }
    }

    /// The same budget for a list of another length.
    #[must_use]
    pub fn with_lines(&self, lines: usize) -> Self {
        Self {
            lines,
            ..self.clone()
        }
    }

    /// The same budget for objects of another size.
    #[must_use]
    pub fn with_bytes(&self, bytes: u64) -> Self {
        Self {
            bytes,
            ..self.clone()
        }
    }

    /// Whether the time is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed) || Instant::now() >= self.deadline
    }

    /// Fails if the caller has gone away or the time is over.
    pub(super) fn check(&self) -> Result<(), ReadError> {
        if self.is_over() {
            Err(ReadError::OutOfTime)
        } else {
            Ok(())
        }
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portion<T, C> {
    /// The items.
    pub items: Vec<T>,
    /// Where the rest begins; `None` if this is the end of the list.
    pub next: Option<C>,
    /// Whether the time ended before the portion was full.
    pub out_of_time: bool,
    /// Whether more follows, but where it begins cannot be named.
    pub is_cut: bool,
}

impl<T, C> Portion<T, C> {
    /// Nothing yet.
    pub(super) fn empty() -> Self {
        Self {
            items: Vec::new(),
            next: None,
            out_of_time: false,
            is_cut: false,
        }
    }

    /// Whether nothing follows.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.next.is_none() && !self.out_of_time && !self.is_cut
    }
}
