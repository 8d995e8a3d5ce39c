//! Repositories that are allowed and rare: odd names, odd commits, odd refs, odd pipelines. Each is pushed, run where it
//! has a pipeline, and looked at in the browser.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use quire_testkit::{TestForge, Tree};
use quire_types::run::{FailureKind, Run, RunState};

use super::{GREEN, one};
use crate::QUIRE;

/// The newest run of a repository, ended.
fn ended(forge: &TestForge, repo: &str) -> Run {
    forge.end_of(forge.newest(repo).id)
}

fn log(forge: &TestForge, run: &Run) -> String {
    forge.ssh_ok(&format!("run logs {}", run.id))
}

/// Every page of the repository answers.
#[track_caller]
fn pages_answer(forge: &TestForge, repo: &str, more: &[&str]) {
    let usual = [
        "",
        "/-/log/HEAD",
        "/-/branches",
        "/-/tags",
        "/-/commit/HEAD",
    ];
    for page in usual.iter().chain(more) {
        let page = format!("/{repo}{page}");
        assert_eq!(forge.get(&page).status, 200, "{page}");
    }
    for run in forge.runs_of(repo) {
        assert_eq!(forge.get(&format!("/runs/{}", run.id)).status, 200);
    }
    assert_eq!(forge.get("/").status, 200);
}

fn write_bytes(tree: &Tree, name: &[u8], content: &[u8]) {
    let path = tree.path.join(OsStr::from_bytes(name));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn a_pipeline_with_the_line_ends_of_windows_runs() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree("app", "app");
    let text = format!("\u{feff}{}", GREEN.replace('\n', "\r\n"));
    write_bytes(&tree, b".quire/ci.fnl", text.as_bytes());
    tree.push_new("first");
    let run = ended(&forge, "app");
    assert_eq!(run.state, RunState::Complete, "{run:?}");
}

#[test]
fn a_private_key_is_a_secret_that_programs_can_read() {
    let mut forge = TestForge::new(QUIRE);
    let key = forge.file("key");
    quire_testkit::generate_key(&key, "deploy");
    let config = format!(
        "{{:secrets {{:key {{:file {:?}}}}}}}",
        key.display().to_string()
    );
    fs::write(forge.paths.config_fennel(), config).unwrap();
    forge.serve();
    let pipeline = r#"(local ci (require :quire.ci))
(ci.job :a [:quire/push]
  (fn [{: sh : secret : write-file}]
    (write-file "k" (secret :key))
    (sh "chmod 600 k; ssh-keygen -y -f k; cat k")))
"#;
    forge.tree_with("app", pipeline).push(&["main"]);
    let run = ended(&forge, "app");
    let log = log(&forge, &run);
    assert_eq!(run.state, RunState::Complete, "{run:?}\n{log}");
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    let public: Vec<_> = public.split(' ').take(2).collect();
    assert!(log.contains(&public.join(" ")), "{log}");
    for line in fs::read_to_string(&key).unwrap().lines() {
        assert!(line.starts_with("-----") || !log.contains(line), "{log}");
    }
}

#[test]
fn names_of_files_that_git_allows_reach_a_run_and_the_pages() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree("app", "app");
    let long = "n".repeat(255);
    let names: [&[u8]; 12] = [
        b"latin-\xe9\xff",
        b"new\nline",
        b"tab\tquote\"single'",
        b"-rf",
        b"back\\slash",
        b" space ",
        b"percent%41#?&",
        b"README",
        b"readme",
        b"con",
        long.as_bytes(),
        "\u{1f680}/\u{202e}abc".as_bytes(),
    ];
    for name in names {
        write_bytes(&tree, name, name);
    }
    let check = names.len() + 2;
    tree.write(".quire/ci.fnl", &one(&format!("find . -type f -print0 | tr -cd '\\0' | wc -c; test $(find . -type f -print0 | tr -cd '\\0' | wc -c) = {}", check - 1)));
    tree.push_new("odd names");
    let run = ended(&forge, "app");
    assert_eq!(
        run.state,
        RunState::Complete,
        "{run:?}\n{}",
        log(&forge, &run)
    );
    let encoded = |name: &[u8]| {
        name.iter()
            .map(|byte| format!("%{byte:02X}"))
            .collect::<String>()
    };
    for name in names {
        let file = format!("/-/file/HEAD/{}", encoded(name).replace("%2F", "/"));
        pages_answer(&forge, "app", &[&file, "/-/tree/HEAD"]);
    }
    forge.wait_for_quiet();
    forge.check_whole();
}

