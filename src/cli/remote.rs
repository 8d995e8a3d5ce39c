//! `quire remote`, and `quire --remote NAME COMMAND`: the management commands of an appliance from another machine.
//!
//! They run there, over the user's own ssh, which has the key and knows the host. So a command has the same arguments, output and exit code as
//! `ssh git@HOST COMMAND`, and a server that is newer or older than this program does not matter.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, IsTerminal};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::str::FromStr;

use clap::Subcommand;
use quire_types::fsutil::replace_file;
use quire_types::url_host::{host_in_url, split_authority};
use serde::Serialize;

use super::args::OutputArgs;
use super::error::CommandError;
use super::output::{Cell, Output};

/// The user of an address that names none.
const DEFAULT_USER: &str = "git";
/// The longest name of a remote.
const MAX_NAME: usize = 60;
/// Commands that need a terminal on the other side.
const INTERACTIVE: [[&str; 2]; 2] = [["run", "attach"], ["run", "repl"]];

pub(super) const EXAMPLES: &str = "\
Examples:
  quire remote add home ssh://git@nas:2222
  quire --remote home run list
  quire --remote home secret set token < token.txt";

#[derive(clap::Args)]
pub(super) struct RemoteArgs {
    #[command(subcommand)]
    command: RemoteCommand,
}

#[derive(Subcommand)]
enum RemoteCommand {
    /// Add a remote, or replace the address of one
    Add {
        /// What it is called here
        name: String,
        /// `ssh://[USER@]HOST[:PORT]`; the user is `git` unless the address names another one
        #[arg(value_name = "URL")]
        address: SshAddress,
    },
    /// List the remotes
    List(OutputArgs),
    /// Remove a remote
    Rm {
        /// What it is called here
        name: String,
    },
}

/// Where the sshd of an appliance is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SshAddress {
    user: String,
    host: String,
    /// `None` if the settings of ssh say it.
    port: Option<u16>,
}

impl fmt::Display for SshAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ssh://{}@{}", self.user, host_in_url(&self.host))?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl FromStr for SshAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let rest = text.strip_prefix("ssh://")?;
            let rest = rest.strip_suffix('/').unwrap_or(rest);
            let (user, authority) = rest.rsplit_once('@').unwrap_or((DEFAULT_USER, rest));
            let (host, port) = split_authority(authority)?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            // What begins with a hyphen would be an option of ssh.
            let is_word = |text: &str| {
                let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-:%".contains(c);
                !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain)
            };
            (is_word(user) && is_word(host)).then(|| Self {
                user: user.to_owned(),
                host: host.to_owned(),
                port,
            })
        };
        parse().ok_or_else(|| "an address such as ssh://git@nas:2222 is expected".to_owned())
    }
}

/// The file of remotes: a name and an address on each line.
struct RemoteFile(PathBuf);

impl RemoteFile {
    fn of_user() -> Result<Self, CommandError> {
        let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let folder = variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(Path::new(&variable("HOME")?).join(".config")));
        let folder = folder.ok_or_else(|| {
            CommandError::failed(
                "neither XDG_CONFIG_HOME nor HOME is set, so there is no place for remotes",
            )
        })?;
        Ok(Self(folder.join("quire/remotes")))
    }

    /// A line that is none of a remote is left out.
    fn read(&self) -> Result<BTreeMap<String, SshAddress>, CommandError> {
        let text = match fs::read_to_string(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(self.failed("read", &error)),
        };
        let remotes = text.lines().filter_map(|line| {
            let (name, address) = line.split_once(' ')?;
            Some((name.to_owned(), address.trim().parse().ok()?))
        });
        Ok(remotes.collect())
    }

    fn write(&self, remotes: &BTreeMap<String, SshAddress>) -> Result<(), CommandError> {
        let lines = remotes
            .iter()
            .map(|(name, address)| format!("{name} {address}\n"));
        let text: String = lines.collect();
        let folder = self.0.parent().unwrap_or(&self.0);
        fs::create_dir_all(folder)
            .and_then(|()| replace_file(&self.0, text.as_bytes(), 0o600))
            .map_err(|error| self.failed("written", &error))
    }

    fn failed(&self, attempt: &str, error: &io::Error) -> CommandError {
        let file = self.0.display();
        CommandError::failed(format!("{file} cannot be {attempt}: {error}"))
    }

    fn find(&self, name: &str) -> Result<SshAddress, CommandError> {
        let remotes = self.read()?;
        remotes.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = remotes.keys().map(String::as_str).collect();
            let error = CommandError::not_found(format!("there is no remote `{name}`"));
            error.hint(match known.as_slice() {
                [] => "add it: `quire remote add NAME ssh://git@HOST:PORT`".to_owned(),
                known => format!("the remotes are {}", known.join(", ")),
            })
        })
    }
}

#[derive(Serialize)]
struct RemoteList {
    remotes: Vec<RemoteRow>,
}

#[derive(Serialize)]
struct RemoteRow {
    name: String,
    url: String,
}

