//! The records of a zip file: what stands before and after the content of an entry, and at the end.
//!
//! Sizes and positions that do not fit into 32 bits stand in the fields of zip64.

/// Value of a field whose true value is in a field of zip64.
const IN_ZIP64: u32 = u32::MAX;
/// Entries from this size on have fields of 64 bits, since compression may add some bytes.
const ZIP64_FROM: u64 = 0xffff_ffff - (16 << 20);
const MADE_ON_UNIX: u16 = 3 << 8;
const VERSION: u16 = 20;
const VERSION_ZIP64: u16 = 45;
const FLAG_SIZES_FOLLOW: u16 = 1 << 3;
const FLAG_UTF8: u16 = 1 << 11;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// When all entries were changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryTime {
    date: u16,
    time: u16,
    seconds: i32,
}

impl EntryTime {
    /// Zip knows local times from 1980 to 2107; these are in UTC. The second field of time has the exact one.
    pub(super) fn of(seconds: i64) -> Self {
        let exact = i32::try_from(seconds).unwrap_or(0);
        let at = jiff::Timestamp::from_second(seconds)
            .map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).datetime())
            .ok();
        let known = at.and_then(|at| {
            let year = u16::try_from(at.year()).ok()?.checked_sub(1980)?;
            let part = |number: i8| u16::try_from(number).unwrap_or(0);
            (year < 128).then(|| {
                let date = (year << 9) | (part(at.month()) << 5) | part(at.day());
                let time =
                    (part(at.hour()) << 11) | (part(at.minute()) << 5) | (part(at.second()) / 2);
                (date, time)
            })
        });
        let (date, time) = known.unwrap_or(((1 << 5) | 1, 0));
        Self {
            date,
            time,
            seconds: exact,
        }
    }

    fn field(self) -> Vec<u8> {
        let mut field = Bytes::default();
        field.u16(0x5455).u16(5).raw(&[1]);
        field.raw(&self.seconds.to_le_bytes());
        field.0
    }
}

/// How an entry is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// As it is; its size and checksum stand before it.
    Stored,
    /// Compressed; its sizes and checksum follow it.
    Deflated,
}

/// What is known of an entry before it is written.
pub(super) struct EntryHead<'a> {
    pub(super) name: &'a [u8],
    /// Kind and permissions, as in Unix.
    pub(super) mode: u32,
    pub(super) packing: Packing,
    pub(super) size: u64,
    /// Where it begins.
    pub(super) offset: u64,
}

/// What is known after its content was compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryEnd {
    pub(super) crc: u32,
    pub(super) packed: u64,
}

impl EntryHead<'_> {
    fn is_large(&self) -> bool {
        self.size >= ZIP64_FROM
    }

    fn flags(&self) -> u16 {
        let is_utf8 = !self.name.is_ascii() && std::str::from_utf8(self.name).is_ok();
        let follow = if self.packing == Packing::Deflated {
            FLAG_SIZES_FOLLOW
        } else {
            0
        };
        follow | if is_utf8 { FLAG_UTF8 } else { 0 }
    }

    /// Version, flags, method and time, as both records of an entry have them.
    fn common(&self, record: &mut Bytes, at: EntryTime, needs_zip64: bool) {
        let method = match self.packing {
            Packing::Stored => STORED,
            Packing::Deflated => DEFLATED,
        };
        record
            .u16(version(needs_zip64))
            .u16(self.flags())
            .u16(method)
            .u16(at.time)
            .u16(at.date);
    }

    fn name_length(&self) -> u16 {
        u16::try_from(self.name.len()).unwrap_or(u16::MAX)
    }

    /// The record before the content. `stored` is the end of an entry that is stored.
    pub(super) fn local_record(&self, at: EntryTime, stored: Option<EntryEnd>) -> Vec<u8> {
        let mut extra = at.field();
        let mut record = Bytes::default();
        record.u32(0x0403_4b50);
        self.common(&mut record, at, self.is_large());
        let end = stored.unwrap_or(EntryEnd { crc: 0, packed: 0 });
        record.u32(end.crc);
        if self.is_large() {
            record.u32(IN_ZIP64).u32(IN_ZIP64);
            let mut sizes = Bytes::default();
            sizes.u16(1).u16(16).u64(0).u64(0);
            extra.extend_from_slice(&sizes.0);
        } else {
            let size = stored.map_or(0, |_| self.size);
            record.u32(low(end.packed)).u32(low(size));
        }
        record.u16(self.name_length()).length(&extra);
        record.raw(self.name).raw(&extra);
        record.0
    }

    /// The record after the content of an entry that is compressed.
    pub(super) fn sizes_record(&self, end: EntryEnd) -> Vec<u8> {
        let mut record = Bytes::default();
        record.u32(0x0807_4b50).u32(end.crc);
        if self.is_large() {
            record.u64(end.packed).u64(self.size);
        } else {
            record.u32(low(end.packed)).u32(low(self.size));
        }
        record.0
    }

    /// The record in the directory.
    pub(super) fn directory_record(&self, at: EntryTime, end: EntryEnd) -> Vec<u8> {
        let mut wide = Bytes::default();
        let (mut size, mut packed, mut offset) =
            (low(self.size), low(end.packed), low(self.offset));
        if self.is_large() {
            (size, packed) = (IN_ZIP64, IN_ZIP64);
            wide.u64(self.size).u64(end.packed);
        }
        if self.offset >= u64::from(IN_ZIP64) {
            offset = IN_ZIP64;
            wide.u64(self.offset);
        }
        let mut extra = Bytes(at.field());
        if !wide.0.is_empty() {
            extra.u16(1).length(&wide.0).raw(&wide.0);
        }
        let is_folder = self.name.ends_with(b"/");
        let needs_zip64 = !wide.0.is_empty();
        let mut record = Bytes::default();
        record
            .u32(0x0201_4b50)
            .u16(MADE_ON_UNIX | version(needs_zip64));
        self.common(&mut record, at, needs_zip64);
        record.u32(end.crc).u32(packed).u32(size);
        record.u16(self.name_length()).length(&extra.0);
        // No comment, the first disk, no internal attributes.
        record.u16(0).u16(0).u16(0);
        record.u32((self.mode << 16) | if is_folder { 0x10 } else { 0 });
        record.u32(offset).raw(self.name).raw(&extra.0);
        record.0
    }
}

