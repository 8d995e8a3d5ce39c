//! The log of operations, and undoing them.

use std::fs;

use quire_testkit::{TestForge, generate_key, transcript, wait_for};
use serde_json::Value;

use super::{GREEN, set_keep};
use crate::QUIRE;

fn log(forge: &TestForge, options: &str) -> Vec<Value> {
    let text = forge.ssh_ok(&format!("log --json {options}"));
    let list: Value = serde_json::from_str(&text).unwrap();
    list["operations"].as_array().unwrap().clone()
}

/// The newest operation, which has to be of this kind, by the key `laptop`, and done.
#[track_caller]
fn newest(forge: &TestForge, kind: &str) -> Value {
    let newest = log(forge, "--limit 1").remove(0);
    assert_eq!(newest["kind"], kind, "{newest}");
    assert_eq!(newest["state"], "done", "{newest}");
    assert_eq!(newest["actor"], "laptop", "{newest}");
    newest
}

/// The kinds of all operations, the oldest first.
fn kinds(forge: &TestForge) -> Vec<String> {
    let all = log(forge, "--limit 1000");
    let kinds = all.iter().rev().map(|one| one["kind"].as_str().unwrap());
    kinds.map(str::to_owned).collect()
}

/// Undoes the newest operation, which has to be of this kind.
#[track_caller]
fn undo(forge: &TestForge, kind: &str) -> String {
    let id = &newest(forge, kind)["id"];
    forge.ssh_ok(&format!("undo {id}"))
}

#[track_caller]
fn refused(forge: &TestForge, command: &str, code: i32, words: &str) {
    let output = forge.ssh(command);
    let text = transcript(&output);
    assert_eq!(output.status.code(), Some(code), "{command}: {text}");
    assert!(text.contains(words), "{command}: {text}");
}

/// Undoing the newest operation, which has to be of this kind, fails with these words.
#[track_caller]
fn has_no_undo(forge: &TestForge, kind: &str, words: &str) {
    let before = kinds(forge);
    let id = &newest(forge, kind)["id"];
    refused(forge, &format!("undo {id}"), 1, words);
    assert_eq!(kinds(forge), before, "what has no effect is not recorded");
}

#[test]
fn a_rename_is_undone_and_the_undo_as_well() {
    let forge = TestForge::start(QUIRE);
    forge.tree_with("app", GREEN).push(&["main"]);
    forge.wait_for_quiet();
    forge.ssh_ok("repo rename app shop");
    let rename = newest(&forge, "repo-rename");
    assert_eq!(
        (&rename["repo"], &rename["former_name"]),
        (&"shop".into(), &"app".into())
    );
    assert_eq!(rename["channel"], "ssh");
    assert!(
        rename["key_fingerprint"]
            .as_str()
            .unwrap()
            .starts_with("SHA256:")
    );
    let id = rename["id"].as_i64().unwrap();
    assert_eq!(
        forge.ssh_ok(&format!("undo {id}")),
        format!(
            "undid operation {id}: renamed shop to app\n`undo {}` takes that back\n",
            id + 1
        )
    );
    assert_eq!(forge.runs_of("app").len(), 1);
    refused(
        &forge,
        &format!("undo {id}"),
        1,
        &format!("was undone by operation {}", id + 1),
    );
    // The undo of the undo.
    forge.ssh_ok(&format!("undo {}", id + 1));
    assert_eq!(forge.runs_of("shop").len(), 1);
    let of_shop = log(&forge, "--repo shop");
    assert_eq!(of_shop.len(), 4, "also the push to `app`: {of_shop:?}");
    let listed = |at: usize, key: &str| of_shop[at][key].as_i64();
    assert_eq!(listed(0, "undoes"), Some(id + 1));
    assert_eq!(listed(1, "undone_by"), Some(id + 2));
    assert_eq!((listed(2, "id"), listed(2, "undone_by")), (Some(id), None));
    // A repository that has the name meanwhile is not touched.
    forge.ssh_ok("repo rename shop store");
    refused(&forge, &format!("undo {id}"), 1, "was renamed again");
    let text = forge.ssh_ok("log --repo store");
    assert!(text.contains("renamed shop to store"), "{text}");
    assert!(text.contains(&format!("undone by {}", id + 2)), "{text}");
    refused(&forge, "undo 999", 3, "there is no operation 999");
    refused(
        &forge,
        "log --repo nothing",
        3,
        "there is no repository `nothing`",
    );
}

