//! The changed-path filters of a commit-graph: Bloom filters that say of a path that a commit did not change it, or maybe did.
//!
//! Git's format: the chunk BIDX has where the filter of each commit ends, the chunk BDAT a head of three numbers and then the filters. A
//! filter compares a commit with its first parent. One that was not computed is empty; one of too many paths has all bits set.

use super::tree_path::TreePath;

/// Bytes before the first filter.
const HEAD_BYTES: usize = 12;
/// The most bits for each path; git sets 7.
const MAX_HASHES: u32 = 64;
/// The seeds of the two hashes that all bits are computed from.
const SEEDS: [u32; 2] = [0x293a_e76f, 0x7e64_6e2c];

/// The filters of all commits of a commit-graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathFilters {
    version: u32,
    hashes: u32,
    /// Where each filter ends, as four bytes.
    ends: Vec<u8>,
    filters: Vec<u8>,
}

/// The bits of a path and of the folders above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathKeys(Vec<[u32; 2]>);

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

impl PathFilters {
    /// The filters in the chunks BIDX and BDAT; `None` if their format is not known.
    #[must_use]
    pub fn parse(index: Vec<u8>, mut data: Vec<u8>) -> Option<Self> {
        let (version, hashes) = (number(&data, 0)?, number(&data, 4)?);
        let is_known = matches!(version, 1 | 2) && (1..=MAX_HASHES).contains(&hashes);
        if !is_known || data.len() < HEAD_BYTES || !index.len().is_multiple_of(4) {
            return None;
        }
        data.drain(..HEAD_BYTES);
        Some(Self {
            version,
            hashes,
            ends: index,
            filters: data,
        })
    }

    /// How many commits there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len() / 4
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The keys of a path; `None` if these filters say nothing of it. Version 1 has another hash for bytes that are not ASCII,
    /// which depended on the machine.
    #[must_use]
    pub fn keys(&self, path: &TreePath) -> Option<PathKeys> {
        let bytes = path.as_bytes();
        if path.is_root() || (self.version == 1 && !bytes.is_ascii()) {
            return None;
        }
        let folders = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends = folders.map(|(at, _)| at).chain([bytes.len()]);
        let key = |end| SEEDS.map(|seed| murmur3(&bytes[..end], seed));
        Some(PathKeys(ends.map(key).collect()))
    }

    /// Whether the commit at this place of the graph may have changed the path. False is certain.
    #[must_use]
    pub fn may_have_changed(&self, place: u32, keys: &PathKeys) -> bool {
        let Some(filter) = self.filter(place) else {
            return true;
        };
        let bits = filter.len() as u64 * 8;
        if bits == 0 {
            return true;
        }
        keys.0.iter().all(|[first, second]| {
            (0..self.hashes).all(|round| {
                let hash = first.wrapping_add(round.wrapping_mul(*second));
                let bit = u64::from(hash) % bits;
                usize::try_from(bit / 8)
                    .ok()
                    .and_then(|byte| filter.get(byte))
                    .is_none_or(|byte| byte & (1 << (bit % 8)) != 0)
            })
        })
    }

    fn filter(&self, place: u32) -> Option<&[u8]> {
        let at = usize::try_from(place).ok()?.checked_mul(4)?;
        let start = match at {
            0 => 0,
            at => number(&self.ends, at - 4)?,
        };
        let range = usize::try_from(start).ok()?..usize::try_from(number(&self.ends, at)?).ok()?;
        self.filters.get(range)
    }
}

/// The hash of 32 bits that git calls murmur3.
fn murmur3(data: &[u8], seed: u32) -> u32 {
    let mix = |block: u32| {
        block
            .wrapping_mul(0xcc9e_2d51)
            .rotate_left(15)
            .wrapping_mul(0x1b87_3593)
    };
    let (blocks, rest) = data.as_chunks::<4>();
    let mut hash = seed;
    for block in blocks {
        hash = (hash ^ mix(u32::from_le_bytes(*block)))
            .rotate_left(13)
            .wrapping_mul(5)
            .wrapping_add(0xe654_6b64);
    }
    let tail = rest
        .iter()
        .rev()
        .fold(0, |tail, byte| tail << 8 | u32::from(*byte));
    if !rest.is_empty() {
        hash ^= mix(tail);
    }
    hash ^= u32::try_from(data.len()).unwrap_or(u32::MAX);
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_of_git() {
        // From git's t/t0095-bloom.sh.
        assert_eq!(murmur3(b"", 0), 0);
        assert_eq!(murmur3(b"Hello world!", 0), 0x627b_0c2c);
        let fox = b"The quick brown fox jumps over the lazy dog";
        assert_eq!(murmur3(fox, 0), 0x2e4f_f723);
        assert_eq!(murmur3(b"\x99\xaa\xbb\xcc\xdd\xee\xff", 0), 0xa183_ccfd);
    }

    /// One filter for each commit, with these ends.
    fn filters(version: u32, ends: &[u32], bytes: &[u8]) -> Option<PathFilters> {
        let index = ends.iter().flat_map(|end| end.to_be_bytes()).collect();
        let head = [version, 7, 10]
            .iter()
            .flat_map(|n| n.to_be_bytes())
            .collect::<Vec<u8>>();
        PathFilters::parse(index, [&head, bytes].concat())
    }

    #[test]
    fn what_is_absent_or_wrong_means_maybe() {
        let path = TreePath::parse(b"src/main.rs").unwrap();
        let found = filters(2, &[1, 1, 2, 1, 9], &[0, 0xff]).unwrap();
        let keys = found.keys(&path).unwrap();
        let maybe = |place| found.may_have_changed(place, &keys);
        assert!(!maybe(0), "nothing was changed");
        assert!(maybe(1), "not computed");
        assert!(maybe(2), "all bits");
        assert!(maybe(3), "ends before it begins");
        assert!(maybe(4), "ends after the end");
        assert!(maybe(5) && maybe(u32::MAX), "not there");
        assert!(
            filters(3, &[], &[]).is_none() && PathFilters::parse(vec![], vec![0; 11]).is_none()
        );
    }

    #[test]
    fn version_1_says_nothing_of_names_that_are_not_ascii() {
        let found = filters(1, &[1], &[0]).unwrap();
        assert!(
            found
                .keys(&TreePath::parse("ä".as_bytes()).unwrap())
                .is_none()
        );
        assert!(found.keys(&TreePath::parse(b"a").unwrap()).is_some());
        assert!(found.keys(&TreePath::default()).is_none());
        let found = filters(2, &[1], &[0]).unwrap();
        assert!(
            found
                .keys(&TreePath::parse("ä".as_bytes()).unwrap())
                .is_some()
        );
    }
}
