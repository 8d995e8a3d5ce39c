//! Repositories that are removed and restored.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use quire_testkit::{TestForge, files_below, transcript, wait_for};
use quire_types::names::RepoName;
use quire_types::run::RunState;
use serde_json::Value;

use super::{gate, kept_bytes, one, removed_by_gc, set_keep};
use crate::QUIRE;

const KEEPS: &str = r#"
(local ci (require :quire.ci))
(local night (ci.cron :night "0 3 * * *"))
(ci.job :test [:quire/push] (fn [{: sh : artifact}] (sh "echo hello; echo made > out") (artifact "out")))
(ci.job :dark [night] (fn [{: sh}] (sh "echo dark")))
"#;

fn name(text: &str) -> RepoName {
    text.parse().unwrap()
}

fn json(forge: &TestForge, command: &str) -> Value {
    serde_json::from_str(&forge.ssh_ok(&format!("{command} --json"))).unwrap()
}

/// The command, which must fail with this code and these words.
#[track_caller]
fn refused(forge: &TestForge, command: &str, code: i32, words: &str) {
    let output = forge.ssh(command);
    let text = transcript(&output);
    assert_eq!(output.status.code(), Some(code), "{command}: {text}");
    assert!(text.contains(words), "{command}: {text}");
}

/// Each file of a repository with its content, except what git and quire write when they only look.
fn repository(forge: &TestForge, repo: &str) -> Vec<(String, Vec<u8>)> {
    let folder = forge.paths.repo(&name(repo));
    let shown = |path: &Path| path.strip_prefix(&folder).unwrap().display().to_string();
    let files = files_below(&folder);
    let mut files: Vec<_> = files
        .iter()
        .map(|path| (shown(path), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[track_caller]
fn wait_for_schedule(forge: &TestForge) {
    wait_for("the schedule", || {
        forge
            .ssh_ok("schedule list")
            .contains("night")
            .then_some(())
    });
}

#[test]
fn a_removed_repository_comes_back_as_it_was() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("old", KEEPS);
    tree.push(&["main", "main:side", "main:refs/tags/v1"]);
    forge.wait_for_quiet();
    forge.ssh_ok("repo rename old work/app");
    forge.ssh_ok("repo default work/app side");
    let folder = forge.paths.repo(&name("work/app"));
    fs::create_dir_all(folder.join("lfs/objects/ab/cd")).unwrap();
    fs::write(folder.join("lfs/objects/ab/cd/abcd"), "large").unwrap();
    fs::write(folder.join("description"), "the app\n").unwrap();
    wait_for_schedule(&forge);
    let (files, runs) = (
        repository(&forge, "work/app"),
        json(&forge, "run list --repo work/app"),
    );
    let run = forge.newest("work/app");
    let log = forge.ssh_ok(&format!("run logs {}", run.id));

    refused(&forge, "repo rm work/app", 2, "to the trash\n");
    let removed = json(&forge, "repo rm work/app --yes");
    let removed = &removed["repos"][0];
    assert_eq!(removed["repo"], "work/app");
    // Nothing shows it any more, and its names are free.
    assert!(!forge.paths.repos().join("work").exists());
    for page in ["/work/app", "/old", &format!("/runs/{}", run.id)] {
        assert_eq!(forge.get(page).status, 404, "{page}");
    }
    assert_eq!(json(&forge, "repo list"), serde_json::json!({"repos": []}));
    assert_eq!(forge.runs(), []);
    assert_eq!(forge.ssh_ok("schedule list"), "no schedules\n");
    for root in [forge.paths.runs_dir(), forge.paths.artifacts()] {
        assert!(!root.join("work").exists());
    }
    assert!(!tree.git(&["fetch", "origin"]).status.success());
    refused(
        &forge,
        "run list --repo work/app",
        3,
        "`repo restore work/app` brings it back",
    );
    let trash = json(&forge, "repo list --trash");
    let entry = &trash["trash"][0];
    assert_eq!(trash["trash"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&entry["repo"], &entry["trash_id"], &entry["until_ms"]),
        (&removed["repo"], &removed["trash_id"], &removed["until_ms"])
    );
    assert_eq!(entry["removed_by"], "laptop");
    let kept = 7 * 24 * 60 * 60 * 1000;
    assert_eq!(
        entry["until_ms"].as_i64().unwrap() - entry["removed_at_ms"].as_i64().unwrap(),
        kept
    );
    let size: u64 = files.iter().map(|(_, content)| content.len() as u64).sum();
    assert!(entry["bytes"].as_u64().unwrap() > size);
    // Housekeeping leaves all of it alone.
    assert_eq!(forge.ssh_ok("gc"), "nothing to remove\n");

    assert_eq!(
        forge.ssh_ok("repo restore work/app"),
        "restored repository work/app\n"
    );
    assert_eq!(repository(&forge, "work/app"), files);
    assert_eq!(json(&forge, "run list --repo work/app"), runs);
    assert_eq!(forge.ssh_ok(&format!("run logs {}", run.id)), log);
    assert_eq!(
        forge.ssh_ok(&format!("run artifacts get {} out", run.id)),
        "made\n"
    );
    assert_eq!(forge.ssh_ok("repo list --trash"), "the trash is empty\n");
    assert_eq!(forge.get("/work/app").status, 200);
    wait_for_schedule(&forge);
    // The old name redirects to it, and its runs are counted on.
    tree.commit("more");
    let pushed = tree.push(&["main"]);
    assert!(
        pushed.contains("old is now work/app") && pushed.contains("run work/app#4 queued"),
        "{pushed}"
    );
    forge.wait_for_quiet();
    assert_eq!(forge.runs().len(), 4, "the restore has made no run");
    let left = files_below(&forge.paths.trash());
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
    for root in [forge.paths.runs_dir(), forge.paths.artifacts()] {
        assert_eq!(fs::read_dir(root.join(".trash")).unwrap().count(), 0);
    }
    forge.check_whole();
}

#[test]
fn a_new_repository_of_the_same_name_stays_apart() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", KEEPS);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    let first = forge.newest("app");
    forge.ssh_ok("repo rm app --yes");
    let pushed = tree.push(&["main:topic"]);
    assert!(
        pushed.contains("created repository app") && pushed.contains("run app#2 queued"),
        "{pushed}"
    );
    forge.wait_for_quiet();
    let second = forge.newest("app");
    assert_eq!(
        tree.git_ok(&["ls-remote", "--heads", "origin"])
            .lines()
            .count(),
        1
    );
    refused(
        &forge,
        "repo restore app",
        1,
        "the repository `app` exists already",
    );
    assert_eq!(
        forge.ssh_ok("repo restore app --as work/old"),
        "restored repository work/old\n"
    );
    for (repo, run, branch) in [("app", &second, "topic"), ("work/old", &first, "main")] {
        let runs = forge.runs_of(repo);
        assert_eq!((runs.len(), runs[0].id), (1, run.id), "{repo}");
        assert!(
            forge
                .ssh_ok(&format!("run logs {}", run.id))
                .contains("hello")
        );
        let heads = tree.git_ok(&["ls-remote", "--heads", &format!("ssh://git@forge/{repo}")]);
        assert!(
            heads.lines().count() == 1 && heads.ends_with(branch),
            "{heads}"
        );
    }
    // Both can be removed, and of both the one that is named comes back.
    forge.ssh_ok("repo rm app --yes");
    forge.ssh_ok("repo rename work/old app");
    forge.ssh_ok("repo rm app --yes");
    let trash = json(&forge, "repo list --trash");
    let ids: Vec<&str> = trash["trash"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["trash_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 2);
    refused(&forge, "repo restore 0", 2, "use more digits");
    forge.ssh_ok("repo restore app");
    assert_eq!(
        forge.newest("app").id,
        first.id,
        "the last that was removed"
    );
    forge.ssh_ok(&format!("repo restore {} --as other", ids[1]));
    assert_eq!(forge.newest("other").id, second.id);
    forge.check_whole();
}

#[test]
fn what_cannot_be_restored_is_said() {
    let forge = TestForge::start(QUIRE);
    for repo in ["app", "shop"] {
        forge.ssh_ok(&format!("repo new {repo}"));
    }
    refused(
        &forge,
        "repo restore app",
        3,
        "the trash has no repository `app`",
    );
    forge.ssh_ok("repo rm app --yes");
    forge.ssh_ok("repo rename shop store");
    refused(&forge, "repo restore ap", 3, "repo list --trash");
    refused(
        &forge,
        "repo restore app --as store",
        1,
        "the repository `store` exists already",
    );
    refused(
        &forge,
        "repo restore app --as shop",
        1,
        "`shop` is now `store`",
    );
    refused(
        &forge,
        "repo restore app --as 01a1ffdd-3872-764c-ab54-747d29d5f961",
        2,
        "looks like the id of a run",
    );
    refused(
        &forge,
        "repo restore app --as ../x",
        2,
        "not a repository name",
    );
    refused(
        &forge,
        "repo rm app --yes",
        3,
        "`repo restore app` brings it back",
    );
    assert_eq!(
        json(&forge, "repo list")["repos"].as_array().unwrap().len(),
        1
    );
    // A failed attempt changes nothing.
    forge.ssh_ok("repo restore app");
    forge.check_whole();
}

#[test]
fn what_is_deleted_at_once_is_not_in_the_trash() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", KEEPS);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    refused(&forge, "repo rm app --now", 2, "permanently\n");
    assert_eq!(
        forge.ssh_ok("repo rm app --now --yes"),
        "deleted repository app\n"
    );
    assert_eq!(forge.ssh_ok("repo list --trash"), "the trash is empty\n");
    // From the trash.
    tree.push(&["main"]);
    forge.wait_for_quiet();
    forge.ssh_ok("repo rm app --yes");
    refused(&forge, "repo rm app --trash", 2, "permanently\n");
    assert_eq!(
        forge.ssh_ok("repo rm app --trash --yes"),
        "deleted repository app\n"
    );
    refused(&forge, "repo restore app", 3, "has no repository");
    for folder in [
        forge.paths.trash(),
        forge.paths.runs_dir(),
        forge.paths.artifacts(),
    ] {
        assert!(files_below(&folder).is_empty(), "{}", folder.display());
    }
    forge.check_whole();
}

#[test]
fn the_trash_is_emptied_when_its_time_is_over() {
    let mut forge = TestForge::new(QUIRE);
    set_keep(&forge, "trash", "\"2h\"");
    forge.serve();
    let tree = forge.tree_with("app", KEEPS);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    forge.ssh_ok("repo rm app --yes");
    assert_eq!(forge.ssh_ok("gc"), "nothing to remove\n");
    assert!(kept_bytes(&forge, "trash") > 1000);
    // A changed setting holds for what is in the trash already.
    set_keep(&forge, "trash", "\"1ms\"");
    forge.signal(Signal::SIGHUP);
    let emptied = removed_by_gc(&forge);
    assert!(
        emptied.starts_with("removed 1 repository in the trash: "),
        "{emptied}"
    );
    assert_eq!(kept_bytes(&forge, "trash"), 0);
    assert!(files_below(&forge.paths.trash()).is_empty());
    assert!(files_below(&forge.paths.artifacts()).is_empty());
    // Without a trash, a repository is deleted.
    set_keep(&forge, "trash", "0");
    forge.signal(Signal::SIGHUP);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    wait_for("the command to know", || {
        transcript(&forge.ssh("repo rm app"))
            .contains("permanently")
            .then_some(())
    });
    assert_eq!(
        forge.ssh_ok("repo rm app --yes"),
        "deleted repository app\n"
    );
    forge.check_whole();
}

#[test]
fn runs_that_had_not_ended_are_canceled() {
    let forge = TestForge::start(QUIRE);
    let folder = forge.file("gate");
    let tree = forge.tree_with("app", &one(&gate(&folder)));
    tree.push(&["main"]);
    wait_for("the command", || {
        folder.join("started").exists().then_some(())
    });
    tree.push(&["main:waits", "main:too"]);
    forge.ssh_ok("repo rm app --yes");
    assert_eq!(forge.runs(), []);
    forge.ssh_ok("repo restore app");
    let runs = forge.runs();
    assert_eq!(runs.len(), 3);
    for run in &runs {
        assert_eq!(run.state, RunState::Canceled, "{run:?}");
    }
    forge.wait_for_quiet();
    assert_eq!(forge.runs().len(), 3, "nothing runs again");
    fs::write(folder.join("go"), "").unwrap();
    forge.ssh_ok(&format!("run retry {}", runs[0].id));
    forge.wait_for_quiet();
    assert_eq!(forge.newest("app").state, RunState::Complete);
    forge.check_whole();
}

#[test]
fn a_push_that_was_not_recorded_has_its_run_after_the_restore() {
    let mut forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", KEEPS);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    assert!(forge.stop().success());
    let sha = tree.commit("more");
    tree.push(&["main"]);
    forge.ssh_ok("repo rm app --yes");
    forge.serve();
    forge.wait_for_empty_spool();
    assert_eq!(forge.runs(), [], "its repository is gone");
    forge.ssh_ok("repo restore app");
    let run = wait_for("its run", || {
        forge.runs().into_iter().find(|run| run.sha.as_str() == sha)
    });
    assert_eq!(forge.end_of(run.id).state, RunState::Complete);
    forge.wait_for_quiet();
    assert_eq!(forge.runs().len(), 2);
    forge.check_whole();
}
