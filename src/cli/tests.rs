//! The command line's shape.

use clap::CommandFactory;

use super::report::{FAILED, Failure, NOT_FOUND, REFUSED, USAGE};
use super::*;
use crate::git::GitError;
use crate::ssh::command::Refusal;
use crate::store::StoreError;

#[test]
fn the_parser_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_error_has_its_code_and_says_what_to_do() {
    let cases = [
        (
            Failure::from(StoreError::NoSuchRun("0197".into())),
            NOT_FOUND,
            "quire: there is no run `0197`\nquire: `run list` shows the runs there are\n",
        ),
        (
            Failure::from(StoreError::AmbiguousRun("0".into())),
            USAGE,
            "quire: more than one run starts with `0`\nquire: give more digits of the id; `run list` shows it whole\n",
        ),
        (
            Failure::from(GitError::NoRepository("a".parse().unwrap())),
            NOT_FOUND,
            "quire: there is no repository `a`\nquire: `repo list` shows the repositories there are\n",
        ),
        (
            Failure::from(GitError::Start {
                verb: "init",
                source: io::ErrorKind::NotFound.into(),
            }),
            FAILED,
            "quire: `git init` could not be started: entity not found\nquire: is git installed and in PATH?\n",
        ),
        (
            Failure::from(Refusal::NotListed),
            REFUSED,
            "quire: this is not a shell; the commands are git-receive-pack, git-upload-pack, git-upload-archive, repo, run, schedule, cache, key, login, status, gc\n",
        ),
        (
            Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)),
            FAILED,
            "",
        ),
        (Failure::failed("a\n\u{1b}[2Jb"), FAILED, "quire: a  [2Jb\n"),
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
        assert!(without_parser(&words(text)).is_some(), "{text}");
    }
    for text in [
        "quire",
        "quire run list",
        "quire health --help",
        "quire hook update",
    ] {
        assert!(without_parser(&words(text)).is_none(), "{text}");
    }
}
