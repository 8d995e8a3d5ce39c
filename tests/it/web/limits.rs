//! Slow, greedy and broken clients.

use std::time::Duration;

use quire_testkit::WAIT_TIMEOUT;
use quire_types::clock::Clock;
use quire_web::{ConnectionLimits, SignInMethod, TrustedProxies};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::site::{NOW, Site};

async fn site(limits: ConnectionLimits) -> Site {
    Site::with(SignInMethod::Open, Clock::system(), limits).await
}

/// What comes back until the server closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = timeout(WAIT_TIMEOUT, stream.read_to_end(&mut bytes))
        .await
        .expect("the server keeps the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn who_is_slow_with_a_head_is_dropped() {
    let site = site(ConnectionLimits {
        head_time: Duration::from_millis(200),
        ..ConnectionLimits::default()
    })
    .await;
    let mut half = TcpStream::connect(site.address).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        .await
        .unwrap();
    let mut silent = TcpStream::connect(site.address).await.unwrap();
    rest(&mut half).await;
    assert_eq!(rest(&mut silent).await, "");
    // One that was answered and then says nothing does not stay for ever either.
    let mut idle = TcpStream::connect(site.address).await.unwrap();
    idle.write_all(b"GET /robots.txt HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    assert!(rest(&mut idle).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn who_takes_no_answer_is_dropped() {
    let site = site(ConnectionLimits {
        write_time: Duration::from_millis(300),
        connections: 1,
        reserved: 0,
        ..ConnectionLimits::default()
    })
    .await;
    let run = site.seed.run("app", "main", NOW);
    let line = "x".repeat(4000);
    for _ in 0..20 {
        site.seed
            .log("app", run, None, &vec![line.as_str(); 1000], NOW);
    }
    let mut greedy = TcpStream::connect(site.address).await.unwrap();
    greedy
        .write_all(
            format!("GET /runs/{run}/log.txt HTTP/1.1\r\nHost: quire.test\r\n\r\n").as_bytes(),
        )
        .await
        .unwrap();
    // There is one place, and it becomes free although the greedy one holds on.
    assert_eq!(site.get("/healthz").await.status, 200);
    assert!(rest(&mut greedy).await.len() < 80_000_000);
}

#[tokio::test]
async fn heads_and_bodies_are_bounded() {
    let site = site(ConnectionLimits::default()).await;
    let long = "x".repeat(64 << 10);
    assert_eq!(
        site.send("GET", "/", &[("X-Long", &long)]).await.status,
        431
    );
    let many: Vec<(&str, &str)> = vec![("X-Many", "1"); 200];
    assert_eq!(site.send("GET", "/", &many).await.status, 431);
    for nonsense in [
        "\r\n\r\n\u{1}\u{2}\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET  HTTP/1.1\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        stream.write_all(nonsense.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(
            answer.is_empty()
                || answer.starts_with("HTTP/1.1 400")
                || answer.starts_with("HTTP/1.1 5"),
            "{answer}"
        );
    }
    assert_eq!(site.get("/").await.status, 200);
}

#[tokio::test]
async fn one_address_cannot_take_all_places() {
    let site = site(ConnectionLimits {
        per_address: 2,
        trusted_proxies: TrustedProxies::new(|_| false),
        ..ConnectionLimits::default()
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        stream
            .write_all(b"GET /robots.txt HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        held.push(stream);
    }
    let mut third = TcpStream::connect(site.address).await.unwrap();
    assert_eq!(rest(&mut third).await, "");
    held.pop();
    // Its place is free once the server has seen it go.
    let again = async {
        loop {
            let mut stream = TcpStream::connect(site.address).await.unwrap();
            let asked = stream
                .write_all(b"GET /robots.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                .await;
            if asked.is_ok() && rest(&mut stream).await.starts_with("HTTP/1.1 200") {
                return;
            }
        }
    };
    timeout(WAIT_TIMEOUT, again)
        .await
        .expect("the place becomes free");
}

#[tokio::test]
async fn who_looks_after_us_gets_through_when_all_places_are_taken() {
    let site = site(ConnectionLimits {
        connections: 1,
        ..ConnectionLimits::default()
    })
    .await;
    let mut silent = TcpStream::connect(site.address).await.unwrap();
    silent.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    // The first takes the place there is, the second one that is kept.
    assert_eq!(site.get("/healthz").await.status, 200);
}