#[test]
fn commits_of_all_times_and_without_words_are_shown_and_run() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    let commit = |date: &str, message: &str| {
        let mut command = tree.command(&[
            "commit",
            "-q",
            "--allow-empty",
            "--allow-empty-message",
            "-m",
            message,
        ]);
        let output = command
            .env("GIT_AUTHOR_DATE", date)
            .env("GIT_COMMITTER_DATE", date)
            .output();
        assert!(output.unwrap().status.success(), "{date}");
    };
    let long = "long ".repeat(20_000);
    for (date, message) in [
        ("@0 +0000", "1970"),
        ("@1 -1200", ""),
        ("@4102444800 +1400", "2100"),
        ("@99999999999 +0000", "the year 5138"),
        ("@1112911993 -0700", long.as_str()),
        (
            "@1112911993 +0000",
            "\u{202e}turned\u{0}".trim_end_matches('\0'),
        ),
        ("@1112911993 +0000", "<script>alert(1)</script>\n\n\n\n"),
    ] {
        commit(date, message);
        tree.push(&["main"]);
        let run = ended(&forge, "app");
        assert_eq!(run.state, RunState::Complete, "{run:?}");
        pages_answer(&forge, "app", &[]);
        assert!(!forge.get("/app").body.contains("<script>alert"));
        forge.ssh_ok("run list");
    }
    // A merge of many, and histories without a common commit.
    tree.git_ok(&["checkout", "-q", "--orphan", "other"]);
    tree.commit("another beginning");
    let id = tree.git_ok(&["rev-parse", "HEAD^{tree}"]);
    let parents: Vec<String> = (0..60)
        .map(|nth| tree.git_ok(&["commit-tree", "-m", &format!("side {nth}"), &id]))
        .collect();
    let mut merge = vec!["commit-tree", "-m", "a merge of sixty", &id];
    for parent in &parents {
        merge.extend(["-p", parent]);
    }
    let merge = tree.git_ok(&merge);
    tree.git_ok(&[
        "push",
        "-q",
        "--force",
        "origin",
        &format!("{merge}:refs/heads/main"),
    ]);
    let run = ended(&forge, "app");
    assert_eq!(
        (run.state, run.sha.as_str()),
        (RunState::Complete, merge.as_str())
    );
    pages_answer(&forge, "app", &[&format!("/-/commit/{merge}")]);
    forge.wait_for_quiet();
    forge.check_whole();
}

