//! Who may see what: the guard, the one-time link, the session, other people's sites.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use quire_testkit::wait_for_async;
use quire_types::clock::Clock;
use quire_web::{Component, ConnectionLimits, SignInMethod, Status};

use super::site::{LAPTOP, NOW, Site};

const HERE: (&str, &str) = ("Origin", "http://quire.test");

#[tokio::test]
async fn signed_out_every_address_is_the_page_to_sign_in() {
    let site = Site::start(SignInMethod::Ssh).await;
    let run = site.seed.run("work/secret", "main", NOW);
    let home = site.get("/").await;
    assert_eq!(home.status, 401);
    assert!(home.header("www-authenticate").is_some());
    assert!(
        home.body.contains("ssh -p 2222 git@git.home.example login"),
        "{}",
        home.body
    );
    // What exists and what does not cannot be told apart.
    let there = site.get("/work/secret").await;
    let not_there = site.get("/work/nothing").await;
    assert_eq!((there.status, not_there.status), (401, 401));
    assert_eq!(there.body, not_there.body);
    assert_eq!(there.body, home.body);
    for path in [
        format!("/runs/{run}"),
        format!("/runs/{run}/log.txt"),
        format!("/runs/{run}/events"),
        "/-/health".to_owned(),
    ] {
        let answer = site.get(&path).await;
        assert_eq!((answer.status, &answer.body), (401, &home.body), "{path}");
    }
    for path in ["/runs", "/work/secret", "/no/such/page"] {
        assert_eq!(site.json(path).await.status, 401, "{path}");
    }
    let post = site
        .send("POST", &format!("/runs/{run}/cancel"), &[HERE])
        .await;
    assert_eq!(post.status, 401);
}

