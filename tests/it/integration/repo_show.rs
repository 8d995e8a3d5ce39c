//! What `repo show` says about a repository.

use std::fs;

use quire_testkit::{TestForge, transcript, wait_for};
use serde_json::{Value, json};

use crate::QUIRE;

const PIPELINE: &str = r#"
(local ci (require :quire.ci))
(local nightly (ci.cron :nightly "0 3 * * *"))
(ci.job :test [:quire/push] (fn [{: sh}] (sh "echo all is well")))
(ci.job :night [nightly] (fn [{: sh}] (sh "echo good night")))
"#;

const CONFIG: &str = r#"
{:ci {:docker-socket ["app@refs/heads/main" "other"] :privileges ["a*"]}
 :hooks {:deploy {:repo "app" :secret {:env "HOOK"}} :else {:repo "other" :secret {:env "HOOK"}}}
 :secrets {:all {:env "ALL"}
           :tagged {:env "TAGGED" :repos ["app"] :refs ["refs/tags/*"]}
           :others {:env "OTHERS" :repos ["other"]}}}
"#;

fn facts(forge: &TestForge, name: &str) -> Value {
    serde_json::from_str(&forge.ssh_ok(&format!("repo show {name} --json"))).unwrap()
}

/// The lines of the text that begin with this name.
fn line(text: &str, name: &str) -> String {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
    lines.next().unwrap_or_default().trim().to_owned()
}

#[test]
fn a_repository_is_shown_with_what_belongs_to_it() {
    let mut forge = TestForge::new(QUIRE);
    fs::write(forge.paths.config_fennel(), CONFIG).unwrap();
    forge.serve();
    let tree = forge.tree_with("app", PIPELINE);
    tree.write(
        ".quire/config.fnl",
        "{:public true :description \"Tools of mine\"}",
    );
    tree.commit("Say what it is");
    tree.git_ok(&["tag", "v1"]);
    tree.push(&["main", "v1", "main:other"]);
    forge.wait_for_quiet();
    forge.ssh_with("secret set stored --repo app", b"a value that is long");
    forge.ssh_ok("repo rename app shop/app");

    let shown = wait_for("the schedules to be read", || {
        let shown = facts(&forge, "shop/app");
        shown["schedules"][0].is_object().then_some(shown)
    });
    assert_eq!(shown, facts(&forge, "app"), "by any name");
    let kept = ["repo", "description", "public", "public_runs", "problems"];
    let kept = kept.map(|key| shown[key].clone());
    assert_eq!(
        json!(kept),
        json!(["shop/app", "Tools of mine", true, false, []])
    );
    assert_eq!(
        json!([shown["branches"], shown["tags"], shown["default_branch"]]),
        json!([2, 1, "main"])
    );
    assert!(shown["bytes"]["git"].as_u64() > Some(1000), "{shown}");
    assert!(shown["bytes"]["logs"].as_u64() > Some(0), "{shown}");
    assert_eq!(shown["newest_run"]["state"], "complete");
    assert!(shown["last_push_ms"].is_u64());
    let schedule = &shown["schedules"][0];
    assert_eq!(
        json!([schedule["name"], schedule["schedule"]]),
        json!(["nightly", "0 3 * * *"])
    );
    // The settings name the repository as it was called.
    assert_eq!(
        shown["granted"],
        json!({
            "secrets": [{"name": "all", "refs": null}],
            "docker_socket": [],
            "privileges": [],
            "hooks": ["deploy"],
        })
    );
    forge.ssh_ok("repo rename shop/app app");
    assert_eq!(
        facts(&forge, "app")["granted"],
        json!({
            "secrets": [
                {"name": "all", "refs": null},
                {"name": "stored", "refs": null},
                {"name": "tagged", "refs": ["refs/tags/*"]},
            ],
            "docker_socket": [{"name": "app", "refs": ["refs/heads/main"]}],
            "privileges": [{"name": "a*", "refs": null}],
            "hooks": ["deploy"],
        })
    );
    let text = forge.ssh_ok("repo show app");
    for (name, value) in [
        ("repository", "app"),
        ("description", "Tools of mine"),
        ("visibility", "public"),
        ("secrets", "all, stored, tagged at refs/tags/*"),
        ("docker socket", "app at refs/heads/main"),
        ("webhooks", "deploy"),
        ("object ids", "sha1"),
    ] {
        assert_eq!(line(&text, name), value, "{text}");
    }
    let page = forge.get("/app").body;
    assert!(page.contains("<p>Tools of mine</p>"), "{page}");
}

#[test]
fn what_is_wrong_with_a_repository_is_shown() {
    let forge = TestForge::start(QUIRE);
    let empty = forge.ssh_ok("repo new empty");
    assert_eq!(empty, "created repository empty\n");
    let shown = facts(&forge, "empty");
    assert_eq!(
        json!([shown["default_branch"], shown["branches"], shown["public"]]),
        json!([null, 0, false])
    );
    assert_eq!(shown["newest_run"], Value::Null);
    let tree = forge.tree("work", "app");
    tree.write(".quire/config.fnl", "{:description 7}");
    tree.push_new("Be wrong");
    let text = forge.ssh_ok("repo show app");
    assert!(
        line(&text, "problem").contains("`description` must be a text, not 7"),
        "{text}"
    );
    let missing = forge.ssh("repo show ap");
    assert_eq!(missing.status.code(), Some(3));
    assert!(
        transcript(&missing).contains("did you mean `app`?"),
        "{}",
        transcript(&missing)
    );
    // A repository whose objects are gone is still shown.
    fs::write(forge.paths.repo(&"app".parse().unwrap()).join("HEAD"), "x").unwrap();
    let shown = facts(&forge, "empty");
    assert_eq!(shown["unreadable"], Value::Null);
}
