//! How much one search of a regular expression may try.
//!
//! Grammars are trusted, texts are not: a line can be made so that an expression tries nearly everything. Beyond the
//! limit a search fails, and the colours of that text end.

/// Attempts of a search. Each takes some nanoseconds, and ordinary lines need some thousands.
#[cfg(feature = "oniguruma")]
const MAX_RETRIES: std::ffi::c_ulong = 1_000_000;

/// Sets the limit for this process. fancy-regex has one of its own.
pub(crate) fn set() {
    #[cfg(feature = "oniguruma")]
    {
        #[expect(unsafe_code, reason = "the safe crate has no call for the process")]
        // SAFETY: each call stores one number in a global variable of the library. The caller makes them before the first
        // expression is compiled, so no other thread reads the variables meanwhile.
        unsafe {
            onig_sys::onig_set_retry_limit_in_match(MAX_RETRIES);
            onig_sys::onig_set_retry_limit_in_search(MAX_RETRIES);
        }
    }
}
