//! Mirrors: from a push to what a remote has, and what a person sees if it has not.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::Signal;
use quire_testkit::{
    CertificateAuthority, GitHttpServer, SshForge, TestForge, git_in, own, stdout, transcript,
    wait_for,
};
use serde_json::{Value, json};

use crate::QUIRE;

pub(super) const TOKEN: &str = "glpat-hunter2-and-more";

/// A forge that may push to loopback, with these mirrors of `app` in its configuration, not started.
pub(super) fn forge_with(mirrors: &str) -> TestForge {
    let mut forge = TestForge::new(QUIRE);
    configure(&forge, mirrors);
    forge
        .set("QUIRE_MIRRORS_ALLOWED_NETWORKS", "127.0.0.1")
        .set("MIRROR_TOKEN", TOKEN);
    forge
}

pub(super) fn configure(forge: &TestForge, mirrors: &str) {
    let text = format!("{{:mirrors {{:repos {{:app {{{mirrors}}}}}}}}}");
    fs::write(forge.paths.config_fennel(), text).unwrap();
}

/// A plain sshd with git, which knows the key of the forge, and the mirror `nas` there.
pub(super) fn nas(forge: &TestForge) -> SshForge {
    let nas = TestForge::new(QUIRE).plain_sshd();
    nas.bare("copy");
    nas.allow(forge.ssh_ok("mirror key").trim());
    nas
}

/// Another appliance behind its own sshd, which knows the key of the forge, with the repository `copy`.
pub(super) fn other_appliance(forge: &TestForge) -> SshForge {
    let other = TestForge::new(QUIRE).sshd();
    other.allow(forge.ssh_ok("mirror key").trim());
    assert!(other.ssh(&["repo", "new", "copy"]).status.success());
    other
}

pub(super) fn entry(name: &str, url: &str, keys: &str) -> String {
    format!(":{name} {{:url \"{url}\" {keys}}}\n")
}

/// A mirror, as `mirror list` has it.
pub(super) fn mirror(forge: &TestForge, name: &str) -> Value {
    let list: Value = serde_json::from_str(&forge.ssh_ok("mirror list --json")).unwrap();
    let mirrors = list["mirrors"].as_array().unwrap();
    let found = mirrors.iter().find(|mirror| mirror["name"] == name);
    found.cloned().unwrap_or(Value::Null)
}

#[track_caller]
pub(super) fn wait_for_state(forge: &TestForge, name: &str, state: &str) -> Value {
    wait_for(&format!("{name} to be {state}"), || {
        let mirror = mirror(forge, name);
        (mirror["state"] == state).then_some(mirror)
    })
}

/// The refs of a bare repository.
pub(super) fn refs(bare: &Path) -> Vec<String> {
    let format = "--format=%(refname) %(objectname)";
    let output = git_in(bare, &["for-each-ref", format]);
    output.lines().map(str::to_owned).collect()
}

#[track_caller]
pub(super) fn wait_for_refs(bare: &Path, wanted: &[String]) {
    let mut wanted = wanted.to_vec();
    wanted.sort();
    wait_for(&format!("{wanted:?}"), || {
        (refs(bare) == wanted).then_some(())
    });
}

/// Adds a hook to a repository of a plain sshd.
fn add_hook(bare: &Path, name: &str, script: &str) {
    let hook = bare.join("hooks").join(name);
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, script).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    own(bare);
}

fn text_of(forge: &TestForge, command: &str) -> String {
    let output = forge.ssh(command);
    transcript(&output)
}