#[test]
fn refs_of_all_kinds_are_accepted_and_only_branches_and_tags_run() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    let blob = tree.git_with(&["hash-object", "-w", "--stdin"], b"text\n");
    let whole = tree.git_ok(&["rev-parse", "HEAD^{tree}"]);
    tree.git_ok(&["tag", "of-a-tree", &whole]);
    tree.git_ok(&["tag", "-a", "-m", "m", "of-a-blob", &blob]);
    tree.git_ok(&["tag", "-a", "-m", "m", "inner"]);
    tree.git_ok(&["tag", "-a", "-m", "m", "of-a-tag", "inner"]);
    tree.push(&["main"]);
    let reply = tree.push(&["of-a-tree", "of-a-blob", "of-a-tag"]);
    assert_eq!(reply.matches("queued").count(), 1, "{reply}");
    assert_eq!(ended(&forge, "app").ref_name.as_str(), "refs/tags/of-a-tag");
    pages_answer(
        &forge,
        "app",
        &["/-/tree/of-a-tag", "/-/log/of-a-tag", "/-/commit/of-a-tag"],
    );
    for odd in ["of-a-tree", "of-a-blob"] {
        for page in ["tree", "log", "commit"] {
            let status = forge.get(&format!("/app/-/{page}/{odd}")).status;
            assert!(status == 200 || status == 404, "{page} of {odd}: {status}");
        }
    }
    // Others than branches and tags.
    let before = forge.runs().len();
    for name in ["refs/notes/commits", "refs/replace/x", "refs/pull/1/head"] {
        let pushed = tree.git(&["push", "origin", &format!("HEAD:{name}")]);
        assert!(pushed.status.success(), "{name}: {pushed:?}");
    }
    forge.wait_for_empty_spool();
    assert_eq!(forge.runs().len(), before);
    // Names.
    for branch in [
        "feature/\u{1f680}",
        "-dash",
        "HEAD",
        "of-a-tag",
        "caf\u{e9}",
        "a.b+c@d,e",
        "%41",
        "latest",
    ] {
        let name = format!("refs/heads/{branch}");
        tree.push(&[&format!("main:{name}")]);
        let run = ended(&forge, "app");
        assert_eq!(
            (run.state, run.ref_name.as_str()),
            (RunState::Complete, name.as_str())
        );
        let list = forge.ssh_ok("run list --repo app");
        assert!(list.contains(branch), "{list}");
        let named = forge.ssh_ok(&format!("run show 'app@{branch}'"));
        assert!(named.contains(&run.id.to_string()), "{named}");
        forge.ssh_ok(&format!("run start app --source push --ref '{name}'"));
        assert_eq!(ended(&forge, "app").ref_name.as_str(), name);
    }
    pages_answer(
        &forge,
        "app",
        &["/-/tree/feature/%F0%9F%9A%80", "/-/log/-dash"],
    );
    forge.wait_for_quiet();
    forge.check_whole();
}

#[test]
fn two_thousand_branches_are_one_push() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    let head = tree.git_ok(&["rev-parse", "HEAD"]);
    let updates: String = (0..2000)
        .map(|nth| format!("create refs/heads/topic/{nth} {head}\n"))
        .collect();
    tree.git_with(&["update-ref", "--stdin"], updates.as_bytes());
    let reply = tree.push(&["--all"]);
    assert!(
        reply.contains("2001 refs have a pipeline, and a push makes at most 100 runs"),
        "{}",
        reply.lines().last().unwrap()
    );
    forge.wait_for_empty_spool();
    assert_eq!(forge.runs().len(), 100);
    assert!(forge.ssh_ok("repo list").contains("main"));
    pages_answer(&forge, "app", &["/-/tree/topic/1999"]);
    let deleted: Vec<String> = (0..2000)
        .map(|nth| format!(":refs/heads/topic/{nth}"))
        .collect();
    let deleted: Vec<&str> = deleted.iter().map(String::as_str).collect();
    tree.git_ok(&[&["push", "-q", "origin"][..], &deleted].concat());
    forge.wait_for_empty_spool();
    forge.wait_for_quiet();
    forge.check_whole();
}

/// Commits a submodule at this path.
fn gitlink(tree: &Tree, path: &str) {
    tree.write("file", "x");
    tree.commit("first");
    let id = tree.git_ok(&["rev-parse", "HEAD"]);
    let entry = format!("160000,{id},{path}");
    tree.git_ok(&["update-index", "--add", "--cacheinfo", &entry]);
    tree.git_ok(&["commit", "-q", "-m", "gitlink"]);
}

