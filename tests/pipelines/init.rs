//! `quire ci init`: each first pipeline is one that `quire ci check` accepts, and none is overwritten.

use std::path::Path;

use crate::support::{Checked, check_in, program};

#[expect(clippy::disallowed_methods, reason = "a test starts the binary as a person would")]
fn init_in(folder: &Path) -> Checked {
    let output = std::process::Command::new(program()).args(["ci", "init"]).current_dir(folder).output().unwrap();
    Checked {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn each_kind_of_project_gets_a_pipeline_that_is_accepted() {
    for (files, kind, image) in [
        (&["Cargo.toml", "Makefile"][..], "a Rust project", "rust:1"),
        (&["package.json"], "a Node project", "node:24-slim"),
        (&["go.mod"], "a Go project", "golang:1"),
        (&["pyproject.toml", "Makefile"], "a Python project", "python:3-slim"),
        (&["Makefile"], "a project with a Makefile", "buildpack-deps:trixie"),
        (&["README"], "it says hello", "the configured default"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        let written = init_in(folder.path());
        assert_eq!((written.code, written.stderr.as_str()), (0, ""));
        assert!(written.stdout.contains(kind) && written.stdout.contains("quire ci check"), "{}", written.stdout);
        let checked = check_in(folder.path(), &[]);
        assert_eq!(checked.code, 0, "{kind}\n{}", checked.stderr);
        assert!(checked.stdout.contains(&format!("image: {image}\n")) && checked.stdout.contains("quire/push"), "{}", checked.stdout);
        // What is commented out is a pipeline as well, once somebody wants it.
        let path = folder.path().join(".quire/ci.fnl");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace(";; (", "(").replace(";;   ", "  ")).unwrap();
        let opened = check_in(folder.path(), &[]);
        assert_eq!(opened.code, 0, "{kind}\n{}", opened.stderr);
    }
}

#[test]
fn nothing_is_overwritten() {
    for there in [".quire/ci.fnl", ".quire/ci.lua"] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".quire")).unwrap();
        std::fs::write(folder.path().join(there), "mine").unwrap();
        let refused = init_in(folder.path());
        assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
        assert!(refused.stderr.contains(there) && refused.stderr.contains("nothing was written"), "{}", refused.stderr);
        assert_eq!(std::fs::read_to_string(folder.path().join(there)).unwrap(), "mine");
        assert_eq!(std::fs::read_dir(folder.path().join(".quire")).unwrap().count(), 1);
    }
}

#[test]
fn it_is_written_at_the_top_of_the_checkout() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join(".git")).unwrap();
    std::fs::create_dir_all(folder.path().join("src/deep")).unwrap();
    assert_eq!(init_in(&folder.path().join("src/deep")).code, 0);
    assert!(folder.path().join(".quire/ci.fnl").is_file());
}
