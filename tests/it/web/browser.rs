//! Chromium on the pages: what a person sees, that logs move, that the security policy blocks
//! nothing of ours.

use fantoccini::Locator;
use quire_testkit::{Browser, skipped};
use quire_types::clock::Clock;
use quire_types::names::RunId;
use quire_web::{Component, ConnectionLimits, SignInMethod, Status};

use super::site::Site;

/// A site whose pages need no sign-in.
pub(super) async fn open_site() -> Site {
    let mut site = site().await;
    site.state.config.auth = SignInMethod::Open;
    site.restart().await;
    site
}

pub(super) async fn site() -> Site {
    let mut site = Site::with(
        SignInMethod::Ssh,
        Clock::system(),
        ConnectionLimits::default(),
    )
    .await;
    // The browser comes by the address itself.
    site.state.config.url = format!("http://{}", site.address);
    site.restart().await;
    site.healthy();
    site.state.health.set(
        Component::Docker,
        Status::Ok,
        "Engine 28.3, API 1.51, answered in 3 ms",
        None,
    );
    site.state
        .health
        .set(Component::Sshd, Status::Ok, "running", None);
    site
}

/// An appliance that has been in use for a while; the run is active, its test just began.
fn furnish(site: &Site) -> RunId {
    let (seed, now) = (&site.seed, site.state.clock.now());
    let before = |seconds: i64| now.plus(-seconds * 1000);
    let ended =
        |repo: &str, branch: &str, ago: i64, took: i64, outcome: &str, message: Option<&str>| {
            let run = seed.run(repo, branch, before(ago));
            seed.start(run, before(ago));
            seed.end(run, outcome, message, before(ago - took));
            run
        };
    seed.repo("dotfiles");
    ended("work/ledger", "main", 86_400 * 3, 74, "complete", None);
    ended("garden-notes", "main", 86_400, 9, "complete", None);
    ended(
        "work/ledger",
        "rounding",
        14_000,
        41,
        "job",
        Some("job `test` failed: `cargo test --locked` exited with 101"),
    );
    ended("work/ledger", "rounding", 13_000, 12, "superseded", None);
    ended("work/ledger", "rounding", 12_950, 88, "complete", None);
    ended(
        "site",
        "topic/a-rather-long-branch-name-that-somebody-chose",
        4_000,
        5,
        "pipeline",
        Some(
            ".quire/ci.fnl:7:2: job `deploy` waits for `biuld`, which does not exist; did you mean `build`?",
        ),
    );
    let run = seed.run("work/ledger", "main", before(76));
    seed.start(run, before(75));
    seed.log(
        "work/ledger",
        run,
        None,
        &["Image rust:1.95 is here", "Container started in 0.4 s"],
        before(74),
    );
    for (position, (job, inputs)) in [
        ("lint", "quire/push"),
        ("test", "quire/push"),
        ("package", "test"),
    ]
    .into_iter()
    .enumerate()
    {
        seed.job(run, job, u32::try_from(position).unwrap(), &[inputs]);
    }
    seed.job_state(run, "lint", "active", before(73));
    seed.step(run, 1, "lint", "cargo fmt --check", before(73));
    seed.step_end(run, 1, 0, before(72));
    seed.step(
        run,
        2,
        "lint",
        "cargo clippy --all-targets --locked -- -D warnings",
        before(72),
    );
    seed.log(
        "work/ledger",
        run,
        Some(("lint", 2)),
        &[
            "!\u{1b}[1;32m    Checking\u{1b}[0m ledger v0.4.1 (/work)",
            "!\u{1b}[1;32m    Finished\u{1b}[0m `dev` profile in 21.07s",
        ],
        before(50),
    );
    seed.step_end(run, 2, 0, before(50));
    seed.job_state(run, "lint", "complete", before(50));
    seed.job_state(run, "test", "active", before(73));
    seed.step(run, 3, "test", "cargo build --locked", before(73));
    seed.log(
        "work/ledger",
        run,
        Some(("test", 3)),
        &["!\u{1b}[1;32m   Compiling\u{1b}[0m ledger v0.4.1 (/work)"],
        before(60),
    );
    seed.step_end(run, 3, 0, before(12));
    seed.step(run, 4, "test", "cargo test --locked", before(12));
    seed.log(
        "work/ledger",
        run,
        Some(("test", 4)),
        &[
            "!\u{1b}[1;32m     Running\u{1b}[0m unittests src/lib.rs",
            "",
            "running 6 tests",
            "test money::adds ... \u{1b}[32mok\u{1b}[0m",
            "test money::rounds_half_to_even ... \u{1b}[32mok\u{1b}[0m",
            "!\u{1b}[1;33mwarning\u{1b}[0m: the file /work/target is on a slow disk",
        ],
        before(8),
    );
    run
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_signs_in_and_watches_a_run() {
    if skipped("browser") {
        return;
    }
    let mut site = site().await;
    let run = furnish(&site);
    let base = format!("http://{}", site.address);
    let browser = Browser::start().await;
    let page = &browser.client;
    browser.look(1200, 900, false).await;

    // The link that the hook printed; not signed in.
    page.goto(&format!("{base}/runs/{run}")).await.unwrap();
    assert!(
        page.source()
            .await
            .unwrap()
            .contains("ssh -p 2222 git@git.home.example login")
    );
    browser.picture("stranger").await;
    // That a signed-out browser gets a 401 is a complaint of the browser's own, and the only one.
    browser.until_complaint("401").await;
    assert_eq!(browser.complaints().await, [""; 0]);
    let token = site
        .seed
        .login_link("laptop", site.state.clock.now().plus(300_000));
    page.goto(&format!("{base}/login/{token}")).await.unwrap();
    browser.picture("login").await;
    page.find(Locator::Css("button.main"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    browser
        .until(&format!("return location.pathname === '/runs/{run}'"))
        .await;

    // The log moves, and the step that runs is open.
    browser.until("return document.querySelector('#step-4').open && !document.querySelector('#step-2').open").await;
    browser
        .until("return document.getElementById('test-4-6').textContent.includes('slow disk')")
        .await;
    browser.look_at_all("run").await;
    site.seed.log(
        "work/ledger",
        run,
        Some(("test", 4)),
        &["test money::parses ... \\"],
        site.state.clock.now(),
    );
    site.state.live.notify_log(run);
    browser.until("return document.getElementById('test-4-7')?.textContent === '7test money::parses ... '").await;
    site.seed.log(
        "work/ledger",
        run,
        Some(("test", 4)),
        &["\u{1b}[32mok\u{1b}[0m", "<b>not markup</b>"],
        site.state.clock.now(),
    );
    site.state.live.notify_log(run);
    browser.until("return document.getElementById('test-4-7').textContent === '7test money::parses ... ok'").await;
    browser
        .until("return document.getElementById('test-4-8').textContent === '8<b>not markup</b>'")
        .await;

    // The appliance restarts in the middle: the page says that it is not live, then goes on without a seam.
    site.stop().await;
    browser
        .until("return document.body.classList.contains('offline')")
        .await;
    site.seed.log(
        "work/ledger",
        run,
        Some(("test", 4)),
        &["test result: \u{1b}[31mFAILED\u{1b}[0m. 5 passed; 1 failed"],
        site.state.clock.now(),
    );
    site.restart().await;
    browser
        .until("return document.getElementById('test-4-9')?.textContent.includes('FAILED')")
        .await;
    browser
        .until("return !document.body.classList.contains('offline')")
        .await;
    assert_eq!(
        browser
            .script("return document.querySelectorAll('#step-4 .l').length")
            .await,
        9,
        "nothing doubled"
    );

    // It ends: state, job, step and title follow; the failed step stays open.
    let now = site.state.clock.now();
    site.seed.step_end(run, 4, 101, now);
    site.seed.job_state(run, "test", "failed", now);
    site.seed.job_state(run, "package", "skipped", now);
    site.seed.end(
        run,
        "job",
        Some("job `test` failed: `cargo test --locked` exited with 101"),
        now,
    );
    site.state.live.notify_run(run);
    browser.until("return document.title.startsWith('✗')").await;
    browser
        .until("return document.querySelector('#head').textContent.includes('Retry')")
        .await;
    browser
        .until(
            "return document.querySelector('#step-4').open && document.querySelector('#step-4 summary').textContent.includes('exit 101')",
        )
        .await;
    browser
        .until("return document.querySelector('#follow').hidden")
        .await;
    browser.picture("run-failed").await;

    // A link to a line of a closed step opens it.
    page.goto(&format!("{base}/runs/{run}#lint-2-1"))
        .await
        .unwrap();
    page.refresh().await.unwrap();
    browser
        .until("return document.querySelector('#step-2').open")
        .await;
    let mut complaints = browser.complaints().await;
    // The server was away for a while.
    complaints.retain(|complaint| {
        !complaint.contains("ERR_CONNECTION_REFUSED")
            && !complaint.contains("ERR_INCOMPLETE_CHUNKED")
    });
    assert_eq!(complaints, [""; 0]);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_begins_while_it_is_looked_at_builds_its_page() {
    if skipped("browser") {
        return;
    }
    let site = open_site().await;
    let now = site.state.clock.now();
    let run = site.seed.run("app", "main", now);
    let browser = Browser::start().await;
    browser
        .client
        .goto(&format!("http://{}/runs/{run}", site.address))
        .await
        .unwrap();
    browser
        .until(
            "return document.querySelector('#none').textContent.includes('No job has started yet')",
        )
        .await;
    site.seed.start(run, now);
    site.seed.log("app", run, None, &["pulling image"], now);
    site.state.live.notify_run(run);
    browser
        .until("return document.querySelector('#step-0').open && document.querySelector('#step-0 .l').textContent === '1pulling image'")
        .await;
    site.seed.job(run, "a\"b<c>%20", 0, &["quire/push"]);
    site.seed.job_state(run, "a\"b<c>%20", "active", now);
    site.seed
        .step(run, 1, "a\"b<c>%20", "make one\nmake two", now);
    site.seed
        .log("app", run, Some(("a\"b<c>%20", 1)), &["hello"], now);
    site.state.live.notify_run(run);
    browser
        .until("return document.querySelector('#step-1 .l')?.textContent === '1hello'")
        .await;
    browser
        .until(
            "return document.querySelector('#step-1 .long').textContent === 'make one\\nmake two'",
        )
        .await;
    browser
        .until("return document.querySelector('.job h2').textContent === 'a\"b<c>%20'")
        .await;
    // Live and loaded pages agree, down to the ids of the lines.
    let shape = "[...document.querySelectorAll('.l')].map((l) => l.id + l.firstChild.hash + l.textContent.trim()).join('|')";
    let live = browser.script(&format!("return {shape}")).await;
    browser.client.refresh().await.unwrap();
    browser.until(&format!("return {shape} === {live}")).await;
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_signs_in_to_a_machine_on_the_lan_without_tls() {
    if skipped("browser") {
        return;
    }
    let site = site().await;
    let base = Browser::lan_url(site.address.port());
    let token = site
        .seed
        .login_link("laptop", site.state.clock.now().plus(300_000));
    let browser = Browser::start().await;
    let page = &browser.client;
    page.goto(&format!("{base}/login/{token}")).await.unwrap();
    page.find(Locator::Css("form button"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    browser.until_visible("Sign out").await;
    assert!(
        page.current_url()
            .await
            .unwrap()
            .as_str()
            .starts_with(&base),
        "it stays at the address that it used"
    );
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_move_and_everything_fits_in_light_and_dark() {
    if skipped("browser") {
        return;
    }
    let site = open_site().await;
    let base = format!("http://{}", site.address);
    let browser = Browser::start().await;
    let page = &browser.client;
    std::fs::write(site.state.paths.merged_authorized_keys(), "").unwrap();
    page.goto(&base).await.unwrap();
    browser.look_at_all("empty").await;
    std::fs::write(
        site.state.paths.merged_authorized_keys(),
        "ssh-ed25519 AAAA me\n",
    )
    .unwrap();

    // The page is open; the first runs appear by themselves.
    let run = furnish(&site);
    site.state.live.notify_run(run);
    browser.until("return document.body.innerText.includes('work/ledger') && document.body.innerText.includes('dotfiles')").await;
    browser.look_at_all("home").await;
    site.seed.end(run, "complete", None, site.state.clock.now());
    site.state.live.notify_run(run);
    browser.until("return document.querySelector('.repos li .s-complete') !== null && document.querySelector('.s-active') === null").await;
    for (name, path) in [
        ("runs", "/runs"),
        ("repo", "/work/ledger"),
        ("health", "/-/health"),
    ] {
        page.goto(&format!("{base}{path}")).await.unwrap();
        browser.look_at_all(name).await;
    }
    for path in ["/", &format!("/runs/{run}"), "/-/health"] {
        page.goto(&format!("{base}{path}")).await.unwrap();
        browser
            .script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
            .await;
        browser.assert_contrast(path).await;
    }
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.close().await;
}

/// Two runs of a server that was stopped and of newer pushes: pages that lead to each other.
async fn runs_that_lead_to_each_other(site: &Site, browser: &Browser, base: &str) {
    let (store, now) = (&site.state.store, site.state.clock.now());
    let cut = site.seed.run("app", "cut", now);
    site.seed.start(cut, now);
    browser
        .client
        .goto(&format!("{base}/runs/{cut}"))
        .await
        .unwrap();
    let again = store
        .runs()
        .orphan(
            cut,
            "quire was stopped while the run was active",
            true,
            quire_types::supersede::superseded_runs,
        )
        .unwrap()
        .unwrap();
    site.state.live.notify_run(cut);
    browser.until_visible("failed: orphaned").await;
    browser.until_visible("No job ran.").await;
    browser.until_visible("It was requeued: ").await;
    browser.look_at_all("run-orphaned").await;
    browser
        .click(&format!("#head .why a[href='/runs/{again}']"))
        .await;
    browser
        .until_visible("which was interrupted when quire stopped")
        .await;
    browser
        .click(&format!("#head .why a[href='/runs/{cut}']"))
        .await;
    browser.until_visible("It was requeued: ").await;

    let old = site.seed.run("app", "often", now);
    browser
        .client
        .goto(&format!("{base}/runs/{old}"))
        .await
        .unwrap();
    let new = site.seed.run("app", "often", now);
    site.seed.superseded(old, new, now);
    site.state.live.notify_run(old);
    browser
        .until_visible("It was superseded by the run of a newer push: ")
        .await;
    browser.look_at_all("run-superseded").await;
    browser
        .client
        .find(Locator::Css(&format!("#head .why a[href='/runs/{new}']")))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    browser
        .until(&format!("return location.pathname === '/runs/{new}'"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_what_happens_to_a_run_under_faults_live() {
    if skipped("browser") {
        return;
    }
    let site = open_site().await;
    let base = format!("http://{}", site.address);
    let (store, queue, now) = (
        site.state.store.clone(),
        site.state.queue.clone(),
        site.state.clock.now(),
    );
    let run = site.seed.run("app", "main", now);
    let browser = Browser::start().await;
    browser
        .client
        .goto(&format!("{base}/runs/{run}"))
        .await
        .unwrap();
    browser.script("window.loadedOnce = true").await;
    // While it waits: for what, as that changes.
    browser.until_visible("waits for its turn").await;
    queue
        .set_wait_reason(Some(
            "waits: the Docker engine cannot be reached: no such file".into(),
        ))
        .await
        .unwrap();
    browser
        .until_visible("the Docker engine cannot be reached")
        .await;
    browser.look_at_all("run-waits").await;
    queue
        .set_wait_reason(Some(
            "waits: the disk is nearly full: 12 MiB free, and runs need 1.0 GiB (`keep.min-free`)"
                .into(),
        ))
        .await
        .unwrap();
    browser.until_visible("the disk is nearly full").await;
    let other = site.seed.run("other", "main", now);
    queue
        .set_block_reasons(Some(
            "waits for another run to end: at most 2 at a time (`ci.concurrent-runs`)".into(),
        ))
        .await
        .unwrap();
    browser.until_visible("waits for another run to end").await;
    let before = site.seed.run("app", "main", now.plus(-1000));
    site.seed.start(before, now.plus(-1000));
    queue.set_block_reasons(None).await.unwrap();
    browser
        .until_visible(&format!("waits for run {before} of the same ref"))
        .await;
    site.seed.end(before, "complete", None, now);
    queue.set_block_reasons(None).await.unwrap();
    browser.until_visible("waits for its turn").await;

    // While it goes on: what it keeps, and that its log has come to its limit.
    site.seed.start(run, now);
    store
        .runs()
        .container_created(run, "c1", "rust:1.95")
        .unwrap();
    site.seed.job(run, "build", 0, &["quire/push"]);
    site.seed.job(run, "docs", 1, &["quire/push"]);
    for (step, job) in [(1, "build"), (2, "docs")] {
        site.seed.job_state(run, job, "active", now);
        site.seed.step(run, step, job, "make", now);
    }
    site.seed
        .log("app", run, Some(("build", 1)), &["making"], now);
    let row = |name: &str, is_folder, files| quire_types::run::RunArtifact {
        run_id: run,
        name: name.into(),
        job_id: "build".parse().unwrap(),
        is_folder,
        files,
        bytes: 123_456,
        created_at_ms: now,
    };
    store
        .artifacts()
        .record(&row("target/release/app", false, 1))
        .unwrap();
    site.state.live.notify_run(run);
    browser.until_visible("target/release/app").await;
    store.artifacts().record(&row("reports", true, 12)).unwrap();
    site.state.live.notify_run(run);
    browser.until_visible("folder of 12, 120 KiB, as tar").await;
    assert_eq!(
        browser
            .script("return document.querySelectorAll('#artifacts li').length")
            .await,
        2,
        "nothing doubled"
    );
    assert_eq!(
        browser
            .script("return document.getElementById('capped').hidden")
            .await,
        true
    );
    site.seed.log(
        "app",
        run,
        Some(("build", 1)),
        &["!quire: the log of this run has reached its limit of 256 MiB; what comes after this is not kept"],
        now,
    );
    site.state.live.notify_log(run);
    browser
        .until_visible("The log of this run has reached its limit.")
        .await;
    browser.look_at_all("run-capped").await;

    // How it ended, and what is left of it.
    let until = now.plus(3_600_000);
    assert!(store.kept_containers().keep(run, until).unwrap());
    site.seed.step_end(run, 1, 0, now);
    site.seed.job_state(run, "build", "failed", now);
    site.seed.job_state(run, "docs", "aborted", now);
    site.seed
        .end(run, "timeout", Some("job `build` timed out after 10m"), now);
    site.state.live.notify_run(run);
    browser.until_visible("failed: timed out").await;
    browser.until_visible("aborted").await;
    browser
        .until_visible("Its container is kept until 20")
        .await;
    assert_eq!(
        browser
            .script("return document.querySelector('.kept time').dateTime")
            .await,
        until.to_string()
    );
    browser
        .until_visible("ssh -p 2222 git@git.home.example run attach app#1")
        .await;
    assert_eq!(
        browser.script("return window.loadedOnce === true").await,
        true,
        "the page moved by itself"
    );
    browser.look_at_all("run-kept").await;
    browser.assert_contrast("run-kept").await;
    browser.client.refresh().await.unwrap();
    browser
        .until_visible("The log of this run has reached its limit.")
        .await;
    browser
        .client
        .find(Locator::Css(".kept button"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    browser.until("return document.querySelector('#head') !== null && document.querySelector('.kept') === null").await;
    assert_eq!(store.kept_containers().get(run).unwrap(), None);

    for (outcome, message, words) in [
        ("canceled", "", "canceled"),
        (
            "container-died",
            "the container died: out of memory, the limit is 2 GiB",
            "failed: out of memory",
        ),
        (
            "container-died",
            "the container was removed by somebody else",
            "failed: container died",
        ),
        (
            "docker-unavailable",
            "the engine went away",
            "failed: docker unavailable",
        ),
        (
            "internal",
            "the repository app is gone",
            "failed: internal error",
        ),
    ] {
        let run = site.seed.run("other", "main", now);
        site.seed.start(run, now);
        site.seed.end(run, outcome, Some(message), now);
        browser
            .client
            .goto(&format!("{base}/runs/{run}"))
            .await
            .unwrap();
        browser
            .until(&format!(
                "return document.querySelector('.verdict .s').innerText.trim() === '{words}'"
            ))
            .await;
    }
    let _ = other;
    runs_that_lead_to_each_other(&site, &browser, &base).await;
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.close().await;
}
