//! Fault points: named places where a test may kill the process, to prove that a crash there
//! loses nothing. Without the feature `faults` the call compiles to nothing.

/// Kills the process here when `QUIRE_FAULT` names this point.
#[inline]
#[cfg(not(feature = "faults"))]
pub fn point(_name: &str) {}

/// Kills the process here when `QUIRE_FAULT` names this point.
///
/// `QUIRE_FAULT=claimed` kills at each pass, `QUIRE_FAULT_ONCE=<file>` only while that file
/// does not exist yet (it is made right before).
#[cfg(feature = "faults")]
pub fn point(name: &str) {
    if std::env::var("QUIRE_FAULT").as_deref() != Ok(name) {
        return;
    }
    if let Some(marker) = std::env::var_os("QUIRE_FAULT_ONCE")
        && std::fs::File::create_new(marker).is_err()
    {
        return;
    }
    let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
}
