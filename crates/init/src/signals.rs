//! Signals as a descriptor that can be polled: each signal writes a byte to a socket pair, and
//! those that request something also set a flag.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::{flag, low_level::pipe};

/// The signals that `init` handles. Installed once, before anything else is done.
#[derive(Debug)]
pub(super) struct Signals {
    wake: UnixStream,
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    /// Installs the handlers: TERM, INT and QUIT request a stop, HUP a reload. USR1 and USR2 do
    /// nothing, while their default action would end the process.
    pub(super) fn install() -> io::Result<Self> {
        let (wake, sender) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let signals = Self {
            wake,
            stop: Arc::default(),
            reload: Arc::default(),
        };
        // The flag before the byte: a reader that has seen the byte must see the flag.
        for signal in [SIGTERM, SIGINT, SIGQUIT] {
            flag::register(signal, Arc::clone(&signals.stop))?;
        }
        flag::register(SIGHUP, Arc::clone(&signals.reload))?;
        for signal in [SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGCHLD, SIGUSR1, SIGUSR2] {
            pipe::register(signal, sender.try_clone()?)?;
        }
        Ok(signals)
    }

    /// Readable after a signal has arrived.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Discards the pending bytes. Call it before looking at the flags and the children.
    pub(super) fn drain(&self) {
        let mut bytes = [0; 256];
        while matches!(nix::unistd::read(&self.wake, &mut bytes), Ok(n) if n > 0) {}
    }

    /// Whether a stop was requested; it cannot be taken back.
    pub(super) fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Whether a reload was requested since the last call.
    pub(super) fn take_reload(&self) -> bool {
        self.reload.swap(false, Ordering::SeqCst)
    }

    /// Requests a stop, as TERM does.
    pub(super) fn request_stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}
