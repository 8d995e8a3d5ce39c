//! Programs that a test runs, and what they print.

use std::process::{Command, Output, Stdio};

/// Runs a command to its end, without standard input.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs a command that must succeed; returns its standard output.
#[track_caller]
pub fn run_ok(command: &mut Command) -> String {
    let output = run(command);
    assert!(
        output.status.success(),
        "{command:?}: {}",
        transcript(&output)
    );
    text(&output.stdout)
}

/// Exit status, standard output and standard error, for the message of a failed assertion.
pub fn transcript(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    )
}

/// Standard output, trimmed.
pub fn stdout(output: &Output) -> String {
    text(&output.stdout).trim().to_owned()
}

/// Standard error.
pub fn stderr(output: &Output) -> String {
    text(&output.stderr)
}

/// Bytes as text; what is not UTF-8 is replaced.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
