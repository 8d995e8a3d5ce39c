//! The files of quire as they are in real trees: symbolic links, other names, folders, texts from Windows. Each tree is
//! checked on disk and as a commit, and both must be the same.

use std::os::unix::fs::symlink;

use super::run::Project;
use super::support::{Checked, check_in};

const PIPELINE: &str =
    "(local ci (require :quire.ci))\n(ci.job :test [:quire/push] (fn [{: sh}] (sh \"true\")))\n";

/// A checkout with these files and links, each link as path and target.
fn project(files: &[(&str, &str)], links: &[(&str, &str)]) -> Project {
    let project = Project::empty();
    project.git(&["init", "-q", "-b", "main"]);
    for (name, text) in files {
        project.write(name, text);
    }
    for (name, target) in links {
        let path = project.root().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }
    project.commit("first");
    project
}

/// What `quire ci check` prints for the working tree, which must be what it prints for the commit.
fn check(files: &[(&str, &str)], links: &[(&str, &str)]) -> Checked {
    let project = project(files, links);
    let on_disk = check_in(&project.root(), &[]);
    let committed = check_in(&project.root(), &["--sha", "HEAD"]);
    assert_eq!(
        (on_disk.code, &on_disk.stdout, &on_disk.stderr),
        (committed.code, &committed.stdout, &committed.stderr)
    );
    on_disk
}

