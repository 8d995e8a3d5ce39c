//! What a program in the format ELF says about itself to the loader. Only programs of 64 bits with little-endian numbers are read: those
//! of the machines that quire runs on.

/// The type of a segment that is mapped.
pub(super) const LOADED: u32 = 1;
const DYNAMIC: u32 = 2;

const SEGMENT_HEADER: usize = 56;
const DYNAMIC_ENTRY: usize = 16;
/// The tag that ends the dynamic section.
const END: u64 = 0;
const STRING_TABLE: u64 = 5;
const NEEDED_VERSIONS: u64 = 0x6fff_fffe;
const NEEDED_VERSION_COUNT: u64 = 0x6fff_ffff;

/// The bytes of a program, and where its parts are. Everything is `None` that is not as it has to be.
pub(super) struct ElfProgram<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) segments: Vec<ElfSegment>,
    /// The entries of the dynamic section.
    pub(super) dynamic: Vec<(u64, u64)>,
    /// Where they are in the file.
    pub(super) dynamic_at: usize,
}

/// A segment, and where its header is in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct ElfSegment {
    pub(super) header_at: usize,
    pub(super) kind: u32,
    pub(super) offset: u64,
    pub(super) address: u64,
    pub(super) file_size: u64,
    pub(super) memory_size: u64,
}

/// A version of a library that a program needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NeededVersion {
    pub(super) name: String,
    /// Where its library is described in the file.
    pub(super) library_at: usize,
    /// Where it is described.
    pub(super) at: usize,
    /// Where the one before it is described, if it is not the first of its library.
    pub(super) before: Option<usize>,
}

impl<'a> ElfProgram<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        // ELF, 64 bits, little-endian.
        if !bytes.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let mut program = Self {
            bytes,
            segments: Vec::new(),
            dynamic: Vec::new(),
            dynamic_at: 0,
        };
        let first = usize::try_from(program.u64_at(0x20)?).ok()?;
        for index in 0..usize::from(program.u16_at(0x38)?) {
            let header_at = first.checked_add(index * SEGMENT_HEADER)?;
            program.segments.push(ElfSegment {
                header_at,
                kind: program.u32_at(header_at)?,
                offset: program.u64_at(header_at + 8)?,
                address: program.u64_at(header_at + 16)?,
                file_size: program.u64_at(header_at + 32)?,
                memory_size: program.u64_at(header_at + 40)?,
            });
        }
        let dynamic = program.segments.iter().find(|one| one.kind == DYNAMIC)?;
        program.dynamic_at = usize::try_from(dynamic.offset).ok()?;
        let size = usize::try_from(dynamic.file_size).ok()?;
        for index in 0..size / DYNAMIC_ENTRY {
            let at = program.dynamic_at.checked_add(index * DYNAMIC_ENTRY)?;
            let entry = (program.u64_at(at)?, program.u64_at(at + 8)?);
            if entry.0 == END {
                break;
            }
            program.dynamic.push(entry);
        }
        Some(program)
    }

    /// The kind of processor.
    pub(super) fn machine(&self) -> Option<u16> {
        self.u16_at(0x12)
    }

    /// The value of a tag of the dynamic section.
    pub(super) fn value(&self, tag: u64) -> Option<u64> {
        let mut found = self.dynamic.iter().filter(|entry| entry.0 == tag);
        found.next().map(|entry| entry.1)
    }

    /// Where in the file an address is.
    pub(super) fn offset_of(&self, address: u64) -> Option<usize> {
        let mut loaded = self.segments.iter().filter(|one| one.kind == LOADED);
        let segment = loaded.find(|one| {
            let within = address.checked_sub(one.address);
            within.is_some_and(|within| within < one.file_size)
        })?;
        usize::try_from(segment.offset.checked_add(address - segment.address)?).ok()
    }

    /// All versions of libraries that the program needs.
    pub(super) fn needed_versions(&self) -> Option<Vec<NeededVersion>> {
        let mut needed = Vec::new();
        let Some(libraries) = self.value(NEEDED_VERSIONS) else {
            return Some(needed);
        };
        let mut library_at = self.offset_of(libraries)?;
        for _ in 0..self.value(NEEDED_VERSION_COUNT)? {
            let mut at = library_at.checked_add(self.distance_at(library_at + 8)?)?;
            let mut before = None;
            for _ in 0..self.u16_at(library_at + 2)? {
                needed.push(NeededVersion {
                    name: self.string(self.u32_at(at + 8)?)?,
                    library_at,
                    at,
                    before,
                });
                before = Some(at);
                at = at.checked_add(self.distance_at(at + 12)?)?;
            }
            library_at = library_at.checked_add(self.distance_at(library_at + 12)?)?;
        }
        Some(needed)
    }

    fn string(&self, index: u32) -> Option<String> {
        let table = self.offset_of(self.value(STRING_TABLE)?)?;
        let from = self
            .bytes
            .get(table.checked_add(usize::try_from(index).ok()?)?..)?;
        let end = memchr::memchr(0, from)?;
        String::from_utf8(from[..end].to_vec()).ok()
    }

    fn distance_at(&self, at: usize) -> Option<usize> {
        usize::try_from(self.u32_at(at)?).ok()
    }

    pub(super) fn u16_at(&self, at: usize) -> Option<u16> {
        self.array_at(at).map(u16::from_le_bytes)
    }

    pub(super) fn u32_at(&self, at: usize) -> Option<u32> {
        self.array_at(at).map(u32::from_le_bytes)
    }

    pub(super) fn u64_at(&self, at: usize) -> Option<u64> {
        self.array_at(at).map(u64::from_le_bytes)
    }

    fn array_at<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..at.checked_add(N)?)?.try_into().ok()
    }
}
