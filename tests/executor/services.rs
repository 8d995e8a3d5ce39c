//! Services: containers beside a run's. The server is a few lines of the Perl that the image has.

use std::sync::Arc;
use std::time::Duration;

use quire_executor::{
    DockerConfig, DockerExecutor, Executor, ExecutorError, ServiceSpec, StartSpec,
};
use quire_testkit::{wait_for, wait_for_async};
use tokio_util::sync::CancellationToken;

use crate::support::{
    Fixture, IMAGE, Seen, argv, endpoint, engine, finish, run_exit, shell, small_tree,
};

/// Greets whoever connects, after a while.
const SERVER: &str = r#"
$| = 1; print "starting\n"; select(undef, undef, undef, 0.5);
$s = IO::Socket::INET->new(Listen => 5, LocalPort => 5432, ReuseAddr => 1) or die;
print STDERR "listening\n";
while ($c = $s->accept) { print $c "hello from $ENV{NAME}\n"; close $c }
"#;

fn service(name: &str, command: &[&str], ready: Option<&[&str]>) -> ServiceSpec {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    ServiceSpec {
        name: name.into(),
        image: IMAGE.parse().unwrap(),
        env: vec![("NAME".into(), name.into())],
        command: Some(words(command)),
        ready: ready.map(words),
        ready_within: Duration::from_secs(60),
    }
}

fn server(name: &str) -> ServiceSpec {
    service(
        name,
        &["perl", "-MIO::Socket::INET", "-e", SERVER],
        Some(&["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/5432"]),
    )
}

fn with(fixture: &Fixture, services: Vec<ServiceSpec>) -> StartSpec {
    StartSpec {
        services,
        ..fixture.spec(small_tree())
    }
}

async fn networks(fixture: &Fixture) -> usize {
    engine()
        .networks(&vec![(
            "io.quire.instance".to_owned(),
            fixture.instance.clone(),
        )])
        .await
        .unwrap()
        .len()
}

async fn nothing_is_left(fixture: &Fixture) {
    assert_eq!(
        (fixture.containers().await.len(), networks(fixture).await),
        (0, 0)
    );
}

