//! Compiles the helper program, with cargo in a target folder of its own.
//!
//! It is built with its own flags: static, without the start files and the library of C, optimized for size whatever
//! the profile of the outer build is.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Flags of the compiler: a static program at a fixed address that brings its own entry point and layout. The hash is
/// used in handshakes only, so its short form is fast enough.
const FLAGS: [&str; 7] = [
    "-Crelocation-model=static",
    "-Ctarget-feature=+crt-static",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-Wl,--build-id=none",
    "-Clink-arg=-Wl,-T,crates/step-helper/step.ld",
    "--cfg=sha2_backend_soft=\"compact\"",
];

/// Variables of the outer build that would change this one.
const OUTER: [&str; 9] = [
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CLIPPY_ARGS",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
];

fn main() {
    let out = PathBuf::from(variable("OUT_DIR"));
    let workspace = Path::new(&variable("CARGO_MANIFEST_DIR")).join("../..");
    for path in [
        "crates/step",
        "crates/step-helper",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    let target = variable("TARGET");
    let target_folder = out.join("target");
    let mut cargo = cargo();
    cargo
        .current_dir(&workspace)
        .args(["build", "--package", "quire-step-helper", "--bin", "step"])
        .args(["--features", "program", "--profile", "helper", "--locked"])
        .args(["--target", &target, "--target-dir"])
        .arg(&target_folder)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    let status = cargo.status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "the helper program cannot be built: {status:?}"
    );
    let program = target_folder.join(target).join("helper/step");
    if let Err(error) = std::fs::copy(&program, out.join("step")) {
        panic!("{}: {error}", program.display());
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a build script has no module of the crate to go through"
)]
fn cargo() -> Command {
    let mut cargo = Command::new(variable("CARGO"));
    for name in OUTER {
        cargo.env_remove(name);
    }
    cargo
}

fn variable(name: &str) -> String {
    match env::var(name) {
        Ok(value) => value,
        Err(error) => panic!("{name}: {error}"),
    }
}