/// The directory of a finished file.
pub(super) struct Directory<'a> {
    pub(super) entries: u64,
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) comment: &'a [u8],
}

impl Directory<'_> {
    /// The records after the directory.
    pub(super) fn end_records(&self) -> Vec<u8> {
        let mut record = Bytes::default();
        let is_large =
            self.entries >= u64::from(u16::MAX) || self.offset + self.size >= u64::from(IN_ZIP64);
        if is_large {
            record.u32(0x0606_4b50).u64(44);
            record
                .u16(MADE_ON_UNIX | VERSION_ZIP64)
                .u16(VERSION_ZIP64)
                .u32(0)
                .u32(0);
            record.u64(self.entries).u64(self.entries);
            record.u64(self.size).u64(self.offset);
            record
                .u32(0x0706_4b50)
                .u32(0)
                .u64(self.offset + self.size)
                .u32(1);
        }
        let entries = u16::try_from(self.entries).unwrap_or(u16::MAX);
        record.u32(0x0605_4b50).u16(0).u16(0);
        record.u16(entries).u16(entries);
        record.u32(low(self.size)).u32(low(self.offset));
        record.length(self.comment).raw(self.comment);
        record.0
    }
}

fn version(is_zip64: bool) -> u16 {
    if is_zip64 { VERSION_ZIP64 } else { VERSION }
}

/// A number for a field of 32 bits, or the sign that it is elsewhere.
fn low(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(IN_ZIP64)
}

/// Numbers as zip writes them: the lowest byte first.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u16(&mut self, number: u16) -> &mut Self {
        self.raw(&number.to_le_bytes())
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.raw(&number.to_le_bytes())
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.raw(&number.to_le_bytes())
    }

    /// The length of something short.
    fn length(&mut self, of: &[u8]) -> &mut Self {
        self.u16(u16::try_from(of.len()).unwrap_or(u16::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_outside_of_what_zip_knows_become_its_first_day() {
        let dos = |seconds| {
            let at = EntryTime::of(seconds);
            (at.date, at.time)
        };
        // 2026-07-25 17:20:01 UTC.
        let expected = ((46 << 9) | (7 << 5) | 25, (17 << 11) | (20 << 5));
        assert_eq!(dos(1_785_000_001), expected);
        for outside in [i64::MIN, -1, 0, 4_354_819_200, i64::MAX] {
            assert_eq!(dos(outside), ((1 << 5) | 1, 0), "{outside}");
        }
    }

    #[test]
    fn large_numbers_stand_in_zip64() {
        let at = EntryTime::of(0);
        let head = |size, offset| EntryHead {
            name: b"a",
            mode: 0o100_644,
            packing: Packing::Deflated,
            size,
            offset,
        };
        let end = EntryEnd { crc: 1, packed: 2 };
        let small = head(1 << 20, 0).directory_record(at, end);
        let far = head(1 << 20, 1 << 33).directory_record(at, end);
        let large = head(1 << 33, 1 << 33).directory_record(at, end);
        assert_eq!(far.len() - small.len(), 4 + 8);
        assert_eq!(large.len() - small.len(), 4 + 24);
        assert!(large.ends_with(&(1u64 << 33).to_le_bytes()));
        assert_eq!(head(1 << 33, 0).sizes_record(end).len(), 24);
        assert_eq!(head(1 << 20, 0).sizes_record(end).len(), 16);
        let directory = |entries| Directory {
            entries,
            offset: 0,
            size: 0,
            comment: b"",
        };
        assert_eq!(directory(65_534).end_records().len(), 22);
        assert_eq!(directory(65_535).end_records().len(), 22 + 56 + 20);
    }
}