#[test]
fn a_remote_gets_what_is_pushed() {
    let mut forge = forge_with("");
    let nas = nas(&forge);
    let bare = nas.paths.repos().join("copy.git");
    configure(&forge, &entry("nas", &nas.url("copy"), ""));
    forge.serve();
    assert_eq!(forge.ssh_ok("mirror key"), forge.ssh_ok("mirror key"));
    let tree = forge.tree("work", "app");
    let first = tree.commit("first");
    tree.git_ok(&["tag", "v1"]);
    tree.push(&["main", "v1", "main:side", "main:refs/notes/x"]);
    let at = |name: &str, id: &str| format!("{name} {id}");
    wait_for_refs(
        &bare,
        &[
            at("refs/heads/main", &first),
            at("refs/heads/side", &first),
            at("refs/tags/v1", &first),
        ],
    );
    // Many pushes, one of them forced, and a deletion. What they overwrote stays hidden here.
    let second = tree.push_new("second");
    tree.push(&["+main~1:main", ":side"]);
    wait_for_refs(
        &bare,
        &[at("refs/heads/main", &first), at("refs/tags/v1", &first)],
    );
    assert!(!forge.ssh_ok("repo undo app").is_empty());
    let in_sync = wait_for_state(&forge, "nas", "in-sync");
    assert_eq!(
        (&in_sync["refs_in_sync"], &in_sync["refs_waiting"]),
        (&json!(2), &json!(0))
    );
    let key = fs::read_to_string(nas.paths.host_keys().join("host.pub")).unwrap();
    let fingerprint = quire_types::ssh_keys::host_key_fingerprint(&key).unwrap();
    assert_eq!(in_sync["host_key"], fingerprint);
    let list = forge.ssh_ok("mirror list app");
    assert!(
        list.contains(&format!("  host key {fingerprint}")),
        "{list}"
    );
    let page = forge.get("/app").body;
    assert!(
        page.contains("<h2>Mirrors</h2>") && page.contains("in sync"),
        "{page}"
    );
    let metrics = forge.get("/metrics").body;
    assert!(metrics.contains("quire_mirrors_failing 0"), "{metrics}");
    // What another user did there is found by a comparison, and undone.
    tree.push(&["+main:main"]);
    wait_for_refs(
        &bare,
        &[at("refs/heads/main", &second), at("refs/tags/v1", &first)],
    );
    git_in(&bare, &["update-ref", "refs/heads/other", &first]);
    own(&bare);
    assert_eq!(forge.ssh_ok("mirror sync app nas"), "nas: in sync\n");
    assert_eq!(refs(&bare).len(), 2);
}

/// The other side is quire as well, behind its own sshd: it takes the push as every other, by a key with the name of the mirror.
#[test]
fn another_appliance_gets_what_is_pushed() {
    let mut forge = forge_with("");
    let other = other_appliance(&forge);
    configure(&forge, &entry("nas", &other.url("copy"), ""));
    forge.serve();
    let tree = forge.tree("work", "app");
    let first = tree.commit("first");
    tree.push(&["main", "main:side"]);
    let bare = other.paths.repos().join("copy.git");
    let at = |name: &str, id: &str| format!("refs/heads/{name} {id}");
    wait_for_refs(&bare, &[at("main", &first), at("side", &first)]);
    wait_for_state(&forge, "nas", "in-sync");
    let pushers: Vec<Option<String>> = other
        .events()
        .into_iter()
        .map(|event| event.pusher)
        .collect();
    assert_eq!(pushers, [Some("quire mirror".to_owned())]);
    let second = tree.commit("second");
    tree.push(&["+main", ":side"]);
    wait_for("the deletion", || {
        let mut heads = refs(&bare);
        heads.retain(|line| line.starts_with("refs/heads/"));
        (heads == [at("main", &second)]).then_some(())
    });
    wait_for_state(&forge, "nas", "in-sync");
    assert_eq!(other.events().len(), 2);
}

