//! What only the docker executor does: images, limits, labels, the container's end, sweeping.

use std::time::Duration;

use quire_executor::engine::{Engine, Timeouts};
use quire_executor::{
    CommandEnd, CommandSpec, ContainerFailure, DockerConfig, DockerExecutor, Executor,
    ExecutorError, ImageSource, StartSpec, SweepReport,
};
use quire_testkit::wait_for_async;
use quire_types::names::RunId;
use tokio_util::sync::CancellationToken;

use crate::builds::{dockerfile, from_dockerfile};
use crate::support::{
    Fixture, IMAGE, Output, Seen, argv, containers_of, endpoint, engine, finish, run, run_exit,
    shell, small_tree,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_container_is_fenced_in() {
    let fixture = fixture!();
    let spec = fixture.spec(small_tree());
    let run_id = spec.run;
    let (workspace, seen) = fixture.start_and_see(spec).await;
    let id = fixture.containers().await.pop().unwrap();
    assert_eq!(
        seen.steps(),
        [format!("created {id}"), "started".to_owned()]
    );
    let state = engine().container(&id).await.unwrap().unwrap();
    let label = |key: &str| {
        state
            .labels
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.clone())
    };
    assert_eq!(label("io.quire.run"), Some(run_id.to_string()));
    assert_eq!(label("io.quire.repo").as_deref(), Some("group/Some.Repo"));
    let status = run_exit(
        &*workspace,
        shell("cat /proc/self/status; tr '\\0' ' ' </proc/1/cmdline; pwd; ls /sys/class/net; ls -d /var/run/docker.sock"),
        2,
    )
    .await;
    let text = status.text();
    let field = |name: &str| {
        text.lines()
            .find_map(|l| l.strip_prefix(name))
            .unwrap()
            .trim()
            .to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    let capabilities = u64::from_str_radix(&field("CapEff:"), 16).unwrap();
    for (name, bit) in [
        ("SETPCAP", 8),
        ("NET_RAW", 13),
        ("SYS_PTRACE", 19),
        ("SYS_ADMIN", 21),
        ("MKNOD", 27),
        ("AUDIT_WRITE", 29),
    ] {
        assert_eq!(capabilities >> bit & 1, 0, "{name}");
    }
    assert!(text.contains("/.quire/step"), "{text}");
    assert!(
        text.contains("\n/work\n") || text.contains(" /work\n"),
        "{text}"
    );
    assert!(!text.contains("eth0"), "{text}");
    let limits = run_exit(&*workspace, shell("cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true"), 0).await;
    assert_eq!(limits.text(), format!("{}\n256\n", 512 << 20));
    finish(&*workspace).await;
    assert_eq!(fixture.containers().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_memory_is_reported_as_such() {
    let fixture = fixture!();
    let mut spec = fixture.spec(small_tree());
    spec.limits.memory = 64 << 20;
    let workspace = fixture.start_with(spec).await.unwrap();
    // Not the command itself, but a process of it: the command's own code counts, with a word on the cause.
    let output = run_exit(&*workspace, shell("sh -c 'exec tail /dev/zero'; exit 3"), 3).await;
    assert!(
        output
            .error_text()
            .contains("out of memory, the limit is 64 MiB"),
        "{}",
        output.error_text()
    );
    let (end, _) = run(&*workspace, argv(&["tail", "/dev/zero"])).await;
    match end {
        Err(ExecutorError::ContainerDied(failure)) => {
            assert_eq!(failure, ContainerFailure::OutOfMemory { limit: 64 << 20 })
        }
        other => panic!("{other:?}"),
    }
    finish(&*workspace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_goes_under_a_command() {
    let fixture = fixture!();
    let words = "the container was stopped or removed from outside of quire; retry the run";
    for way in ["remove", "kill", "restart"] {
        let workspace = fixture.start().await;
        let output = Output::default();
        let running = workspace.run_command(
            shell("echo up; sleep 300"),
            Box::new(output.clone()),
            CancellationToken::new(),
        );
        let ending = async {
            wait_for_async("it runs", || async {
                (output.text() == "up\n").then_some(())
            })
            .await;
            let id = fixture.containers().await.pop().unwrap();
            let arguments: &[&str] = match way {
                "remove" => &["rm", "--force"],
                "kill" => &["kill"],
                _ => &["restart", "--time", "0"],
            };
            let mut docker = tokio::process::Command::new("docker");
            let ended = docker.args(arguments).arg(&id).output().await.unwrap();
            assert!(ended.status.success(), "{way}: {ended:?}");
        };
        let (end, ()) = tokio::join!(running, ending);
        assert!(
            matches!(&end, Err(ExecutorError::ContainerDied(failure)) if failure.to_string() == words),
            "{way}: {end:?}"
        );
        // And for the next command.
        let (end, _) = run(&*workspace, argv(&["true"])).await;
        assert!(
            matches!(&end, Err(ExecutorError::ContainerDied(failure)) if failure.to_string() == words),
            "{way}: {end:?}"
        );
        finish(&*workspace).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_cannot_be_had() {
    let instance = format!("test-{}", RunId::new());
    let config = DockerConfig {
        registries: vec!["127.0.0.1:1".into()],
        ..DockerConfig::new(&endpoint(), &instance)
    };
    let Some(fixture) = Fixture::docker_with(config) else {
        return;
    };
    for (image, words) in [
        (
            "127.0.0.1:1/no/such:1",
            "the image 127.0.0.1:1/no/such:1 cannot be pulled: ",
        ),
        (
            "localhost:1/no/such",
            "the image localhost:1/no/such is not pulled: the registry localhost:1 is on the machine",
        ),
    ] {
        let spec = StartSpec {
            image: ImageSource::Reference(image.parse().unwrap()),
            ..fixture.spec(small_tree())
        };
        let error = fixture.start_with(spec).await.err().unwrap();
        assert!(matches!(error, ExecutorError::Image(_)), "{error:?}");
        assert!(error.to_string().starts_with(words), "{error}");
    }
    let error = fixture
        .start_with(from_dockerfile(&fixture, small_tree()))
        .await
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "the commit has no .quire/Dockerfile to build an image from; add it, or name an image instead"
    );
    assert_eq!(fixture.containers().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_after_the_container_was_made() {
    let fixture = fixture!();
    let cancel = CancellationToken::new();
    let mut seen = Seen {
        cancel_at: Some(("created", cancel.clone())),
        ..Seen::default()
    };
    let start = fixture
        .executor
        .start_workspace(fixture.spec(small_tree()), &mut seen, cancel)
        .await;
    assert!(matches!(start.err(), Some(ExecutorError::Cancelled)));
    assert_eq!(fixture.containers().await, Vec::<String>::new());
    // Dropped instead of cancelled.
    let mut seen = Seen::default();
    let log = seen.clone();
    let executor = std::sync::Arc::clone(&fixture.executor);
    let spec = fixture.spec(small_tree());
    let task = tokio::spawn(async move {
        executor
            .start_workspace(spec, &mut seen, CancellationToken::new())
            .await
            .map(|_| ())
    });
    wait_for_async("it is made", || async {
        (!log.steps().is_empty()).then_some(())
    })
    .await;
    task.abort();
    let dropped = task.await.is_err();
    assert!(dropped, "it was done before it could be dropped");
    wait_for_async("the container is gone", || async {
        fixture.containers().await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_takes_its_own_and_nothing_else() {
    let fixture = fixture!();
    let other = fixture!();
    let foreign = other.start().await;
    // As a crashed process leaves it: containers without anybody who drives them.
    let crashed = DockerExecutor::new(DockerConfig::new(&endpoint(), &fixture.instance));
    let mut runs = Vec::new();
    for _ in 0..2 {
        let spec = fixture.spec(small_tree());
        runs.push(spec.run);
        drop(
            crashed
                .start_workspace(spec, &mut Seen::default(), CancellationToken::new())
                .await
                .unwrap(),
        );
    }
    let spec = fixture.spec(small_tree());
    let mine_run = spec.run;
    let mine = fixture.start_with(spec).await.unwrap();
    assert_eq!(fixture.containers().await.len(), 3);
    // One run lives, one does not, and one is in this process's hands though nobody names it.
    let remaining = vec![mine_run];
    assert_eq!(
        fixture.executor.sweep(&runs[..1]).await.unwrap(),
        SweepReport {
            removed: 1,
            remaining: remaining.clone(),
            ..SweepReport::default()
        }
    );
    assert_eq!(fixture.containers().await.len(), 2);
    assert_eq!(
        fixture.executor.sweep(&[mine_run]).await.unwrap(),
        SweepReport {
            removed: 1,
            remaining: Vec::new(),
            ..SweepReport::default()
        }
    );
    assert_eq!(
        fixture.executor.sweep(&[]).await.unwrap(),
        SweepReport {
            removed: 0,
            remaining,
            ..SweepReport::default()
        }
    );
    run_exit(&*mine, argv(&["true"]), 0).await;
    run_exit(&*foreign, argv(&["true"]), 0).await;
    finish(&*mine).await;
    finish(&*foreign).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_started_again_after_a_crash() {
    let fixture = fixture!();
    let spec = fixture.spec(small_tree());
    let again = StartSpec {
        run: spec.run,
        ..fixture.spec(small_tree())
    };
    let crashed = DockerExecutor::new(DockerConfig::new(&endpoint(), &fixture.instance));
    drop(
        crashed
            .start_workspace(spec, &mut Seen::default(), CancellationToken::new())
            .await
            .unwrap(),
    );
    let workspace = fixture.start_with(again).await.unwrap();
    assert_eq!(fixture.containers().await.len(), 1);
    run_exit(&*workspace, argv(&["true"]), 0).await;
    finish(&*workspace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_reaches_no_other_run() {
    let fixture = fixture!();
    let spec = || {
        let mut spec = fixture.spec(small_tree());
        spec.limits.network = true;
        spec
    };
    let (one, two) = (
        fixture.start_with(spec()).await.unwrap(),
        fixture.start_with(spec()).await.unwrap(),
    );
    let listen = r#"perl -MIO::Socket::INET -e '$s=IO::Socket::INET->new(LocalPort=>7777,Listen=>5) or die; while($c=$s->accept){print $c "heard\n"; close $c}' >/dev/null 2>&1 & hostname -i"#;
    let address = run_exit(&*one, shell(listen), 0)
        .await
        .text()
        .trim()
        .to_owned();
    let call = CommandSpec {
        timeout: Some(Duration::from_secs(3)),
        ..argv(&["bash", "-c", &format!("cat </dev/tcp/{address}/7777")])
    };
    // Itself it reaches, once it listens; the other gets no answer.
    wait_for_async("it listens", || async {
        let (end, output) = run(&*one, call.clone()).await;
        (end.is_ok() && output.text() == "heard\n").then_some(())
    })
    .await;
    let (end, output) = run(&*two, call).await;
    assert_eq!(output.text(), "");
    assert_ne!(end.unwrap(), CommandEnd::Exited(0));
    finish(&*one).await;
    finish(&*two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_lack_what_is_usual() {
    let fixture = fixture!();
    // Without a shell commands run all the same, and can be ended.
    let text = format!("FROM {IMAGE}\nRUN [\"rm\", \"/bin/sh\"]\n");
    let workspace = fixture
        .start_with(from_dockerfile(&fixture, dockerfile(&text)))
        .await
        .unwrap();
    assert_eq!(
        run_exit(&*workspace, argv(&["cat", "plain.txt"]), 0)
            .await
            .text(),
        "plain\n"
    );
    let output = run_exit(&*workspace, shell("true"), 127).await;
    assert_eq!(
        output.error_text(),
        "quire: cannot run `/bin/sh`: there is no such program\n"
    );
    let (end, _) = run(
        &*workspace,
        CommandSpec {
            timeout: Some(Duration::from_secs(1)),
            ..argv(&["sleep", "300"])
        },
    )
    .await;
    assert_eq!(end.unwrap(), CommandEnd::TimedOut);
    run_exit(&*workspace, argv(&["true"]), 0).await;
    finish(&*workspace).await;
    // Nothing of the image is needed.
    let workspace = fixture
        .start_with(from_dockerfile(
            &fixture,
            dockerfile("FROM scratch\nCOPY plain.txt /\n"),
        ))
        .await
        .unwrap();
    let output = run_exit(&*workspace, argv(&["true"]), 127).await;
    assert_eq!(
        output.error_text(),
        "quire: cannot run `true`: there is no such program\n"
    );
    assert_eq!(workspace.read_file("plain.txt").await.unwrap(), b"plain\n");
    workspace
        .write_file("new/file", b"x".to_vec())
        .await
        .unwrap();
    assert_eq!(workspace.read_file("new/file").await.unwrap(), b"x");
    finish(&*workspace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_set_what_is_unusual() {
    let fixture = fixture!();
    let text = format!(
        "FROM {IMAGE}\nENTRYPOINT [\"/bin/false\"]\nCMD [\"x\"]\nVOLUME /work\nWORKDIR /nowhere\n\
         HEALTHCHECK --interval=1s CMD touch /checked\nENV FROM_IMAGE=yes PATH=/opt/bin:$PATH\n\
         RUN mkdir -p /opt/bin && printf '#!/bin/sh\\necho from the image\\n' >/opt/bin/own && chmod 755 /opt/bin/own\nUSER 1234\n"
    );
    let workspace = fixture
        .start_with(from_dockerfile(&fixture, dockerfile(&text)))
        .await
        .unwrap();
    let script = "own; id -u; echo $FROM_IMAGE; pwd; touch new $HOME/new && cat plain.txt; sleep 2; ls /checked";
    let output = run_exit(&*workspace, shell(script), 2).await;
    assert_eq!(
        output.text(),
        "from the image\n1234\nyes\n/work\nplain\n",
        "{}",
        output.error_text()
    );
    finish(&*workspace).await;
    let unknown = format!("FROM {IMAGE}\nUSER nobody-knows\n");
    let error = fixture
        .start_with(from_dockerfile(&fixture, dockerfile(&unknown)))
        .await
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "the image has no user or group `nobody-knows`, which its `USER nobody-knows` names"
    );
    assert_eq!(fixture.containers().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_ends_with_its_connection() {
    let fixture = fixture!();
    let crashed = DockerExecutor::new(DockerConfig::new(&endpoint(), &fixture.instance));
    let workspace = crashed
        .start_workspace(
            fixture.spec(small_tree()),
            &mut Seen::default(),
            CancellationToken::new(),
        )
        .await
        .unwrap();
    run_exit(
        &*workspace,
        shell("trap '' TERM HUP; setsid sleep 300 &"),
        0,
    )
    .await;
    let id = fixture.containers().await.pop().unwrap();
    drop(workspace);
    wait_for_async("its end", || async {
        (!engine().container(&id).await.unwrap().unwrap().running).then_some(())
    })
    .await;
    assert_eq!(fixture.executor.sweep(&[]).await.unwrap().removed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_is_ended() {
    let fixture = fixture!();
    let mut spec = fixture.spec(small_tree());
    spec.limits.pids = 60;
    let workspace = fixture.start_with(spec).await.unwrap();
    // The first process lives on, whatever becomes of the others at the limit.
    let bomb = "bomb() { bomb | bomb & sleep 1000; }; bomb & exec sleep 1000";
    let (end, _) = run(
        &*workspace,
        CommandSpec {
            timeout: Some(Duration::from_secs(2)),
            ..shell(bomb)
        },
    )
    .await;
    assert_eq!(end.unwrap(), CommandEnd::TimedOut);
    // Ended alone or with its container, as the engine could: nothing of it lives.
    let (end, output) = run(
        &*workspace,
        shell("for p in /proc/[0-9]*; do cat $p/cmdline 2>/dev/null; done | tr '\\0' ' '"),
    )
    .await;
    if end.is_ok() {
        assert!(!output.text().contains("sleep 1000"), "{}", output.text());
    }
    finish(&*workspace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_is_probed() {
    let fixture = fixture!();
    fixture.executor.probe().await.unwrap();
    let nowhere = fixture.folder.path().join("nowhere.sock");
    let away = DockerExecutor::new(DockerConfig::new(
        &format!("unix://{}", nowhere.display()),
        "test",
    ));
    let error = away.probe().await.unwrap_err();
    assert!(matches!(error, ExecutorError::Unavailable(_)));
    assert!(
        error.to_string().contains(&nowhere.display().to_string()),
        "{error}"
    );
    let start = away
        .start_workspace(
            fixture.spec(small_tree()),
            &mut Seen::default(),
            CancellationToken::new(),
        )
        .await;
    assert!(matches!(start.err(), Some(ExecutorError::Unavailable(_))));
    assert!(matches!(
        away.sweep(&[]).await,
        Err(ExecutorError::Unavailable(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_what_is_not_there() {
    if quire_testkit::skipped("docker") {
        return;
    }
    let engine = Engine::new(&endpoint(), Timeouts::default());
    let nobody = format!("quire-{}", RunId::new());
    assert!(!engine.remove_container(&nobody).await.unwrap());
    assert!(
        !engine
            .remove_network(&nobody, Duration::from_secs(60))
            .await
            .unwrap()
    );
    assert!(!engine.remove_image(&nobody).await.unwrap());
    assert_eq!(engine.container(&nobody).await.unwrap(), None);
    engine.kill_container(&nobody).await.unwrap();
    assert_eq!(containers_of(&nobody).await, Vec::<String>::new());
}
