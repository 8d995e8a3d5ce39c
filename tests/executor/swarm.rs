//! What only a swarm has: other machines, and a network to them. These tests take links down and kill
//! engines, so they run one after another.

use std::path::PathBuf;
use std::process::{self, Command};
use std::sync::Arc;
use std::time::Duration;

use quire_executor::{
    CacheMount, CommandEnd, ContainerFailure, DockerExecutor, Executor, ExecutorError, ServiceSpec,
    StartSpec, SwarmRegistry, Workspace,
};
use quire_step::{
    ChannelToken, FIRST_MESSAGE_LENGTH, FromHelper, HelperHandshake, REPLY_LENGTH, SecureChannel,
};
use quire_testkit::{transcript, wait_for_async};
use quire_types::secret::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::support::{
    Fixture, Output, SWARM_IMAGE, Seen, argv, finish, run_exit, services_of, shell, small_tree,
    swarm_config,
};

/// A node of the swarm of `scripts/other-engine --swarm`; 1 is the manager.
#[derive(Clone, Copy)]
struct Node(u32);

const MANAGER: Node = Node(1);
const WORKER: Node = Node(2);

impl Node {
    fn file(self, name: &str) -> PathBuf {
        let folder = PathBuf::from(std::env::var_os("QUIRE_SWARM").unwrap());
        folder.join(self.0.to_string()).join(name)
    }