#[test]
fn refs_that_are_rejected_hold_up_no_others() {
    let mut forge = forge_with("");
    let nas = nas(&forge);
    let careful = nas.bare("careful");
    let bare = nas.paths.repos().join("copy.git");
    add_hook(
        &bare,
        "update",
        "#!/bin/sh\ncase $1 in refs/heads/main) echo \"main is $(printf '\\033')[1mclosed\"; exit 1;; esac\n",
    );
    let targets = entry("nas", &nas.url("copy"), "")
        + &entry(
            "careful",
            &nas.url("careful"),
            ":force false :delete false :refs [\"refs/heads/*\"]",
        );
    configure(&forge, &targets);
    forge.serve();
    let tree = forge.tree("work", "app");
    let first = tree.commit("first");
    tree.push(&["main", "main:side", "main:gone"]);
    let failing = wait_for_state(&forge, "nas", "failing");
    assert_eq!(failing["failure"], "rejected");
    let gone = format!("refs/heads/gone {first}");
    wait_for_refs(&bare, &[gone.clone(), format!("refs/heads/side {first}")]);
    let differing = &failing["differing"][0];
    assert_eq!(differing["ref_name"], "refs/heads/main");
    let problem = differing["problem"].as_str().unwrap();
    assert!(
        problem.starts_with("[remote rejected] (hook declined): main is  [1mclosed"),
        "{problem}"
    );
    // A ref that was not rejected does not wait for the next attempt of the other.
    let second = tree.commit("second");
    tree.push(&["main:side"]);
    wait_for_refs(&bare, &[gone.clone(), format!("refs/heads/side {second}")]);
    // Without force and deletions, what is there stays there.
    wait_for_refs(
        &careful,
        &[
            gone,
            format!("refs/heads/main {first}"),
            format!("refs/heads/side {second}"),
        ],
    );
    tree.git_ok(&["commit", "-q", "--amend", "--allow-empty", "-m", "third"]);
    tree.push(&["+main:side", ":gone"]);
    let failing = wait_for_state(&forge, "careful", "failing");
    assert_eq!(failing["failure"], "rejected");
    assert_eq!(failing["differing"].as_array().unwrap().len(), 1);
    let list = text_of(&forge, "mirror list app");
    assert!(list.contains("[rejected] (non-fast-forward)"), "{list}");
    assert_eq!(refs(&careful).len(), 3);
    let page = forge.get("/app").body;
    assert!(page.contains("non-fast-forward"), "{page}");
}

#[test]
fn a_key_that_is_not_known_there_is_a_finding_at_once() {
    let mut forge = forge_with("");
    let mut nas = TestForge::new(QUIRE).plain_sshd();
    let bare = nas.bare("copy");
    configure(&forge, &entry("nas", &nas.url("copy"), ""));
    forge.serve();
    let tree = forge.tree("work", "app");
    let first = tree.commit("first");
    tree.push(&["main"]);
    let failing = wait_for_state(&forge, "nas", "failing");
    assert_eq!(failing["failure"], "access");
    assert!(
        failing["problem"]
            .as_str()
            .unwrap()
            .contains("Permission denied"),
        "{failing}"
    );
    let wait = failing["next_attempt_ms"].as_i64().unwrap()
        - failing["waiting_since_ms"].as_i64().unwrap();
    assert!(wait >= 3_600_000, "{failing}");
    let status = text_of(&forge, "status");
    assert!(
        status.contains("mirrors: ") && status.contains("mirror `nas` of app: not in sync"),
        "{status}"
    );
    nas.allow(forge.ssh_ok("mirror key").trim());
    assert_eq!(forge.ssh_ok("mirror sync app"), "nas: in sync\n");
    wait_for_refs(&bare, &[format!("refs/heads/main {first}")]);
    // Another host key is never accepted silently.
    nas.stop();
    nas.replace_host_key();
    nas.start_again();
    let second = tree.push_new("second");
    let failing = wait_for_state(&forge, "nas", "failing");
    assert_eq!(failing["failure"], "host-key");
    let problem = failing["problem"].as_str().unwrap();
    assert!(
        problem.contains("another host key than before: SHA256:")
            && problem.contains("mirror sync app nas --new-host-key"),
        "{problem}"
    );
    let again = forge.ssh("mirror sync app nas");
    assert_eq!(again.status.code(), Some(1), "{}", transcript(&again));
    assert_eq!(refs(&bare), [format!("refs/heads/main {first}")]);
    assert_eq!(
        forge.ssh_ok("mirror sync app nas --new-host-key"),
        "nas: in sync\n"
    );
    assert_eq!(refs(&bare), [format!("refs/heads/main {second}")]);
}

