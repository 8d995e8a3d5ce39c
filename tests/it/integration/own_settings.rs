//! What a repository says of its own runs, secrets and mirrors in `.quire/config.fnl` on its default branch.

use std::fs;
use std::path::Path;

use quire_testkit::{
    CertificateAuthority, GitHttpServer, TestForge, Tree, git_in, stdout, transcript, wait_for,
};
use serde_json::Value;

use super::mirrors::{TOKEN, mirror, wait_for_state};
use super::one;
use crate::QUIRE;

/// A forge with this configuration, not started.
fn forge_with(config: &str) -> TestForge {
    let forge = TestForge::new(QUIRE);
    fs::write(forge.paths.config_fennel(), config).unwrap();
    forge
}

/// Pushes these settings and a pipeline to a branch, and returns the run when it has ended.
fn push(forge: &TestForge, tree: &Tree, branch: &str, settings: &str, pipeline: &str) -> Value {
    tree.write(".quire/config.fnl", settings);
    tree.write(".quire/ci.fnl", pipeline);
    let sha = tree.commit("change");
    tree.push(&[&format!("HEAD:{branch}")]);
    forge.wait_for_quiet();
    let list: Value = serde_json::from_str(&forge.ssh_ok("run list --json")).unwrap();
    let runs = list["runs"].as_array().unwrap();
    let found = runs.iter().find(|run| run["sha"] == sha.as_str());
    found.unwrap().clone()
}

/// What `status` says of the settings of a repository, once it says this.
fn wait_for_finding(forge: &TestForge, repo: &str, text: &str) -> String {
    let prefix = format!("repositories: {repo}: ");
    wait_for(&format!("a finding with {text:?}"), || {
        let status = transcript(&forge.ssh("status"));
        let lines = status.lines().filter_map(|line| line.strip_prefix(&prefix));
        let found = lines
            .collect::<Vec<_>>()
            .join("\n")
            .replace("; .quire", "\n.quire");
        found.contains(text).then_some(found)
    })
}

/// Limits of the default branch count for runs of all branches. One that is looser has no effect, and says so.
#[test]
fn a_repository_tightens_the_limits_of_its_runs() {
    let mut forge = forge_with("{:ci {:timeout \"10m\" :max-log \"1m\" :max-artifacts \"1k\"}}");
    forge.serve();
    let tree = forge.tree("app", "app");
    let slow = one("sleep 600");
    let loose = "{:ci {:timeout \"1s\"\n :memory \"900g\"\n :pids 0}}";
    let run = push(&forge, &tree, "main", loose, &slow);
    assert_eq!(run["failure_kind"], "timeout", "{run}");
    let found = wait_for_finding(&forge, "app", "no effect");
    insta::assert_snapshot!(found.replace(&own_memory(&forge), "MEMORY"));
    // A branch cannot say otherwise, and neither can a pipeline.
    let pipeline = format!(
        "(local ci (require :quire.ci))\n(ci.timeout \"5m\")\n{}",
        body(&slow)
    );
    let run = push(&forge, &tree, "side", "{:ci {:timeout \"9m\"}}", &pipeline);
    assert_eq!(run["failure_kind"], "timeout", "{run}");
    let log = stdout(&forge.ssh(&format!("run logs {}", run["id"].as_str().unwrap())));
    assert!(
        log.contains("the settings of the repository allow only 1s"),
        "{log}"
    );
    // Without the limit on the default branch the owner's count again.
    let quick = one("true");
    let run = push(&forge, &tree, "main", "{}", &quick);
    assert_eq!(run["state"], "complete", "{run}");
    wait_for("no finding", || {
        let status = transcript(&forge.ssh("status"));
        (!status.contains("repositories: app")).then_some(())
    });
}

/// The memory that the owner's configuration allows, as a setting.
fn own_memory(forge: &TestForge) -> String {
    let shown: Value = serde_json::from_str(&forge.ssh_ok("config show --json")).unwrap();
    let settings = shown["settings"].as_array().unwrap();
    let memory = settings.iter().find(|one| one["setting"] == "ci.memory");
    memory.unwrap()["value"].as_str().unwrap().to_owned()
}

