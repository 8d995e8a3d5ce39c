//! The command line's shape.

use clap::CommandFactory;

use super::error::{CommandError, FAILED, NOT_FOUND, REFUSED, USAGE};
use super::*;
use quire_git::GitError;
use quire_store::StoreError;
use quire_types::run::RunName;

#[test]
fn the_parser_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_error_has_its_code_and_says_what_to_do() {
    let cases = [
        (
            CommandError::from(StoreError::NoSuchRun("0197".into())),
            NOT_FOUND,
            "quire: there is no run `0197`\nquire: `run list` shows all runs\n",
        ),
        (
            CommandError::from(StoreError::AmbiguousRun {
                selector: "#14".into(),
                candidates: ["tally", "app"]
                    .map(|repo| RunName {
                        repo: repo.parse().unwrap(),
                        number: 14,
                    })
                    .to_vec(),
            }),
            USAGE,
            "quire: `#14` names more than one run\nquire: use one of `tally#14`, `app#14`\n",
        ),
        (
            CommandError::from(GitError::NoRepository("a".parse().unwrap())),
            NOT_FOUND,
            "quire: there is no repository `a`\nquire: `repo list` shows all repositories\n",
        ),
        (
            CommandError::from(GitError::Start {
                verb: "init",
                source: io::ErrorKind::NotFound.into(),
            }),
            FAILED,
            "quire: `git init` could not be started: entity not found\nquire: is git installed and in PATH?\n",
        ),
        (
            CommandError::from(crate::ssh::command::parse(Some("runs list")).unwrap_err()),
            REFUSED,
            "quire: `runs` is not a command of this server; the commands are git-receive-pack, git-upload-pack, git-upload-archive, git-lfs-transfer, repo, run, cache, schedule, notify, mirror, key, secret, config, reload, log, undo, login, status, doctor, gc, backup, client, reconcile, help\nquire: did you mean `run`?\n",
        ),
        (
            CommandError::from(io::Error::from(io::ErrorKind::BrokenPipe)),
            FAILED,
            "",
        ),
        (
            CommandError::failed("a\n\u{1b}[2Jb"),
            FAILED,
            "quire: a  [2Jb\n",
        ),
    ];
    for (failure, code, text) in cases {
        assert_eq!((failure.code, failure.text().as_str()), (code, text));
    }
}

#[test]
fn the_quick_commands_do_without_the_parser() {
    let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
    for text in [
        "quire-shell",
        "-quire-shell -c",
        "/usr/bin/quire-shell -c id",
        "quire exec --nonsense",
    ] {
        assert!(fast_path(&words(text)).is_some(), "{text}");
    }
    for text in [
        "quire",
        "quire run list",
        "quire health --help",
        "quire hook update",
    ] {
        assert!(fast_path(&words(text)).is_none(), "{text}");
    }
}
