//! What a pipeline asks of its container, and what it gets only if the owner grants it.

use quire_executor::ContainerSettings;
use quire_testkit::skipped;
use quire_types::run::FailureKind;

use super::attach::contained;
use super::support::{Fixture, argv, endpoint, finish, run_exit, shell, small_tree};

async fn with_settings(settings: ContainerSettings, script: &str) -> Option<String> {
    let fixture = Fixture::docker()?;
    let mut spec = fixture.spec(small_tree());
    spec.container = settings;
    let workspace = fixture.start_with(spec).await.unwrap();
    let output = run_exit(&*workspace, shell(script), 0).await;
    finish(&*workspace).await;
    Some(output.text())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_has_the_user_and_the_memory_that_were_asked_for() {
    let settings = ContainerSettings {
        user: Some("nobody:www-data".to_owned()),
        shm_size: Some(16 << 20),
        tmpfs: vec![
            ("/fast".to_owned(), Some(8 << 20)),
            ("/tmp".to_owned(), None),
        ],
        ..ContainerSettings::default()
    };
    let script = "id -un; id -gn; stat -c %U plain.txt; touch \"$HOME/x\" /fast/x /tmp/x; \
        df -k /dev/shm /fast | awk 'NR > 1 {print $2, $6}'; stat -f -c %T /tmp; \
        printf '#!/bin/sh\\necho executed' >/tmp/program; chmod +x /tmp/program; /tmp/program";
    let Some(text) = with_settings(settings, script).await else {
        return;
    };
    assert_eq!(
        text,
        "nobody\nwww-data\nnobody\n16384 /dev/shm\n8192 /fast\ntmpfs\nexecuted\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_has_the_capabilities_that_were_asked_for() {
    let effective = "awk '/^CapEff/ {print $2}' /proc/self/status";
    let of = |privileges: &[&str]| ContainerSettings {
        privileges: privileges.iter().map(|name| (*name).to_owned()).collect(),
        ..ContainerSettings::default()
    };
    let has = |text: &str, bit: u32| {
        let line = text.lines().next().unwrap();
        u64::from_str_radix(line, 16).unwrap() >> bit & 1 == 1
    };
    let Some(plain) = with_settings(of(&[]), effective).await else {
        return;
    };
    // SYS_PTRACE is none of the engine's default set, and NET_RAW one that quire drops from it.
    let (sys_ptrace, net_raw, net_admin) = (19, 13, 12);
    assert!(!has(&plain, sys_ptrace) && !has(&plain, net_raw));
    let some = with_settings(of(&["SYS_PTRACE", "NET_RAW"]), effective).await;
    let some = some.unwrap();
    assert!(has(&some, sys_ptrace) && has(&some, net_raw) && !has(&some, net_admin));
}

const PING: &str = r#"
    use IO::Socket::UNIX;
    my $engine = IO::Socket::UNIX->new("/var/run/docker.sock") or die "no socket: $!\n";
    print $engine "GET /_ping HTTP/1.0\r\n\r\n";
    print(<$engine>);
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_can_be_reached_where_its_socket_was_asked_for() {
    let Some(fixture) = Fixture::docker() else {
        return;
    };
    for user in [None, Some("1000:1000".to_owned())] {
        let mut spec = fixture.spec(small_tree());
        spec.container = ContainerSettings {
            user,
            engine_socket: true,
            ..ContainerSettings::default()
        };
        let workspace = fixture.start_with(spec).await.unwrap();
        let output = run_exit(&*workspace, argv(&["perl", "-e", PING]), 0).await;
        assert!(output.text().ends_with("OK"), "{}", output.text());
        finish(&*workspace).await;
    }
}

const WITH_DOCKER: &str = r#"(local ci (require :quire.ci))
(ci.docker true)
(ci.job :test [:quire/push] (fn [{: sh}] (sh "test -S /var/run/docker.sock")))
"#;

#[test]
fn what_makes_a_run_powerful_is_granted_by_repository_and_ref() {
    if skipped("docker") {
        return;
    }
    let mut forge = contained();
    let tree = forge.tree_with("app", WITH_DOCKER);
    tree.push(&["main"]);
    let first = forge.end_of(forge.newest("app").id);
    assert_eq!(first.failure_kind, Some(FailureKind::Pipeline), "{first:?}");
    let message = first.message.as_deref().unwrap_or_default();
    assert!(
        message.contains("no docker-socket to runs of app at refs/heads/main"),
        "{message}"
    );
    assert!(forge.stop().success());
    forge
        .set("QUIRE_CI_DOCKER_SOCKET", "app@refs/heads/main")
        .set("QUIRE_CI_ENGINE", &endpoint())
        .serve();
    for (branch, kind) in [("main", None), ("other", Some(FailureKind::Pipeline))] {
        tree.write("branch", branch);
        tree.commit(branch);
        tree.push(&[&format!("main:{branch}")]);
        let run = forge.end_of(forge.newest("app").id);
        assert_eq!(run.failure_kind, kind, "{run:?}");
        let log = forge.ssh_ok(&format!("run logs {}", run.id));
        assert_eq!(
            log.contains("this run has the socket of the Docker engine"),
            kind.is_none(),
            "{log}"
        );
    }
}

/// A pipeline with these privileges that prints its effective capabilities.
fn with_privileges(privileges: &str) -> String {
    format!(
        r#"(local ci (require :quire.ci))
(ci.container {{:privileges {privileges}}})
(ci.job :test [:quire/push] (fn [{{: sh}}] (sh "grep CapEff /proc/self/status")))
"#
    )
}

#[test]
fn privileges_are_granted_by_repository_and_ref() {
    if skipped("docker") {
        return;
    }
    let mut forge = contained();
    let trees = ["app", "other"].map(|repo| forge.tree_with(repo, &with_privileges("true")));
    trees[0].push(&["main"]);
    let first = forge.end_of(forge.newest("app").id);
    let message = first.message.as_deref().unwrap_or_default();
    let words = "the configuration grants no privileges to runs of app at refs/heads/main";
    assert!(message.contains(words), "{message}");
    assert!(forge.stop().success());
    forge
        .set("QUIRE_CI_PRIVILEGES", "app@refs/heads/main")
        .serve();
    let sys_ptrace = 19;
    for (tree, repo, branch, is_granted) in [
        (&trees[0], "app", "main", true),
        (&trees[0], "app", "topic", false),
        (&trees[1], "other", "main", false),
    ] {
        tree.write(".quire/ci.fnl", &with_privileges("[:SYS_PTRACE]"));
        tree.commit(branch);
        tree.push(&[&format!("main:{branch}")]);
        let run = forge.end_of(forge.newest(repo).id);
        let kind = (!is_granted).then_some(FailureKind::Pipeline);
        assert_eq!(run.failure_kind, kind, "{run:?}");
        let log = forge.ssh_ok(&format!("run logs {}", run.id));
        let capabilities = log
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:\t"))
            .map(|digits| u64::from_str_radix(digits, 16).unwrap());
        let has = capabilities.is_some_and(|set| set >> sys_ptrace & 1 == 1);
        assert_eq!(has, is_granted, "{log}");
        let note = "this run has the privileges SYS_PTRACE";
        assert_eq!(log.contains(note), is_granted, "{log}");
    }
}