/// A pipeline without its first line.
fn body(pipeline: &str) -> &str {
    pipeline.split_once('\n').map_or(pipeline, |(_, rest)| rest)
}

#[test]
fn a_repository_names_the_secrets_that_its_runs_may_use() {
    let mut forge = forge_with(
        "{:secrets {:npm {:env \"NPM\"} :deploy {:env \"DEPLOY\"} :other {:env \"NPM\" :repos [\"shop\"]}}}",
    );
    forge
        .set("NPM", "npm-value-1")
        .set("DEPLOY", "deploy-value-1");
    forge.serve();
    let tree = forge.tree("app", "app");
    let uses = |name: &str| {
        format!(
            "(local ci (require :quire.ci))\n(ci.job :a [:quire/push] (fn [{{: secret : sh}}] (secret :{name}) (sh \"true\")))"
        )
    };
    let outcome = |branch: &str, settings: &str, name: &str| {
        let run = push(&forge, &tree, branch, settings, &uses(name));
        format!("{}: {}", run["state"].as_str().unwrap(), run["message"])
    };
    let outcomes = [
        outcome("main", "{}", "npm"),
        outcome("main", "{:secrets [:npm :npn :other]}", "npm"),
        outcome("main", "{:secrets [:npm :npn :other]}", "deploy"),
        // Another branch cannot add to what the default branch says.
        outcome("side", "{:secrets [:deploy]}", "deploy"),
        // What the owner does not grant cannot be had by naming it.
        outcome("main", "{:secrets [:npm :npn :other]}", "other"),
        outcome("main", "{:secrets []}", "npm"),
        outcome("main", "{:secrets \"npm\"}", "npm"),
        outcome("main", "{:secrets [:npm]", "npm"),
    ];
    insta::assert_snapshot!(outcomes.join("\n"));
    push(
        &forge,
        &tree,
        "main",
        "{:secrets [:npm :npn :other]}",
        &uses("npm"),
    );
    insta::assert_snapshot!(wait_for_finding(&forge, "app", "npn"));
    let shown: Value = serde_json::from_str(&forge.ssh_ok("repo show app --json")).unwrap();
    let granted = shown["granted"]["secrets"].as_array().unwrap();
    let names: Vec<_> = granted
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["npm"]);
}

/// A server with git over HTTPS, and a forge that may connect to it with the secret `hub`, not started.
fn forge_with_hub(authority: &CertificateAuthority, config: &str) -> (GitHttpServer, TestForge) {
    let server = GitHttpServer::start(&authority.certificate("127.0.0.1"), "me", TOKEN);
    let mut forge = forge_with(&config.replace("SERVER", server.url("").trim_end_matches('/')));
    forge
        .set("QUIRE_MIRRORS_ALLOWED_NETWORKS", "127.0.0.1")
        .set("SSL_CERT_FILE", authority.file().to_str().unwrap())
        .set("HUB", TOKEN);
    (server, forge)
}

const HUB: &str = "{:secrets {:hub {:env \"HUB\"}}}";

/// Settings with the mirror `hub` at this address, and with what follows.
fn with_hub(url: &str, more: &str) -> String {
    format!("{{:mirrors {{:hub {{:url \"{url}\" :user \"me\" :token \"hub\"}}}} {more}}}")
}

/// The commit of a branch; empty if there is no such branch.
fn tip(bare: &Path, branch: &str) -> String {
    let name = format!("refs/heads/{branch}");
    git_in(bare, &["for-each-ref", "--format=%(objectname)", &name])
}