#[test]
fn a_push_is_undone_as_far_as_it_overwrote_something() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main"]);
    forge.wait_for_empty_spool();
    has_no_undo(&forge, "push", "it overwrote nothing");
    let topic = tree.commit("topic");
    tree.push(&["main:topic", "main:other"]);
    tree.git_ok(&["reset", "-q", "--hard", "HEAD~1"]);
    let forced = tree.commit("another");
    tree.push(&["--force", "main:topic", ":other", "main:fresh"]);
    forge.wait_for_quiet();
    let push = newest(&forge, "push");
    assert_eq!(push["channel"], "push");
    assert_eq!(push["refs"].as_array().unwrap().len(), 3, "{push}");
    let heads = || {
        let listed = tree.git_ok(&["ls-remote", "--heads", "origin"]);
        let line = |line: &str| {
            let (id, name) = line.split_once('\t')?;
            Some((name.strip_prefix("refs/heads/")?.to_owned(), id.to_owned()))
        };
        listed
            .lines()
            .filter_map(line)
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let after = heads();
    assert_eq!(
        (after.get("topic"), after.get("other")),
        (Some(&forced), None)
    );
    let id = push["id"].as_i64().unwrap();
    forge.ssh_ok(&format!("undo {id}"));
    let back = heads();
    assert_eq!((&back["topic"], &back["other"]), (&topic, &topic));
    assert_eq!(back["fresh"], after["fresh"], "what was created stays");
    // It is one operation, recorded once, with runs as after a push.
    forge.wait_for_quiet();
    let undo = newest(&forge, "repo-undo");
    assert_eq!(
        (&undo["id"], &undo["undoes"]),
        (&(id + 1).into(), &id.into())
    );
    let newest_run = |name: &str| {
        let runs = forge.runs();
        let run = runs.iter().rfind(|run| run.ref_name.short() == name);
        run.map(|run| run.sha.to_string())
    };
    assert_eq!(newest_run("topic").as_ref(), Some(&topic));
    // And there again, all refs or none.
    forge.ssh_ok(&format!("undo {}", id + 1));
    assert_eq!(heads(), after);
    forge.ssh_ok(&format!("undo {id}"));
    assert_eq!(heads(), back);
    forge.wait_for_quiet();
    let id = newest(&forge, "repo-undo")["id"].as_i64().unwrap();
    tree.push(&["main:other", "--force"]);
    refused(&forge, &format!("undo {id}"), 1, "has moved since");
    assert_eq!(heads()["topic"], topic, "no ref is moved if one cannot be");
    // `repo undo` is in the log as well.
    forge.ssh_ok("repo undo app other");
    forge.wait_for_quiet();
    let moved = newest(&forge, "repo-undo");
    assert_eq!(moved["undoes"], Value::Null);
    forge.ssh_ok(&format!("undo {}", moved["id"]));
    assert_eq!(heads()["other"], forced);
}