/// `quire remote`.
pub(super) fn run(arguments: &RemoteArgs) -> ExitCode {
    let mut stdout = io::stdout();
    let format = match arguments.command {
        RemoteCommand::List(format) => format,
        RemoteCommand::Add { .. } | RemoteCommand::Rm { .. } => OutputArgs::default(),
    };
    let mut out = Output::standard(&mut stdout, format);
    match manage(&arguments.command, &mut out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.print(),
    }
}

fn manage(command: &RemoteCommand, out: &mut Output<'_>) -> Result<(), CommandError> {
    let file = RemoteFile::of_user()?;
    let mut remotes = file.read()?;
    match command {
        RemoteCommand::Add { name, address } => {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if name.len() > MAX_NAME || name.starts_with('-') || !name.chars().all(is_plain) {
                return Err(CommandError::usage(
                    "the name of a remote has letters, digits, `.`, `_` and `-`",
                ));
            }
            remotes.insert(name.clone(), address.clone());
            file.write(&remotes)?;
            out.line(&format!(
                "{name} is {address}; `quire --remote {name} status` asks it"
            ))
        }
        RemoteCommand::Rm { name } => {
            file.find(name)?;
            remotes.remove(name);
            file.write(&remotes)?;
            out.line(&format!("removed {name}"))
        }
        RemoteCommand::List(_) => {
            let row = |(name, address): (String, SshAddress)| RemoteRow {
                name,
                url: address.to_string(),
            };
            let list = RemoteList {
                remotes: remotes.into_iter().map(row).collect(),
            };
            print(&list, out)
        }
    }
}

fn print(list: &RemoteList, out: &mut Output<'_>) -> Result<(), CommandError> {
    if out.json {
        return out.json(list);
    }
    if list.remotes.is_empty() {
        return out.line("no remotes");
    }
    let row = |remote: &RemoteRow| -> [Cell; 2] {
        [remote.name.as_str().into(), remote.url.as_str().into()]
    };
    let rows: Vec<_> = list.remotes.iter().map(row).collect();
    out.table(["REMOTE", "URL"], &rows)
}

/// Runs a command on a remote. Returns only if ssh cannot be started.
pub(super) fn run_there(name: &str, words: &[OsString]) -> ExitCode {
    let failure = match prepare(name, words) {
        Ok(mut ssh) => CommandError::failed(format!("ssh cannot be started: {}", ssh.exec())),
        Err(failure) => failure,
    };
    failure.print()
}

fn prepare(name: &str, words: &[OsString]) -> Result<Command, CommandError> {
    let address = RemoteFile::of_user()?.find(name)?;
    let words: Option<Vec<&str>> = words.iter().map(|word| word.to_str()).collect();
    let words = words.ok_or_else(|| CommandError::usage("the command is not valid UTF-8"))?;
    let with_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    #[expect(clippy::disallowed_methods, reason = "this process becomes ssh")]
    let mut ssh = Command::new("ssh");
    ssh.args(ssh_arguments(&address, &words, with_terminal));
    Ok(ssh)
}

fn ssh_arguments(address: &SshAddress, words: &[&str], with_terminal: bool) -> Vec<String> {
    let mut arguments = Vec::new();
    if with_terminal && INTERACTIVE.iter().any(|command| words.starts_with(command)) {
        arguments.push("-t".to_owned());
    }
    if let Some(port) = address.port {
        arguments.extend(["-p".to_owned(), port.to_string()]);
    }
    arguments.extend(["-l".to_owned(), address.user.clone()]);
    arguments.extend(["--".to_owned(), address.host.clone()]);
    if !words.is_empty() {
        // The other side splits it as a shell does.
        arguments.push(shell_words::join(words));
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_ssh() {
        for (text, read) in [
            ("ssh://git@nas:2222", Some("ssh://git@nas:2222")),
            ("ssh://nas", Some("ssh://git@nas")),
            ("ssh://me@nas/", Some("ssh://me@nas")),
            ("ssh://git@[fd00::1]:22", Some("ssh://git@[fd00::1]:22")),
            ("ssh://-oProxyCommand=id", None),
            ("ssh://-x@nas", None),
            ("ssh://git@-nas", None),
            ("ssh://git@nas/app", None),
            ("ssh://git@nas:0x", None),
            ("ssh://", None),
            ("git@nas", None),
            ("https://nas", None),
        ] {
            let address = text.parse::<SshAddress>().ok();
            assert_eq!(
                address.map(|one| one.to_string()).as_deref(),
                read,
                "{text}"
            );
        }
    }

    #[test]
    fn words_arrive_as_they_are() {
        let address = "ssh://git@nas:2222".parse().unwrap();
        assert_eq!(
            ssh_arguments(&address, &["repo", "new", "a b", "it's"], true),
            [
                "-p",
                "2222",
                "-l",
                "git",
                "--",
                "nas",
                "repo new 'a b' 'it'\\''s'"
            ]
        );
        let home = "ssh://nas".parse().unwrap();
        assert_eq!(
            ssh_arguments(&home, &["run", "attach", "app#1"], true),
            ["-t", "-l", "git", "--", "nas", "run attach 'app#1'"]
        );
        assert_eq!(ssh_arguments(&home, &[], false), ["-l", "git", "--", "nas"]);
    }
}
