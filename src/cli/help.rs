//! The list of commands in `quire --help`, grouped by the machine on which they are used.

use crate::ssh::command::MANAGEMENT_COMMANDS;

/// A heading, and the commands below it.
const GROUPS: [(&str, &[&str]); 3] = [
    (
        "On your machine, in a working tree:",
        &["ci", "remote", "completions"],
    ),
    (
        "On the machine of the server, and from everywhere with `ssh git@HOST COMMAND`:",
        &MANAGEMENT_COMMANDS,
    ),
    (
        "In the container of the server:",
        &["init", "serve", "health", "restore"],
    ),
];

const TEMPLATE: &str = "{about-with-newline}\n{usage-heading} {usage}\n{after-help}\n\nOptions:\n{options}\n\nSee `quire help COMMAND` for the options of a command.\n";

/// Replaces clap's list of all commands by one with groups.
pub(super) fn grouped(command: clap::Command) -> clap::Command {
    let mut list = String::new();
    for (heading, names) in GROUPS {
        list += &format!("\n{heading}\n");
        for name in names {
            let about = command
                .find_subcommand(name)
                .and_then(clap::Command::get_about);
            list += &format!(
                "  {name:<12} {}\n",
                about.map(ToString::to_string).unwrap_or_default()
            );
        }
    }
    // Recognized before anything is parsed.
    let remote = clap::Arg::new("remote")
        .long("remote")
        .value_name("NAME")
        .help("Run a command on a remote: `quire --remote NAME COMMAND`");
    command
        .arg(remote)
        .help_template(TEMPLATE)
        .after_help(list.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_list_of_commands_has_groups() {
        insta::assert_snapshot!(grouped(super::super::Cli::command()).render_help());
    }

    #[test]
    fn each_visible_command_is_in_one_group() {
        let command = super::super::Cli::command();
        for name in command
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
            .map(clap::Command::get_name)
        {
            let groups = GROUPS.iter().filter(|(_, names)| names.contains(&name));
            assert_eq!(groups.count(), 1, "{name}");
        }
    }
}