#[test]
fn repositories_are_removed_restored_and_set_back() {
    let forge = TestForge::start(QUIRE);
    forge.ssh_ok("repo new empty");
    undo(&forge, "repo-new");
    assert!(newest(&forge, "repo-rm")["trash_id"].is_string());
    assert!(forge.ssh_ok("repo list --trash").contains("empty"));
    undo(&forge, "repo-rm");
    assert!(forge.ssh_ok("repo list").contains("empty"));
    undo(&forge, "repo-restore");
    // What was pushed to is not removed by an undo.
    let tree = forge.tree_with("app", GREEN);
    forge.ssh_ok("repo new app");
    let id = newest(&forge, "repo-new")["id"].clone();
    tree.push(&["main", "main:topic"]);
    forge.wait_for_quiet();
    refused(
        &forge,
        &format!("undo {id}"),
        1,
        "pushes to the repository followed",
    );
    forge.ssh_ok("repo default app topic");
    undo(&forge, "repo-default");
    assert!(forge.ssh_ok("repo list").contains("app         main"));
    undo(&forge, "repo-default");
    assert!(forge.ssh_ok("repo list").contains("app         topic"));
    forge.ssh_ok("repo rm app --yes");
    undo(&forge, "repo-rm");
    assert_eq!(forge.runs_of("app").len(), 2);
    forge.ssh_ok("repo rm app --now --yes");
    has_no_undo(
        &forge,
        "repo-rm",
        "a repository that was deleted is not kept",
    );
    forge.ssh_ok("repo rm empty --trash --yes");
    has_no_undo(
        &forge,
        "repo-delete",
        "a repository that was deleted is not kept",
    );
    // An operation that fails is recorded with its reason, and one that is refused is not.
    refused(&forge, "repo rename nothing other", 3, "no repository");
    newest(&forge, "repo-delete");
    forge.ssh_ok("repo new one");
    forge.ssh_ok("repo new two");
    refused(&forge, "repo rename one two", 1, "two");
    let failed = log(&forge, "--limit 1").remove(0);
    assert_eq!(failed["state"], "failed");
    assert!(
        failed["message"].as_str().unwrap().contains("two"),
        "{failed}"
    );
    refused(
        &forge,
        &format!("undo {}", failed["id"]),
        1,
        "failed, so there is nothing to undo",
    );
}

#[test]
fn keys_secrets_and_tokens_are_undone_where_that_is_safe() {
    let forge = TestForge::start(QUIRE);
    let line = generate_key(&forge.file("guest"), "guest");
    let limited = format!("from=\"10.0.0.0/8\" {}", line.trim());
    assert!(
        forge
            .ssh_with("key add", limited.as_bytes())
            .status
            .success()
    );
    newest(&forge, "key-add");
    let keys = || fs::read_to_string(forge.paths.authorized_keys()).unwrap();
    let with_key = keys();
    assert!(with_key.contains("from=\"10.0.0.0/8\""));
    forge.ssh_ok("key rm guest");
    assert_eq!(keys(), "");
    undo(&forge, "key-rm");
    assert_eq!(keys(), with_key, "the same line");
    undo(&forge, "key-add");
    assert_eq!(keys(), "");
    let removed = newest(&forge, "key-rm")["id"].clone();
    assert!(forge.ssh_with("key add", line.as_bytes()).status.success());
    refused(&forge, &format!("undo {removed}"), 1, "is there already");
    // A value is never in the log.
    for value in ["hunter22hunter22", "hunter33hunter33"] {
        assert!(
            forge
                .ssh_with("secret set token", value.as_bytes())
                .status
                .success()
        );
    }
    has_no_undo(&forge, "secret-set", "the value before is not kept");
    let first = log(&forge, "--limit 2").remove(1)["id"].clone();
    refused(
        &forge,
        &format!("undo {first}"),
        1,
        "removed or set again since",
    );
    forge.ssh_ok("secret rm token");
    has_no_undo(
        &forge,
        "secret-rm",
        "the value of a removed secret is not kept",
    );
    assert!(
        forge
            .ssh_with("secret set token", b"hunter22hunter22")
            .status
            .success()
    );
    undo(&forge, "secret-set");
    assert!(!forge.ssh_ok("secret list").contains("token"));
    let database = fs::read(forge.paths.database()).unwrap();
    assert!(!String::from_utf8_lossy(&database).contains("hunter"));
    forge.ssh_ok("login --token laptop");
    undo(&forge, "token-new");
    has_no_undo(&forge, "token-revoke", "only the hash of a token is kept");
    forge.ssh_ok("login");
    has_no_undo(&forge, "login", "works once and ends");
    forge.ssh_ok("gc");
    has_no_undo(&forge, "gc", "it removed what was expired");
}

