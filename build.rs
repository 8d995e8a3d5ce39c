//! Tells the binary which commit it was built from, and packs its relocations.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rustc-env=QUIRE_COMMIT={}", commit());
    // A process of quire starts several times for each push. Packed, its 27,000 relative relocations occupy 10 KB
    // instead of 660 KB, which the loader reads at each start. glibc can do this from version 2.36 on.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}

/// The commit this is built from: `QUIRE_COMMIT`, else what git says, else `unknown`.
fn commit() -> String {
    println!("cargo::rerun-if-env-changed=QUIRE_COMMIT");
    if let Some(commit) = std::env::var("QUIRE_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty())
    {
        return commit;
    }
    // The log of HEAD changes with each commit and check-out, also where refs are packed.
    for path in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", path])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
}

/// The first line of what git prints, where there is a git and a repository.
#[expect(
    clippy::disallowed_methods,
    reason = "a build script has no module of the crate to go through"
)]
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let line = String::from_utf8(output.stdout)
        .ok()?
        .lines()
        .next()?
        .to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}
