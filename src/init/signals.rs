//! Signals as something that can be polled: each one writes a byte to a socket pair, and the
//! ones that ask for something also raise a flag.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::{flag, low_level::pipe};

/// The signals that `init` listens to. Made once, before anything else is done.
#[derive(Debug)]
pub(super) struct Signals {
    wake: UnixStream,
    stop: Arc<AtomicBool>,
    hang_up: Arc<AtomicBool>,
}

impl Signals {
    /// Starts to listen: TERM, INT and QUIT ask to stop, HUP to reload, USR1 and USR2 mean nothing
    /// (their default would be death).
    pub(super) fn listen() -> io::Result<Self> {
        let (wake, far) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let signals = Self {
            wake,
            stop: Arc::default(),
            hang_up: Arc::default(),
        };
        // The flag first: whoever sees the byte must see the flag.
        for signal in [SIGTERM, SIGINT, SIGQUIT] {
            flag::register(signal, Arc::clone(&signals.stop))?;
        }
        flag::register(SIGHUP, Arc::clone(&signals.hang_up))?;
        for signal in [SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGCHLD, SIGUSR1, SIGUSR2] {
            pipe::register(signal, far.try_clone()?)?;
        }
        Ok(signals)
    }

    /// Readable when a signal came.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Takes what is to be read, before the flags and the children are looked at.
    pub(super) fn clear(&self) {
        let mut bytes = [0; 256];
        while matches!(nix::unistd::read(&self.wake, &mut bytes), Ok(n) if n > 0) {}
    }

    /// Whether it was asked to stop; stays so.
    pub(super) fn stop_asked(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Whether it was asked to reload since the last call.
    pub(super) fn take_hang_up(&self) -> bool {
        self.hang_up.swap(false, Ordering::SeqCst)
    }

    /// Asks to stop, as TERM would.
    pub(super) fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}
