//! What the loader of this machine says about programs.

use std::path::Path;
use std::process::Command;

use crate::program::{run, stderr};

/// The versions of libraries that the loader looks for when it starts a program with `--version`.
#[track_caller]
pub fn versions_loaded(program: &Path) -> Vec<String> {
    let started = run(Command::new(program)
        .arg("--version")
        .env("LD_DEBUG", "versions"));
    let said = stderr(&started);
    assert!(started.status.success(), "{said}");
    let of_program = format!("required by file {} ", program.display());
    let lines = said
        .lines()
        .filter(|line| line.contains(of_program.trim_end()));
    let names = lines.filter_map(|line| line.split('`').nth(1)?.split('\'').next());
    let names: Vec<String> = names.map(str::to_owned).collect();
    assert!(!names.is_empty(), "{said}");
    names
}

/// The newest minor version of glibc 2 among versions.
pub fn newest_glibc<S: AsRef<str>>(versions: impl IntoIterator<Item = S>) -> Option<u32> {
    let minor = |version: S| {
        let version = version
            .as_ref()
            .strip_prefix("GLIBC_2.")?
            .split('.')
            .next()?;
        version.parse().ok()
    };
    versions.into_iter().filter_map(minor).max()
}
