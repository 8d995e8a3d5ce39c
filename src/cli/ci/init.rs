//! `quire ci init`: a first pipeline, for the kind of project that is found.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{CiError, tree::here};
use crate::driver::protocol::{FENNEL_FILE, LUA_FILE};

/// A file that tells the kind of a project, what that kind is called, and its pipeline. The first that fits counts.
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
/// For everything else.
const HELLO: &str = include_str!("starters/hello.fnl");

/// Runs `quire ci init`.
pub(super) fn init() -> ExitCode {
    match here().and_then(|folder| write(&root_of(&folder))) {
        Ok(said) => {
            let _ = io::stdout().write_all(said.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => error.print(),
    }
}

/// Where a commit would have its `.quire`: the top of the checkout, or the folder itself outside of any.
fn root_of(folder: &Path) -> PathBuf {
    folder
        .ancestors()
        .find(|folder| folder.join(".git").exists())
        .unwrap_or(folder)
        .to_owned()
}

/// Writes the pipeline, and says what was done.
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
                "no kind of project that I know was found: it says hello".to_owned(),
                HELLO,
            )
        },
        |(file, kind, text)| (format!("{file} says that this is {kind}"), *text),
    );
    let path = root.join(FENNEL_FILE);
    let written = fs::create_dir_all(root.join(".quire")).and_then(|()| {
        // Should somebody else have written one meanwhile, theirs stays.
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
            "wrote {} ({why})\nnext: `quire ci check` checks it, `quire ci run` runs it here; then commit it and push\n",
            path.display()
        )),
    }
}
