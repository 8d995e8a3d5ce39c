//! From `docker compose up` to healthy, and to the end.

use std::time::Duration;

use quire_testkit::{run_ok, wait_for_or_report, wait_until};
use serde_json::Value;

use crate::appliance::Appliance;
use crate::docker::docker;

#[test]
fn without_a_key_it_is_healthy_and_says_how_to_add_one() {
    let appliance = Appliance::prepare();
    appliance.up();
    let health = appliance.get("/healthz", &["Accept: application/json"]);
    assert_eq!(health.status, 200, "{health:?}");
    let body: Value = serde_json::from_str(&health.body).unwrap();
    assert!(
        matches!(body["status"].as_str(), Some("ok" | "degraded")),
        "{body}"
    );
    assert!(body["version"].is_string(), "{body}");
    let explained = || appliance.log().contains("authorized_keys").then_some(());
    wait_for_or_report("how to add a key", explained, || appliance.log());
    assert_eq!(appliance.get("/livez", &[]).status, 200);
    assert!(appliance.get("/metrics", &[]).body.ends_with("# EOF\n"));
}

#[test]
fn a_push_leads_to_a_run_once_it_says_ready() {
    let appliance = Appliance::prepare();
    appliance.up();
    let ready = || (appliance.get("/readyz", &[]).status == 200).then_some(());
    wait_for_or_report("readyz", ready, || appliance.log());
}

#[test]
fn pid_1_is_init_and_nothing_but_it_and_sshd_is_root() {
    let appliance = Appliance::prepare();
    appliance.up();
    // Read without `ps`: one line per process, user id and argv[0].
    let script = r#"for p in /proc/[0-9]*; do [ "$p" = "/proc/$$" ] && continue; read -r _ uid _ <<X
$(grep ^Uid: "$p/status" 2>/dev/null)
X
printf '%s %s %s\n' "${p#/proc/}" "$uid" "$(tr '\0' ' ' <"$p/cmdline" 2>/dev/null)"; done"#;
    let processes = appliance.exec(&["sh", "-c", script]);
    let of = |start: &str| {
        processes
            .lines()
            .find(|line| {
                line.split_once(' ')
                    .is_some_and(|(_, rest)| rest.starts_with(start))
            })
            .map(str::to_owned)
    };
    assert!(
        processes
            .lines()
            .any(|line| line.starts_with("1 0 /usr/local/bin/quire init")),
        "{processes}"
    );
    assert!(
        processes
            .lines()
            .any(|line| line.contains("quire serve") && line.split(' ').nth(1) == Some("1000")),
        "{processes}"
    );
    assert!(
        of("0 sshd").or_else(|| of("0 /usr/sbin/sshd")).is_some(),
        "{processes}"
    );
    assert!(
        !processes
            .lines()
            .any(|line| line.contains("quire serve") && line.split(' ').nth(1) == Some("0")),
        "{processes}"
    );
}

#[test]
fn stopping_it_idle_is_no_kill_and_exits_0() {
    let appliance = Appliance::prepare();
    appliance.up();
    let container = appliance.container();
    run_ok(&mut appliance.compose(&["stop", "--timeout", "30"]));
    let ended = docker(&[
        "inspect",
        "--format",
        "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}",
        &container,
    ]);
    assert_eq!(ended, "exited 0 false", "{}", appliance.log());
}

#[test]
fn down_and_up_again_keeps_host_keys_and_state() {
    let (appliance, client) = Appliance::with_client();
    client.ssh_ok(&["repo", "new", "kept"]);
    let keys = |appliance: &Appliance| appliance.exec(&["sh", "-c", "cat /var/quire/ssh/*.pub"]);
    let before = keys(&appliance);
    run_ok(&mut appliance.compose(&["down", "--timeout", "15"]));
    appliance.up();
    assert_eq!(keys(&appliance), before);
    // The client remembers the host key: a new one would be refused here.
    assert!(client.ssh_ok(&["repo", "list"]).contains("kept"));
}

#[test]
fn a_child_that_is_killed_runs_again_and_the_other_does_not_notice() {
    let (appliance, client) = Appliance::with_client();
    let pid = |name: &str| {
        let status: Value =
            serde_json::from_str(&appliance.exec(&["cat", "/run/quire/status.json"])).unwrap();
        status["children"][name]["pid"].as_i64()
    };
    let (serve, sshd) = (pid("serve").expect("serve runs"), pid("sshd"));
    appliance.exec(&["sh", "-c", &format!("kill -9 {serve}")]);
    let again = || pid("serve").filter(|pid| *pid != serve);
    // Sooner than any limit of a test: init starts it again after a short pause.
    wait_until(Duration::from_secs(20), again)
        .unwrap_or_else(|| panic!("serve does not run again\n{}", appliance.log()));
    assert_eq!(pid("sshd"), sshd);
    client.ssh_ok(&["repo", "list"]);
}
