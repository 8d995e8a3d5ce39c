//! docs/commands.md, which is made from the parser. The test compares the two; with `QUIRE_UPDATE_DOCS=1` it writes the file.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command, CommandFactory};

use super::Cli;
use super::commands::RemoteCli;

const INTRODUCTION: &str = "\
# Commands

This page is made from the program, by a test that also keeps it so: `ssh git@HOST help COMMAND` and `quire help COMMAND` print the same. [operations.md](operations.md) explains
what the commands are for, and [json.md](json.md) what `--json` prints.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 128 refused. `run wait`, `run logs --follow` and `ci run` exit with 1 for a run that is not green.
";

const ON_THE_MACHINE: [&str; 7] = [
    "ci",
    "remote",
    "completions",
    "init",
    "serve",
    "health",
    "restore",
];

/// The whole page.
fn document() -> String {
    let mut text = INTRODUCTION.to_owned();
    text += "\n## Over SSH\n\nWith `ssh git@HOST COMMAND`; in the container and natively with `quire COMMAND`.\n";
    let mut remote = RemoteCli::command();
    remote.build();
    for command in remote.get_subcommands() {
        if command.get_name() != "help" {
            describe(&mut text, command, "", 3);
        }
    }
    text += "\n## On a machine\n\nWith `quire COMMAND`.\n";
    let mut local = Cli::command();
    local.build();
    for name in ON_THE_MACHINE {
        if let Some(command) = local.find_subcommand(name) {
            describe(&mut text, command, "", 3);
        }
    }
    text
}

/// A command with its arguments, and those below it.
fn describe(text: &mut String, command: &Command, parent: &str, level: usize) {
    let name = format!("{parent}{}", command.get_name());
    let _ = write!(text, "\n{} `{name}`\n\n", "#".repeat(level));
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(text, "{}", paragraphs(&about));
    let below: Vec<&Command> = command
        .get_subcommands()
        .filter(|one| !one.is_hide_set() && one.get_name() != "help")
        .collect();
    if below.is_empty() {
        let usage = command.clone().bin_name(&name).render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").trim();
        let _ = write!(text, "\n```\n{usage}\n```\n");
        arguments(text, command);
    }
    if let Some(examples) = command.get_after_help() {
        let _ = write!(text, "\n```\n{examples}\n```\n");
    }
    for one in below {
        describe(text, one, &format!("{name} "), level + 1);
    }
}

/// Sentences of an explanation end with a full stop, the title of a command does not.
fn paragraphs(about: &str) -> String {
    match about.split_once("\n\n") {
        None => format!("{about}."),
        Some((title, rest)) => format!("{title}.\n\n{rest}"),
    }
}

fn arguments(text: &mut String, command: &Command) {
    let arguments: Vec<&Arg> = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set() && argument.get_id() != "help")
        .collect();
    if arguments.is_empty() {
        return;
    }
    *text += "\n| argument | meaning |\n| --- | --- |\n";
    for argument in arguments {
        let help = argument.get_long_help().or(argument.get_help());
        let help = help.map(ToString::to_string).unwrap_or_default();
        let mut help = help.replace('\n', " ").replace('|', "\\|");
        let defaults: Vec<_> = argument
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy())
            .collect();
        let takes_value = argument.get_action().takes_values();
        if takes_value && !defaults.is_empty() {
            let _ = write!(help, "; default `{}`", defaults.join(" "));
        }
        let shown = argument.to_string().replace('|', "\\|");
        let _ = writeln!(text, "| `{shown}` | {help} |");
    }
}

#[test]
fn the_page_of_commands_is_what_the_parser_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    let made = document();
    if std::env::var_os("QUIRE_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let differing = made
        .lines()
        .zip(found.lines())
        .find(|(made, found)| made != found);
    assert!(
        found == made,
        "docs/commands.md differs, first at {differing:?}; QUIRE_UPDATE_DOCS=1 writes it"
    );
}