#[test]
fn runs_are_in_the_log_by_command_and_by_page() {
    let forge = TestForge::start(QUIRE);
    let gate = forge.file("gate");
    let pipeline = super::one(&super::gate(&gate));
    forge.tree_with("app", &pipeline).push(&["main"]);
    wait_for("the run", || gate.join("started").exists().then_some(()));
    forge.ssh_ok("run cancel app#1");
    has_no_undo(&forge, "run-cancel", "a run that was stopped cannot go on");
    forge.wait_for_quiet();
    fs::remove_file(gate.join("started")).unwrap();
    forge.ssh_ok("run retry app#1");
    let retry = newest(&forge, "run-retry");
    assert_eq!(retry["run"], forge.newest("app").id.to_string());
    undo(&forge, "run-retry");
    newest(&forge, "run-cancel");
    forge.wait_for_quiet();
    assert_eq!(
        forge.newest("app").state,
        quire_types::run::RunState::Canceled
    );
    refused(&forge, &format!("undo {}", retry["id"]), 1, "was undone by");
    forge.ssh_ok("run start app --source push");
    let start = newest(&forge, "run-start");
    fs::write(gate.join("go"), "").unwrap();
    forge.wait_for_quiet();
    refused(
        &forge,
        &format!("undo {}", start["id"]),
        1,
        "has ended already",
    );
    let page = format!("/runs/{}/retry", forge.newest("app").id);
    let answer = forge.post(&page, &[("Origin", "http://localhost")], "");
    assert!(answer.status < 400, "{}", answer.body);
    let by_page = log(&forge, "--limit 1").remove(0);
    assert_eq!(
        (&by_page["channel"], &by_page["kind"]),
        (&"web".into(), &"run-retry".into())
    );
    forge.wait_for_quiet();
}

#[test]
fn the_log_ends_where_the_configuration_says() {
    let mut forge = TestForge::new(QUIRE);
    set_keep(&forge, "operations", "\"1ms\"");
    forge.serve();
    forge.ssh_ok("repo new app");
    forge.ssh_ok("gc");
    // Only the collection itself is left.
    assert_eq!(kinds(&forge), ["gc"]);
}

#[test]
fn without_a_server_the_machine_itself_is_in_the_log() {
    let mut forge = TestForge::start(QUIRE);
    assert!(forge.stop().success());
    let made = forge.quire(&["repo", "new", "app"]).output().unwrap();
    assert!(made.status.success(), "{}", transcript(&made));
    let newest = log(&forge, "--limit 1").remove(0);
    assert_eq!(
        (&newest["actor"], &newest["channel"]),
        (&"local".into(), &"local".into())
    );
    assert_eq!(newest["key_fingerprint"], Value::Null);
    forge.serve();
}

#[test]
fn an_operation_that_the_log_cannot_take_is_done_all_the_same() {
    let forge = TestForge::start(QUIRE);
    let database = rusqlite::Connection::open(forge.paths.database()).unwrap();
    database
        .execute_batch(
            "CREATE TRIGGER full BEFORE INSERT ON operations BEGIN SELECT raise(ABORT, 'full'); END",
        )
        .unwrap();
    let made = forge.ssh("repo new app");
    let text = transcript(&made);
    assert!(made.status.success(), "{text}");
    assert!(
        text.contains("the log of operations does not have it"),
        "{text}"
    );
    assert!(forge.ssh_ok("repo list").contains("app"));
    database.execute_batch("DROP TRIGGER full").unwrap();
    assert_eq!(kinds(&forge), [""; 0]);
}
