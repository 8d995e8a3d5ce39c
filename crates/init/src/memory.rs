//! Returns memory that only the start needed to the kernel: `init` runs for years and should stay
//! small.

use std::fs;

use nix::libc;

/// Call it after preflight, and again when all children run. Pages that are still needed are read
/// from their file again.
pub(super) fn release_boot_memory() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "only glibc knows how much free memory it keeps")]
    // SAFETY: the call takes a number, and touches only memory that is not allocated.
    unsafe {
        libc::malloc_trim(0);
    }
    for (start, end) in clean_mappings(&fs::read_to_string("/proc/self/smaps").unwrap_or_default())
    {
        #[expect(
            unsafe_code,
            reason = "there is no safe interface to a range of memory"
        )]
        // SAFETY: the range is mapped from a file, is read-only, and none of its pages was ever
        // written (relocations are), so the kernel reads each page back with the same content.
        unsafe {
            libc::madvise(
                std::ptr::with_exposed_provenance_mut(start),
                end - start,
                libc::MADV_DONTNEED,
            );
        }
    }
}

/// The ranges in `/proc/self/smaps` that are read-only and equal to the file they are mapped from:
/// code and constants.
fn clean_mappings(maps: &str) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    let mut candidate = None;
    for line in maps.lines() {
        match line.strip_prefix("Anonymous:") {
            // The only field that tells whether a page of the mapping differs from its file.
            Some(size) if size.trim() == "0 kB" => ranges.extend(candidate.take()),
            Some(_) => candidate = None,
            None => candidate = file_mapping(line).unwrap_or(candidate),
        }
    }
    ranges
}

/// `None` if the line does not begin a mapping, else its range if it is a read-only mapping of a
/// file.
fn file_mapping(line: &str) -> Option<Option<(usize, usize)>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let range = (
        usize::from_str_radix(start, 16).ok()?,
        usize::from_str_radix(end, 16).ok()?,
    );
    let read_only = matches!(fields.next()?, "r-xp" | "r--p");
    let of_file = fields.nth(3).is_some_and(|path| path.starts_with('/'));
    Some((read_only && of_file).then_some(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unwritten_file_mappings_are_released() {
        let map = |heading: &str, anonymous| {
            format!("{heading}\nSize: 8 kB\nPss: 4 kB\nAnonymous: {anonymous} kB\nVmFlags: rd\n")
        };
        let maps = [
            map("1000-3000 r-xp 00001000 fe:00 77    /usr/bin/x", 0),
            map("3000-4000 r--p 0 fe:00 77 /usr/bin/x", 0),
            map("4000-5000 r--p 0 fe:00 77 /usr/bin/x", 4),
            map("5000-6000 rw-p 0 fe:00 77 /usr/bin/x", 0),
            map("6000-7000 rw-p 0 00:00 0 [heap]", 0),
            map("7000-8000 r-xp 0 00:00 0 [vdso]", 0),
            map("8000-9000 r--p 0 00:00 0", 0),
            map("9000-a000 r--s 0 fe:00 77 /usr/bin/x", 0),
            map("a000-c000 r--p 0 fe:00 78 /usr/lib/a b", 0),
        ];
        assert_eq!(
            clean_mappings(&maps.concat()),
            [(0x1000, 0x3000), (0x3000, 0x4000), (0xa000, 0xc000)]
        );
        for other in [
            "",
            "Anonymous: 0 kB",
            "1000-3000 r-xp 0 fe:00 77 /x",
            "Anonymous: 0 kB\n1000-3000 r-xp 0 fe:00 77 /x\nAnonymous: x",
        ] {
            assert_eq!(clean_mappings(other), [], "{other}");
        }
    }

    #[test]
    fn the_process_runs_on_afterwards() {
        release_boot_memory();
        assert_eq!(format!("{:.1}", 2.0f64.sqrt()), "1.4");
    }
}