#[test]
fn a_remote_that_was_down_gets_everything_after_a_restart() {
    let mut forge = forge_with("");
    let mut nas = nas(&forge);
    let bare = nas.paths.repos().join("copy.git");
    // A second remote accepts connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("ssh://git@{}/app", silent.local_addr().unwrap());
    let targets = entry("nas", &nas.url("copy"), "") + &entry("silent", &address, "");
    configure(&forge, &targets);
    forge.serve();
    let tree = forge.tree("work", "app");
    let first = tree.commit("first");
    tree.push(&["main"]);
    wait_for_refs(&bare, &[format!("refs/heads/main {first}")]);
    let received = bare.join("received");
    let hook = format!(
        "#!/bin/sh\ncat >/dev/null; echo push >>{}\n",
        received.display()
    );
    add_hook(&bare, "post-receive", &hook);
    nas.stop();
    tree.push_new("one");
    tree.push(&["main:side", "main:refs/tags/v1"]);
    let second = tree.push_new("second");
    // The first failure may have come before the last push.
    let failing = wait_for("the last push to be seen", || {
        let mirror = mirror(&forge, "nas");
        let is_seen =
            mirror["state"] == "failing" && mirror["differing"][0]["wanted"] == second.as_str();
        is_seen.then_some(mirror)
    });
    assert_eq!(failing["failure"], "connection");
    assert_eq!(failing["differing"][0]["remote"], first);
    assert_eq!(mirror(&forge, "silent")["state"], "waiting");
    // Short failures are no finding.
    assert_eq!(forge.health()["parts"]["mirrors"]["status"], "ok");
    forge.kill();
    nas.start_again();
    forge.serve();
    wait_for_state(&forge, "nas", "in-sync");
    let heads = refs(&bare);
    assert!(
        heads.contains(&format!("refs/heads/main {second}")) && heads.len() == 3,
        "{heads:?}"
    );
    // All that waited went over in one push.
    assert_eq!(fs::read_to_string(received).unwrap(), "push\n");
}

#[test]
fn https_needs_a_token_that_nobody_sees() {
    let authority = CertificateAuthority::new();
    let server = GitHttpServer::start(&authority.certificate("127.0.0.1"), "me", TOKEN);
    let bare = server.repo("app.git");
    let login = ":user \"me\" :token {:env \"MIRROR_TOKEN\"}";
    let targets = entry("web", &server.url("app.git"), login)
        + &entry("moved", &server.url("moved/app.git"), login)
        + &entry(
            "stale",
            &server.url("app.git"),
            ":token {:env \"OLD_TOKEN\"}",
        )
        + &entry(
            "unset",
            &server.url("app.git"),
            ":token {:env \"NO_TOKEN\"}",
        );
    let mut forge = forge_with(&targets);
    forge
        .set("SSL_CERT_FILE", authority.file().to_str().unwrap())
        .set("OLD_TOKEN", "glpat-old-and-dead");
    forge.serve();
    let tree = forge.tree("work", "app");
    let first = tree.commit("first");
    tree.push(&["main"]);
    wait_for_state(&forge, "web", "in-sync");
    wait_for_refs(&bare, &[format!("refs/heads/main {first}")]);
    let kinds = ["moved", "stale", "unset"].map(|name| {
        let failing = wait_for_state(&forge, name, "failing");
        format!("{name} {}: {}", failing["failure"], failing["problem"])
    });
    let kinds = kinds.join("\n").replace(&server.port.to_string(), "PORT");
    insta::assert_snapshot!(kinds);
    let requests = server.requests();
    assert!(requests.iter().any(|request| request["login"] == "right"));
    for request in &requests {
        assert_eq!(request["seen"], json!([]), "{request}");
        // A redirect is not followed.
        let moved = request["path"].as_str().unwrap().starts_with("/moved/");
        assert!(!moved || request["login"] == "none", "{request}");
    }
    for text in [
        forge.log(),
        text_of(&forge, "mirror list --json"),
        text_of(&forge, "status"),
        forge.get("/app").body,
    ] {
        assert!(
            !text.contains(TOKEN) && !text.contains("glpat-old"),
            "{text}"
        );
    }
}

#[test]
fn addresses_of_this_machine_need_permission() {
    let mut forge = forge_with(&entry("here", "ssh://git@127.0.0.1:1/app", ""));
    forge.unset("QUIRE_MIRRORS_ALLOWED_NETWORKS");
    forge.serve();
    forge.tree_with("app", super::GREEN).push(&["main"]);
    let failing = wait_for_state(&forge, "here", "failing");
    assert_eq!(failing["failure"], "settings");
    insta::assert_snapshot!(failing["problem"].as_str().unwrap(), @"127.0.0.1 is an address of this machine, of its link or of the engine's machine; :mirrors {:allowed-networks [\"127.0.0.1\"]} permits it");
}