#[test]
fn links_within_the_repository_are_followed() {
    let helper = "{:run (fn [sh] (sh :true))}";
    let pipeline = "(local ci (require :quire.ci)) (local {: run} (require :helper))
        (ci.job :test [:quire/push] (fn [{: sh}] (run sh)))";
    let checked = check(
        &[
            ("build/pipeline.fnl", pipeline),
            ("build/helper.fnl", helper),
            ("docker/ci/Dockerfile", "FROM scratch\n"),
        ],
        &[
            (".quire/ci.fnl", "../build/pipeline.fnl"),
            (".quire/helper.fnl", "../build/again.fnl"),
            ("build/again.fnl", "./helper.fnl"),
            (".quire/Dockerfile", "../linked/Dockerfile"),
            ("linked", "docker/ci"),
        ],
    );
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    assert!(
        checked
            .stdout
            .contains("image: built from .quire/Dockerfile"),
        "{}",
        checked.stdout
    );
    let checked = check(&[("ci/quire/ci.fnl", PIPELINE)], &[(".quire", "ci/quire")]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
}

#[test]
fn a_link_that_cannot_be_followed_is_an_error() {
    let pipeline = (".quire/ci.fnl", PIPELINE);
    for (link, target, problem) in [
        (
            "ci.fnl",
            "/etc/passwd",
            "`/etc/passwd`, which is outside of the repository",
        ),
        (
            "ci.fnl",
            "../../ci.fnl",
            "`../../ci.fnl`, which is outside of the repository",
        ),
        (
            "ci.fnl",
            "gone.fnl",
            "`gone.fnl`, which does not exist in the repository",
        ),
        (
            "helper.fnl",
            "../x/y",
            "`../x/y`, which does not exist in the repository",
        ),
        (
            "helper.lua",
            "helper.lua",
            "`helper.lua`, which is a circle of symbolic links",
        ),
        (
            "Dockerfile",
            "/etc/passwd",
            "`/etc/passwd`, which is outside of the repository",
        ),
        ("Dockerfile", "../docs", "`../docs`, which is not a file"),
    ] {
        let mut files = vec![("docs/readme", "")];
        if link != "ci.fnl" {
            files.push(pipeline);
        }
        let path = format!(".quire/{link}");
        let checked = check(&files, &[(&path, target)]);
        assert_eq!(checked.code, 1, "{link}: {}", checked.stdout);
        assert!(
            checked
                .stderr
                .contains(&format!("{path} is a symbolic link to {problem}")),
            "{link} -> {target}: {}",
            checked.stderr
        );
    }
}

#[test]
fn what_has_to_be_a_file_or_a_folder_is_one() {
    let pipeline = (".quire/ci.fnl", PIPELINE);
    for (files, problem) in [
        (
            &[(".quire", "x")][..],
            ".quire is a file, and has to be a folder",
        ),
        (
            &[(".quire/ci.fnl/x", "")][..],
            ".quire/ci.fnl is a folder, and has to be a file",
        ),
        (
            &[pipeline, (".quire/ci.lua/x", "")][..],
            ".quire/ci.lua is a folder, and has to be a file",
        ),
        (
            &[pipeline, (".quire/Dockerfile/x", "")][..],
            ".quire/Dockerfile is a folder, and has to be a file",
        ),
    ] {
        let checked = check(files, &[]);
        assert_eq!(checked.code, 1, "{}", checked.stdout);
        assert!(checked.stderr.contains(problem), "{}", checked.stderr);
    }
}

#[test]
fn links_that_are_no_files_of_quire_may_be_broken() {
    let checked = check(
        &[(".quire/ci.fnl", PIPELINE), (".quire/lib/notes", "")],
        &[(".quire/data", "/srv"), (".quire/lib/gone.fnl", "nowhere")],
    );
    assert_eq!(checked.code, 0, "{}", checked.stderr);
}

#[test]
fn helpers_are_found_in_folders() {
    let checked = check(
        &[
            (
                ".quire/ci.fnl",
                "(import-macros {: twice} :lib.macros)
                 (local helpers (require :lib.helpers)) (local deep (require :lib.a.b))
                 (twice (helpers.register deep))",
            ),
            (
                ".quire/lib/helpers.fnl",
                "(local ci (require :quire.ci)) (var n 0)
                 {:register (fn [name] (set n (+ n 1)) (ci.job (.. name n) [:quire/push] (fn [{: sh}] (sh :true))))}",
            ),
            (".quire/lib/a/b.lua", "return 'job-'"),
            (
                ".quire/lib/macros.fnl",
                "{:twice (fn [form] `(do ,form ,form))}",
            ),
            (".quire/lib/big.lua", &"-".repeat(2 << 20)),
        ],
        &[],
    );
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    assert!(
        checked.stdout.contains("job-1") && checked.stdout.contains("job-2"),
        "{}",
        checked.stdout
    );
}

#[test]
fn other_names_get_a_warning_with_the_right_one() {
    for (name, right) in [
        ("dockerfile", "Dockerfile"),
        ("DOCKERFILE", "Dockerfile"),
        ("Containerfile", "Dockerfile"),
    ] {
        let path = format!(".quire/{name}");
        let checked = check(
            &[(".quire/ci.fnl", PIPELINE), (&path, "FROM scratch\n")],
            &[],
        );
        assert_eq!(checked.code, 0, "{}", checked.stderr);
        let warning =
            format!("quire: warning: {path} is not used: its name has to be .quire/{right}\n");
        assert_eq!(checked.stderr, warning);
        let both = [
            (".quire/ci.fnl", PIPELINE),
            (path.as_str(), ""),
            (".quire/Dockerfile", "FROM scratch\n"),
        ];
        assert_eq!(check(&both, &[]).stderr, "");
    }
    let checked = check(&[(".quire/CI.fnl", PIPELINE)], &[]);
    assert_eq!(checked.code, 1, "{}", checked.stdout);
    assert!(
        checked.stderr.contains(
            "no pipeline found: .quire/CI.fnl is not used: its name has to be .quire/ci.fnl"
        ),
        "{}",
        checked.stderr
    );
}

#[test]
fn texts_from_windows_are_accepted() {
    let windows = |text: &str| format!("\u{feff}{}", text.replace('\n', "\r\n"));
    let pipeline = windows(
        "(local ci (require :quire.ci))\n(local text (require :helper))\n(ci.job :test [:quire/push] (fn [{: sh}] (sh text)))\n",
    );
    let helper = windows("return [[\ntest \"$(printf 'a\\nb' | wc -l)\" = 1\necho fine\n]]\n");
    let project = project(
        &[(".quire/ci.fnl", &pipeline), (".quire/helper.lua", &helper)],
        &[],
    );
    for commit in [&[][..], &["--sha", "HEAD"]] {
        let run = project.ci(&[&["run", "--executor", "host"], commit].concat());
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        assert!(run.stdout.contains("\nfine\n"), "{}", run.stdout);
    }
}
