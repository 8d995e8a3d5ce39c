//! Failpoints: named places where a test can kill the process, to prove that a crash there loses nothing, or
//! stop it, to change files or processes meanwhile; and a clock that a test can set wrong. Without the feature
//! `faults` all of it compiles to nothing.

/// Kills the process here when `QUIRE_FAULT` names this point.
#[inline]
#[cfg(not(feature = "faults"))]
pub fn hit(_name: &str) {}

/// Kills the process here when `QUIRE_FAULT` names this point, stops it when `QUIRE_FAULT_STOP` does.
///
/// `QUIRE_FAULT=claimed` kills at each pass, `QUIRE_FAULT_ONCE=<file>` only while that file
/// does not exist yet (it is made right before).
#[cfg(feature = "faults")]
pub fn hit(name: &str) {
    use nix::sys::signal::{Signal, kill};
    let named = |variable| std::env::var(variable).as_deref() == Ok(name);
    let signal = match (named("QUIRE_FAULT"), named("QUIRE_FAULT_STOP")) {
        (true, _) => Signal::SIGKILL,
        (_, true) => Signal::SIGSTOP,
        _ => return,
    };
    if let Some(marker) = std::env::var_os("QUIRE_FAULT_ONCE")
        && std::fs::File::create_new(marker).is_err()
    {
        return;
    }
    let _ = kill(nix::unistd::Pid::this(), signal);
}

/// By how many milliseconds the system's clock is to be taken for wrong.
#[inline]
#[cfg(not(feature = "faults"))]
#[must_use]
pub fn clock_offset() -> i64 {
    0
}

/// By how many milliseconds the system's clock is to be taken for wrong: what stands in the file
/// that `QUIRE_FAULT_CLOCK` names. Read at each call, so that the clock can jump under a running process.
#[cfg(feature = "faults")]
#[must_use]
pub fn clock_offset() -> i64 {
    let file =
        std::env::var_os("QUIRE_FAULT_CLOCK").and_then(|file| std::fs::read_to_string(file).ok());
    file.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
