//! Live streams: what is there, then what comes, nothing missing or doubled, across restarts.

use quire_testkit::wait_for_async;
use quire_types::names::RunId;
use quire_web::SignInMethod;
use serde_json::Value;

use super::client::Events;
use super::site::{NOW, Site};

async fn running() -> (Site, RunId) {
    let mut site = Site::start(SignInMethod::Ssh).await;
    site.sign_in().await;
    let run = site.seed.run("app", "main", NOW);
    site.seed.start(run, NOW);
    site.seed.job(run, "test", 0, &["quire/push"]);
    site.seed.job_state(run, "test", "active", NOW);
    site.seed.step(run, 1, "test", "make", NOW);
    (site, run)
}

fn texts(data: &Value) -> Vec<String> {
    data.as_array()
        .unwrap()
        .iter()
        .map(|line| line[2].as_str().unwrap().to_owned())
        .collect()
}

/// Reads log events until `count` lines have come; gives them and the last id.
async fn lines(events: &mut Events, count: usize) -> (Vec<String>, String) {
    let (mut all, mut id) = (Vec::new(), String::new());
    while all.len() < count {
        let event = events.named("log").await;
        all.extend(texts(&event.data));
        id = event.id.unwrap();
    }
    (all, id)
}

fn numbered(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("line {n}")).collect()
}

fn write(site: &Site, run: RunId, range: std::ops::Range<u32>) {
    let lines = numbered(range);
    site.seed.log(
        "app",
        run,
        Some(("test", 1)),
        &lines.iter().map(String::as_str).collect::<Vec<_>>(),
        NOW,
    );
    site.state.live.notify_log(run);
}

#[tokio::test]
async fn a_follower_gets_what_is_there_then_what_comes_then_the_end() {
    let (site, run) = running().await;
    write(&site, run, 0..10);
    let mut events = site.events(&format!("/runs/{run}/events"), &[]).await;
    assert!(events.head.contains("text/event-stream"), "{}", events.head);
    let state = events.named("state").await.data;
    assert!(state["head"].as_str().unwrap().contains("active"));
    assert_eq!(
        (&state["steps"][0]["seq"], &state["steps"][0]["open"]),
        (&1.into(), &true.into())
    );
    assert_eq!(lines(&mut events, 10).await.0, numbered(0..10));
    write(&site, run, 10..20);
    assert_eq!(lines(&mut events, 10).await.0, numbered(10..20));

    site.seed.step(run, 2, "test", "make check", NOW.plus(500));
    site.state.live.notify_run(run);
    let state = events.named("state").await.data;
    assert!(
        state["head"].is_null() && state["jobs"].is_null(),
        "only what changed is sent: {state}"
    );
    assert_eq!(
        (&state["steps"][0]["seq"], &state["steps"][1]),
        (&2.into(), &Value::Null)
    );

    // The last lines and the end, at once: the end comes after the lines.
    write(&site, run, 20..21);
    for step in [1, 2] {
        site.seed.step_end(run, step, 0, NOW.plus(600));
    }
    site.seed.job_state(run, "test", "complete", NOW.plus(600));
    site.seed.end(run, "complete", None, NOW.plus(600));
    site.state.live.notify_run(run);
    let mut last = Vec::new();
    while let Some(event) = events.next().await {
        last.push(event);
    }
    let of = |name: &str| last.iter().position(|event| event.name == name).unwrap();
    assert_eq!(last.len(), 3);
    assert_eq!(of("end"), 2);
    assert_eq!(texts(&last[of("log")].data), numbered(20..21));
    let state = &last[of("state")].data;
    assert!(state["title"].as_str().unwrap().starts_with('✓'), "{state}");
    assert_eq!(
        (&state["jobs"][0]["state"], &state["steps"][0]["open"]),
        (&"complete".into(), &false.into())
    );
    assert_eq!(site.state.live.followers(), 0);
}

fn newest_step(state: &Value) -> Option<u64> {
    state.get("steps")?.as_array()?.last()?["seq"].as_u64()
}

#[tokio::test]
async fn rows_skipped_while_a_log_flows_are_sent_soon() {
    let (site, run) = running().await;
    let mut events = site.events(&format!("/runs/{run}/events"), &[]).await;
    let (mut newest, mut lines) = (0, 0);
    for n in 0..20 {
        // One wake-up for both: nothing else wakes the follower afterwards.
        site.seed.step(run, n + 2, "test", "make more", NOW);
        write(&site, run, n..n + 1);
        while lines <= n {
            let event = events.next().await.unwrap();
            lines += u32::from(event.name == "log");
            newest = newest_step(&event.data).unwrap_or(newest);
        }
    }
    let all_sent = async {
        while newest != 21 {
            newest = newest_step(&events.named("state").await.data).unwrap_or(newest);
        }
    };
    // Without news a stream looks every 15 s; that would be too late.
    tokio::time::timeout(std::time::Duration::from_secs(10), all_sent)
        .await
        .expect("the last step is told without a further wake-up");
}

