//! What became of objects that were to be transferred, and how far a transfer is.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::pointer::{LfsOid, LfsPointer};

/// What became of some objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransferredObjects {
    /// How many were transferred.
    pub moved: u64,
    /// Objects that the other side does not have, and that are not here either.
    pub absent: Vec<LfsOid>,
    pub refused: Vec<RefusedObject>,
}

impl TransferredObjects {
    /// An object was refused, and why.
    pub fn refuse(&mut self, object: &LfsPointer, words: String) {
        let oid = object.oid.clone();
        self.refused.push(RefusedObject { oid, words });
    }
}

/// An object that the other side did not take, or does not hand out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedObject {
    pub oid: LfsOid,
    /// What the other side said.
    pub words: String,
}

/// How many bytes were transferred. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct LfsProgress(Arc<AtomicU64>);

impl LfsProgress {
    pub fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts what passes.
pub(super) struct Counted<T> {
    inner: T,
    progress: LfsProgress,
}

impl<T> Counted<T> {
    pub(super) fn new(inner: T, progress: &LfsProgress) -> Self {
        let progress = progress.clone();
        Self { inner, progress }
    }
}

impl<T: Read> Read for Counted<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.progress.add(count);
        Ok(count)
    }
}

impl<T: Write> Write for Counted<T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.progress.add(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
