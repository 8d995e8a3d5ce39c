//! Who may see what: the guard, the one-time link, the session, other people's sites.

use quire::web::{Auth, Part, Status};

use crate::site::{LAPTOP, NOW, Site};

const HERE: (&str, &str) = ("Origin", "http://quire.test");

#[tokio::test]
async fn a_stranger_sees_the_door_and_nothing_else() {
    let site = Site::start(Auth::Ssh).await;
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
    assert_eq!((there.status, not_there.status), (404, 404));
    assert_eq!(there.body, not_there.body);
    for path in [
        format!("/runs/{run}"),
        format!("/runs/{run}/log.txt"),
        format!("/runs/{run}/events"),
        "/-/health".to_owned(),
    ] {
        let answer = site.get(&path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(!answer.body.contains("secret"), "{path}");
    }
    assert_eq!(site.json("/runs").await.status, 401);
    let post = site
        .send("POST", &format!("/runs/{run}/cancel"), &[HERE])
        .await;
    assert_eq!(post.status, 404);
}

#[tokio::test]
async fn health_and_metrics_need_no_session_and_name_no_repository() {
    let site = Site::start(Auth::Ssh).await;
    site.seed.run("work/secret", "main", NOW);
    assert_eq!(site.get("/healthz").await.json()["status"], "starting");
    assert_eq!(site.get("/readyz").await.status, 503);
    site.healthy();
    site.state
        .health
        .set(Part::Docker, Status::Down, "no answer for 3 s", None);
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
    site.state.health.clear(Part::Docker);
    assert_eq!(site.get("/readyz").await.status, 200);
    site.state
        .health
        .set(Part::Database, Status::Down, "read-only", None);
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
    let site = Site::start(Auth::Ssh).await;
    checked(
        &site,
        &[("database", "ok"), ("disk", "ok"), ("queue", "ok")],
    )
    .await;
}

#[tokio::test]
async fn a_database_that_cannot_be_written_is_down() {
    let site = Site::start(Auth::Ssh).await;
    site.seed.refuse_writes();
    checked(&site, &[("database", "down"), ("disk", "ok")]).await;
}

/// Runs the checks until the board says so.
async fn checked(site: &Site, expected: &[(&str, &str)]) {
    let stop = tokio_util::sync::CancellationToken::new();
    let task = tokio::spawn(quire::web::watch(site.state.clone(), stop.clone()));
    let deadline = tokio::time::Instant::now() + crate::client::PATIENCE;
    loop {
        let parts = site.get("/healthz").await.json()["parts"].clone();
        if expected
            .iter()
            .all(|(part, status)| parts[part]["status"] == *status)
        {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{parts}");
        tokio::task::yield_now().await;
    }
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_link_signs_in_once() {
    let mut site = Site::start(Auth::Ssh).await;
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
    let mut site = Site::start(Auth::Ssh).await;
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
        (401, 404)
    );
    assert_eq!(
        site.send("POST", &format!("/runs/{run}/cancel"), &[HERE])
            .await
            .status,
        404
    );
    site.state.live.state_changed(run);
    for mut events in followed {
        assert!(events.next().await.is_none(), "an open stream ends too");
    }
    let late = site
        .send("POST", &format!("/login/{pending}"), &[HERE])
        .await;
    assert_eq!((late.status, late.cookies().len()), (410, 0));
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
async fn who_signs_in_at_the_machine_itself_needs_no_key() {
    let mut site = Site::start(Auth::Ssh).await;
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
    let site = Site::start(Auth::Ssh).await;
    let late = site.seed.login_link("laptop", NOW.plus(-1));
    for token in [late.as_str(), &"0".repeat(64), "x", "%00"] {
        let answer = site.send("POST", &format!("/login/{token}"), &[HERE]).await;
        assert_eq!((answer.status, answer.cookies().len()), (410, 0), "{token}");
    }
    assert_eq!(site.seed.count("sessions"), 0);
}

#[tokio::test]
async fn a_stranger_is_led_back_to_what_was_wanted() {
    let site = Site::start(Auth::Ssh).await;
    let cookies = |answer: &crate::client::Answer| answer.cookies().join(" ");
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
    let mut site = Site::start(Auth::Ssh).await;
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
    let site = Site::start(Auth::Open).await;
    let home = site.get("/").await;
    assert_eq!(home.status, 200);
    assert!(home.body.contains("open to everybody") && !home.body.contains("Sign out"));
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
    let site = Site::start(Auth::Open).await;
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
    let mut closed = Site::start(Auth::Ssh).await;
    closed.sign_in().await;
    assert_eq!(
        closed
            .send("GET", "/", &[("Host", "proxy.internal")])
            .await
            .status,
        200
    );
}
