//! Containers that are started before a run needs one.

#![expect(clippy::disallowed_methods, reason = "tests start real programs")]

use std::process::Command;

use quire_executor::{CacheMount, DockerConfig, ImageSource, ServiceSpec, StartSpec};
use quire_testkit::wait_for_async;
use quire_types::names::RunId;

use crate::support::{Fixture, IMAGE, argv, endpoint, engine, finish, run_exit, shell, small_tree};

/// An executor that keeps up to two containers ready.
fn warm() -> Option<Fixture> {
    let instance = format!("test-{}", RunId::new());
    Fixture::docker_with(DockerConfig {
        warm: 2,
        ..DockerConfig::new(&endpoint(), &instance)
    })
}

/// Starts a workspace, and returns it with the id of its container.
async fn start(fixture: &Fixture, spec: StartSpec) -> (Box<dyn quire_executor::Workspace>, String) {
    let (workspace, seen) = fixture.start_and_see(spec).await;
    let steps = seen.steps();
    let id = steps[0].strip_prefix("created ").unwrap().to_owned();
    (workspace, id)
}

async fn wait_for_containers(fixture: &Fixture, count: usize) {
    wait_for_async("the containers", || async {
        (fixture.containers().await.len() == count).then_some(())
    })
    .await;
}

/// Waits until a container besides these runs, and returns its id.
async fn ready(fixture: &Fixture, besides: &[&str]) -> String {
    wait_for_async("a container that is ready", || async {
        for id in fixture.containers().await {
            let is_other = !besides.contains(&id.as_str());
            let state = engine().container(&id).await.unwrap();
            if is_other && state.is_some_and(|state| state.running) {
                return Some(id);
            }
        }
        None
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_takes_the_container_that_the_one_before_left_ready() {
    let Some(fixture) = warm() else {
        return;
    };
    let (first, cold) = start(&fixture, fixture.spec(small_tree())).await;
    let waiting = ready(&fixture, &[&cold]).await;
    run_exit(&*first, shell("touch /left-by-a-run left"), 0).await;
    finish(&*first).await;
    // The state that a sweep leaves alone.
    fixture.executor.sweep(&[]).await.unwrap();
    let (second, taken) = start(&fixture, fixture.spec(small_tree())).await;
    assert_eq!(taken, waiting);
    let output = run_exit(&*second, shell("cat plain.txt; ls /left-by-a-run left"), 2).await;
    assert_eq!(output.text(), "plain\n");
    let third = ready(&fixture, &[&taken]).await;
    assert_ne!(third, cold);
    finish(&*second).await;
    assert_eq!(fixture.containers().await, [third]);
    fixture.executor.shut_down().await;
    assert_eq!(fixture.containers().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_other_settings_takes_no_ready_container() {
    let Some(fixture) = warm() else {
        return;
    };
    let (first, cold) = start(&fixture, fixture.spec(small_tree())).await;
    let waiting = ready(&fixture, &[&cold]).await;
    finish(&*first).await;
    let mut others = Vec::new();
    for change in [
        (|spec: &mut StartSpec| spec.limits.memory /= 2) as fn(&mut StartSpec),
        |spec| spec.limits.pids /= 2,
        |spec| spec.repo = "other".parse().unwrap(),
        |spec| spec.may_be_kept = true,
        |spec| {
            spec.caches.push(CacheMount {
                name: "c".into(),
                path: "cache".into(),
            });
        },
    ] {
        let mut spec = fixture.spec(small_tree());
        change(&mut spec);
        let (workspace, id) = start(&fixture, spec).await;
        assert_ne!(id, waiting);
        finish(&*workspace).await;
        others.push(id);
    }
    // Two are kept at most, and a cache that only a waiting container uses can be removed.
    let caches = fixture.executor.caches().unwrap();
    let repo = "group/Some.Repo".parse().unwrap();
    wait_for_async("the removal of the cache", || async {
        caches
            .remove(&repo, "c")
            .await
            .ok()
            .filter(|removed| *removed)
    })
    .await;
    wait_for_async("at most two", || async {
        (fixture.containers().await.len() <= 2).then_some(())
    })
    .await;
    fixture.executor.shut_down().await;
    wait_for_containers(&fixture, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ready_container_that_was_ended_is_not_used() {
    let Some(fixture) = warm() else {
        return;
    };
    for remove in [true, false] {
        let (first, cold) = start(&fixture, fixture.spec(small_tree())).await;
        let waiting = ready(&fixture, &[&cold]).await;
        finish(&*first).await;
        if remove {
            engine().remove_container(&waiting).await.unwrap();
        } else {
            engine().kill_container(&waiting).await.unwrap();
        }
        let (second, id) = start(&fixture, fixture.spec(small_tree())).await;
        assert_ne!(id, waiting);
        run_exit(&*second, argv(&["true"]), 0).await;
        let third = ready(&fixture, &[&id]).await;
        finish(&*second).await;
        // The next round begins without one.
        engine().remove_container(&third).await.unwrap();
    }
    fixture.executor.shut_down().await;
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ready_container_of_what_the_image_was_is_removed() {
    let Some(fixture) = warm() else {
        return;
    };
    let name = format!("quire-test-retagged:{}", RunId::new());
    docker(&["tag", IMAGE, &name]);
    let spec = || StartSpec {
        image: ImageSource::Reference(name.parse().unwrap()),
        ..fixture.spec(small_tree())
    };
    let (first, cold) = start(&fixture, spec()).await;
    let waiting = ready(&fixture, &[&cold]).await;
    finish(&*first).await;
    // The same name for another image.
    let changed = docker(&["create", IMAGE]);
    docker(&["commit", "--change", "ENV MADE=anew", &changed, &name]);
    docker(&["rm", &changed]);
    let (second, id) = start(&fixture, spec()).await;
    assert_ne!(id, waiting);
    let output = run_exit(&*second, shell("echo $MADE"), 0).await;
    assert_eq!(output.text(), "anew\n");
    wait_for_async("its removal", || async {
        engine()
            .container(&waiting)
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    finish(&*second).await;
    fixture.executor.shut_down().await;
    wait_for_containers(&fixture, 0).await;
    docker(&["rmi", "--force", &name]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_made_ready_again_when_a_push_begins() {
    let Some(fixture) = warm() else {
        return;
    };
    let (first, cold) = start(&fixture, fixture.spec(small_tree())).await;
    ready(&fixture, &[&cold]).await;
    finish(&*first).await;
    fixture.executor.release_idle().await;
    assert_eq!(fixture.containers().await, Vec::<String>::new());
    // Of another repository nothing is known.
    fixture.executor.expect_run(&"other".parse().unwrap());
    let spec = fixture.spec(small_tree());
    fixture.executor.expect_run(&spec.repo);
    let waiting = ready(&fixture, &[]).await;
    let (second, taken) = start(&fixture, spec).await;
    assert_eq!(taken, waiting);
    finish(&*second).await;
    fixture.executor.shut_down().await;
    wait_for_containers(&fixture, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_a_ready_container_is_destroyed_by_its_own_id() {
    let Some(fixture) = warm() else {
        return;
    };
    let (first, cold) = start(&fixture, fixture.spec(small_tree())).await;
    ready(&fixture, &[&cold]).await;
    finish(&*first).await;
    let spec = fixture.spec(small_tree());
    let run = spec.run;
    let (second, id) = start(&fixture, spec).await;
    drop(second);
    fixture.executor.destroy_run(run).await.unwrap();
    assert_eq!(engine().container(&id).await.unwrap(), None);
    fixture.executor.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_removes_what_is_just_being_started() {
    let Some(fixture) = warm() else {
        return;
    };
    let (workspace, id) = start(&fixture, fixture.spec(small_tree())).await;
    // The container for the next run is being created now.
    fixture.executor.shut_down().await;
    assert_eq!(fixture.containers().await, [id]);
    finish(&*workspace).await;
    assert_eq!(fixture.containers().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_services_takes_a_ready_container_onto_its_network() {
    let with_service = |fixture: &Fixture, network: bool| {
        let mut spec = fixture.spec(small_tree());
        spec.limits.network = network;
        spec.services.push(ServiceSpec {
            name: "db".into(),
            image: IMAGE.parse().unwrap(),
            env: Vec::new(),
            command: Some(vec!["sleep".into(), "300".into()]),
            ready: None,
            ready_within: std::time::Duration::from_secs(60),
        });
        spec
    };
    for network in [true, false] {
        let Some(fixture) = warm() else {
            return;
        };
        let of_run = |run: RunId| format!("label=io.quire.run={run}");
        let spec = with_service(&fixture, network);
        let filter = of_run(spec.run);
        let (first, cold) = start(&fixture, spec).await;
        let known = docker(&["ps", "--quiet", "--no-trunc", "--filter", &filter]);
        let known: Vec<&str> = known.lines().collect();
        let waiting = ready(&fixture, &known).await;
        finish(&*first).await;
        let spec = with_service(&fixture, network);
        let run = spec.run;
        let (second, taken) = start(&fixture, spec).await;
        assert_eq!(taken, waiting);
        assert_ne!(taken, cold);
        run_exit(&*second, shell("getent hosts db"), 0).await;
        // It is on no other network: that of the run may have no route to the outside.
        let format = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
        let networks = docker(&["inspect", "--format", format, &taken]);
        assert_eq!(networks, format!("quire-{run}"));
        finish(&*second).await;
        let left = docker(&["network", "ls", "--quiet", "--filter", &of_run(run)]);
        assert_eq!(left, "");
        fixture.executor.shut_down().await;
        assert_eq!(fixture.containers().await, Vec::<String>::new());
    }
}
