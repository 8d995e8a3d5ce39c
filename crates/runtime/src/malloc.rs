//! Limits on the memory that glibc's malloc keeps after it is freed, see mallopt(3).
//!
//! By default glibc makes up to eight arenas for each core, and an arena returns only free memory at its end to
//! the system. Many pages that follow a busy log would leave the server with several times the memory that was
//! ever in use, for as long as it runs.

#[cfg(target_env = "gnu")]
use nix::libc;

/// Two threads can allocate at once; others wait for one of them.
#[cfg(target_env = "gnu")]
const MAX_ARENAS: std::ffi::c_int = 2;
/// Allocations of at least this many bytes are mapped and returned one by one. It is set explicitly, because
/// glibc would otherwise raise it after each larger allocation that is freed.
#[cfg(target_env = "gnu")]
const MMAP_THRESHOLD: std::ffi::c_int = 128 << 10;
/// How many free bytes an arena keeps at its end.
#[cfg(target_env = "gnu")]
const TRIM_THRESHOLD: std::ffi::c_int = 128 << 10;

/// Applies the limits. Call it before the first thread is started.
pub fn limit_arenas() {
    #[cfg(target_env = "gnu")]
    for (setting, value) in [
        (libc::M_ARENA_MAX, MAX_ARENAS),
        (libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD),
        (libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD),
    ] {
        #[expect(
            unsafe_code,
            reason = "glibc alone can be told how much it may hold back"
        )]
        // SAFETY: it takes two numbers, and no other thread allocates yet. A setting that is refused changes nothing.
        unsafe {
            libc::mallopt(setting, value);
        }
    }
}
