//! An engine that cannot remove everything, and one whose registry says nothing: canned answers over a socket, no real engine.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use quire_executor::engine::{DockerError, Engine, ExecSpec, Timeouts};
use quire_executor::{
    DockerConfig, DockerExecutor, Executor, ExecutorError, ImageSource, ServiceSpec, StartSpec,
    SweepReport,
};
use quire_testkit::wait_for_async;
use quire_types::names::RunId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::support::{Fixture, Seen, small_tree};

/// How the engine answers when a container is to be removed.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Removal {
    Done,
    Refused,
    Silent,
}

/// The containers that are there: each its run's id, which is its own as well.
#[derive(Default)]
struct Stock {
    containers: Vec<(RunId, Removal)>,
    listing_fails: bool,
    /// The networks that are there, by the run's id.
    networks: Vec<String>,
    /// Held while the engine creates a network.
    creating: Arc<tokio::sync::Mutex<()>>,
    /// Whether a network was asked for.
    asked: bool,
}

type Shared = Arc<Mutex<Stock>>;

fn engine(folder: &Path, stock: &Shared) -> DockerExecutor {
    let path = folder.join("engine.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let stock = Arc::clone(stock);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client, Arc::clone(&stock)));
        }
    });
    let short = Duration::from_millis(300);
    let timeouts = Timeouts {
        removal: short,
        pull_idle: short,
        ..Timeouts::default()
    };
    DockerExecutor::new(DockerConfig {
        timeouts,
        ..DockerConfig::new(&path_url(&path), "test")
    })
}

fn path_url(path: &Path) -> String {
    format!("unix://{}", path.display())
}

async fn serve(mut client: UnixStream, stock: Shared) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read_buf(&mut request).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let line = text.lines().next().unwrap_or_default();
    if line.contains("/networks/create") {
        let creating = {
            let mut stock = stock.lock().unwrap();
            stock.asked = true;
            Arc::clone(&stock.creating)
        };
        // An engine finishes what it was asked for, also if the client has left.
        drop(creating.lock_owned().await);
    }
    match answer(line, &stock) {
        Some((status, body)) => {
            let head = "Content-Type: application/json\r\nConnection: close";
            let answer = format!(
                "HTTP/1.1 {status} X\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = client.write_all(answer.as_bytes()).await;
        }
        // Held open until the client gives up.
        None => drop(client.read(&mut [0; 16]).await),
    }
}

