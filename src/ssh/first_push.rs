//! The beginning of a push to a repository that does not exist yet: its format is the client's, so this process talks to
//! the client until its first line is here, and then hands the conversation to git.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use quire_git::FirstLine;

/// Sends the advertisement and reads the first line. Returns `None` if the client has nothing to push.
pub(super) fn exchange(advertisement: &[u8]) -> io::Result<Option<FirstLine>> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(advertisement)?;
    stdout.flush()?;
    // Without a buffer: what follows the first line is git's to read.
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    FirstLine::read(&mut File::from(stdin))
}

/// Returns the input of a git that reads the first line and then what the client goes on to send. A child copies it, and
/// ends with either of them; this process itself becomes git.
#[expect(
    clippy::disallowed_methods,
    reason = "the session has no asynchronous runtime, and becomes git"
)]
pub(super) fn put_back(line: &FirstLine) -> io::Result<Stdio> {
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(&line.packet)?;
    // Standard error is closed with git, or sshd would wait for the child.
    Command::new("cat")
        .stdin(Stdio::inherit())
        .stdout(writer)
        .stderr(Stdio::null())
        .spawn()?;
    Ok(reader.into())
}
