//! Bodies of pages that were rendered once.
//!
//! A body depends on object ids, names of refs and the options of its address, never on the time or on who asks: the frame around it is
//! made for each request. So a body that is kept is right for as long as its key is what the repository says now. The key is made
//! from the repository at each request, and only requests that may see the page come so far.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};

use super::transfer::DeflatedPart;

/// What all bodies weigh together, in bytes.
const MAX_BYTES: u64 = 24 << 20;
/// A larger body is not kept.
const MAX_BODY_BYTES: usize = 2 << 20;
/// How many bodies are expected.
const EXPECTED_BODIES: usize = 1000;

/// What a body depends on, as a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct BodyKey([u8; 32]);

impl BodyKey {
    /// The key of what a text says.
    pub(super) fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }
}

/// The body of a page, as it is and compressed.
pub(super) struct KeptBody {
    /// The title of the page around it; `None` if it is data, which has no frame.
    pub(super) title: Option<String>,
    pub(super) plain: Bytes,
    pub(super) deflated: DeflatedPart,
}

impl KeptBody {
    pub(super) fn new(title: Option<String>, plain: Vec<u8>) -> io::Result<Self> {
        Ok(Self {
            title,
            deflated: DeflatedPart::new(&plain)?,
            plain: Bytes::from(plain),
        })
    }
}

#[derive(Clone)]
struct BytesOfBody;

impl Weighter<BodyKey, Arc<KeptBody>> for BytesOfBody {
    fn weight(&self, _: &BodyKey, body: &Arc<KeptBody>) -> u64 {
        let title = body.title.as_ref().map_or(0, String::len);
        let fixed = size_of::<BodyKey>() + size_of::<KeptBody>();
        (fixed + title + body.plain.len() + body.deflated.len()) as u64
    }
}

/// Bodies that were rendered once, the most useful 24 MiB of them.
pub(super) struct KeptBodies(Cache<BodyKey, Arc<KeptBody>, BytesOfBody>);

impl Default for KeptBodies {
    fn default() -> Self {
        Self(Cache::with_weighter(
            EXPECTED_BODIES,
            MAX_BYTES,
            BytesOfBody,
        ))
    }
}

impl KeptBodies {
    pub(super) fn get(&self, key: &BodyKey) -> Option<Arc<KeptBody>> {
        self.0.get(key)
    }

    pub(super) fn insert(&self, key: BodyKey, body: Arc<KeptBody>) {
        if body.plain.len() <= MAX_BODY_BYTES {
            self.0.insert(key, body);
        }
    }
}