#[test]
fn a_mirror_follows_its_repository_and_its_configuration() {
    let mut forge = forge_with("");
    let nas = nas(&forge);
    let bare = nas.paths.repos().join("copy.git");
    configure(&forge, &entry("nas", &nas.url("copy"), ""));
    forge.serve();
    let tree = forge.tree("work", "app");
    let first = tree.commit("first");
    tree.push(&["main"]);
    wait_for_refs(&bare, &[format!("refs/heads/main {first}")]);
    // The configuration still has the former name.
    forge.ssh_ok("repo rename app tally");
    let second = tree.push_new("second");
    wait_for_refs(&bare, &[format!("refs/heads/main {second}")]);
    let renamed = wait_for_state(&forge, "nas", "in-sync");
    assert_eq!(renamed["repo"], "tally");
    assert!(renamed["host_key"].is_string());
    assert_eq!(forge.ssh_ok("mirror sync tally"), "nas: in sync\n");
    // Removing a repository removes nothing there, and neither does an empty one with its name.
    forge.ssh_ok("repo rm tally --yes");
    forge.ssh_ok("repo new app");
    assert_eq!(forge.ssh_ok("mirror sync app"), "nas: in sync\n");
    assert_eq!(mirror(&forge, "nas")["repo"], "app");
    assert_eq!(refs(&bare), [format!("refs/heads/main {second}")]);
    // Without it in the configuration, all that is known of a mirror is deleted.
    fs::write(forge.paths.config_fennel(), "{}").unwrap();
    forge.signal(Signal::SIGHUP);
    wait_for("the mirror to be forgotten", || {
        (stdout(&forge.ssh("mirror list")) == "no mirrors").then_some(())
    });
    let missing = text_of(&forge, "mirror sync app");
    assert!(missing.contains("there is no mirror of app"), "{missing}");
    assert_eq!(refs(&bare), [format!("refs/heads/main {second}")]);
}

#[test]
fn a_commit_that_lands_is_mirrored_and_its_ref_is_not() {
    let mut forge = forge_with("");
    let nas = nas(&forge);
    let bare = nas.paths.repos().join("copy.git");
    let all = ":refs [\"refs/*\"]";
    configure(&forge, &entry("nas", &nas.url("copy"), all));
    forge.serve();
    let tree = forge.tree_with("app", super::GREEN);
    tree.push(&["-o", "ci.skip", "main"]);
    let commit = tree.commit("Second");
    tree.push(&["HEAD:refs/for-green/main"]);
    wait_for_refs(&bare, &[format!("refs/heads/main {commit}")]);
    let in_sync = wait_for_state(&forge, "nas", "in-sync");
    assert_eq!(in_sync["refs_in_sync"], json!(1));
}

#[test]
fn a_repository_that_is_missing_there_is_said_with_what_to_do() {
    let mut forge = forge_with("");
    let nas = nas(&forge);
    configure(&forge, &entry("nas", &nas.url("later"), ""));
    forge.serve();
    let tree = forge.tree("work", "app");
    let commit = tree.push_new("first");
    let failing = wait_for_state(&forge, "nas", "failing");
    assert_eq!(failing["failure"], "access", "{failing}");
    let problem = failing["problem"].as_str().unwrap();
    let url = nas.url("later");
    let path = url.split_once("://").map_or(url.as_str(), |(_, rest)| {
        rest.find('/').map_or(rest, |at| &rest[at..])
    });
    assert_eq!(
        problem.replace(path, "PATH"),
        "the other side has no such repository, or does not show it to this key (fatal: 'PATH' does not appear to be a git \
         repository); create an empty one there, since a mirror creates none, and then `mirror sync REPO` pushes to it"
    );
    nas.bare("later");
    forge.ssh_ok("mirror sync app");
    wait_for_state(&forge, "nas", "in-sync");
    let bare = nas.paths.repos().join("later.git");
    wait_for_refs(&bare, &[format!("refs/heads/main {commit}")]);
}
