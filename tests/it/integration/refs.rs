//! Many refs, strange ones, tags, deleted and forced ones.

use std::collections::BTreeSet;

use quire_testkit::TestForge;
use quire_types::run::RunState;

use super::GREEN;
use crate::QUIRE;

#[test]
fn five_hundred_refs_at_once_are_one_event_and_five_hundred_runs() {
    let mut forge = TestForge::new(QUIRE);
    // Queued is what counts here; to execute them all is the queue's tests' business.
    forge
        .set("QUIRE_CI_CONCURRENT_RUNS", "1")
        .set("QUIRE_CI_MAX_RUNS_PER_PUSH", "500")
        .serve();
    let tree = forge.tree_with("many", GREEN);
    let head = tree.git_ok(&["rev-parse", "HEAD"]);
    let refs: String = (0..500)
        .map(|at| format!("create refs/heads/many/{at} {head}\n"))
        .collect();
    tree.git_with(&["update-ref", "--stdin"], refs.as_bytes());
    let reply = tree.push(&["refs/heads/many/*:refs/heads/many/*"]);
    let runs = forge.runs();
    assert_eq!(runs.len(), 500);
    assert_eq!(
        runs.iter()
            .map(|run| run.event_id)
            .collect::<BTreeSet<_>>()
            .len(),
        1
    );
    assert_eq!(
        runs.iter()
            .map(|run| run.ref_name.clone())
            .collect::<BTreeSet<_>>()
            .len(),
        500
    );
    assert!(reply.contains("… and 490 more runs"), "{reply}");
    assert!(forge.get("/runs").status == 200 && forge.get("/healthz").status == 200);
    // The same refs again: git has nothing to say, so there is nothing to do.
    tree.push(&["refs/heads/many/*:refs/heads/many/*"]);
    assert_eq!(forge.runs().len(), 500);
    for run in runs {
        forge.store().runs().request_cancel(run.id).unwrap();
    }
    forge.wait_for_quiet();
    forge.check_whole();
}

#[test]
fn strange_names_are_names_like_any_other() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    let strange = [
        "a'b\"c",
        "$(id)",
        "`id`;x",
        "ünï/💥",
        "-dash",
        "a&&b|c",
        "%n%s",
        "<script>alert(1)",
        "#1",
        "a.b-c_d@e",
    ];
    let specs: Vec<String> = strange
        .iter()
        .map(|name| format!("main:refs/heads/{name}"))
        .collect();
    tree.push(&specs.iter().map(String::as_str).collect::<Vec<_>>());
    forge.wait_for_quiet();
    let runs = forge.runs();
    let names: BTreeSet<&str> = runs.iter().map(|run| run.ref_name.short()).collect();
    assert_eq!(names, strange.into_iter().collect());
    for run in &runs {
        assert_eq!(run.state, RunState::Complete, "{run:?}");
        let page = forge.get(&format!("/runs/{}", run.id));
        assert!(
            page.status == 200 && !page.body.contains("<script>alert"),
            "{}",
            page.body
        );
    }
    assert!(!forge.get("/runs").body.contains("<script>alert"));
    forge.check_whole();
}

#[test]
fn tags_forced_pushes_and_deletions() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree("app", "app");
    tree.write(
        ".quire/ci.fnl",
        r#"(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: log : jobs}] (let [p (jobs :quire/push)]
(log (.. "branch " (tostring p.branch) " tag " (tostring p.tag) " forced " (tostring p.forced))))))
"#,
    );
    tree.commit("first");
    tree.git_ok(&["tag", "light"]);
    tree.git_ok(&["tag", "-a", "-m", "x", "v1"]);
    tree.push(&["main", "light", "v1"]);
    forge.wait_for_quiet();
    let log = |name: &str| {
        let runs = forge.runs();
        let run = runs
            .iter()
            .rfind(|run| run.ref_name.as_str() == name)
            .unwrap_or_else(|| panic!("no run of {name}: {runs:?}"));
        assert_eq!(run.state, RunState::Complete, "{run:?}");
        forge.ssh_ok(&format!("run logs {}", run.id))
    };
    assert!(log("refs/heads/main").contains("branch main tag nil forced false"));
    assert!(log("refs/tags/light").contains("branch nil tag light forced false"));
    assert!(log("refs/tags/v1").contains("branch nil tag v1 forced false"));

    tree.git_ok(&["commit", "-q", "--amend", "-m", "again"]);
    tree.push(&["--force", "main"]);
    forge.wait_for_quiet();
    assert!(log("refs/heads/main").contains("branch main tag nil forced true"));

    // Deleted refs, notes and other namespaces make no run.
    let before = forge.runs().len();
    let reply = tree.push(&[":light", ":refs/tags/v1"]);
    assert!(!reply.contains("queued"), "{reply}");
    tree.git_ok(&["notes", "add", "-m", "a note"]);
    tree.push(&["refs/notes/commits", "main:refs/elsewhere/main"]);
    assert_eq!(forge.runs().len(), before);
    assert!(forge.spooled().is_empty());
    // A branch that comes back at the same commit is a push like any other.
    tree.push(&["main:side"]);
    tree.push(&[":side"]);
    tree.push(&["main:side"]);
    assert_eq!(forge.runs().len(), before + 2);
    forge.wait_for_quiet();
    forge.check_whole();
}