fn ask(name: &str) -> quire_executor::CommandSpec {
    argv(&[
        "bash",
        "-c",
        &format!("exec 3<>/dev/tcp/{name}/5432 && cat <&3"),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_reached_by_name_when_commands_begin() {
    let Some(fixture) = Fixture::docker() else {
        return;
    };
    for network in [false, true] {
        let mut spec = with(&fixture, vec![server("db"), server("other-db")]);
        spec.limits.network = network;
        let mut seen = Seen::default();
        let workspace = fixture
            .executor
            .start_workspace(spec, &mut seen, CancellationToken::new())
            .await
            .unwrap();
        // The first command finds it: nobody has to wait for it.
        assert_eq!(
            run_exit(&*workspace, ask("db"), 0).await.text(),
            "hello from db\n"
        );
        assert_eq!(
            run_exit(&*workspace, ask("other-db"), 0).await.text(),
            "hello from other-db\n"
        );
        assert!(
            seen.log().contains("waiting for db, other-db to be ready"),
            "{}",
            seen.log()
        );
        assert_eq!(seen.output("db"), "starting\nlistening\n");
        assert_eq!(workspace.service_failures(), Vec::<String>::new());
        // A way out of the machine only with a network.
        let own = engine()
            .networks(&vec![(
                "io.quire.instance".to_owned(),
                fixture.instance.clone(),
            )])
            .await
            .unwrap();
        assert_eq!(
            own.iter().map(|own| own.internal).collect::<Vec<_>>(),
            [!network]
        );
        assert_eq!(fixture.containers().await.len(), 3);
        finish(&*workspace).await;
        nothing_is_left(&fixture).await;
        finish(&*workspace).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_do_not_reach_each_others_services() {
    let Some(fixture) = Fixture::docker() else {
        return;
    };
    let start = || fixture.start_with(with(&fixture, vec![server("db")]));
    let (one, two) = tokio::join!(start(), start());
    let (one, two) = (one.unwrap(), two.unwrap());
    let address = run_exit(&*two, shell("getent hosts db | cut -d' ' -f1"), 0)
        .await
        .text();
    let reach = format!(
        "timeout 2 bash -c 'exec 3<>/dev/tcp/{}/5432' 2>/dev/null",
        address.trim()
    );
    assert_eq!(
        run_exit(&*two, ask("db"), 0).await.text(),
        "hello from db\n"
    );
    let reached = crate::support::run(&*one, shell(&reach)).await.0.unwrap();
    assert_ne!(reached, quire_executor::CommandEnd::Exited(0));
    finish(&*one).await;
    assert_eq!(
        run_exit(&*two, ask("db"), 0).await.text(),
        "hello from db\n"
    );
    finish(&*two).await;
    nothing_is_left(&fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_do_not_come_up_fail_the_start() {
    let Some(fixture) = Fixture::docker() else {
        return;
    };
    let late = ServiceSpec {
        ready_within: Duration::from_secs(2),
        ..service("db", &["sleep", "300"], Some(&["false"]))
    };
    let missing = ServiceSpec {
        image: "127.0.0.1:1/no/such:1".parse().unwrap(),
        ..server("db")
    };
    let dies = service(
        "db",
        &["sh", "-c", "echo why it ends; exit 7"],
        Some(&["false"]),
    );
    for (spec, words, shown) in [
        (
            dies,
            "the service `db` ended with exit code 7 before it was ready",
            "wrote last:\n  why it ends\n",
        ),
        (
            late,
            "the service `db` was not ready within 2 s",
            "quire: the service `db` wrote nothing\n",
        ),
        (
            missing,
            "the service `db`: the image 127.0.0.1:1/no/such:1 is not pulled: the registry 127.0.0.1:1 ",
            "",
        ),
        (
            service("db", &["no-such-program"], Some(&["true"])),
            "the service `db` cannot start: ",
            "",
        ),
    ] {
        let mut seen = Seen::default();
        let start = fixture
            .executor
            .start_workspace(
                with(&fixture, vec![server("fine"), spec]),
                &mut seen,
                CancellationToken::new(),
            )
            .await;
        let error = start.err().unwrap();
        assert!(error.to_string().starts_with(words), "{error}");
        assert!(seen.log().contains(shown), "{}", seen.log());
        let kind = matches!(
            (&error, words.contains("within"), words.contains("image")),
            (ExecutorError::ServiceNotReady { .. }, true, _)
                | (ExecutorError::Image(_), _, true)
                | (ExecutorError::ContainerDied(_), false, false)
        );
        assert!(kind, "{error:?}");
        nothing_is_left(&fixture).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_ends_during_the_run_is_reported() {
    let Some(fixture) = Fixture::docker() else {
        return;
    };
    let brief = service(
        "brief",
        &[
            "sh",
            "-c",
            "while [ ! -e /end ]; do sleep 0.05; done; echo bye; exit 5",
        ],
        None,
    );
    let workspace = fixture
        .start_with(with(&fixture, vec![brief]))
        .await
        .unwrap();
    let label = vec![
        ("io.quire.instance".to_owned(), fixture.instance.clone()),
        ("io.quire.service".to_owned(), "brief".to_owned()),
    ];
    let id = engine().containers(&label).await.unwrap().pop().unwrap().id;
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut tar::Header::new_gnu(), "end", &b""[..])
        .unwrap();
    let bytes = bytes::Bytes::from(tar.into_inner().unwrap());
    engine()
        .upload(&id, "/", Box::pin(futures_util::stream::iter([Ok(bytes)])))
        .await
        .unwrap();
    let troubles = wait_for_async("it has ended", || async {
        Some(workspace.service_failures()).filter(|troubles| !troubles.is_empty())
    })
    .await;
    assert_eq!(troubles, ["the service `brief` ended with exit code 5"]);
    run_exit(&*workspace, argv(&["true"]), 0).await;
    finish(&*workspace).await;
    nothing_is_left(&fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_or_a_cancel_leaves_of_services_goes() {
    let Some(fixture) = Fixture::docker() else {
        return;
    };
    let crashed = DockerExecutor::new(DockerConfig::new(&endpoint(), &fixture.instance));
    drop(
        crashed
            .start_workspace(
                with(&fixture, vec![server("db")]),
                &mut Seen::default(),
                CancellationToken::new(),
            )
            .await
            .unwrap(),
    );
    assert_eq!(
        (fixture.containers().await.len(), networks(&fixture).await),
        (2, 1)
    );
    assert_eq!(fixture.executor.sweep(&[]).await.unwrap().removed, 3);
    nothing_is_left(&fixture).await;
    // Cancelled while it waits for one that never is ready; and dropped there.
    let never = || {
        with(
            &fixture,
            vec![service("db", &["sleep", "300"], Some(&["false"]))],
        )
    };
    let (cancel, mut seen) = (CancellationToken::new(), Seen::default());
    let log = seen.clone();
    let start = fixture
        .executor
        .start_workspace(never(), &mut seen, cancel.clone());
    let cancelling = async {
        wait_for_async("it waits", || async {
            log.log().contains("waiting for db").then_some(())
        })
        .await;
        cancel.cancel();
    };
    let (start, ()) = tokio::join!(start, cancelling);
    assert!(matches!(start.err(), Some(ExecutorError::Cancelled)));
    nothing_is_left(&fixture).await;
    let (executor, spec, mut seen) = (Arc::clone(&fixture.executor), never(), Seen::default());
    let log = seen.clone();
    let task = tokio::spawn(async move {
        executor
            .start_workspace(spec, &mut seen, CancellationToken::new())
            .await
            .map(|_| ())
    });
    wait_for_async("it waits", || async {
        log.log().contains("waiting for db").then_some(())
    })
    .await;
    task.abort();
    assert!(task.await.is_err());
    wait_for_async("all is gone", || async {
        (fixture.containers().await.is_empty() && networks(&fixture).await == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_has_no_services() {
    let fixture = Fixture::host();
    let error = fixture
        .start_with(with(&fixture, vec![server("db")]))
        .await
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "services need containers: run this pipeline with the docker executor"
    );
}

#[test]
fn the_log_of_a_service_is_followed_to_the_end_of_its_run() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    if quire_testkit::skipped("docker") {
        return;
    }
    let forge = crate::attach::contained();
    let tree = forge.tree("app", "app");
    tree.write(
        ".quire/ci.fnl",
        r#"(local ci (require :quire.ci))
(ci.service :db {:image "debian:trixie-slim" :command [:sh :-c "echo listening; exec sleep 600"] :ready ["true"]})
(ci.job :test [:quire/push] (fn [{: sh}] (sh "touch begun; while [ ! -e go ]; do sleep 0.1; done")))
"#,
    );
    tree.push_new("first");
    let run = forge.newest("app");
    #[expect(
        clippy::disallowed_methods,
        reason = "a follower that is read while it goes on"
    )]
    let mut follower = Command::new(forge.file("client/ssh"));
    let mut follower = follower
        .arg(format!("run logs --follow --service db {}", run.id))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    // It has no log when it is asked for; what comes is shown while the run goes on.
    assert_eq!(lines.next().unwrap().unwrap(), "listening");
    assert!(!forge.run(run.id).state.is_final());
    let go = || {
        forge
            .ssh(&format!("run attach {} touch go", run.id))
            .status
            .success()
    };
    wait_for("the command", || go().then_some(()));
    assert!(lines.next().is_none(), "nothing twice");
    let end = follower.wait_with_output().unwrap();
    assert!(
        end.status.success() && String::from_utf8_lossy(&end.stderr).contains("complete"),
        "{}",
        quire_testkit::transcript(&end)
    );
    assert_eq!(
        forge.ssh_ok(&format!("run logs --service db {}", run.id)),
        "listening\n"
    );
    let none = forge.ssh(&format!("run logs --follow --service cache {}", run.id));
    assert!(
        none.status.code() == Some(3) && quire_testkit::transcript(&none).contains("it has `db`"),
        "{}",
        quire_testkit::transcript(&none)
    );
    forge.check_whole();
}
