//! Gives back the memory that only starting up took: `init` runs for years, in little.

use std::fs;

use nix::libc;

/// Call it when all is set up, and again when all runs. What `init` still needs comes back page by page.
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "glibc alone knows how much it holds back")]
    // SAFETY: it takes a number, and touches only memory that nobody uses.
    unsafe {
        libc::malloc_trim(0);
    }
    for (start, end) in unwritten(&fs::read_to_string("/proc/self/smaps").unwrap_or_default()) {
        #[expect(unsafe_code, reason = "there is no safe way to name a range of memory")]
        // SAFETY: it is a range that is mapped from a file, cannot be written to and has no page
        // that ever was (relocations are such), so the kernel brings each page back as it was.
        unsafe {
            libc::madvise(
                std::ptr::with_exposed_provenance_mut(start),
                end - start,
                libc::MADV_DONTNEED,
            );
        }
    }
}

/// The ranges in `/proc/self/smaps` that are code and constants as they lie in a file.
fn unwritten(maps: &str) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    let mut candidate = None;
    for line in maps.lines() {
        match line.strip_prefix("Anonymous:") {
            // The one field that says whether a page of the mapping differs from its file.
            Some(size) if size.trim() == "0 kB" => ranges.extend(candidate.take()),
            Some(_) => candidate = None,
            None => candidate = heading(line).unwrap_or(candidate),
        }
    }
    ranges
}

/// What a line says of the mapping that begins there, where one does: its range, if it is a file's and read only.
fn heading(line: &str) -> Option<Option<(usize, usize)>> {
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
    fn only_what_lies_in_files_and_was_never_written() {
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
            unwritten(&maps.concat()),
            [(0x1000, 0x3000), (0x3000, 0x4000), (0xa000, 0xc000)]
        );
        for other in [
            "",
            "Anonymous: 0 kB",
            "1000-3000 r-xp 0 fe:00 77 /x",
            "Anonymous: 0 kB\n1000-3000 r-xp 0 fe:00 77 /x\nAnonymous: x",
        ] {
            assert_eq!(unwritten(other), [], "{other}");
        }
    }

    #[test]
    fn it_runs_on_afterwards() {
        give_back();
        assert_eq!(format!("{:.1}", 2.0f64.sqrt()), "1.4");
    }
}
