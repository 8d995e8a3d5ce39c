//! The terminal of the person who runs a command.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use console::Term;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// A terminal that passes every key on as it is typed, until dropped.
pub(super) struct RawTerminal(Termios);

impl RawTerminal {
    /// `None` if standard input or output is no terminal.
    pub(super) fn enter() -> Option<Self> {
        let input = io::stdin();
        if !input.is_terminal() || !io::stdout().is_terminal() {
            return None;
        }
        let before = tcgetattr(input.as_fd()).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(input.as_fd(), SetArg::TCSADRAIN, &raw).ok()?;
        Some(Self(before))
    }

    /// Its kind, as programs name it.
    pub(super) fn kind() -> String {
        let kind = std::env::var("TERM").unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '+' | '_');
        if !kind.is_empty() && kind.chars().all(plain) {
            kind
        } else {
            "xterm".to_owned()
        }
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSADRAIN, &self.0);
    }
}

/// A terminal that does not show what is typed, until dropped.
pub(super) struct NoEcho(Termios);

impl NoEcho {
    /// Standard input has to be a terminal.
    pub(super) fn enter() -> io::Result<Self> {
        let input = io::stdin();
        let before = tcgetattr(input.as_fd())?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(input.as_fd(), SetArg::TCSAFLUSH, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSADRAIN, &self.0);
    }
}

/// The columns and rows of the terminal.
pub(super) fn size() -> (u16, u16) {
    let (rows, columns) = Term::stdout().size();
    (columns, rows)
}

/// The changes of the terminal's size.
pub(super) struct SizeChanges(SigSet);

impl SizeChanges {
    /// Called before the process has other threads, so that no thread takes the signal.
    pub(super) fn watch() -> nix::Result<Self> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGWINCH);
        signals.thread_block()?;
        Ok(Self(signals))
    }

    /// Waits for the next change, and returns the size.
    pub(super) fn next(&self) -> nix::Result<(u16, u16)> {
        self.0.wait()?;
        Ok(size())
    }
}
