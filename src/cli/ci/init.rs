//! `quire ci init`: writes a starter pipeline for the kind of project found.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::error::CiError;
use super::source_tree::working_dir;
use quire_pipeline::driver::protocol::{FENNEL_FILE, LUA_FILE};

/// A file that identifies a kind of project, the name of the kind, and its starter pipeline. The first match counts.
const KINDS: [(&str, &str, &str); 5] = [
    (
        "Cargo.toml",
        "a Rust project",
        include_str!("starters/rust.fnl"),
    ),
    (
        "package.json",
        "a Node project",
        include_str!("starters/node.fnl"),
    ),
    ("go.mod", "a Go project", include_str!("starters/go.fnl")),
    (
        "pyproject.toml",
        "a Python project",
        include_str!("starters/python.fnl"),
    ),
    (
        "Makefile",
        "a project with a Makefile",
        include_str!("starters/make.fnl"),
    ),
];
/// The starter pipeline for any other project.
const HELLO: &str = include_str!("starters/hello.fnl");

/// Runs `quire ci init`.
pub(super) fn init() -> ExitCode {
    match working_dir().and_then(|folder| write(&root_of(&folder))) {
        Ok(said) => {
            let _ = io::stdout().write_all(said.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => error.print(),
    }
}

/// The folder where a commit has its `.quire`: the top of the checkout, or the folder itself outside of a checkout.
fn root_of(folder: &Path) -> PathBuf {
    folder
        .ancestors()
        .find(|folder| folder.join(".git").exists())
        .unwrap_or(folder)
        .to_owned()
}

/// Writes the pipeline and returns the text for the user.
fn write(root: &Path) -> Result<String, CiError> {
    if let Some(there) = [FENNEL_FILE, LUA_FILE]
        .map(|file| root.join(file))
        .into_iter()
        .find(|file| file.symlink_metadata().is_ok())
    {
        return Err(CiError::Exists(there));
    }
    let found = KINDS.iter().find(|(file, ..)| root.join(file).is_file());
    let (why, text) = found.map_or_else(
        || {
            (
                "no known kind of project was found, so it only prints a greeting".to_owned(),
                HELLO,
            )
        },
        |(file, kind, text)| (format!("{file} identifies {kind}"), *text),
    );
    let path = root.join(FENNEL_FILE);
    let written = fs::create_dir_all(root.join(".quire")).and_then(|()| {
        // A file written by another process meanwhile is not replaced.
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?
            .write_all(text.as_bytes())
    });
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_file() => {
            Err(CiError::Exists(path))
        }
        Err(error) => Err(CiError::Write(path, error)),
        Ok(()) => Ok(format!(
            "wrote {} ({why})\nnext: check it with `quire ci check`, run it here with `quire ci run`, then commit and push it\n",
            path.display()
        )),
    }
}