#[tokio::test]
async fn only_changed_steps_of_a_long_run_are_sent() {
    let (site, run) = running().await;
    site.seed.many_steps(run, 2, 10_000, "test", NOW);
    let mut events = site.events(&format!("/runs/{run}/events"), &[]).await;
    let seqs = |state: &Value| -> Vec<u64> {
        state["steps"]
            .as_array()
            .map(|all| {
                all.iter()
                    .map(|step| step["seq"].as_u64().unwrap())
                    .collect()
            })
            .unwrap_or_default()
    };
    assert_eq!(
        seqs(&events.named("state").await.data),
        (1..=10_001).collect::<Vec<_>>()
    );
    site.seed.step(run, 10_002, "test", "make", NOW);
    site.state.live.notify_run(run);
    assert_eq!(seqs(&events.named("state").await.data), [10_002]);
    site.seed.step_end(run, 10_002, 0, NOW);
    site.state.live.notify_run(run);
    assert_eq!(seqs(&events.named("state").await.data), [10_002]);
    // What was cut off by the end looks different, the rest does not.
    site.seed.end(run, "canceled", None, NOW);
    site.state.live.notify_run(run);
    assert_eq!(seqs(&events.named("state").await.data), [1]);
    assert_eq!(events.next().await.unwrap().name, "end");
}

#[tokio::test]
async fn the_stream_goes_on_where_the_page_ended() {
    let (site, run) = running().await;
    write(&site, run, 0..100);
    let page = site.get(&format!("/runs/{run}")).await.body;
    let after = page
        .split("data-after=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    assert!(
        page.contains("id=\"test-1-100\"") && page.contains("data-next=\"101\""),
        "{page}"
    );
    write(&site, run, 100..110);
    let mut events = site
        .events(&format!("/runs/{run}/events?after={after}"), &[])
        .await;
    assert_eq!(lines(&mut events, 10).await.0, numbered(100..110));
    assert_eq!(
        site.get(&format!("/runs/{run}/events?after=%3Cx%3E"))
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn a_follower_resumes_across_a_restart_without_a_seam() {
    let (mut site, run) = running().await;
    write(&site, run, 0..50);
    let mut events = site.events(&format!("/runs/{run}/events"), &[]).await;
    let (_, id) = lines(&mut events, 50).await;
    let begun = std::time::Instant::now();
    site.restart().await;
    assert!(
        events.next().await.is_none(),
        "the shutdown ends the stream cleanly"
    );
    assert!(begun.elapsed() < std::time::Duration::from_secs(30));
    write(&site, run, 50..60);
    let mut events = site
        .events(
            &format!("/runs/{run}/events?after=ignored-for-the-header"),
            &[("Last-Event-ID", &id)],
        )
        .await;
    events.named("state").await;
    assert_eq!(lines(&mut events, 10).await.0, numbered(50..60));
}

#[tokio::test]
async fn many_followers_of_a_fast_log_each_get_all_of_it() {
    let (site, run) = running().await;
    let mut followers = Vec::new();
    for _ in 0..8 {
        followers.push(site.events(&format!("/runs/{run}/events"), &[]).await);
    }
    // One that never reads must not hold up the others.
    let _deaf = site.events(&format!("/runs/{run}/events"), &[]).await;
    let writing = async {
        for n in 0..100 {
            write(&site, run, n * 50..(n + 1) * 50);
            tokio::task::yield_now().await;
        }
    };
    let reading =
        futures_util::future::join_all(followers.iter_mut().map(|events| lines(events, 5000)));
    let ((), all) = tokio::join!(writing, reading);
    for (lines, _) in all {
        assert_eq!(lines, numbered(0..5000));
    }
}

#[tokio::test]
async fn lines_are_escaped_and_flagged() {
    let (site, run) = running().await;
    site.seed.log(
        "app",
        run,
        Some(("test", 1)),
        &["<script>\u{1b}[31mx", "!a\\", "\rb"],
        NOW,
    );
    site.seed.log("app", run, None, &["image"], NOW);
    let mut events = site.events(&format!("/runs/{run}/events"), &[]).await;
    let mut data = Vec::new();
    while data.len() < 4 {
        data.extend(events.named("log").await.data.as_array().unwrap().clone());
    }
    let own: Vec<_> = data.iter().filter(|l| l[0] == 0).collect();
    let step: Vec<_> = data
        .iter()
        .filter(|l| l[0] == 1)
        .map(Value::to_string)
        .collect();
    assert_eq!(own, [&serde_json::json!([0, 0, "image"])]);
    assert_eq!(
        step,
        [
            r#"[1,0,"&lt;script&gt;<span class=\"f1\">x</span>"]"#,
            r#"[1,3,"<span class=\"f1\">a</span>"]"#,
            r#"[1,4,"<span class=\"f1\">b</span>"]"#
        ]
    );
}

#[tokio::test]
async fn lists_hear_that_something_changed() {
    let (site, run) = running().await;
    let mut events = site.events("/events", &[]).await;
    assert_eq!(
        events.next().await.unwrap().name,
        "changed",
        "once at the beginning"
    );
    site.state.live.notify_run(run);
    assert_eq!(events.next().await.unwrap().name, "changed");
}

#[tokio::test]
async fn followers_are_counted_and_capped() {
    let (site, run) = running().await;
    let mut open = Vec::new();
    for _ in 0..256 {
        open.push(site.events("/events", &[]).await);
    }
    assert!(
        site.get("/metrics")
            .await
            .body
            .contains("quire_sse_clients 256\n")
    );
    let refused = site.get(&format!("/runs/{run}/events")).await;
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("5"))
    );
    // Pages are still there, and a place becomes free when a follower leaves.
    assert_eq!(site.get("/").await.status, 200);
    open.pop();
    wait_for_async("a free place", async || {
        let metrics = site.get("/metrics").await.body;
        metrics.contains("quire_sse_clients 255\n").then_some(())
    })
    .await;
}