/// A push is mirrored as it says itself, also before the settings in force follow; and so is one to a new repository of the same name.
#[test]
fn a_push_that_ends_a_mirror_is_not_mirrored() {
    let authority = CertificateAuthority::new();
    let (server, mut forge) = forge_with_hub(&authority, HUB);
    let bare = server.repo("app.git");
    forge.serve();
    let tree = forge.tree("app", "app");
    let settings = with_hub(&server.url("app.git"), "");
    let main = || tip(&bare, "main");
    let head = || tree.git_ok(&["rev-parse", "HEAD"]);
    let has_none = || {
        wait_for("the end of the mirror", || {
            mirror(&forge, "hub").is_null().then_some(())
        });
    };
    let green = one("true");
    for end in ["push", "rm"] {
        push(&forge, &tree, "main", &settings, &green);
        let before = head();
        wait_for("the commit there", || (main() == before).then_some(()));
        wait_for_state(&forge, "hub", "in-sync");
        if end == "rm" {
            forge.ssh_ok("repo rm app --yes");
        }
        push(&forge, &tree, "main", "{}", &green);
        has_none();
        assert_ne!(head(), before);
        assert_eq!(main(), before, "{end}");
    }
}

/// What another machine decided names no mirrors, which would have secrets of this one. A push makes it the repository's own.
#[test]
fn an_imported_file_names_no_mirrors_until_a_push() {
    let authority = CertificateAuthority::new();
    let (server, mut forge) = forge_with_hub(&authority, HUB);
    let bare = server.repo("upstream.git");
    let copy = server.repo("copy.git");
    forge.serve();
    // The other side is filled by a mirror of another repository.
    let source = forge.tree("source", "source");
    let green = one("true");
    push(
        &forge,
        &source,
        "main",
        &with_hub(&server.url("upstream.git"), ""),
        &green,
    );
    wait_for_state(&forge, "hub", "in-sync");
    let named = with_hub(&server.url("copy.git"), "").replace(":hub", ":copy");
    push(&forge, &source, "side", &named, &green);
    wait_for_state(&forge, "hub", "in-sync");
    wait_for("the branch there", || {
        (!tip(&bare, "side").is_empty()).then_some(())
    });
    git_in(&bare, &["symbolic-ref", "HEAD", "refs/heads/side"]);
    let url = server.url("upstream.git");
    let import = |name: &str, options: &str| {
        forge.ssh_ok(&format!(
            "repo import {url} {name} --secret hub --user me {options}"
        ))
    };
    let followed = || {
        let shown = forge.ssh_ok("repo show app --json");
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["mirrors"].as_array().unwrap().len()
    };
    import("other", "");
    import("app", "--mirror");
    wait_for_finding(&forge, "other", "imported from another machine");
    assert_eq!(mirror(&forge, "copy"), Value::Null);
    // The file is fetched anew, and still not pushed when it follows no more.
    let more = source.commit("more");
    source.push(&["HEAD:side"]);
    wait_for("the commit there", || {
        (tip(&bare, "side") == more).then_some(())
    });
    forge.ssh_ok("mirror sync app");
    assert_eq!(followed(), 1);
    forge.ssh_ok("mirror stop app");
    let app = forge.tree("app", "app");
    app.git_ok(&["pull", "-q", "origin", "side"]);
    app.push(&["HEAD:another"]);
    let found = wait_for_finding(&forge, "app", "imported from another machine");
    insta::assert_snapshot!(found);
    assert_eq!(mirror(&forge, "copy"), Value::Null);
    push(&forge, &app, "side", &named, &green);
    wait_for("the commit in the copy", || {
        let is_in_sync = mirror(&forge, "copy")["state"] == "in-sync";
        let is_there = tip(&copy, "side") == app.git_ok(&["rev-parse", "HEAD"]);
        (is_in_sync && is_there).then_some(())
    });
}

