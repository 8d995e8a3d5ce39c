//! Gives back the memory that only starting up took: `init` runs for years, in little.

use std::fs;

use nix::libc;

/// Call it once, when all is set up.
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "glibc alone knows how much it holds back")]
    // SAFETY: it takes a number, and touches only memory that nobody uses.
    unsafe {
        libc::malloc_trim(0);
    }
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, end) in maps.lines().filter_map(code) {
        #[expect(unsafe_code, reason = "there is no safe way to name a range of memory")]
        // SAFETY: it is a range of program code: mapped from a file, never written to, so the kernel
        // brings each page back as it was when it is next run.
        unsafe {
            libc::madvise(std::ptr::with_exposed_provenance_mut(start), end - start, libc::MADV_DONTNEED);
        }
    }
}

/// The range of a line of `/proc/self/maps`, where it is code that lies in a file.
fn code(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    if fields.next()? != "r-xp" || !fields.nth(3)?.starts_with('/') {
        return None;
    }
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_out_of_files() {
        assert_eq!(code("1000-3000 r-xp 00001000 fe:00 77    /usr/bin/x"), Some((0x1000, 0x3000)));
        for other in [
            "1000-3000 r--p 0 fe:00 77 /usr/bin/x",
            "1000-3000 rw-p 0 00:00 0 [heap]",
            "1000-3000 r-xp 0 00:00 0 [vdso]",
            "1000-3000 r-xp 0 00:00 0",
            "",
        ] {
            assert_eq!(code(other), None, "{other}");
        }
    }

    #[test]
    fn it_runs_on_afterwards() {
        give_back();
        assert_eq!(format!("{:.1}", 2.0f64.sqrt()), "1.4");
    }
}
