//! A text of several lines in `sh`: where it stops, and how it is named.

use std::os::unix::fs::symlink;

use super::run::{Project, finished, in_order};
use super::support::Checked;

fn run(job: &str) -> (Project, Checked) {
    let project = Project::new(&format!(
        "(ci.job :test [:quire/push] (fn [{{: sh : log}}] {job}))"
    ));
    let checked = project.on_host();
    (project, checked)
}

#[test]
fn a_text_of_several_lines_stops_at_the_first_line_that_fails() {
    let (_project, run) = run(r#"(sh "
      echo one
      sh -c 'exit 7'
      echo two
    ")"#);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("\none\n") && !run.stdout.contains("\ntwo\n"));
    in_order(
        &run.stdout,
        &["── test · echo one…\n", "✗ test · echo one… · exit 7"],
    );
    assert!(
        run.stdout.contains("`echo one…` failed with exit code 7"),
        "{}",
        run.stdout
    );
}

#[test]
fn errexit_false_continues_after_a_line_that_fails() {
    let (_project, run) = run(r#"(sh "false\necho two" {:errexit false})"#);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("\ntwo\n"), "{}", run.stdout);
}

#[test]
fn one_line_is_run_as_it_is_written() {
    let (_project, run) = run(r#"(sh "\n  false; echo two\n")"#);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    in_order(&run.stdout, &["── test · false; echo two", "\ntwo\n"]);
}

#[test]
fn a_pipe_fails_with_its_first_program_if_the_shell_supports_that() {
    let piped = |options: &str| {
        let project = Project::new(&format!(
            r#"(ci.job :test [:quire/push] (fn [{{: sh}}] (sh "false | cat\necho two"{options})))"#
        ));
        project.write("bin/.keep", "");
        let bin = project.root().join("bin");
        symlink("/bin/bash", bin.join("sh")).unwrap();
        let mut command = project.command(&["run", "--executor", "host"]);
        finished(command.env(
            "PATH",
            format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()),
        ))
    };
    let run = piped("");
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(!run.stdout.contains("\ntwo\n"), "{}", run.stdout);
    let run = piped(" {:errexit false}");
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
}

#[test]
fn the_line_numbers_of_the_shell_are_those_of_the_text() {
    let (_project, run) = run(r#"(sh "true\nno-such-program")"#);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    let line = run.stdout.lines().find(|line| line.contains("not found"));
    assert!(
        line.is_some_and(|line| line.contains(" 2: ")),
        "{}",
        run.stdout
    );
}

#[test]
fn the_value_of_errexit_is_checked() {
    let (_project, run) = run(r#"(sh "true" {:errexit "no"})"#);
    assert!(
        run.stdout
            .contains(":errexit must be true or false, not string"),
        "{}",
        run.stdout
    );
}
