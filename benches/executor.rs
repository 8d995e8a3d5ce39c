//! What the executors cost against the same thing made by hand. Prints; asserts no time.
//! Run it with `cargo bench --bench executor`. Without a Docker engine, set `QUIRE_SKIP=docker`. By
//! `scripts/other-engine --swarm cargo bench --bench executor` it measures the swarm alone.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "a bench that cannot do its work has to fail; it uses some of the tests' fixtures"
)]

#[path = "../tests/executor/support.rs"]
mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use futures_util::StreamExt;
use quire_executor::engine::{Engine, ExecSpec, OutputFrame};
use quire_executor::{ImageSource, StartSpec};
use support::{Fixture, IMAGE, Output, SWARM_IMAGE, Seen, argv, endpoint, run_exit, small_tree};

const ROUNDS: usize = 15;

fn main() {
    // `cargo test --benches` only sees that it builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if std::env::var_os("QUIRE_SWARM").is_some() {
        runtime.block_on(swarm_against_one_engine());
        return;
    }
    runtime.block_on(docker_against_the_bare_socket());
    runtime.block_on(host_against_a_bare_process());
    runtime.block_on(commands("host", Fixture::host()));
    if let Some(fixture) = Fixture::docker() {
        runtime.block_on(commands("docker", fixture));
    }
}

/// One request over a connection of its own; reads until the engine closes it.
fn request(method: &str, path: &str, body: impl AsRef<[u8]>, upgrade: bool) -> String {
    let body = body.as_ref();
    let mut socket = UnixStream::connect(endpoint().trim_start_matches("unix://")).unwrap();
    let connection = if upgrade {
        "Connection: Upgrade\r\nUpgrade: tcp"
    } else {
        "Connection: close"
    };
    let head = format!(
        "{method} /v1.41{path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n{connection}\r\n"
    );
    socket
        .write_all(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes())
        .unwrap();
    socket.write_all(body).unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn id_of(answer: &str) -> String {
    answer
        .split("\"Id\":\"")
        .nth(1)
        .unwrap_or_else(|| panic!("{answer}"))
        .split('"')
        .next()
        .unwrap()
        .to_owned()
}

/// Create, send the tree where there is one, start, exec, remove.
fn by_hand(network: &str, tree: Option<&[u8]>) {
    let body = format!(
        r#"{{"Image":"{IMAGE}","Entrypoint":["sleep","2147483647"],"WorkingDir":"/work","HostConfig":{{"NetworkMode":"{network}","Init":true,"LogConfig":{{"Type":"none"}}}}}}"#
    );
    let id = id_of(&request("POST", "/containers/create", &body, false));
    if let Some(tree) = tree {
        request(
            "PUT",
            &format!("/containers/{id}/archive?path=/work"),
            tree,
            false,
        );
    }
    request("POST", &format!("/containers/{id}/start"), "", false);
    let body = r#"{"Cmd":["true"],"AttachStdout":true,"AttachStderr":true}"#;
    let exec = id_of(&request(
        "POST",
        &format!("/containers/{id}/exec"),
        body,
        false,
    ));
    request(
        "POST",
        &format!("/exec/{exec}/start"),
        r#"{"Detach":false,"Tty":false}"#,
        true,
    );
    assert!(request("GET", &format!("/exec/{exec}/json"), "", false).contains("\"ExitCode\":0"));
    request(
        "DELETE",
        &format!("/containers/{id}?force=1&v=1"),
        "",
        false,
    );
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

async fn docker_against_the_bare_socket() {
    let Some(fixture) = Fixture::docker() else {
        return;
    };
    let own = format!("quire-{}", fixture.instance);
    // By hand on the engine's own bridge, and on one made as the appliance makes it.
    for (network, bridge) in [(false, "none"), (true, "bridge"), (true, &own)] {
        let tree = small_tree().tar();
        let (mut hand, mut sent, mut ours, mut parts) = (
            Vec::new(),
            Vec::new(),
            Vec::new(),
            [Vec::new(), Vec::new(), Vec::new()],
        );
        for round in 0..=ROUNDS {
            let begun = Instant::now();
            by_hand(bridge, None);
            let bare = begun.elapsed();
            let begun = Instant::now();
            by_hand(bridge, Some(&tree));
            let with_tree = begun.elapsed();
            let mut spec = fixture.spec(small_tree());
            spec.limits.network = network;
            let begun = Instant::now();
            let workspace = fixture.start_with(spec).await.unwrap();
            let started = begun.elapsed();
            run_exit(&*workspace, argv(&["true"]), 0).await;
            let ran = begun.elapsed();
            workspace.stop().await.unwrap();
            workspace.remove().await.unwrap();
            let all = begun.elapsed();
            // The first one makes the connection and the network.
            if round > 0 {
                hand.push(bare);
                sent.push(with_tree);
                ours.push(all);
                parts[0].push(started);
                parts[1].push(ran.saturating_sub(started));
                parts[2].push(all.saturating_sub(ran));
            }
        }
        let (hand, sent, ours) = (median(hand), median(sent), median(ours));
        let [start, run, stop] = parts.map(median);
        println!(
            "docker, network {network}: by hand on {bridge} {hand:.0} ms, with the tree {sent:.0} ms; executor {ours:.0} ms (start {start:.0}, run {run:.0}, stop {stop:.0}); {:+.0} and {:+.0} ms",
            ours - hand,
            ours - sent
        );
    }
}

/// Counts output and drops it.
struct Counted(std::sync::Arc<std::sync::atomic::AtomicUsize>);

impl quire_executor::OutputSink for Counted {
    fn output(&mut self, _: quire_executor::Stream, bytes: &[u8]) {
        self.0
            .fetch_add(bytes.len(), std::sync::atomic::Ordering::Relaxed);
    }
}

/// Many short commands one after the other, and one that writes much.
async fn commands(name: &str, fixture: Fixture) {
    const OUTPUT: usize = 100_000_000;
    let workspace = fixture.start().await;
    let mut times = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        run_exit(&*workspace, argv(&["true"]), 0).await;
        times.push(begun.elapsed());
    }
    let least = times.iter().min().copied().unwrap_or_default();
    let mut outputs = Vec::new();
    for _ in 0..5 {
        let count = std::sync::Arc::default();
        let sink = Box::new(Counted(std::sync::Arc::clone(&count)));
        let command = argv(&["head", "-c", &OUTPUT.to_string(), "/dev/zero"]);
        let begun = Instant::now();
        workspace
            .run_command(command, sink, CancellationToken::new())
            .await
            .unwrap();
        outputs.push(begun.elapsed());
        assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), OUTPUT);
    }
    println!(
        "{name}: one `true` of 200 {:.2} ms (least {:.2} ms); 100 MB of output {:.0} ms",
        median(times),
        least.as_secs_f64() * 1000.0,
        median(outputs)
    );
    support::finish(&*workspace).await;
}

