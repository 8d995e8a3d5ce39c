//! Each pipeline of docs/cookbook.md, as it stands there, run for a small project that fits it.

use std::path::PathBuf;

use quire_testkit::skipped;

use super::run::{Project, finished, in_order};
use super::support::check_in;

/// The recipes: heading, language of the fence with what follows it, text.
fn recipes() -> Vec<(String, String, String)> {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cookbook.md")).unwrap();
    let (mut heading, mut recipes, mut open) =
        (String::new(), Vec::new(), None::<(String, String)>);
    for line in text.lines() {
        open = match (open.take(), line.strip_prefix("```")) {
            (None, Some(fence)) => Some((fence.to_owned(), String::new())),
            (Some((fence, code)), Some(_)) => {
                recipes.push((heading.clone(), fence, code));
                None
            }
            (Some((fence, code)), None) => Some((fence, code + line + "\n")),
            (None, None) => {
                if let Some(name) = line.strip_prefix("## ") {
                    heading = name.to_owned();
                }
                None
            }
        };
    }
    recipes
}

/// The recipe under a heading.
fn recipe(name: &str) -> String {
    let found = recipes()
        .into_iter()
        .find(|(heading, fence, _)| heading == name && fence == "fennel");
    found
        .unwrap_or_else(|| panic!("the cookbook has no recipe `{name}`"))
        .2
}

/// A project with this recipe and these files, one commit.
fn project(name: &str, files: &[(&str, &str)]) -> Project {
    let project = Project::empty();
    project.git(&["init", "-q", "-b", "main"]);
    project.write(".quire/ci.fnl", &recipe(name));
    for (file, text) in files {
        project.write(file, text);
        if text.starts_with("#!") {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(
                project.root().join(file),
                std::fs::Permissions::from_mode(0o755),
            )
            .unwrap();
        }
    }
    project.commit("first");
    project
}

/// Runs the project on the machine itself; it must be green, and say these things in this order.
fn green(project: &Project, arguments: &[&str], says: &[&str]) {
    let mut command = project.command(&[&["run", "--executor", "host"], arguments].concat());
    let run = finished(command.envs([
        ("QUIRE_SECRET_RELEASE_TOKEN", "a-token-for-releases"),
        ("QUIRE_SECRET_DEPLOY_KEY", "a-key-to-deploy"),
    ]));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    in_order(&run.stdout, says);
    assert!(
        !run.stdout.contains("a-token-for-releases") && !run.stdout.contains("a-key-to-deploy"),
        "{}",
        run.stdout
    );
}

#[test]
fn every_recipe_is_accepted_and_has_a_test() {
    let tested = [
        "Rust",
        "Node",
        "Go",
        "Python",
        "A service",
        "A matrix",
        "A release on a tag",
        "A monorepo",
        "Deploying, one at a time",
        "Every night",
    ];
    let recipes = recipes();
    for (heading, fence, code) in &recipes {
        let project = Project::empty();
        let is_lua = fence.starts_with("lua");
        project.write(
            if is_lua {
                ".quire/ci.lua"
            } else {
                ".quire/ci.fnl"
            },
            code,
        );
        let checked = check_in(&project.root(), &[]);
        assert_eq!(checked.code, 0, "{heading}\n{}", checked.stderr);
        assert!(
            ["fennel check", "lua check"].contains(&fence.as_str())
                || fence == "fennel" && tested.contains(&heading.as_str()),
            "{heading}: {fence}"
        );
    }
    assert_eq!(
        recipes
            .iter()
            .filter(|(_, fence, _)| fence == "fennel")
            .count(),
        tested.len()
    );
}

#[test]
fn the_first_pipeline_of_the_readme_is_green() {
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, block) = readme.split_once("```fennel\n").unwrap();
    let (pipeline, _) = block.split_once("```").unwrap();
    let project = Project::empty();
    project.git(&["init", "-q", "-b", "main"]);
    project.write(".quire/ci.fnl", pipeline);
    project.write("README", "any file");
    project.commit("first");
    green(&project, &[], &["testing main", "package"]);
}

#[test]
fn rust() {
    if skipped("toolchains") {
        return;
    }
    let files = [
        (
            "Cargo.toml",
            "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
        ),
        ("src/main.rs", "fn main() {}\n\n#[test]\nfn holds() {}\n"),
    ];
    let project = project("Rust", &files);
    green(&project, &[], &["test holds ... ok", "package"]);
    // The second run finds what the first one compiled.
    let again = finished(&mut project.command(&["run", "--executor", "host", "test"]));
    assert!(again.code == 0, "{}", again.stdout);
}

#[test]
fn node() {
    if skipped("toolchains") {
        return;
    }
    let files = [
        (
            "package.json",
            r#"{"name": "kind", "version": "0.1.0", "scripts": {"test": "node --test"}}"#,
        ),
        (
            "package-lock.json",
            r#"{"name": "kind", "version": "0.1.0", "lockfileVersion": 3, "packages": {"": {"name": "kind", "version": "0.1.0"}}}"#,
        ),
        ("a.test.js", "require('node:test')('holds', () => {});\n"),
    ];
    green(&project("Node", &files), &[], &["# pass 1"]);
}

#[test]
fn go() {
    if skipped("toolchains") {
        return;
    }
    let test = "package main\n\nimport \"testing\"\n\nfunc TestHolds(t *testing.T) {}\n";
    let files = [
        ("go.mod", "module example.org/kind\n\ngo 1.19\n"),
        ("main.go", "package main\n\nfunc main() {}\n"),
        ("main_test.go", test),
    ];
    green(
        &project("Go", &files),
        &[],
        &["ok  \texample.org/kind", "✓ build"],
    );
}

