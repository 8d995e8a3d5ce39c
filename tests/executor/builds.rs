//! Images built from a tree's Dockerfile, by the engine's BuildKit.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quire_executor::engine::ImageDetails;
use quire_executor::{
    CommandEnd, CommandSpec, DockerConfig, DockerExecutor, Executor, ExecutorError, ImageSource,
    ServiceSpec, StartSpec,
};
use quire_testkit::{skipped, wait_for_async};
use quire_types::image_reference::ImageReference;
use quire_types::names::RunId;
use quire_types::pull_policy::PullPolicy;
use tokio_util::sync::CancellationToken;

use crate::registry::Registry;
use crate::support::{
    Files, Fixture, IMAGE, Seen, argv, endpoint, engine, finish, remove_images_and_networks, run,
    run_exit, shell, small_tree,
};

/// A run whose image is built from the tree.
pub(crate) fn from_dockerfile(fixture: &Fixture, tree: Files) -> StartSpec {
    StartSpec {
        image: ImageSource::Dockerfile,
        ..fixture.spec(tree)
    }
}

/// A tree with this Dockerfile.
pub(crate) fn dockerfile(text: &str) -> Files {
    small_tree().with(".quire/Dockerfile", text)
}

/// Builds, and returns the log.
async fn build(fixture: &Fixture, tree: Files, network: bool) -> Result<String, ExecutorError> {
    let mut seen = Seen::default();
    let mut spec = from_dockerfile(fixture, tree);
    spec.limits.network = network;
    let started = fixture
        .executor
        .start_workspace(spec, &mut seen, CancellationToken::new());
    finish(&*started.await?).await;
    Ok(seen.log())
}

