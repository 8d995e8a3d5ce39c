//! An engine that cannot remove everything, and one whose registry says nothing: canned answers over a socket, no real engine.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quire::docker::Timings;
use quire::executor::{
    DockerConfig, DockerExecutor, Executor, ExecutorError, ImageSource, StartSpec, Swept,
};
use quire::names::RunId;
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
    let timings = Timings {
        removal: short,
        pull: short,
        ..Timings::default()
    };
    DockerExecutor::new(DockerConfig {
        timings,
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
    if line.contains("/images/create") {
        return None;
    }
    if line.contains("/networks") {
        return Some((200, "[]".into()));
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
            shown.map(|(run, _)| format!(r#"{{"Id":"{run}","Labels":{{"io.quire.instance":"test","io.quire.run":"{run}"}}}}"#)).collect();
        return Some((200, format!("[{}]", entries.join(","))));
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
    let mut left = runs[..2].to_vec();
    left.sort();
    assert_eq!(swept, Swept { removed: 2, left });
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
        Swept {
            removed: 3,
            left: Vec::new()
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
        assert!(executor.clear(run).await.is_err(), "{way:?}");
    }
    stock.lock().unwrap().listing_fails = true;
    assert!(executor.clear(run).await.is_err());
    stock.lock().unwrap().listing_fails = false;
    stock.lock().unwrap().containers[0].1 = Removal::Done;
    executor.clear(run).await.unwrap();
    executor.clear(run).await.unwrap();
    assert_eq!(stock.lock().unwrap().containers, [(other, Removal::Done)]);
}

#[tokio::test]
async fn a_registry_that_says_nothing_is_not_waited_for_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let executor = engine(folder.path(), &Shared::default());
    let mut seen = Seen::default();
    let spec = Fixture::host().spec(small_tree());
    let spec = StartSpec {
        image: ImageSource::Reference("mute".into()),
        ..spec
    };
    let error = Executor::start(&executor, spec, &mut seen, CancellationToken::new())
        .await
        .err()
        .unwrap();
    assert!(matches!(error, ExecutorError::Image(_)), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the image mute:latest cannot be pulled: its registry sent nothing for 0.3 s"
    );
}