#[test]
fn pipelines_that_are_no_pipeline_fail_in_words() {
    let forge = TestForge::start(QUIRE);
    type LayOut = fn(&Tree);
    let kinds: [(&str, LayOut); 17] = [
        ("empty", |tree| tree.write(".quire/ci.fnl", "")),
        ("comment", |tree| {
            tree.write(".quire/ci.fnl", ";; later\n\n")
        }),
        ("binary", |tree| {
            write_bytes(tree, b".quire/ci.fnl", &[0, 159, 146, 150])
        }),
        ("folder", |tree| tree.write(".quire/ci.fnl/file", "x")),
        ("folder-of-lua", |tree| {
            tree.write(".quire/ci.lua/file", "x")
        }),
        ("folder-beside", |tree| {
            tree.write(".quire/ci.fnl", GREEN);
            tree.write(".quire/ci.lua/file", "x");
        }),
        ("dockerfile-folder", |tree| {
            tree.write(".quire/ci.fnl", GREEN);
            tree.write(".quire/Dockerfile/file", "x");
        }),
        ("only-dockerfile-folder", |tree| {
            tree.write(".quire/Dockerfile/file", "x");
        }),
        ("file-in-place", |tree| tree.write(".quire", "x")),
        ("link-to-file", |tree| {
            tree.write("ci", "x");
            symlink("ci", tree.path.join(".quire")).unwrap();
        }),
        ("loop", |tree| {
            fs::create_dir(tree.path.join(".quire")).unwrap();
            symlink("ci.fnl", tree.path.join(".quire/ci.fnl")).unwrap();
        }),
        ("folder-outside", |tree| {
            symlink("../elsewhere", tree.path.join(".quire")).unwrap();
        }),
        ("folder-missing", |tree| {
            symlink("ci", tree.path.join(".quire")).unwrap();
        }),
        ("loop-of-folders", |tree| {
            symlink(".quire", tree.path.join(".quire")).unwrap()
        }),
        ("two", |tree| {
            tree.write(".quire/ci.fnl", GREEN);
            tree.write(".quire/ci.lua", "");
        }),
        ("gitlink", |tree| gitlink(tree, ".quire")),
        ("gitlink-of-file", |tree| gitlink(tree, ".quire/ci.fnl")),
    ];
    let mut told = String::new();
    for (name, lay_out) in kinds {
        let tree = forge.tree(name, name);
        lay_out(&tree);
        if !name.starts_with("gitlink") {
            tree.commit("first");
        }
        let reply = tree.push(&["main"]);
        forge.wait_for_empty_spool();
        let run = forge.runs_of(name).pop().map(|run| forge.end_of(run.id));
        let outcome = run.as_ref().map_or("no run".to_owned(), |run| {
            assert!(
                matches!(run.failure_kind, None | Some(FailureKind::Pipeline)),
                "{name}: {run:?}"
            );
            format!(
                "{}: {}",
                run.state,
                run.message.as_deref().unwrap_or_default()
            )
        });
        let warned = reply.lines().filter(|line| line.contains("quire: warning"));
        let warned: String = warned
            .map(|line| format!("    {}\n", line.trim_end()))
            .collect();
        told += &format!(
            "{name}: {}\n{warned}",
            outcome.lines().next().unwrap_or_default()
        );
        pages_answer(&forge, name, &[]);
    }
    insta::assert_snapshot!(told);
    forge.wait_for_quiet();
    forge.check_whole();
}

#[test]
fn a_commit_without_files_and_a_very_deep_one_are_shown() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree("empty", "empty");
    tree.push_new("no files");
    forge.wait_for_empty_spool();
    assert!(forge.runs().is_empty());
    pages_answer(&forge, "empty", &["/-/tree/HEAD"]);

    let tree = forge.tree_with("deep", GREEN);
    let deep = vec!["d".repeat(50); 60].join("/");
    tree.write(&format!("{deep}/file"), "x");
    tree.push_new("a path of three thousand characters");
    let run = ended(&forge, "deep");
    assert_eq!(run.state, RunState::Complete, "{run:?}");
    pages_answer(&forge, "deep", &[&format!("/-/file/HEAD/{deep}/file")]);
    forge.wait_for_quiet();
    forge.check_whole();
}