fn answer(line: &str, stock: &Shared) -> Option<(u16, String)> {
    let mut stock = stock.lock().unwrap();
    if line.contains("/version") {
        return Some((200, r#"{"ApiVersion":"1.41"}"#.into()));
    }
    if line.contains("fromImage=verbose") {
        let status = "x".repeat(40 << 20);
        return Some((200, format!("{{\"status\":\"{status}\"}}\n")));
    }
    if line.contains("fromImage=long") {
        // More in all than one piece may have.
        let status = format!("{{\"status\":\"{}\"}}\n", "x".repeat(1 << 20));
        return Some((200, status.repeat(40)));
    }
    if line.contains("/images/create") {
        return None;
    }
    if line.contains("/images/large") {
        let id = "x".repeat(40 << 20);
        return Some((200, format!(r#"{{"Id":"{id}"}}"#)));
    }
    if line.contains("/images/debian") {
        return Some((200, r#"{"Id":"sha256:00"}"#.into()));
    }
    if line.contains("/networks/create") {
        stock.networks.push("network".into());
        return Some((201, r#"{"Id":"network"}"#.into()));
    }
    if line.starts_with("DELETE") && line.contains("/networks/") {
        stock.networks.clear();
        return Some((204, String::new()));
    }
    if line.contains("/networks") {
        let entries: Vec<String> = stock
            .networks
            .iter()
            .filter_map(|id| {
                let run = line.split("io.quire.run%3D").nth(1)?.get(..36)?;
                let labels = format!(r#"{{"io.quire.instance":"test","io.quire.run":"{run}"}}"#);
                Some(format!(
                    r#"{{"Id":"{id}","Name":"quire-{run}","Labels":{labels}}}"#
                ))
            })
            .collect();
        return Some((200, format!("[{}]", entries.join(","))));
    }
    if line.contains("/containers/json") {
        if stock.listing_fails {
            return Some((500, r#"{"message":"out of order"}"#.into()));
        }
        let shown = stock
            .containers
            .iter()
            .filter(|(run, _)| !line.contains("quire.run") || line.contains(&run.to_string()));
        let entries: Vec<String> =
            shown.map(|(run, _)| format!(r#"{{"Id":"{run}","Names":["/quire-{run}"],"Labels":{{"io.quire.instance":"test","io.quire.run":"{run}"}}}}"#)).collect();
        return Some((200, format!("[{}]", entries.join(","))));
    }
    if line.starts_with("GET") && line.contains("/containers/") {
        return Some((200, "{}".into()));
    }
    let Some(at) = stock
        .containers
        .iter()
        .position(|(run, _)| line.contains(&run.to_string()))
    else {
        return Some((404, r#"{"message":"no such container"}"#.into()));
    };
    match stock.containers[at].1 {
        Removal::Done => {
            stock.containers.remove(at);
            Some((204, String::new()))
        }
        Removal::Refused => Some((500, r#"{"message":"the device is busy"}"#.into())),
        Removal::Silent => None,
    }
}

#[tokio::test]
async fn a_sweep_goes_on_past_what_cannot_be_removed() {
    let folder = tempfile::tempdir().unwrap();
    let runs: Vec<RunId> = (0..5).map(|_| RunId::new()).collect();
    let ways = [
        Removal::Refused,
        Removal::Silent,
        Removal::Done,
        Removal::Done,
        Removal::Done,
    ];
    let stock = Shared::default();
    stock.lock().unwrap().containers = runs.iter().copied().zip(ways).collect();
    let executor = engine(folder.path(), &stock);
    let swept = executor.sweep(&runs[3..4]).await.unwrap();
    let mut remaining = runs[..2].to_vec();
    remaining.sort();
    assert_eq!(
        swept,
        SweepReport {
            removed: 2,
            remaining_containers: remaining.iter().map(RunId::to_string).collect(),
            remaining,
        }
    );
    let there: Vec<RunId> = stock
        .lock()
        .unwrap()
        .containers
        .iter()
        .map(|(run, _)| *run)
        .collect();
    assert_eq!(there, [runs[0], runs[1], runs[3]]);
    // Later it can: nothing is left.
    stock
        .lock()
        .unwrap()
        .containers
        .iter_mut()
        .for_each(|(_, way)| *way = Removal::Done);
    assert_eq!(
        executor.sweep(&[]).await.unwrap(),
        SweepReport {
            removed: 3,
            remaining: Vec::new(),
            ..SweepReport::default()
        }
    );
    stock.lock().unwrap().listing_fails = true;
    assert!(matches!(
        executor.sweep(&[]).await,
        Err(ExecutorError::Unavailable(_))
    ));
}

#[tokio::test]
async fn clearing_is_done_only_when_it_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (run, other) = (RunId::new(), RunId::new());
    let stock = Shared::default();
    stock.lock().unwrap().containers = vec![(run, Removal::Refused), (other, Removal::Done)];
    let executor = engine(folder.path(), &stock);
    for way in [Removal::Refused, Removal::Silent] {
        stock.lock().unwrap().containers[0].1 = way;
        assert!(executor.destroy_run(run).await.is_err(), "{way:?}");
    }
    stock.lock().unwrap().listing_fails = true;
    assert!(executor.destroy_run(run).await.is_err());
    stock.lock().unwrap().listing_fails = false;
    stock.lock().unwrap().containers[0].1 = Removal::Done;
    executor.destroy_run(run).await.unwrap();
    executor.destroy_run(run).await.unwrap();
    assert_eq!(stock.lock().unwrap().containers, [(other, Removal::Done)]);
}

#[tokio::test]
async fn a_registry_that_says_nothing_is_not_waited_for_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let executor = engine(folder.path(), &Shared::default());
    let mut seen = Seen::default();
    let spec = Fixture::host().spec(small_tree());
    let spec = StartSpec {
        image: ImageSource::Reference("mute".parse().unwrap()),
        ..spec
    };
    let error = Executor::start_workspace(&executor, spec, &mut seen, CancellationToken::new())
        .await
        .err()
        .unwrap();
    assert!(matches!(error, ExecutorError::Image(_)), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the image mute:latest cannot be pulled: the registry sent nothing for 0.3 s; check its name and that the engine reaches the registry"
    );
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_not_read_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let _executor = engine(folder.path(), &Shared::default());
    let socket = path_url(&folder.path().join("engine.sock"));
    let client = Engine::new(&socket, Timeouts::default());
    let error = client.image("large").await.unwrap_err();
    insta::assert_snapshot!(error, @"the engine sent a response that quire cannot read while it tried to inspect the image: the answer is too long: a whole one has at most 32 MiB, a piece of one 4 MiB");
    assert!(!error.is_unavailable());
    // So is a piece of a stream; a stream of such pieces is not.
    let pull = async |name: &str| {
        let name = name.parse().unwrap();
        client.pull(&name, &mut |_| {}).await
    };
    let error = pull("verbose").await.unwrap_err();
    insta::assert_snapshot!(error, @"the engine sent a response that quire cannot read while it tried to pull the image: the answer is too long: a whole one has at most 32 MiB, a piece of one 4 MiB");
    pull("long").await.unwrap();
}

#[tokio::test]
async fn a_name_that_would_change_the_request_is_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let _executor = engine(folder.path(), &Shared::default());
    let socket = path_url(&folder.path().join("engine.sock"));
    let client = Engine::new(&socket, Timeouts::default());
    let second = Duration::from_secs(1);
    for name in [
        "../containers/x/export#:y",
        "get?names=a#",
        "a%2f..",
        "a//b",
        "",
        "a b",
        "./a",
    ] {
        let errors = [
            client.image(name).await.unwrap_err(),
            client.remove_image(name).await.unwrap_err(),
            client.container(name).await.unwrap_err(),
            client.start_container(name).await.unwrap_err(),
            client.kill_container(name).await.unwrap_err(),
            client.remove_container(name).await.unwrap_err(),
            client.remove_network(name, second).await.unwrap_err(),
            client.remove_volume(name).await.unwrap_err(),
            client.image_of_container(name).await.unwrap_err(),
            client
                .create_exec(name, &ExecSpec::default())
                .await
                .unwrap_err(),
            client.start_exec(name).await.err().unwrap(),
            client.exec_state(name).await.unwrap_err(),
            client.attach(name, false).await.err().unwrap(),
            client
                .upload(name, "/", stream::empty().boxed())
                .await
                .unwrap_err(),
            client.download(name, "/").await.err().unwrap(),
        ];
        for error in errors {
            let refused = matches!(&error, DockerError::InvalidName { .. });
            assert!(refused, "{name}: {error}");
        }
    }
}

#[tokio::test]
async fn a_cancelled_start_waits_for_what_it_asked_the_engine_to_create() {
    let folder = tempfile::tempdir().unwrap();
    let stock = Shared::default();
    let executor = engine(folder.path(), &stock);
    let creating = Arc::clone(&stock.lock().unwrap().creating);
    let held = creating.lock_owned().await;
    let spec = Fixture::host().spec(small_tree());
    let spec = StartSpec {
        image: ImageSource::Reference(Default::default()),
        services: vec![ServiceSpec {
            name: "db".into(),
            image: Default::default(),
            env: Vec::new(),
            command: None,
            ready: None,
            ready_within: Duration::from_secs(60),
        }],
        ..spec
    };
    let cancel = CancellationToken::new();
    let token = cancel.clone();
    let start = tokio::spawn(async move {
        let mut seen = Seen::default();
        Executor::start_workspace(&executor, spec, &mut seen, token)
            .await
            .map(drop)
    });
    wait_for_async("the request for the network", || async {
        stock.lock().unwrap().asked.then_some(())
    })
    .await;
    cancel.cancel();
    // The engine is still at it: the start must not end, because nothing could be removed yet.
    tokio::task::yield_now().await;
    assert!(!start.is_finished());
    assert!(stock.lock().unwrap().networks.is_empty());
    drop(held);
    assert!(matches!(
        start.await.unwrap(),
        Err(ExecutorError::Cancelled)
    ));
    assert_eq!(stock.lock().unwrap().networks, Vec::<String>::new());
}
