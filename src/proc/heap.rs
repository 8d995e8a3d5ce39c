//! What glibc may hold back: a server of a home machine gives memory back rather than save a system call.
//!
//! By itself glibc makes an arena for each of up to eight threads a core, and none gives back what lies
//! beneath its last piece in use. Many pages at a log that floods would leave the server with several times
//! what they ever had in use, for as long as it runs.

#[cfg(target_env = "gnu")]
use nix::libc;

/// Two threads at once find an arena each; more take turns.
#[cfg(target_env = "gnu")]
const ARENAS: std::ffi::c_int = 2;
/// Pieces from this size on, in bytes, are mapped each by itself and go back when they are freed. Named, so that
/// glibc does not raise it with every larger piece that it sees.
#[cfg(target_env = "gnu")]
const MAPPED_FROM: std::ffi::c_int = 128 << 10;
/// What an arena may keep free at its end, in bytes.
#[cfg(target_env = "gnu")]
const KEPT_FREE: std::ffi::c_int = 128 << 10;

/// Call it before the first thread is made.
pub fn bound_heap() {
    #[cfg(target_env = "gnu")]
    for (setting, value) in [
        (libc::M_ARENA_MAX, ARENAS),
        (libc::M_MMAP_THRESHOLD, MAPPED_FROM),
        (libc::M_TRIM_THRESHOLD, KEPT_FREE),
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