/// Commands change what a default branch is as a push does, and are noticed at once. So are secrets that are named.
#[test]
fn a_command_changes_the_mirrors_of_a_repository() {
    let authority = CertificateAuthority::new();
    let (server, mut forge) = forge_with_hub(&authority, HUB);
    server.repo("app.git");
    forge.serve();
    let tree = forge.tree("app", "app");
    let green = one("true");
    push(&forge, &tree, "main", "{}", &green);
    push(
        &forge,
        &tree,
        "side",
        &with_hub(&server.url("app.git"), ""),
        &green,
    );
    assert_eq!(mirror(&forge, "hub"), Value::Null);
    forge.ssh_ok("repo default app side");
    wait_for_state(&forge, "hub", "in-sync");
    // A secret that is named again is tried at once.
    for (secrets, state) in [(":secrets []", "failing"), (":secrets [:hub]", "in-sync")] {
        let settings = with_hub(&server.url("app.git"), secrets);
        push(&forge, &tree, "side", &settings, &green);
        wait_for_state(&forge, "hub", state);
    }
    forge.ssh_ok("repo rename app shop");
    wait_for("the mirror of the new name", || {
        let mirror = mirror(&forge, "hub");
        (mirror["repo"] == "shop" && mirror["state"] == "in-sync").then_some(())
    });
}

/// It is reached over HTTPS alone, with a secret that runs of the default branch could use as well.
#[test]
fn a_repository_has_mirrors_of_its_own() {
    let authority = CertificateAuthority::new();
    let (server, mut forge) = forge_with_hub(
        &authority,
        "{:mirrors {:repos {:app {:both {:url \"SERVER/owners.git\" :user \"me\" :token {:env \"HUB\"}}}}}\n :secrets {:hub {:env \"HUB\"} :foreign {:env \"HUB\" :repos [\"shop\"]} :tagged {:env \"HUB\" :refs [\"refs/tags/*\"]}}}",
    );
    let (bare, owners) = (server.repo("app.git"), server.repo("owners.git"));
    forge.serve();
    let tree = forge.tree("app", "app");
    let url = server.url("app.git");
    let of = |name: &str, url: &str, token: &str| {
        format!(":{name} {{:url \"{url}\" :user \"me\" :token \"{token}\"}}\n")
    };
    let mirrors = of("hub", &url, "hub")
        + &of("foreign", &url, "foreign")
        + &of("tagged", &url, "tagged")
        + &of("written", &url, TOKEN)
        + &of("both", &url, "hub")
        + &of("lan", "https://192.168.255.254/app.git", "hub")
        + ":key {:url \"git@127.0.0.1:app.git\"}\n :shop {:url \"https://h.example/a.git\" :token {:env \"HUB\"}}";
    let settings = |mirrors: &str| format!("{{:mirrors {{{mirrors}}}}}");
    // Another branch has no mirrors.
    let green = one("true");
    push(&forge, &tree, "main", "{}", &green);
    push(&forge, &tree, "side", &settings(&mirrors), &green);
    wait_for_state(&forge, "both", "in-sync");
    assert_eq!(mirror(&forge, "hub"), Value::Null);
    push(&forge, &tree, "main", &settings(&mirrors), &green);
    wait_for_state(&forge, "hub", "in-sync");
    let refs = |bare: &Path| git_in(bare, &["for-each-ref", "--format=%(refname)"]);
    wait_for("the refs", || (refs(&bare) == refs(&owners)).then_some(()));
    let failing = ["foreign", "tagged", "written", "lan", "key", "shop"].map(|name| {
        let failing = wait_for_state(&forge, name, "failing");
        format!("{name} {}: {}", failing["failure"], failing["problem"])
    });
    insta::assert_snapshot!(failing.join("\n"));
    insta::assert_snapshot!(wait_for_finding(&forge, "app", "both"));
    let both = mirror(&forge, "both");
    assert_eq!(both["url"], server.url("owners.git"), "{both}");
    // A restart forgets none, and an entry that is removed is a mirror no more.
    forge.stop();
    forge.serve();
    wait_for_state(&forge, "hub", "in-sync");
    push(&forge, &tree, "main", "{}", &green);
    wait_for("the end of the mirror", || {
        mirror(&forge, "hub").is_null().then_some(())
    });
    assert!(!mirror(&forge, "both").is_null());
    for text in [
        forge.log(),
        transcript(&forge.ssh("status")),
        forge.ssh_ok("mirror list --json"),
    ] {
        assert!(!text.contains(TOKEN), "{text}");
    }
    let pushed = server.requests();
    assert!(
        pushed
            .iter()
            .all(|request| request["seen"] == serde_json::json!([]))
    );
}