/// The times from a start until a command has ended, and of the stop, of one run.
async fn one_run(fixture: &Fixture, spec: StartSpec) -> (Duration, Duration) {
    let begun = Instant::now();
    let workspace = fixture.start_with(spec).await.unwrap();
    run_exit(&*workspace, argv(&["echo", "first"]), 0).await;
    let first = begun.elapsed();
    let begun = Instant::now();
    workspace.stop().await.unwrap();
    let stop = begun.elapsed();
    workspace.remove().await.unwrap();
    (first, stop)
}

/// The time that 100 MB of output take through the engine's own command in a container.
async fn exec_stream(engine: &Engine, container: &str) -> Duration {
    let argv = ["head", "-c", "100000000", "/dev/zero"];
    let exec = ExecSpec {
        argv: argv.map(str::to_owned).to_vec(),
        workdir: None,
        stdin: false,
        user: None,
    };
    let exec = engine.create_exec(container, &exec).await.unwrap();
    let begun = Instant::now();
    let mut output = engine.start_exec(&exec).await.unwrap().output;
    let mut count = 0;
    while let Some(OutputFrame::Stdout(bytes)) = output.next().await.transpose().unwrap() {
        count += bytes.len();
    }
    assert_eq!(count, 100_000_000);
    begun.elapsed()
}

/// Runs on the manager's node, by turns through the swarm and through its engine alone.
async fn swarm_against_one_engine() {
    let (swarm, docker) = (Fixture::swarm(), Fixture::docker().unwrap());
    let image = |fixture: &Fixture| StartSpec {
        image: ImageSource::Reference(SWARM_IMAGE.parse().unwrap()),
        ..fixture.spec(small_tree())
    };
    let mut times = [const { Vec::new() }; 4];
    for round in 0..=ROUNDS {
        let (first, stop) = one_run(&docker, image(&docker)).await;
        let (swarm_first, swarm_stop) = one_run(&swarm, image(&swarm)).await;
        // The first one makes the connection, and brings the helper and the image.
        if round > 0 {
            for (times, time) in times.iter_mut().zip([first, swarm_first, stop, swarm_stop]) {
                times.push(time);
            }
        }
    }
    let [first, swarm_first, stop, swarm_stop] = times.map(median);
    println!(
        "first line: engine {first:.0} ms, swarm {swarm_first:.0} ms ({:+.0}); stop: engine {stop:.0} ms, swarm {swarm_stop:.0} ms",
        swarm_first - first
    );
    let workspace = docker.start_with(image(&docker)).await.unwrap();
    let container = docker.containers().await.remove(0);
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(exec_stream(&support::engine(), &container).await);
    }
    support::finish(&*workspace).await;
    println!(
        "100 MB of output of the engine's own command: {:.0} ms",
        median(streams)
    );
    commands("swarm", swarm).await;
    commands("docker", docker).await;
}

async fn host_against_a_bare_process() {
    let fixture = Fixture::host();
    let (mut bare, mut starts, mut firsts, mut stops) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        tokio::process::Command::new("true").status().await.unwrap();
        bare.push(begun.elapsed());
        let spec = fixture.spec(small_tree());
        let begun = Instant::now();
        let workspace = fixture
            .executor
            .start_workspace(spec, &mut Seen::default(), CancellationToken::new())
            .await
            .unwrap();
        starts.push(begun.elapsed());
        let begun = Instant::now();
        workspace
            .run_command(
                argv(&["echo", "first"]),
                Box::new(Output::default()),
                CancellationToken::new(),
            )
            .await
            .unwrap();
        firsts.push(begun.elapsed());
        let begun = Instant::now();
        workspace.stop().await.unwrap();
        workspace.remove().await.unwrap();
        stops.push(begun.elapsed());
    }
    println!(
        "host: bare process {:.1} ms; start {:.1} ms, command {:.1} ms, stop {:.1} ms",
        median(bare),
        median(starts),
        median(firsts),
        median(stops)
    );
}
