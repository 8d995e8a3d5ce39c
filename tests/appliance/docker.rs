//! The docker program, and waiting.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Polls until `probe` gives something; after `patience` the test fails, with what `otherwise` says.
pub(crate) fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut probe: impl FnMut() -> Option<T>,
    otherwise: impl FnOnce() -> String,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {patience:?} for {what}\n{}",
            otherwise()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs a command to its end, without standard input.
pub(crate) fn run(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs a command that must succeed, and gives its standard output.
pub(crate) fn must(command: &mut Command) -> String {
    let output = run(command);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Bytes for a person.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `docker …`, which must succeed.
pub(crate) fn docker(arguments: &[&str]) -> String {
    must(Command::new("docker").args(arguments))
        .trim_end()
        .to_owned()
}

/// `docker …`, which may fail.
pub(crate) fn docker_output(arguments: &[&str]) -> Output {
    run(Command::new("docker").args(arguments))
}

/// The image under test.
pub(crate) fn image() -> String {
    std::env::var("QUIRE_IMAGE")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "quire".to_owned())
}

/// Ids of all containers, stopped ones too, one of whose labels has this value.
pub(crate) fn containers_labelled(value: &str) -> Vec<String> {
    let listed = docker(&[
        "ps",
        "--all",
        "--no-trunc",
        "--format",
        "{{.ID}} {{.Labels}}",
    ]);
    let of_it = listed.lines().filter(|line| {
        line.split([' ', ','])
            .any(|label| label.split_once('=').is_some_and(|(_, v)| v == value))
    });
    of_it
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}
