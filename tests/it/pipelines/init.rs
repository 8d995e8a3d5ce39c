//! `quire ci init`: each first pipeline is one that `quire ci check` accepts, and none is overwritten.

use std::path::{Path, PathBuf};

use quire_testkit::skipped;

use super::run::Project;
use super::support::{Checked, check_in, program};

#[expect(
    clippy::disallowed_methods,
    reason = "a test starts the binary as a person would"
)]
fn init_in(folder: &Path) -> Checked {
    let output = std::process::Command::new(program())
        .args(["ci", "init"])
        .current_dir(folder)
        .output()
        .unwrap();
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
        (
            &["pyproject.toml", "Makefile"],
            "a Python project",
            "python:3-slim",
        ),
        (
            &["Makefile"],
            "a project with a Makefile",
            "buildpack-deps:trixie",
        ),
        (
            &["README"],
            "it only prints a greeting",
            "the configured default",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        let written = init_in(folder.path());
        assert_eq!((written.code, written.stderr.as_str()), (0, ""));
        assert!(
            written.stdout.contains(kind) && written.stdout.contains("quire ci check"),
            "{}",
            written.stdout
        );
        let checked = check_in(folder.path(), &[]);
        assert_eq!(checked.code, 0, "{kind}\n{}", checked.stderr);
        assert!(
            checked.stdout.contains(&format!("image: {image}\n"))
                && checked.stdout.contains("quire/push"),
            "{}",
            checked.stdout
        );
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
        assert!(
            refused.stderr.contains(there) && refused.stderr.contains("nothing was written"),
            "{}",
            refused.stderr
        );
        assert_eq!(
            std::fs::read_to_string(folder.path().join(there)).unwrap(),
            "mine"
        );
        assert_eq!(
            std::fs::read_dir(folder.path().join(".quire"))
                .unwrap()
                .count(),
            1
        );
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

/// A small project of each kind, and what its run must say.
const PROJECTS: [(&[(&str, &str)], &str); 5] = [
    (
        &[
            (
                "Cargo.toml",
                "[package]\nname = \"kind\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
            ),
            (
                "src/lib.rs",
                "#[test]\nfn holds() {\n    assert_eq!(1 + 1, 2);\n}\n",
            ),
        ],
        "test holds ... ok",
    ),
    (
        &[
            (
                "package.json",
                r#"{"name": "kind", "version": "0.1.0", "scripts": {"test": "node --test", "lint": "node --check a.test.js"}}"#,
            ),
            (
                "a.test.js",
                "require('node:test')('holds', () => require('node:assert').equal(1 + 1, 2));\n",
            ),
        ],
        "# pass 1",
    ),
    (
        &[
            ("go.mod", "module example.org/kind\n\ngo 1.19\n"),
            (
                "kind_test.go",
                "package kind\n\nimport \"testing\"\n\nfunc TestHolds(t *testing.T) {\n\tif 1+1 != 2 {\n\t\tt.Fail()\n\t}\n}\n",
            ),
        ],
        "ok  \texample.org/kind",
    ),
    (
        &[
            (
                "pyproject.toml",
                "[build-system]\nrequires = [\"setuptools\"]\nbuild-backend = \"setuptools.build_meta\"\n\n[project]\nname = \"kind\"\nversion = \"0.1.0\"\n\n[tool.setuptools]\npy-modules = [\"kind\"]\n",
            ),
            ("kind.py", ""),
            ("test_kind.py", "def test_holds():\n    assert 1 + 1 == 2\n"),
        ],
        "1 passed",
    ),
    (&[("Makefile", "all:\n\t@echo made\n")], "made"),
];

/// With the machine's own tools; no registry is needed for that.
#[test]
fn each_first_pipeline_is_green_for_a_real_project() {
    if skipped("toolchains") {
        return;
    }
    for (files, says) in PROJECTS {
        let (kind, _) = files[0];
        let project = Project::empty();
        for (name, text) in files {
            project.write(name, text);
        }
        assert_eq!(init_in(&project.root()).code, 0, "{kind}");
        let mut command = project.command(&["run", "--executor", "host"]);
        if kind == "pyproject.toml" {
            command.env("PATH", in_venv(&project));
        }
        let run = super::run::finished(&mut command);
        assert!(
            run.code == 0 && run.stdout.contains(says),
            "{kind}\n{}{}",
            run.stdout,
            run.stderr
        );
    }
}

/// A Python of the project's own, first among the programs: what the pipeline installs stays in it.
#[expect(clippy::disallowed_methods, reason = "a test makes what it needs")]
fn in_venv(project: &Project) -> std::ffi::OsString {
    let venv = project.root().join("../venv");
    let made = std::process::Command::new("python3")
        .args(["-m", "venv"])
        .arg(&venv)
        .status()
        .unwrap();
    assert!(made.success());
    let path = std::env::var_os("PATH").unwrap();
    std::env::join_paths(
        [venv.join("bin")]
            .into_iter()
            .chain(std::env::split_paths(&path))
            .collect::<Vec<PathBuf>>(),
    )
    .unwrap()
}
