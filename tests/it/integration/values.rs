//! What `(jobs :quire/push)` gives, of real pushes.

use std::os::unix::ffi::OsStrExt as _;
use std::{ffi::OsStr, fs};

use quire_testkit::{TestForge, Tree};
use serde_json::{Value, json};

use crate::QUIRE;

/// A pipeline whose one job gives the values as it sees them.
const GIVES: &str = "(local ci (require :quire.ci))
(ci.job :give [:quire/push] (fn [{: jobs : log}] (let [push (jobs :quire/push)] (log :seen) push)))
";

/// The values that the newest run of a ref saw.
#[track_caller]
fn seen(forge: &TestForge, ref_name: &str) -> Value {
    let runs = forge.runs_of("app");
    let run = runs
        .iter()
        .rfind(|run| run.ref_name.as_str() == ref_name)
        .unwrap_or_else(|| panic!("no run of {ref_name}"));
    let run = forge.end_of(run.id);
    let job = forge.jobs(run.id).remove(0);
    job.output
        .unwrap_or_else(|| panic!("{:?} {run:?}", job.message))
}

fn changed(values: &Value) -> Vec<&str> {
    // An empty table is no list yet.
    values["files-changed"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|name| name.as_str().unwrap())
        .collect()
}

fn started() -> (TestForge, Tree) {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GIVES);
    (forge, tree)
}

#[test]
fn branches_first_and_later_and_new_ones() {
    let (forge, tree) = started();
    tree.write("a", "1");
    let first = tree.commit("Add a\n\nand say why");
    tree.push(&["main"]);
    let values = seen(&forge, "refs/heads/main");
    assert_eq!(
        changed(&values),
        [".quire/ci.fnl", "a"],
        "the first push of all brings all files"
    );
    let pushed_at = values["pushed-at"].as_str().unwrap();
    assert!(pushed_at.parse::<jiff::Timestamp>().is_ok(), "{pushed_at}");
    assert_eq!(
        values,
        json!({
            "sha": first, "ref": "refs/heads/main", "branch": "main", "pusher": "laptop", "pushed-at": pushed_at,
            "message": "Add a\n\nand say why", "files-changed": [".quire/ci.fnl", "a"], "forced": false,
        }),
        "what does not apply is nil"
    );

    tree.write("b", "1");
    tree.commit("two");
    tree.write("c", "1");
    fs::remove_file(tree.path.join("a")).unwrap();
    let second = tree.push_new("three");
    let values = seen(&forge, "refs/heads/main");
    assert_eq!(
        changed(&values),
        ["a", "b", "c"],
        "all commits of the push, and what was deleted"
    );
    assert_eq!(values["previous-sha"], json!(first));
    assert_eq!(values["sha"], json!(second));
    assert_eq!(values["forced"], false);

    // A new branch: what its own commits changed since it left the default branch, which went on meanwhile.
    tree.git_ok(&["switch", "-qc", "feature/ü", &first]);
    tree.write("d", "1");
    tree.commit("four");
    tree.push(&["HEAD"]);
    let values = seen(&forge, "refs/heads/feature/ü");
    assert_eq!(changed(&values), vec!["d"]);
    assert_eq!(values["branch"], "feature/ü");
    assert_eq!(values.get("previous-sha"), None);
    tree.write("e", "1");
    tree.commit("five");
    tree.push(&["HEAD"]);
    assert_eq!(changed(&seen(&forge, "refs/heads/feature/ü")), ["e"]);
    // One without commits of its own has changed nothing; one that shares none has all files.
    tree.push(&["main:refs/heads/same"]);
    assert_eq!(changed(&seen(&forge, "refs/heads/same")), [""; 0]);
    tree.git_ok(&["switch", "-q", "--orphan", "apart"]);
    tree.write(".quire/ci.fnl", GIVES);
    tree.commit("apart");
    tree.push(&["HEAD"]);
    assert_eq!(
        changed(&seen(&forge, "refs/heads/apart")),
        [".quire/ci.fnl"]
    );
}

