//! Nothing accepted is lost: the appliance goes away in the middle of a run.

use quire_testkit::run_ok;

use crate::appliance::Appliance;
use crate::client::Run;
use crate::docker::{containers_labelled, docker};
use crate::pushes::{GREEN, push_pipeline, ticking, wait_first_tick};

fn states(runs: &[Run]) -> Vec<(&str, Option<&str>)> {
    runs.iter()
        .map(|run| (run.state.as_str(), run.failure_kind.as_deref()))
        .collect()
}

#[test]
fn a_run_cut_by_a_crash_is_orphaned_and_its_successor_ends_green() {
    let (appliance, client) = Appliance::with_client();
    push_pipeline(&client, "crash", &ticking(24));
    let cut = wait_first_tick(&appliance, &client, "crash");
    assert_eq!(
        containers_labelled(&cut).len(),
        1,
        "a run has one container, labelled with its id"
    );
    docker(&["kill", &appliance.container()]);
    docker(&["start", &appliance.container()]);
    appliance.wait_healthy();
    let runs = client.wait_runs("crash", 2);
    assert_eq!(
        states(&runs),
        [("complete", None), ("failed", Some("orphaned"))],
        "{}",
        appliance.log()
    );
    assert_eq!(runs[1].id, cut);
    assert_eq!(runs[0].sha, runs[1].sha);
    assert!(client.log(&runs[0].id).contains("tick 24"));
    assert_eq!(
        containers_labelled(&cut),
        Vec::<String>::new(),
        "what the crash left was found and removed"
    );
}

#[test]
fn a_run_cut_by_a_restart_runs_again_and_ends_green() {
    let (appliance, client) = Appliance::with_client();
    push_pipeline(&client, "restart", &ticking(24));
    let cut = wait_first_tick(&appliance, &client, "restart");
    docker(&["restart", "--time", "30", &appliance.container()]);
    appliance.wait_healthy();
    let runs = client.wait_runs("restart", 1);
    // The newest is green; one that came before it says that it was orphaned.
    assert_eq!(runs[0].state, "complete", "{runs:#?}\n{}", appliance.log());
    assert!(
        runs[1..]
            .iter()
            .all(|run| run.failure_kind.as_deref() == Some("orphaned")),
        "{runs:#?}"
    );
    assert!(client.log(&runs[0].id).contains("tick 24"));
    for run in runs.iter().map(|run| &run.id).chain([&cut]) {
        assert_eq!(containers_labelled(run), Vec::<String>::new());
    }
}

#[test]
fn a_stop_in_the_middle_of_a_run_exits_0_and_leaves_no_container() {
    let (appliance, client) = Appliance::with_client();
    push_pipeline(&client, "stop", &ticking(400));
    let cut = wait_first_tick(&appliance, &client, "stop");
    let container = appliance.container();
    run_ok(&mut appliance.compose(&["stop", "--timeout", "30"]));
    assert_eq!(
        docker(&["inspect", "--format", "{{.State.ExitCode}}", &container]),
        "0",
        "{}",
        appliance.log()
    );
    assert_eq!(containers_labelled(&cut), Vec::<String>::new());
}

#[test]
fn what_is_pushed_while_serve_is_down_runs_once_it_is_back() {
    let (appliance, client) = Appliance::with_client();
    client.ssh_ok(&["repo", "new", "spooled"]);
    // A stopped serve answers nothing; git's side must not need it.
    let serve = "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -q '^[^ ]*quire serve' && kill -$0 ${p#/proc/}; done; true";
    appliance.exec(&["sh", "-c", serve, "STOP"]);
    let printed = push_pipeline(&client, "spooled", GREEN);
    assert!(
        printed.contains("quire:") && printed.contains("will start"),
        "{printed}"
    );
    appliance.exec(&["sh", "-c", serve, "KILL"]);
    let runs = client.wait_runs("spooled", 1);
    assert_eq!(
        states(&runs),
        [("complete", None)],
        "one push, one run\n{}",
        appliance.log()
    );
}
