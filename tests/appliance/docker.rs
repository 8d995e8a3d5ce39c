//! The docker program.

use std::process::{Command, Output};

use quire_testkit::{run, run_ok};

/// `docker …`, which must succeed.
pub(crate) fn docker(arguments: &[&str]) -> String {
    run_ok(Command::new("docker").args(arguments))
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