#[test]
fn python() {
    if skipped("toolchains") {
        return;
    }
    let built = "[build-system]\nrequires = [\"setuptools\"]\nbuild-backend = \"setuptools.build_meta\"\n\n";
    let meta = format!(
        "{built}[project]\nname = \"kind\"\nversion = \"0.1.0\"\n\n[tool.setuptools]\npy-modules = [\"kind\"]\n"
    );
    let files = [
        ("pyproject.toml", meta.as_str()),
        ("kind.py", ""),
        ("test_kind.py", "def test_holds():\n    pass\n"),
    ];
    let project = project("Python", &files);
    // The recipe's image has a `python`; Debian itself has a `python3`.
    let programs = project.root().join("../programs");
    std::fs::create_dir(&programs).unwrap();
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|folder| folder.join("python3"))
        .find(|file| file.exists());
    std::os::unix::fs::symlink(found.unwrap(), programs.join("python")).unwrap();
    let path: Vec<PathBuf> = [programs]
        .into_iter()
        .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap()))
        .collect();
    let run = finished(
        project
            .command(&["run", "--executor", "host"])
            .env("PATH", std::env::join_paths(path).unwrap()),
    );
    assert!(
        run.code == 0 && run.stdout.contains("1 passed"),
        "{}{}",
        run.stdout,
        run.stderr
    );
}

/// An image with a Redis of Debian's, under a name that no registry has; built once and then found.
#[expect(clippy::disallowed_methods, reason = "a test makes what it needs")]
fn redis_image() -> &'static str {
    let name = "quire-test-redis";
    let dockerfile = "FROM debian:trixie-slim\n\
        RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server redis-tools && rm -rf /var/lib/apt/lists/*\n\
        CMD [\"redis-server\", \"--protected-mode\", \"no\"]\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("Dockerfile"), dockerfile).unwrap();
    let built = std::process::Command::new("docker")
        .args(["build", "--tag", name, "."])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}{}",
        String::from_utf8_lossy(&built.stdout),
        String::from_utf8_lossy(&built.stderr)
    );
    name
}

#[test]
fn a_service() {
    if skipped("docker") {
        return;
    }
    let ask = "#!/bin/bash\nexec 3<>/dev/tcp/redis/6379\nprintf 'PING\\r\\n' >&3\nread -r answer <&3\necho \"$REDIS_URL says $answer\"\n";
    let project = project("A service", &[("test", ask)]);
    project.write(
        ".quire/ci.fnl",
        &recipe("A service").replace("redis:8", redis_image()),
    );
    let run = finished(&mut project.command(&["run", "--executor", "docker"]));
    assert!(
        run.code == 0 && run.stdout.contains("redis://redis:6379 says +PONG"),
        "{}{}",
        run.stdout,
        run.stderr
    );
}

#[test]
fn a_matrix() {
    let project = project("A matrix", &[("test", "#!/bin/sh\necho $LC_ALL\n")]);
    green(
        &project,
        &[],
        &[
            "all-green: 4 variants passed",
            "✓ test-sh-C ",
            "✓ test-bash-C.UTF-8 ",
        ],
    );
}

#[test]
fn a_release_on_a_tag() {
    let make = "test:\n\techo tested\ndist:\n\tmkdir dist && echo $(VERSION) > dist/version\n";
    let project = project(
        "A release on a tag",
        &[
            ("Makefile", make),
            (
                "publish",
                "#!/bin/sh\necho publishing $(cat $1/version) by $TOKEN\n",
            ),
        ],
    );
    green(&project, &[], &["tested", "release  skipped"]);
    project.git(&["tag", "v1.2"]);
    green(
        &project,
        &["--sha", "v1.2", "--tag", "v1.2"],
        &["tested", "publishing v1.2 by {{ release-token }}"],
    );
}

#[test]
fn a_monorepo() {
    let make = "all:\n\t@echo built $(notdir $(CURDIR))\n";
    let files = [
        ("api/Makefile", make),
        ("web/Makefile", make),
        ("docs/Makefile", make),
    ];
    let project = project("A monorepo", &files);
    project.write("web/page", "new");
    project.commit("second");
    green(
        &project,
        &["--sha", "HEAD"],
        &[
            "built web",
            "report: api is unchanged",
            "report: web was built",
            "report: docs is unchanged",
        ],
    );
}

#[test]
fn deploying() {
    let project = project(
        "Deploying, one at a time",
        &[("deploy", "#!/bin/sh\necho to $1 by $DEPLOY_KEY\n")],
    );
    let sha = project.git(&["rev-parse", "HEAD"]);
    green(
        &project,
        &["--sha", "HEAD"],
        &[&format!("to {sha} by {{{{ deploy-key }}}}")],
    );
}

#[test]
fn every_night() {
    let project = project(
        "Every night",
        &[(
            "Makefile",
            "test:\n\t@echo some\ntest-everything:\n\t@echo all\n",
        )],
    );
    let usual = finished(&mut project.command(&["run", "--executor", "host"]));
    assert!(
        usual.code == 0 && !usual.stdout.contains("│ all") && !usual.stdout.contains("\nall\n"),
        "{}",
        usual.stdout
    );
    green(&project, &["--source", "nightly"], &["some", "all"]);
}