    /// Runs the client against the engine of the node, and returns what it writes.
    fn docker(self, arguments: &[&str]) -> String {
        let output = self.try_docker(arguments);
        assert!(output.status.success(), "{}", transcript(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn try_docker(self, arguments: &[&str]) -> process::Output {
        let socket = format!("unix://{}", self.file("sock").display());
        let command = ["--host", &socket];
        let output = Command::new("docker")
            .args(command)
            .args(arguments)
            .output();
        output.unwrap()
    }

    fn link(self, state: &str) {
        let link = format!("node{}", self.0);
        let status = Command::new("ip")
            .args(["link", "set", &link, state])
            .status();
        assert!(status.unwrap().success());
    }

    /// Kills the engine, and nothing else.
    fn kill_engine(self) {
        let pid = std::fs::read_to_string(self.file("pid")).unwrap();
        let status = Command::new("kill").args(["-KILL", pid.trim()]).status();
        assert!(status.unwrap().success());
    }

    /// Starts the engine again, which ends with the test's own process at the latest.
    fn start_engine(self) {
        let _ = std::fs::remove_file(self.file("pid"));
        let mut engine = Command::new(self.file("start")).spawn().unwrap();
        std::thread::spawn(move || engine.wait());
    }

    async fn engine_answers(self) {
        wait_for_async("the engine", || async {
            let socket = format!("unix://{}", self.file("sock").display());
            let asked = Command::new("docker")
                .args(["--host", &socket, "version"])
                .output();
            asked.unwrap().status.success().then_some(())
        })
        .await;
    }

    /// The containers of runs on the node.
    fn run_containers(self) -> Vec<String> {
        let listed = self.docker(&["ps", "-q", "--filter", "label=io.quire.run"]);
        listed.lines().map(str::to_owned).collect()
    }

    fn id(self) -> String {
        self.docker(&["info", "--format", "{{.Swarm.NodeID}}"])
            .trim()
            .to_owned()
    }
}

/// Lets tasks be executed on one node alone, until it is dropped.
struct OnlyOn(Node);

impl OnlyOn {
    fn new(node: Node) -> Self {
        let drained = if node.0 == MANAGER.0 { WORKER } else { MANAGER };
        MANAGER.docker(&["node", "update", "--availability", "drain", &drained.id()]);
        Self(drained)
    }
}

impl Drop for OnlyOn {
    fn drop(&mut self) {
        MANAGER.docker(&["node", "update", "--availability", "active", &self.0.id()]);
    }
}

/// A command that runs on.
fn begin(
    workspace: &Arc<dyn Workspace>,
    script: &str,
) -> (
    Output,
    tokio::task::JoinHandle<Result<CommandEnd, ExecutorError>>,
) {
    let output = Output::default();
    let (workspace, command, sink) = (workspace.clone(), shell(script), output.clone());
    let running = tokio::spawn(async move {
        let cancel = CancellationToken::new();
        workspace.run_command(command, Box::new(sink), cancel).await
    });
    (output, running)
}

async fn says(output: &Output, text: &str) {
    wait_for_async(text, || async {
        output.text().contains(text).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_on_another_node_pulls_its_image_by_digest() {
    let fixture = Fixture::swarm();
    let _only = OnlyOn::new(WORKER);
    let workspace = fixture.start().await;
    assert_eq!(WORKER.run_containers().len(), 1);
    // The node says only after its helper has connected that its task is running.
    wait_for_async("the task of the node", || async {
        let nodes = fixture.executor.nodes().await.unwrap();
        let mut nodes = nodes.iter();
        nodes
            .all(|node| node.tasks == usize::from(node.id == WORKER.id()))
            .then_some(())
    })
    .await;
    assert_eq!(MANAGER.run_containers(), Vec::<String>::new());
    let images = WORKER.docker(&[
        "images",
        "--digests",
        "--format",
        "{{.Repository}}@{{.Digest}}",
    ]);
    assert!(images.contains("10.77.0.1:5000/debian@sha256:"), "{images}");
    finish(&*workspace).await;
    assert_eq!(services_of(&fixture.instance).await, Vec::<String>::new());
    wait_for_async("the container is removed", || async {
        WORKER.run_containers().is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_learn_neither_token_nor_address() {
    let fixture = Fixture::swarm();
    let workspace = fixture.start().await;
    let output = run_exit(
        &*workspace,
        shell("env; cat /proc/1/environ 2>&1; ls -l /proc/1/fd 2>&1; true"),
        0,
    )
    .await;
    let text = output.text();
    assert!(
        !text.contains("QUIRE_TOKEN") && !text.contains("QUIRE_CONNECT"),
        "{text}"
    );
    assert!(!text.contains("socket:"), "{text}");
    finish(&*workspace).await;
}

/// Starts a run for which there is no node until `meanwhile` has ended, which begins when the log says so.
async fn start_without_a_node(meanwhile: impl Future<Output = ()>) {
    let fixture = Fixture::swarm();
    let drained = [OnlyOn::new(MANAGER), OnlyOn::new(WORKER)];
    let mut seen = Seen::default();
    let log = seen.log.clone();
    let starting = fixture.executor.start_workspace(
        fixture.spec(small_tree()),
        &mut seen,
        CancellationToken::new(),
    );
    let waiting = async {
        wait_for_async("the line", || async {
            let text = log.lock().unwrap().clone();
            text.contains("quire: the run waits for a node: no suitable node")
                .then_some(())
        })
        .await;
        meanwhile.await;
        drop(drained);
    };
    let (workspace, ()) = tokio::join!(starting, waiting);
    finish(&*workspace.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_until_there_is_a_node_for_it() {
    start_without_a_node(async {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_link_loses_its_run_when_the_lease_ends() {
    let fixture = Fixture::swarm();
    let only = OnlyOn::new(WORKER);
    let workspace: Arc<dyn Workspace> = fixture.start().await.into();
    let (output, running) = begin(&workspace, "echo begun; sleep 1000");
    says(&output, "begun").await;
    WORKER.link("down");
    let error = running.await.unwrap().unwrap_err();
    assert!(matches!(&error, ExecutorError::NodeLost { .. }), "{error}");
    // The stop returns when no helper can be alive.
    workspace.stop().await.unwrap();
    assert_eq!(WORKER.run_containers(), Vec::<String>::new());
    workspace.remove().await.unwrap();
    WORKER.link("up");
    drop(only);
    wait_for_async("the node is back", || async {
        let nodes = MANAGER.docker(&["node", "ls", "--format", "{{.Status}}"]);
        nodes.lines().all(|status| status == "Ready").then_some(())
    })
    .await;
    assert_eq!(services_of(&fixture.instance).await, Vec::<String>::new());
    assert_eq!(WORKER.run_containers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_survives_the_death_of_engines() {
    for killed in [WORKER, MANAGER] {
        let fixture = Fixture::swarm();
        let only = OnlyOn::new(WORKER);
        let workspace: Arc<dyn Workspace> = fixture.start().await.into();
        drop(only);
        let (output, running) = begin(&workspace, "echo begun; sleep 20");
        says(&output, "begun").await;
        killed.kill_engine();
        run_exit(&*workspace, shell("echo still here"), 0).await;
        // The engine of the run's node asks the container to end before it answers anything else.
        killed.start_engine();
        assert_eq!(running.await.unwrap().unwrap(), CommandEnd::Exited(0));
        run_exit(&*workspace, shell("echo still here"), 0).await;
        finish(&*workspace).await;
        killed.engine_answers().await;
        assert_eq!(services_of(&fixture.instance).await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_killed_on_its_node_is_explained() {
    let fixture = Fixture::swarm();
    let _only = OnlyOn::new(WORKER);
    let workspace: Arc<dyn Workspace> = fixture.start().await.into();
    let (output, running) = begin(&workspace, "echo begun; sleep 1000");
    says(&output, "begun").await;
    for container in WORKER.run_containers() {
        WORKER.docker(&["kill", &container]);
    }
    let error = running.await.unwrap().unwrap_err();
    let ExecutorError::ContainerDied(ContainerFailure::KilledOnNode { node, limit }) = &error
    else {
        panic!("{error}");
    };
    assert!(
        node.contains(&WORKER.id()) && *limit == 512 << 20,
        "{error}"
    );
    finish(&*workspace).await;
    // The swarm has not started it again.
    assert_eq!(services_of(&fixture.instance).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_without_a_token_hold_up_no_run() {
    let instance = format!("test-{}", quire_types::names::RunId::new());
    let config = swarm_config(&instance);
    let address = format!("10.77.0.1:{}", config.swarm.callback.as_ref().unwrap().port);
    let fixture = Fixture::swarm_with(config);
    fixture.executor.probe().await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..1000 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    // One that makes up a first message.
    let mut liar = TcpStream::connect(&address).await.unwrap();
    let _ = liar.write_all(&[7; 64]).await;
    let workspace = fixture.start().await;
    let mut answer = Vec::new();
    let _ = liar.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{answer:?}");
    for mut connection in silent {
        let mut answer = Vec::new();
        let _ = connection.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{answer:?}");
    }
    finish(&*workspace).await;
}

/// A run whose helper is played by the test: no node executes its task.
struct PlayedHelper {
    /// The port on which helpers are expected.
    port: u16,
    token: ChannelToken,
    starting: tokio::task::JoinHandle<Result<(), ExecutorError>>,
}

impl PlayedHelper {
    /// Starts a run, and takes its token from the service.
    async fn new(fixture: &Fixture, port: u16) -> Self {
        let (executor, spec) = (fixture.executor.clone(), fixture.spec(small_tree()));
        let starting = tokio::spawn(async move {
            let mut seen = Seen::default();
            let cancel = CancellationToken::new();
            let started = executor.start_workspace(spec, &mut seen, cancel).await;
            finish(&*started?).await;
            Ok(())
        });
        let token = wait_for_async("the service", || async {
            let services = services_of(&fixture.instance).await;
            let environment = "{{json .Spec.TaskTemplate.ContainerSpec.Env}}";
            let shown =
                MANAGER.try_docker(&["service", "inspect", services.first()?, "-f", environment]);
            let shown = serde_json::from_slice::<Vec<String>>(&shown.stdout).ok()?;
            let mut token = shown
                .iter()
                .filter_map(|entry| entry.strip_prefix("QUIRE_TOKEN="));
            ChannelToken::from_hex(token.next()?.as_bytes())
        });
        Self {
            port,
            token: token.await,
            starting,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("10.77.0.1", self.port)).await.unwrap()
    }

    /// Connects and makes the handshake. Returns the first message as well.
    async fn handshake(&self) -> (TcpStream, SecureChannel, [u8; FIRST_MESSAGE_LENGTH]) {
        let random = quire_types::token::random_bytes().unwrap();
        let (handshake, first) = HelperHandshake::begin(&self.token, random).unwrap();
        let mut socket = self.connect().await;
        socket.write_all(&first).await.unwrap();
        let mut reply = [0; REPLY_LENGTH];
        socket.read_exact(&mut reply).await.unwrap();
        (socket, handshake.finish(&reply).unwrap(), first)
    }

    /// Connects, sends this, and returns all of the answer.
    async fn say(&self, words: &[u8]) -> Vec<u8> {
        let mut socket = self.connect().await;
        let _ = socket.write_all(words).await;
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        answer
    }
}

/// The first frame of a helper.
fn hello() -> Vec<u8> {
    let hello = FromHelper::Hello {
        version: quire_step::VERSION,
        kernel: b"6.12.0",
        machine: b"x86_64",
    };
    let mut frame = Vec::new();
    let tail = hello.encode(0, &mut frame);
    [&frame, tail].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_admits_one_connection_and_no_copy_of_one() {
    let instance = format!("test-{}", quire_types::names::RunId::new());
    let config = swarm_config(&instance);
    let port = config.swarm.callback.as_ref().unwrap().port;
    let fixture = Fixture::swarm_with(config);
    let _drained = [OnlyOn::new(MANAGER), OnlyOn::new(WORKER)];
    let helper = PlayedHelper::new(&fixture, port).await;
    let (mut socket, mut channel, first) = helper.handshake().await;
    let mut record = Vec::new();
    channel.sender.seal(&hello(), &mut record).unwrap();
    let recorded = [&first, record.as_slice()].concat();
    // A copy that comes first has an answer, with which its sender can do nothing.
    assert_eq!(helper.say(&recorded).await.len(), REPLY_LENGTH);
    assert!(!helper.starting.is_finished());
    // It has not used the token up.
    socket.write_all(&record).await.unwrap();
    let mut plain = Vec::new();
    let mut buffer = [0; 4096];
    while plain.is_empty() {
        let count = socket.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the appliance has hung up");
        channel.receiver.open(&buffer[..count], &mut plain).unwrap();
    }
    // Now it is used up, for a copy and for who knows it.
    assert_eq!(helper.say(&recorded).await, b"");
    let (_, again) = HelperHandshake::begin(&helper.token, [7; 32]).unwrap();
    assert_eq!(helper.say(&again).await, b"");
    assert!(!helper.starting.is_finished());
    drop(socket);
    helper.starting.await.unwrap().unwrap_err();
    assert_eq!(services_of(&fixture.instance).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn helpers_that_send_anything_harm_only_their_own_run() {
    let instance = format!("test-{}", quire_types::names::RunId::new());
    let config = swarm_config(&instance);
    let port = config.swarm.callback.as_ref().unwrap().port;
    let fixture = Fixture::swarm_with(config);
    let drained = [OnlyOn::new(MANAGER), OnlyOn::new(WORKER)];
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let files = std::fs::read_dir(corpus.join("step_from_helper")).unwrap();
    let inputs = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
    // A frame that claims to be longer than any.
    let too_long = [hello(), vec![0xff; 64]].concat();
    for words in inputs.chain([too_long]) {
        let helper = PlayedHelper::new(&fixture, port).await;
        let (mut socket, mut channel, _) = helper.handshake().await;
        let mut records = Vec::new();
        channel.sender.seal(&words, &mut records).unwrap();
        let _ = socket.write_all(&records).await;
        let _ = socket.shutdown().await;
        let _ = socket.read_to_end(&mut Vec::new()).await;
        let ended = helper.starting.await.unwrap();
        assert!(ended.is_err(), "{words:?}");
        assert_eq!(services_of(&fixture.instance).await, Vec::<String>::new());
    }
    drop(drained);
    let workspace = fixture.start().await;
    run_exit(&*workspace, shell("true"), 0).await;
    finish(&*workspace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_nodes_do_not_reach_is_named() {
    let instance = format!("test-{}", quire_types::names::RunId::new());
    let mut config = swarm_config(&instance);
    config.swarm.callback.as_mut().unwrap().host = "10.77.0.99".to_owned();
    let fixture = Fixture::swarm_with(config);
    let error = fixture
        .start_with(fixture.spec(small_tree()))
        .await
        .err()
        .unwrap();
    let text = error.to_string();
    assert!(
        text.contains("it could not connect to 10.77.0.99:"),
        "{text}"
    );
    assert_eq!(services_of(&fixture.instance).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn sweeps_of_two_appliances_leave_each_other_alone() {
    let (first, second) = (Fixture::swarm(), Fixture::swarm());
    let (spec, kept) = (first.spec(small_tree()), second.start().await);
    let run = spec.run;
    let lost = first.start_with(spec).await.unwrap();
    // As after a crash: nothing of the old process is left but its connection, which ends with it.
    let fresh = swarm_config(&first.instance).executor();
    let swept = fresh.sweep(&[]).await.unwrap();
    assert_eq!((swept.removed, swept.remaining), (0, vec![run]));
    drop(lost);
    wait_for_async("the sweep", || async {
        let swept = fresh.sweep(&[]).await.unwrap();
        swept.remaining.is_empty().then_some(())
    })
    .await;
    assert_eq!(services_of(&first.instance).await, Vec::<String>::new());
    assert_eq!(services_of(&second.instance).await.len(), 1);
    run_exit(&*kept, shell("true"), 0).await;
    finish(&*kept).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_swarm_does_not_have_is_an_error_before_anything_starts() {
    let fixture = Fixture::swarm();
    let mut spec = fixture.spec(small_tree());
    spec.limits.network = false;
    let error = fixture.start_with(spec).await.err().unwrap();
    assert!(
        error.to_string().contains("a run on a swarm has a network"),
        "{error}"
    );
    let mut spec = fixture.spec(small_tree());
    spec.container.engine_socket = true;
    let error = fixture.start_with(spec).await.err().unwrap();
    assert!(
        error.to_string().contains("is not available on a swarm"),
        "{error}"
    );
    assert_eq!(services_of(&fixture.instance).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_over_leaves_nothing_within_a_moment() {
    let fixture = Fixture::swarm();
    for _ in 0..3 {
        let workspace = fixture.start().await;
        run_exit(&*workspace, shell("true"), 0).await;
        finish(&*workspace).await;
    }
    for node in [MANAGER, WORKER] {
        wait_for_async("containers and volumes are removed", || async {
            // Caches stay.
            let volumes = node.docker(&["volume", "ls", "-q"]);
            let is_gone = volumes.lines().all(|volume| volume.starts_with("quire-"));
            (node.run_containers().is_empty() && is_gone).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_built_image_comes_to_other_nodes_by_the_registry() {
    let instance = format!("test-{}", quire_types::names::RunId::new());
    let mut config = swarm_config(&instance);
    config.swarm.registry = Some(registry("10.77.0.1:5000/built"));
    let fixture = Fixture::swarm_with(config);
    let _only = OnlyOn::new(WORKER);
    let tree = small_tree()
        .with(
            ".quire/Dockerfile",
            "FROM 10.77.0.1:5000/debian:trixie-slim\nRUN echo made >/made\n",
        )
        .id("1234");
    // The second time it is in the registry.
    for expected in [1, 0] {
        let mut spec = fixture.spec(tree.clone());
        spec.image = quire_executor::ImageSource::Dockerfile;
        let (workspace, seen) = fixture.start_and_see(spec).await;
        let log = seen.log.lock().unwrap().clone();
        assert_eq!(log.matches("pushing the image").count(), expected, "{log}");
        assert_eq!(
            run_exit(&*workspace, shell("cat /made"), 0).await.text(),
            "made\n"
        );
        finish(&*workspace).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_is_named() {
    let instance = format!("test-{}", quire_types::names::RunId::new());
    let mut config = swarm_config(&instance);
    config.swarm.registry = Some(registry("10.77.0.1:5999"));
    let fixture = Fixture::swarm_with(config);
    let mut spec = fixture.spec(small_tree().with(
        ".quire/Dockerfile",
        "FROM 10.77.0.1:5000/debian:trixie-slim\nRUN echo away\n",
    ));
    spec.image = quire_executor::ImageSource::Dockerfile;
    let error = fixture.start_with(spec).await.err().unwrap().to_string();
    assert!(
        error.starts_with("the image cannot be pushed to the registry 10.77.0.1:5999: "),
        "{error}"
    );
}

/// A registry that asks for nothing.
fn registry(address: &str) -> SwarmRegistry {
    SwarmRegistry {
        address: address.to_owned(),
        login: None,
    }
}

/// Debian's registry, for one user alone.
struct LockedRegistry {
    process: process::Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl LockedRegistry {
    /// Its characters are written differently in the two alphabets of base64.
    const PASSWORD: &str = "~~~???>>>";
    const HASH_IN_PERL: &str = r#"print crypt($ARGV[0], "\$2b\$05\$abcdefghijklmnopqrstuu")"#;

    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("10.77.0.1:{}", quire_testkit::free_port());
        let hash = Command::new("perl")
            .args(["-e", Self::HASH_IN_PERL, Self::PASSWORD])
            .output()
            .unwrap();
        let hash = String::from_utf8(hash.stdout).unwrap();
        let (users, settings) = (folder.path().join("users"), folder.path().join("settings"));
        std::fs::write(&users, format!("ci:{hash}\n")).unwrap();
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\nauth:\n  htpasswd:\n    realm: test\n    path: {}\n",
            folder.path().join("data").display(),
            users.display()
        );
        std::fs::write(&settings, text).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&settings)
            .stdout(process::Stdio::null())
            .stderr(process::Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self {
            process,
            address,
            _folder: folder,
        };
        quire_testkit::wait_for("the registry", || {
            std::net::TcpStream::connect(&registry.address).ok()
        });
        registry
    }

    fn with_password(&self, password: &'static str) -> SwarmRegistry {
        SwarmRegistry {
            address: format!("{}/built", self.address),
            login: Some((
                "ci".to_owned(),
                Arc::new(|| Ok(Secret::new(password.to_owned()))),
            )),
        }
    }
}

impl Drop for LockedRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_pull_from_a_registry_that_asks_for_a_password() {
    let locked = LockedRegistry::start();
    let start = async |registry: SwarmRegistry| {
        let instance = format!("test-{}", quire_types::names::RunId::new());
        let mut config = swarm_config(&instance);
        config.swarm.registry = Some(registry);
        let fixture = Fixture::swarm_with(config);
        let mut spec = fixture.spec(small_tree().with(
            ".quire/Dockerfile",
            format!("FROM 10.77.0.1:5000/debian:trixie-slim\nRUN echo {instance} >/made\n"),
        ));
        spec.image = quire_executor::ImageSource::Dockerfile;
        let started = fixture.start_with(spec).await;
        (fixture, started)
    };
    let _only = OnlyOn::new(WORKER);
    let (fixture, started) = start(locked.with_password(LockedRegistry::PASSWORD)).await;
    let workspace = started.unwrap();
    let made = run_exit(&*workspace, shell("cat /made"), 0).await;
    assert_eq!(made.text().trim(), fixture.instance);
    finish(&*workspace).await;
    let (_fixture, started) = start(locked.with_password("another-one")).await;
    let error = started.err().unwrap().to_string();
    let expected = format!(
        "the image cannot be pushed to the registry {}/built: ",
        locked.address
    );
    assert!(error.starts_with(&expected), "{error}");
    assert!(!error.contains("another-one"), "{error}");
}

/// A service that answers on a port, in Perl that the image has.
fn server(name: &str) -> ServiceSpec {
    let script = r#"use IO::Socket::INET; $s = IO::Socket::INET->new(Listen => 5, LocalPort => 5432) or die; while ($c = $s->accept) { print $c "hello from $ENV{NAME}\n"; close $c }"#;
    ServiceSpec {
        name: name.to_owned(),
        image: SWARM_IMAGE.parse().unwrap(),
        env: vec![("NAME".to_owned(), name.to_owned())],
        command: Some(["perl", "-e", script].map(str::to_owned).to_vec()),
        ready: Some(
            ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/5432"]
                .map(str::to_owned)
                .to_vec(),
        ),
        ready_within: Duration::from_secs(60),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_reached_by_name_from_the_first_command_on() {
    let fixture = Fixture::swarm();
    let spec = StartSpec {
        services: vec![server("db"), server("other-db")],
        ..fixture.spec(small_tree())
    };
    let run = spec.run;
    let workspace = fixture.start_with(spec).await.unwrap();
    for name in ["db", "other-db"] {
        let ask = format!("exec 3<>/dev/tcp/{name}/5432 && cat <&3");
        let output = run_exit(&*workspace, argv(&["bash", "-c", &ask]), 0).await;
        assert_eq!(output.text(), format!("hello from {name}\n"));
    }
    assert_eq!(services_of(&fixture.instance).await.len(), 3);
    assert_eq!(workspace.service_failures(), Vec::<String>::new());
    finish(&*workspace).await;
    assert_eq!(services_of(&fixture.instance).await, Vec::<String>::new());
    wait_for_async("the network is removed", || async {
        let networks = MANAGER.docker(&["network", "ls", "--format", "{{.Name}}"]);
        (!networks.contains(&run.to_string())).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_do_not_come_up_fail_the_start_of_a_run() {
    let fixture = Fixture::swarm();
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
    for (service, expected) in [
        (
            ServiceSpec {
                command: words(&["sh", "-c", "echo why; exit 7"]),
                ..server("db")
            },
            "the service `db` ended with exit code 7 before it was ready",
        ),
        (
            ServiceSpec {
                command: words(&["sh", "-c", "echo why; sleep 1000"]),
                ready_within: Duration::from_secs(2),
                ..server("db")
            },
            "the service `db` was not ready within 2 s",
        ),
    ] {
        let spec = StartSpec {
            services: vec![server("fine"), service],
            ..fixture.spec(small_tree())
        };
        let mut seen = Seen::default();
        let start = fixture
            .executor
            .start_workspace(spec, &mut seen, CancellationToken::new());
        let error = start.await.err().unwrap().to_string();
        assert!(error.starts_with(expected), "{error}");
        let log = seen.log.lock().unwrap().clone();
        assert!(
            log.contains("the service `db` wrote last:\n  why\n"),
            "{log}"
        );
        assert_eq!(services_of(&fixture.instance).await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_ends_on_its_node_is_reported() {
    let fixture = Fixture::swarm();
    let spec = StartSpec {
        services: vec![ServiceSpec {
            command: Some(
                ["sh", "-c", "echo begun; sleep 3; exit 5"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
            ready: None,
            ..server("brief")
        }],
        ..fixture.spec(small_tree())
    };
    let (workspace, seen) = fixture.start_and_see(spec).await;
    let failures = wait_for_async("it has ended", || async {
        Some(workspace.service_failures()).filter(|failures| !failures.is_empty())
    })
    .await;
    assert_eq!(failures, ["the service `brief` ended with exit code 5"]);
    finish(&*workspace).await;
    assert_eq!(seen.output("brief"), "begun\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_that_was_removed_from_the_swarm_is_brought_again() {
    let fixture = Fixture::swarm();
    finish(&*fixture.start().await).await;
    let label = format!("label=io.quire.instance={}", fixture.instance);
    let configs = MANAGER.docker(&["config", "ls", "--quiet", "--filter", &label]);
    assert_eq!(configs.lines().count(), 1, "{configs}");
    wait_for_async("its removal", || async {
        let output = MANAGER.try_docker(&["config", "rm", configs.trim()]);
        output.status.success().then_some(())
    })
    .await;
    let workspace = fixture.start().await;
    run_exit(&*workspace, shell("true"), 0).await;
    finish(&*workspace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_wait_for_a_node_outlast_a_restart_of_the_manager() {
    start_without_a_node(async {
        MANAGER.kill_engine();
        MANAGER.start_engine();
        MANAGER.engine_answers().await;
        wait_for_async("the swarm", || async {
            let output = MANAGER.try_docker(&["node", "ls"]);
            output.status.success().then_some(())
        })
        .await;
    })
    .await;
}

/// An executor that keeps up to two jobs ready.
fn warm() -> Fixture {
    let mut config = swarm_config(&format!("test-{}", quire_types::names::RunId::new()));
    config.docker.warm = 2;
    Fixture::swarm_with(config)
}

/// Starts a workspace, and returns it with the id of its service.
async fn start_service(fixture: &Fixture, spec: StartSpec) -> (Box<dyn Workspace>, String) {
    let (workspace, seen) = fixture.start_and_see(spec).await;
    let created = seen.steps()[0].clone();
    let id = created.strip_prefix("created ").unwrap().to_owned();
    (workspace, id)
}

/// Waits until the container of another service than these runs, and returns the id of the service.
async fn ready_service(fixture: &Fixture, besides: &[&str]) -> String {
    wait_for_async("a job that is ready", || async {
        let services = services_of(&fixture.instance).await;
        let mut others = services.into_iter();
        let other = others.find(|id| !besides.contains(&id.as_str()))?;
        let task = MANAGER.docker(&["service", "ps", "-q", &other]);
        let state = MANAGER.try_docker(&["inspect", "-f", "{{.Status.State}}", task.trim()]);
        state.stdout.starts_with(b"running").then_some(other)
    })
    .await
}

/// The volume is one of the manager's engine, where the job that waits has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_waits_gives_way_when_its_cache_is_removed() {
    let mut config = swarm_config(&format!("test-{}", quire_types::names::RunId::new()));
    config.docker.warm = 2;
    let docker = DockerExecutor::new(config.docker.clone());
    let fixture = Fixture::swarm_beside(&docker, config);
    let _only = OnlyOn::new(MANAGER);
    let spec = StartSpec {
        caches: vec![CacheMount {
            name: "deps".to_owned(),
            path: "deps".to_owned(),
        }],
        ..fixture.spec(small_tree())
    };
    let repo = spec.repo.clone();
    let (first, cold) = start_service(&fixture, spec).await;
    ready_service(&fixture, &[&cold]).await;
    finish(&*first).await;
    let caches = docker.caches().unwrap();
    assert_eq!(caches.list().await.unwrap().len(), 1);
    assert!(caches.remove(&repo, "deps").await.unwrap());
    assert_eq!(caches.list().await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_takes_the_job_that_the_one_before_left_ready() {
    let fixture = warm();
    let (first, cold) = start_service(&fixture, fixture.spec(small_tree())).await;
    let waiting = ready_service(&fixture, &[&cold]).await;
    run_exit(&*first, shell("touch /left-by-a-run left"), 0).await;
    finish(&*first).await;
    // The state that a sweep leaves alone.
    fixture.executor.sweep(&[]).await.unwrap();
    let spec = fixture.spec(small_tree());
    let run = spec.run;
    let (second, taken) = start_service(&fixture, spec).await;
    assert_eq!(taken, waiting);
    let output = run_exit(&*second, shell("cat plain.txt; ls /left-by-a-run left"), 2).await;
    assert_eq!(output.text(), "plain\n");
    let third = ready_service(&fixture, &[&taken]).await;
    // It is destroyed by the id of the run that has taken it.
    drop(second);
    fixture.executor.destroy_run(run).await.unwrap();
    assert_eq!(services_of(&fixture.instance).await, [third.as_str()]);
    // With other settings it is not taken.
    let mut spec = fixture.spec(small_tree());
    spec.limits.pids /= 2;
    let (other, id) = start_service(&fixture, spec).await;
    assert_ne!(id, third);
    finish(&*other).await;
    fixture.executor.shut_down().await;
    wait_for_async("nothing is left", || async {
        services_of(&fixture.instance)
            .await
            .is_empty()
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ready_job_is_used_only_while_it_can_be() {
    let fixture = warm();
    let only = OnlyOn::new(WORKER);
    let (first, cold) = start_service(&fixture, fixture.spec(small_tree())).await;
    let waiting = ready_service(&fixture, &[&cold]).await;
    finish(&*first).await;
    // Its node is to take no more runs.
    drop(only);
    let only = OnlyOn::new(MANAGER);
    let (second, id) = start_service(&fixture, fixture.spec(small_tree())).await;
    assert_ne!(id, waiting);
    wait_for_async("the removal of the job", || async {
        WORKER.run_containers().is_empty().then_some(())
    })
    .await;
    let waiting = ready_service(&fixture, &[&id]).await;
    finish(&*second).await;
    // It was ended.
    for container in MANAGER.run_containers() {
        MANAGER.docker(&["kill", &container]);
    }
    let (third, id) = start_service(&fixture, fixture.spec(small_tree())).await;
    assert_ne!(id, waiting);
    run_exit(&*third, shell("true"), 0).await;
    // A sweep of a later process knows it by its service, since its label is not that of the run.
    let mut config = swarm_config(&fixture.instance);
    config.docker.warm = 2;
    let swept = config.executor().sweep(&[]).await.unwrap();
    assert!(swept.remaining_containers.contains(&id), "{swept:?}");
    finish(&*third).await;
    drop(only);
    fixture.executor.shut_down().await;
}