/// Whether the engine's own frontend knows here-documents: from Engine 23 on.
async fn knows_here_documents() -> bool {
    engine().has_source_rules().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_built_and_used_again() {
    let fixture = fixture!();
    let text = format!(
        "FROM {IMAGE}\nRUN echo building && useradd -m person\nCOPY plain.txt /from-tree\nUSER person\nENTRYPOINT [\"false\"]\n"
    );
    let spec = from_dockerfile(&fixture, dockerfile(&text).id(&fixture.instance));
    let (workspace, seen) = fixture.start_and_see(spec).await;
    let steps = seen.steps();
    let tag = steps[1].strip_prefix("build-finished ").unwrap().to_owned();
    assert!(tag.starts_with("quire/group/some-repo:"), "{tag}");
    assert_eq!(steps.len(), 4);
    assert_eq!(steps[0].as_str(), "build-started");
    assert_eq!(steps[3].as_str(), "started");
    assert!(seen.log().contains("building"), "{}", seen.log());
    // The image's user owns the workspace.
    let output = run_exit(
        &*workspace,
        shell("cat /from-tree; id -un; touch new; echo more >>plain.txt; stat -c %U . plain.txt"),
        0,
    )
    .await;
    assert_eq!(output.text(), "plain\nperson\nperson\nperson\n");
    let left = "setsid sleep 301 & sleep 302";
    let (end, _) = run(
        &*workspace,
        CommandSpec {
            timeout: Some(Duration::from_secs(1)),
            ..shell(left)
        },
    )
    .await;
    assert_eq!(end.unwrap(), CommandEnd::TimedOut);
    run_exit(
        &*workspace,
        shell("! cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -q 'sleep 30[12]'"),
        0,
    )
    .await;
    finish(&*workspace).await;
    // The same tree: no build.
    let mut again = Seen::default();
    let spec = from_dockerfile(&fixture, dockerfile(&text).id(&fixture.instance));
    let workspace = fixture
        .executor
        .start_workspace(spec, &mut again, CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(again.steps().len(), 2, "{:?}", again.steps());
    assert!(again.log().contains(&tag), "{}", again.log());
    finish(&*workspace).await;
    let own = vec![("io.quire.built-by".to_owned(), fixture.instance.clone())];
    assert_eq!(engine().images(&own).await.unwrap().len(), 1);
    remove_images_and_networks(&fixture.instance).await;
    assert_eq!(engine().images(&own).await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_fails_or_is_cancelled() {
    let fixture = fixture!();
    for (text, words) in [
        (
            format!("FROM {IMAGE}\nRUN echo working; exit 9\n"),
            "exit code: 9",
        ),
        ("FROM\n".to_owned(), "FROM requires"),
    ] {
        let mut seen = Seen::default();
        let spec = from_dockerfile(&fixture, dockerfile(&text));
        let error = fixture
            .executor
            .start_workspace(spec, &mut seen, CancellationToken::new())
            .await
            .err()
            .unwrap();
        assert!(matches!(&error, ExecutorError::Image(_)), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(seen.steps(), ["build-started"]);
    }
    let cancel = CancellationToken::new();
    let seen = Seen::default();
    let marker = fixture.instance.clone();
    let spec = from_dockerfile(
        &fixture,
        dockerfile(&format!("FROM {IMAGE}\nRUN echo {marker}; sleep 299\n")),
    );
    let mut observer = seen.clone();
    let start = fixture
        .executor
        .start_workspace(spec, &mut observer, cancel.clone());
    let cancelling = async {
        // Its own output, not the step's announcement.
        wait_for_async("the build runs", || async {
            seen.log().lines().any(|l| l == marker).then_some(())
        })
        .await;
        cancel.cancel();
    };
    let (start, ()) = tokio::join!(start, cancelling);
    assert!(matches!(start.err(), Some(ExecutorError::Cancelled)));
    // The engine ends the command of the build.
    wait_for_async("the command is gone", || async {
        (!process_with(&marker)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_has_a_network_only_if_its_run_has_one() {
    let fixture = fixture!();
    for network in [false, true] {
        // A comment of its own keeps the layer from being taken from the cache.
        let text = format!(
            "FROM {IMAGE}\nRUN : {network} {}; ls /sys/class/net\n",
            fixture.instance
        );
        let log = build(&fixture, dockerfile(&text), network).await.unwrap();
        assert_eq!(log.lines().any(|line| line == "eth0"), network, "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_shares_no_network_with_runs_and_services() {
    let fixture = fixture!();
    let mut alone = fixture.spec(small_tree());
    alone.limits.network = true;
    let mut served = fixture.spec(small_tree());
    served.limits.network = true;
    served.services = vec![ServiceSpec {
        name: "db".into(),
        image: IMAGE.parse().unwrap(),
        env: Vec::new(),
        command: Some(vec!["sleep".into(), "3000".into()]),
        ready: None,
        ready_within: Duration::from_secs(60),
    }];
    let alone = fixture.start_with(alone).await.unwrap();
    let served = fixture.start_with(served).await.unwrap();
    // The gateways of the bridges that a container is on, and a neighbour that does not answer.
    let address = run_exit(&*alone, argv(&["hostname", "-i"]), 0).await.text();
    let address = address.trim();
    let look = "awk '$2 == \"00000000\" {print \"gateway: \" $3}' /proc/net/route";
    let knock = format!("timeout 2 bash -c 'exec 3<>/dev/tcp/{address}/9'; echo \"knocked: $?\"");
    let text = format!(
        "FROM {IMAGE}\nRUN : {}; {look}; {knock}\n",
        fixture.instance
    );
    let mut spec = from_dockerfile(&fixture, dockerfile(&text));
    spec.limits.network = true;
    let (workspace, seen) = fixture.start_and_see(spec).await;
    workspace.stop().await.unwrap();
    let log = seen.log();
    let gateways = |text: &str| -> Vec<String> {
        let found = text.split("gateway: ").skip(1);
        found.map(|rest| rest[..8].to_owned()).collect()
    };
    let mut of_runs = Vec::new();
    for run in [&alone, &served] {
        of_runs.extend(gateways(&run_exit(&**run, shell(look), 0).await.text()));
    }
    let of_build = gateways(&log[log.rfind("gateway: ").unwrap()..]);
    assert_eq!((of_runs.len(), of_build.len()), (2, 1), "{of_runs:?} {log}");
    assert!(!of_runs.contains(&of_build[0]), "{of_runs:?} {log}");
    // Refused (1) would be an answer; 124 is none.
    assert!(log.contains("knocked: 124"), "{log}");
    finish(&*alone).await;
    finish(&*served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_has_the_features_of_buildkit() {
    let fixture = fixture!();
    let unique = &fixture.instance;
    let mut text = format!(
        "# syntax=127.0.0.1:1/no/such/frontend\n\
         FROM --platform=$BUILDPLATFORM {IMAGE} AS tools\n\
         RUN --mount=type=cache,target=/cache --mount=type=bind,target=/tree echo {unique} >/cache/file && cat /tree/plain.txt /cache/file >/made\n\
         FROM {IMAGE}\n\
         COPY --chmod=0751 plain.txt /plain\n\
         COPY --from=tools /made /made\n\
         COPY . /all\n\
         RUN find /all -mindepth 1 | sort >/list; readlink /all/link >>/list; stat -c '%a %u %y' /plain /all/bin/tool\n"
    );
    if knows_here_documents().await {
        text.push_str(
            "RUN <<EOF\necho of a here-document >/here\nEOF\nRUN grep here-document /here\n",
        );
    }
    let tree = dockerfile(&text)
        .with(".dockerignore", "*\n")
        .with(
            ".quire/Dockerfile.dockerignore",
            "# a comment\n**/*.log\n.quire\nsecret\n!secret/kept\n",
        )
        .with("a/deep/x.log", "x")
        .with("secret/gone", "x")
        .with("secret/kept", "x")
        .with("large", vec![b'x'; 300 << 10]);
    let spec = from_dockerfile(&fixture, tree);
    let (workspace, seen) = fixture.start_and_see(spec).await;
    let log = seen.log();
    assert!(log.contains("751 0 2023-11-14 22:13:20"), "{log}");
    assert!(log.contains("755 0 2023-11-14 22:13:20"), "{log}");
    let script = "cat /made; cat /list; wc -c </all/large";
    let output = run_exit(&*workspace, shell(script), 0).await.text();
    let expected = format!(
        "plain\n{unique}\n/all/.dockerignore\n/all/a\n/all/a/deep\n/all/a/deep/er\n/all/a/deep/er/file\n\
         /all/bin\n/all/bin/tool\n/all/large\n/all/link\n/all/plain.txt\n/all/secret\n/all/secret/kept\nplain.txt\n307200\n"
    );
    assert_eq!(output, expected, "{log}");
    finish(&*workspace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_build_names_its_steps() {
    let fixture = fixture!();
    let unique = &fixture.instance;
    let text = format!(
        "FROM {IMAGE} AS one\nRUN echo {unique} >/one; echo wrote\nFROM one\nRUN cat /one\n"
    );
    let first = build(&fixture, dockerfile(&text), false).await.unwrap();
    let lines: Vec<&str> = first.lines().collect();
    let place = |line: &str| lines.iter().position(|found| *found == line);
    let steps = [
        "quire: building the image from .quire/Dockerfile".to_owned(),
        format!("[one 2/2] RUN echo {unique} >/one; echo wrote"),
        "wrote".to_owned(),
        "[stage-1 1/1] RUN cat /one".to_owned(),
        unique.clone(),
    ];
    let places: Vec<_> = steps.iter().map(|step| place(step)).collect();
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{places:?} {first}"
    );
    let second = build(&fixture, dockerfile(&text), false).await.unwrap();
    let cached = format!("{} (cached)", steps[1]);
    assert!(second.lines().any(|line| line == cached), "{second}");
}

/// Counts the connections to a port of this machine, where the engine is.
fn listen() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    std::thread::spawn(move || {
        for _ in listener.incoming() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_fetches_nothing_for_a_build_that_only_its_machine_reaches() {
    let fixture = fixture!();
    let (port, count) = listen();
    let registry = format!("127.0.0.1:{port}");
    let address = "lets the engine download ";
    let local = "is on the machine of the Docker engine or its link";
    for (text, words) in [
        (format!("FROM {IMAGE}\nADD http://{registry}/x /x"), address),
        (
            format!("FROM {IMAGE}\nARG A=ttp\nADD [\"h${{A}}://{registry}/x\", \"/x\"]"),
            address,
        ),
        (
            format!(
                "# a comment\n# escape=`\nFROM {IMAGE}\nRUN true \\\nADD http://{registry}/x /x"
            ),
            address,
        ),
        (format!("FROM {registry}/x"), local),
        (format!("FROM {IMAGE}\nCOPY --from={registry}/x / /"), local),
        (
            format!("FROM {IMAGE}\nRUN --mount=from={registry}/x,target=/x true"),
            local,
        ),
        (format!("ARG A=0.1:{port}\nFROM 127.0.${{A}}/x"), local),
        (format!("# escape=`\nFROM `\n  {registry}/x"), local),
        (format!("FROM localhost:{port}/x AS a\nFROM a"), local),
    ] {
        for network in [false, true] {
            let built = build(&fixture, dockerfile(&format!("{text}\n")), network).await;
            match built {
                Err(error) => assert!(error.to_string().contains(words), "{text} {error}"),
                // To the engine, the second line is a part of the command.
                Ok(log) => assert!(text.contains("RUN true \\"), "{text} {log}"),
            }
        }
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_network_no_base_image_is_fetched() {
    let instance = format!("test-{}", RunId::new());
    let (port, count) = listen();
    let registry = format!("127.0.0.1:{port}");
    let Some(fixture) = Fixture::docker_with(DockerConfig {
        registries: vec![registry.clone()],
        ..DockerConfig::new(&endpoint(), &instance)
    }) else {
        return;
    };
    for text in [
        format!("FROM {registry}/x:1"),
        format!("FROM {IMAGE}\nCOPY --from={registry}/x:1 / /"),
    ] {
        let error = build(&fixture, dockerfile(&text), false).await.unwrap_err();
        let words = format!("the engine does not have the image {registry}/x:1, and fetches none");
        assert!(error.to_string().contains(&words), "{error}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
    // With a network it is asked for, because its owner listed the registry.
    let text = format!("FROM {registry}/x:1");
    assert!(build(&fixture, dockerfile(&text), true).await.is_err());
    assert_ne!(count.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_cannot_take_the_network_of_the_machine() {
    let fixture = fixture!();
    for network in [false, true] {
        let text = format!("FROM {IMAGE}\nRUN --network=host ls /sys/class/net\n");
        let built = build(&fixture, dockerfile(&text), network).await;
        assert!(built.is_err(), "{network} {built:?}");
    }
}

/// A registry whose image a user has pulled, and an executor that looks for newer ones.
struct Updates {
    registry: Registry,
    image: ImageReference,
    fixture: Fixture,
    config: DockerConfig,
    seen: Seen,
}

impl Updates {
    async fn new(policy: PullPolicy) -> Option<Self> {
        if skipped("docker") {
            return None;
        }
        let registry = Registry::start();
        let image: ImageReference = registry.image("base:1").parse().unwrap();
        engine().pull(&image, &mut |_| {}).await.unwrap();
        let config = DockerConfig {
            registries: vec!["127.0.0.1".into()],
            pull: policy,
            ..DockerConfig::new(&endpoint(), &format!("test-{}", RunId::new()))
        };
        Some(Self {
            registry,
            image,
            fixture: Fixture::docker_with(config.clone())?,
            config,
            seen: Seen::default(),
        })
    }

    /// Starts a run as after a restart; returns what the image of its container is, and the log.
    async fn start(&self, spec: StartSpec) -> Result<(String, String), ExecutorError> {
        self.seen.log.lock().unwrap().clear();
        self.seen.steps.lock().unwrap().clear();
        let mut seen = self.seen.clone();
        let executor = DockerExecutor::new(self.config.clone());
        let start = executor.start_workspace(spec, &mut seen, CancellationToken::new());
        let workspace = start.await?;
        let steps = self.seen.steps();
        let created = steps.iter().find_map(|step| step.strip_prefix("created "));
        let image = engine().image_of_container(created.unwrap()).await.unwrap();
        finish(&*workspace).await;
        Ok((version(&image.unwrap()), self.seen.log()))
    }

    fn built(&self) -> StartSpec {
        let text = format!("FROM {}\nCOPY plain.txt /made\n", self.image);
        let tree = dockerfile(&text).id(&self.config.instance);
        let mut spec = from_dockerfile(&self.fixture, tree);
        spec.limits.network = true;
        spec
    }

    fn by_name(&self) -> StartSpec {
        StartSpec {
            image: ImageSource::Reference(self.image.clone()),
            ..self.fixture.spec(small_tree())
        }
    }

    /// What the name refers to that a user pulled.
    async fn named(&self) -> String {
        version(
            &engine()
                .image(&self.image.to_string())
                .await
                .unwrap()
                .unwrap(),
        )
    }

    async fn clean_up(self) {
        let image = self.image.to_string();
        let repository = image.trim_end_matches(":1");
        for listed in engine().images(&Vec::new()).await.unwrap() {
            let names = listed.tags.iter().chain(&listed.digests);
            for name in names.filter(|name| name.starts_with(repository)) {
                engine().remove_image(name).await.unwrap();
            }
        }
    }
}

/// Which one of the registry's images it is or is built on.
fn version(image: &ImageDetails) -> String {
    let found = image.labels.iter().find(|(key, _)| key == "test");
    found.unwrap().1.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_images_are_looked_for_as_the_policy_says() {
    for policy in PullPolicy::ALL {
        for spec in [Updates::built, Updates::by_name] {
            let Some(updates) = Updates::new(policy).await else {
                return;
            };
            let old = updates.named().await;
            let first = updates.start(spec(&updates)).await.unwrap();
            assert_eq!(first.0, old);
            updates.registry.publish();
            let second = updates.start(spec(&updates)).await.unwrap();
            // As if a day had passed.
            updates.seen.looks.lock().unwrap().clear();
            let later = updates.start(spec(&updates)).await.unwrap();
            let is_new = [&second, &later].map(|(found, _)| *found != old);
            let expected = match policy {
                PullPolicy::Missing => [false, false],
                PullPolicy::Daily => [false, true],
                PullPolicy::Always => [true, true],
            };
            assert_eq!(is_new, expected, "{policy:?} {} {}", second.1, later.1);
            updates.registry.stop();
            let without = updates.start(spec(&updates)).await.unwrap();
            assert_eq!(without.0, later.0, "{policy:?} {}", without.1);
            let says = without.1.contains("quire: cannot look for ");
            assert_eq!(says, policy == PullPolicy::Always, "{}", without.1);
            assert_eq!(updates.named().await, old);
            updates.clean_up().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_a_user_pulls_by_hand_replaces_a_newer_one() {
    let Some(updates) = Updates::new(PullPolicy::Daily).await else {
        return;
    };
    updates.registry.publish();
    let newer = updates.start(updates.by_name()).await.unwrap();
    updates.registry.publish();
    engine().pull(&updates.image, &mut |_| {}).await.unwrap();
    let newest = updates.named().await;
    assert_ne!(newer.0, newest);
    assert_eq!(updates.start(updates.by_name()).await.unwrap().0, newest);
    updates.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_looks_for_images_and_builds_without_the_cache() {
    for spec in [Updates::built, Updates::by_name] {
        let Some(updates) = Updates::new(PullPolicy::Missing).await else {
            return;
        };
        let rebuild = || StartSpec {
            rebuild: true,
            ..spec(&updates)
        };
        let old = updates.start(spec(&updates)).await.unwrap();
        updates.registry.publish();
        let fresh = updates.start(rebuild()).await.unwrap();
        assert_ne!(fresh.0, old.0, "{}", fresh.1);
        updates.registry.stop();
        let error = updates.start(rebuild()).await.unwrap_err();
        assert!(matches!(error, ExecutorError::Image(_)), "{error}");
        updates.clean_up().await;
    }
    let fixture = fixture!();
    let text = format!("FROM {IMAGE}\nRUN cat /proc/sys/kernel/random/uuid > /made\n");
    let made = async |rebuild: bool| {
        let tree = dockerfile(&text).id(&fixture.instance);
        let spec = StartSpec {
            rebuild,
            ..from_dockerfile(&fixture, tree)
        };
        let workspace = fixture.start_with(spec).await.unwrap();
        let made = run_exit(&*workspace, shell("cat /made"), 0).await.text();
        finish(&*workspace).await;
        made
    };
    let first = made(false).await;
    assert_eq!(made(false).await, first);
    let rebuilt = made(true).await;
    assert_ne!(rebuilt, first);
    assert_eq!(made(false).await, rebuilt);
}

/// Whether a process with this in its arguments runs on this machine (the engine is local).
pub(crate) fn process_with(text: &str) -> bool {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(Result::ok)
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .bytes()
                .all(|b| b.is_ascii_digit())
        })
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .any(|cmdline| String::from_utf8_lossy(&cmdline).contains(text))
}