#[test]
fn merges_forced_pushes_and_tags() {
    let (forge, tree) = started();
    tree.write("a", "1");
    tree.push_new("one");
    let base = tree.git_ok(&["rev-parse", "HEAD"]);
    tree.git_ok(&["switch", "-qc", "side"]);
    tree.write("side", "1");
    tree.commit("side");
    tree.git_ok(&["switch", "-q", "main"]);
    tree.write("b", "1");
    tree.commit("two");
    tree.git_ok(&["merge", "-q", "--no-ff", "-m", "Merge side", "side"]);
    tree.push(&["main"]);
    let values = seen(&forge, "refs/heads/main");
    assert_eq!(changed(&values), vec!["b", "side"]);
    assert_eq!(values["message"], "Merge side");
    assert_eq!(values["forced"], false);
    let merged = values["sha"].as_str().unwrap().to_owned();

    // A forced push gives up commits: what they changed counts as changed as well.
    tree.git_ok(&["reset", "-q", "--hard", &base]);
    tree.write("c", "1");
    tree.commit("instead");
    tree.push(&["--force", "main"]);
    let values = seen(&forge, "refs/heads/main");
    assert_eq!(changed(&values), vec!["b", "c", "side"]);
    assert_eq!(values["forced"], true);
    assert_eq!(values["previous-sha"], json!(merged));
    // Back to an older commit is a forced push, too.
    tree.git_ok(&["reset", "-q", "--hard", &base]);
    tree.push(&["--force", "main"]);
    let values = seen(&forge, "refs/heads/main");
    assert_eq!(changed(&values), vec!["c"]);
    assert_eq!(values["forced"], true);
    assert_eq!(values["sha"], json!(base));

    // Tags, light and annotated: no branch, and all files.
    tree.push(&["main:refs/tags/light"]);
    let values = seen(&forge, "refs/tags/light");
    assert_eq!(values["tag"], "light");
    assert_eq!(values.get("branch"), None);
    assert_eq!(values.get("previous-sha"), None);
    assert_eq!(changed(&values), [".quire/ci.fnl", "a"]);
    tree.git_ok(&["tag", "-am", "Release 1.0\n\nnotes", "v1.0", "main"]);
    tree.push(&["v1.0"]);
    let values = seen(&forge, "refs/tags/v1.0");
    assert_eq!(values["tag"], "v1.0");
    assert_eq!(values["message"], "one", "the message is the commit's");
    // A tag that was moved.
    tree.write("d", "1");
    tree.commit("moved");
    tree.git_ok(&["tag", "-f", "light"]);
    tree.push(&["--force", "light"]);
    let values = seen(&forge, "refs/tags/light");
    assert_eq!(changed(&values), vec!["d"]);
    assert_eq!(values["previous-sha"], json!(base));
    assert_eq!(values["forced"], false);
}

#[test]
fn ten_thousand_files_and_odd_names() {
    let (forge, tree) = started();
    tree.push_new("first");
    let names = [
        "a b",
        "new\nline",
        "\"quoted\"",
        "back\\slash",
        "ü",
        "tab\t",
        "-dash",
        "[glob]*",
    ];
    for name in names {
        fs::write(tree.path.join(name), "").unwrap();
    }
    fs::write(tree.path.join(OsStr::from_bytes(b"latin-\xe4")), "").unwrap();
    tree.push_new("odd names");
    let values = seen(&forge, "refs/heads/main");
    let mut expected: Vec<&str> = names.to_vec();
    expected.push("latin-\u{fffd}");
    let mut found = changed(&values);
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);

    fs::create_dir(tree.path.join("many")).unwrap();
    for number in 0..10_000 {
        fs::write(tree.path.join(format!("many/file-{number:05}")), "").unwrap();
    }
    tree.push_new("many");
    let values = seen(&forge, "refs/heads/main");
    let found = changed(&values);
    assert_eq!(found.len(), 10_000);
    assert_eq!(found[0], "many/file-00000");
    assert_eq!(found[9_999], "many/file-09999");
}