#[tokio::test]
async fn signing_in_returns_to_the_page_that_was_asked_for() {
    let mut site = Site::start(SignInMethod::Ssh).await;
    let run = site.seed.run("app", "feature/a+b", NOW);
    for (path, status) in [
        (format!("/runs/{run}"), 200),
        ("/app?ref=feature/a%2Bb".to_owned(), 200),
        ("/no/such/page".to_owned(), 404),
    ] {
        site.cookie = None;
        let refused = site.get(&path).await;
        assert_eq!(refused.status, 401, "{path}");
        let remembered = refused.cookies()[0].split(';').next().unwrap().to_owned();
        let token = site.seed.login_link("laptop", NOW.plus(300_000));
        let login = format!("/login/{token}");
        let signed_in = site
            .send("POST", &login, &[HERE, ("Cookie", &remembered)])
            .await;
        assert_eq!(signed_in.header("location"), Some(path.as_str()));
        site.cookie = Some(signed_in.cookies()[0].split(';').next().unwrap().to_owned());
        assert_eq!(site.get(&path).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn health_and_metrics_need_no_session_and_name_no_repository() {
    let site = Site::start(SignInMethod::Ssh).await;
    site.seed.run("work/secret", "main", NOW);
    assert_eq!(site.get("/healthz").await.json()["status"], "starting");
    assert_eq!(site.get("/readyz").await.status, 503);
    site.healthy();
    site.state
        .health
        .set(Component::Docker, Status::Down, "no answer for 3 s", None);
    let health = site.get("/healthz").await;
    assert_eq!(
        (health.status, &health.json()["status"]),
        (200, &"degraded".into())
    );
    assert_eq!(
        health.json()["parts"]["docker"]["message"],
        "no answer for 3 s"
    );
    let ready = site.get("/readyz").await;
    assert_eq!(
        (ready.status, &ready.json()["reasons"][0]),
        (503, &"docker: no answer for 3 s".into())
    );
    site.state.health.clear(Component::Docker);
    assert_eq!(site.get("/readyz").await.status, 200);
    site.state
        .health
        .set(Component::Database, Status::Down, "read-only", None);
    assert_eq!(
        (
            site.get("/healthz").await.status,
            site.get("/livez").await.status
        ),
        (503, 503)
    );
    let metrics = site.get("/metrics").await;
    assert!(
        metrics
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    assert!(
        metrics.body.contains("quire_runs{state=\"pending\"} 1\n")
            && metrics.body.ends_with("# EOF\n"),
        "{}",
        metrics.body
    );
    for answer in [health, ready, metrics] {
        assert!(!answer.body.contains("secret"));
    }
}

#[tokio::test]
async fn background_checks_fill_the_board() {
    let site = Site::start(SignInMethod::Ssh).await;
    checked(
        &site,
        &[("database", "ok"), ("disk", "ok"), ("queue", "ok")],
    )
    .await;
}

#[tokio::test]
async fn a_database_that_cannot_be_written_is_down() {
    let site = Site::start(SignInMethod::Ssh).await;
    site.seed.refuse_writes();
    checked(&site, &[("database", "down"), ("disk", "ok")]).await;
}

/// Runs the checks until the board says so.
async fn checked(site: &Site, expected: &[(&str, &str)]) {
    let stop = tokio_util::sync::CancellationToken::new();
    let task = tokio::spawn(quire_web::watch(site.state.clone(), stop.clone()));
    wait_for_async(&format!("{expected:?}"), async || {
        let parts = site.get("/healthz").await.json()["parts"].clone();
        expected
            .iter()
            .all(|(part, status)| parts[part]["status"] == *status)
            .then_some(())
    })
    .await;
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_link_signs_in_once() {
    let mut site = Site::start(SignInMethod::Ssh).await;
    let token = site.seed.login_link("laptop", NOW.plus(300_000));
    let path = format!("/login/{token}");
    // Looking does not use it, not even often.
    for _ in 0..3 {
        let look = site.get(&path).await;
        assert_eq!(look.status, 200);
        assert!(look.body.contains("method=\"post\"") && look.cookies().is_empty());
    }
    assert_eq!(site.send("HEAD", &path, &[]).await.body, "");
    let foreign = site
        .send("POST", &path, &[("Origin", "https://evil.example")])
        .await;
    assert_eq!(foreign.status, 403);
    let used = site
        .send(
            "POST",
            &path,
            &[HERE, ("Cookie", "quire_next=/work/app?x=1")],
        )
        .await;
    assert_eq!(
        (used.status, used.header("location")),
        (303, Some("/work/app?x=1"))
    );
    let cookie = used.cookies()[0].to_owned();
    for part in ["HttpOnly", "SameSite=Lax", "Path=/;", "Max-Age=2592000"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "{cookie}");
    let again = site.send("POST", &path, &[HERE]).await;
    assert_eq!(again.status, 410);
    assert!(
        again
            .body
            .contains("ssh -p 2222 git@git.home.example login")
    );

    site.cookie = Some(cookie.split(';').next().unwrap().to_owned());
    let home = site.get("/").await;
    assert_eq!(home.status, 200);
    assert!(home.body.contains("laptop") && home.body.contains("Sign out"));
    let out = site.send("POST", "/logout", &[HERE]).await;
    assert_eq!(out.status, 303);
    assert_eq!(site.seed.count("sessions"), 0);
    assert_eq!(site.get("/").await.status, 401);
}

#[tokio::test]
async fn a_session_ends_with_its_key() {
    let mut site = Site::start(SignInMethod::Ssh).await;
    site.sign_in().await;
    let run = site.seed.run("app", "main", NOW);
    assert_eq!(site.get("/").await.status, 200);
    let mut followed = [
        site.events("/events", &[]).await,
        site.events(&format!("/runs/{run}/events"), &[]).await,
    ];
    for events in &mut followed {
        events.next().await.unwrap();
    }
    let pending = site.seed.login_link("laptop", NOW.plus(300_000));
    // The key goes, and another one comes that has its name.
    site.seed.keys(&LAPTOP.replace("IGq1", "IHq1"));
    assert_eq!(
        (site.get("/").await.status, site.get("/app").await.status),
        (401, 401)
    );
    assert_eq!(
        site.send("POST", &format!("/runs/{run}/cancel"), &[HERE])
            .await
            .status,
        401
    );
    site.state.live.notify_run(run);
    for mut events in followed {
        assert!(events.next().await.is_none(), "an open stream ends too");
    }
    let late = site
        .send("POST", &format!("/login/{pending}"), &[HERE])
        .await;
    assert_eq!((late.status, late.cookies().len()), (403, 0));
    site.seed.keys(LAPTOP);
    assert_eq!(
        site.send("POST", &format!("/login/{pending}"), &[HERE])
            .await
            .status,
        410,
        "it is used up"
    );
    assert_eq!(
        site.get("/").await.status,
        200,
        "a key that was away by mistake"
    );
}

#[tokio::test]
async fn a_session_ends_when_its_key_expires() {
    let time = Arc::new(AtomicI64::new(NOW.0));
    let clock = Clock::manual(time.clone());
    let mut site = Site::with(SignInMethod::Ssh, clock, ConnectionLimits::default()).await;
    let run = site.seed.run("app", "main", NOW);
    // NOW is 17:20 of that day.
    site.seed
        .keys(&format!("expiry-time=\"20260725172500Z\" {LAPTOP}"));
    site.sign_in().await;
    let pending = site.seed.login_link("laptop", NOW.plus(900_000));
    let mut followed = site.events(&format!("/runs/{run}/events"), &[]).await;
    followed.next().await.unwrap();
    time.store(NOW.plus(300_000).0, Ordering::SeqCst);
    assert_eq!(site.get("/").await.status, 200);
    time.store(NOW.plus(301_000).0, Ordering::SeqCst);
    assert_eq!(site.get("/").await.status, 401);
    site.state.live.notify_run(run);
    assert!(followed.next().await.is_none(), "an open stream ends too");
    let late = site
        .send("POST", &format!("/login/{pending}"), &[HERE])
        .await;
    assert_eq!((late.status, late.cookies().len()), (403, 0));
    assert!(late.body.contains("has expired"), "{}", late.body);
}

#[tokio::test]
async fn a_session_ends_when_its_key_gets_limits() {
    let mut site = Site::start(SignInMethod::Ssh).await;
    site.seed.keys(LAPTOP);
    site.sign_in().await;
    let pending = site.seed.login_link("laptop", NOW.plus(300_000));
    assert_eq!(site.get("/").await.status, 200);
    site.seed
        .keys(&format!("command=\"quire exec --repo app\" {LAPTOP}"));
    assert_eq!(site.get("/").await.status, 401);
    let late = site
        .send("POST", &format!("/login/{pending}"), &[HERE])
        .await;
    assert_eq!((late.status, late.cookies().len()), (403, 0));
    assert!(late.body.contains("may only use git"), "{}", late.body);
}

#[tokio::test]
async fn a_session_holds_only_where_its_key_may_connect() {
    let mut site = Site::start(SignInMethod::Ssh).await;
    site.seed
        .keys(&format!("from=\"192.0.2.0/24,!192.0.2.66\" {LAPTOP}"));
    let at = |address| ("X-Forwarded-For", address);
    let sign_in = async |site: &Site, address| {
        let token = site.seed.login_link("laptop", NOW.plus(300_000));
        site.send("POST", &format!("/login/{token}"), &[HERE, at(address)])
            .await
    };
    for address in ["198.51.100.1", "192.0.2.66", "127.0.0.1"] {
        let refused = sign_in(&site, address).await;
        assert_eq!((refused.status, refused.cookies().len()), (403, 0));
        let text = format!("may not connect from {address}");
        assert!(refused.body.contains(&text), "{}", refused.body);
    }
    let signed_in = sign_in(&site, "192.0.2.7").await;
    assert_eq!(signed_in.status, 303);
    site.cookie = Some(signed_in.cookies()[0].split(';').next().unwrap().to_owned());
    let status = async |address| site.send("GET", "/", &[at(address)]).await.status;
    assert_eq!(status("192.0.2.8").await, 200);
    assert_eq!(status("198.51.100.1").await, 401);
    // What the client itself writes into the header stands before what the proxy adds.
    assert_eq!(status("192.0.2.8, 198.51.100.1").await, 401);
    assert_eq!(site.get("/").await.status, 401, "without a proxy");
}

#[tokio::test]
async fn who_signs_in_at_the_machine_itself_needs_no_key() {
    let mut site = Site::start(SignInMethod::Ssh).await;
    site.seed.keys("");
    site.sign_in_as("local").await;
    let home = site.get("/").await;
    assert_eq!(home.status, 200);
    assert!(
        home.body.contains("<span class=\"who\">local</span>"),
        "{}",
        home.body
    );
}

#[tokio::test]
async fn a_late_or_invented_link_does_not() {
    let site = Site::start(SignInMethod::Ssh).await;
    let late = site.seed.login_link("laptop", NOW.plus(-1));
    for token in [late.as_str(), &"0".repeat(64), "x", "%00"] {
        let answer = site.send("POST", &format!("/login/{token}"), &[HERE]).await;
        assert_eq!((answer.status, answer.cookies().len()), (410, 0), "{token}");
    }
    assert_eq!(site.seed.count("sessions"), 0);
}

#[tokio::test]
async fn a_stranger_is_led_back_to_what_was_wanted() {
    let site = Site::start(SignInMethod::Ssh).await;
    let cookies = |answer: &quire_testkit::Response| answer.cookies().join(" ");
    let answer = site.get("/runs/0197a1b2-0000-7000-8000-000000000001").await;
    assert!(
        cookies(&answer)
            .starts_with("quire_next=/runs/0197a1b2-0000-7000-8000-000000000001; Path=/login"),
        "{}",
        cookies(&answer)
    );
    assert_eq!(cookies(&site.get("//evil.example/").await), "");
    assert_eq!(cookies(&site.json("/runs").await), "");
}

#[tokio::test]
async fn behind_tls_the_cookie_is_secure() {
    let mut site = Site::start(SignInMethod::Ssh).await;
    site.state.config.url = "https://quire.test".to_owned();
    site.restart().await;
    let token = site.seed.login_link("laptop", NOW.plus(1));
    let answer = site
        .send(
            "POST",
            &format!("/login/{token}"),
            &[("Origin", "https://quire.test")],
        )
        .await;
    assert!(
        answer.cookies()[0].contains("; Secure"),
        "{:?}",
        answer.cookies()
    );
}

#[tokio::test]
async fn where_all_may_enter_the_page_says_so() {
    let site = Site::start(SignInMethod::Open).await;
    let home = site.get("/").await;
    assert_eq!(home.status, 200);
    assert!(home.body.contains("open to everyone") && !home.body.contains("Sign out"));
    let run = site.seed.run("app", "main", NOW);
    let foreign = site
        .send(
            "POST",
            &format!("/runs/{run}/cancel"),
            &[("Sec-Fetch-Site", "cross-site")],
        )
        .await;
    assert_eq!(foreign.status, 403);
}

#[tokio::test]
async fn where_all_may_enter_another_name_is_refused() {
    let site = Site::start(SignInMethod::Open).await;
    let run = site.seed.run("app", "main", NOW);
    for own in [
        "quire.test",
        "QUIRE.test:3000",
        "git.home.example",
        "localhost:8080",
        "127.0.0.1",
        "[::1]:3000",
    ] {
        assert_eq!(
            site.send("GET", "/", &[("Host", own)]).await.status,
            200,
            "{own}"
        );
    }
    // A page of evil.example whose name came to resolve to us: to the browser all this is its own origin.
    let rebound = ("Host", "evil.example:3000");
    for path in [
        "/".to_owned(),
        "/app".to_owned(),
        format!("/runs/{run}/log.txt"),
        format!("/runs/{run}/events"),
        "/events".to_owned(),
    ] {
        let answer = site.send("GET", &path, &[rebound]).await;
        assert_eq!(answer.status, 421, "{path}");
        assert!(
            answer.body.contains("QUIRE_HTTP_URL") && answer.cookies().is_empty(),
            "{}",
            answer.body
        );
    }
    let cancel = site
        .send(
            "POST",
            &format!("/runs/{run}/cancel"),
            &[rebound, ("Sec-Fetch-Site", "same-origin")],
        )
        .await;
    assert_eq!(cancel.status, 421);
    assert_eq!(
        site.get(&format!("/runs/{run}"))
            .await
            .body
            .matches("stopping…")
            .count(),
        0
    );
    assert_eq!(
        site.send("GET", "/healthz", &[("Host", "quire:3000")])
            .await
            .status,
        200
    );
    // With sessions the name does not matter: the cookie knows its own.
    let mut closed = Site::start(SignInMethod::Ssh).await;
    closed.sign_in().await;
    assert_eq!(
        closed
            .send("GET", "/", &[("Host", "proxy.internal")])
            .await
            .status,
        200
    );
}
