//! Chromium on the pages: what a person sees, that logs move, that the security policy blocks
//! nothing of ours. Needs `chromium` and `chromedriver` (Debian: chromium, chromium-driver).

use std::process::Stdio;
use std::time::Duration;

use fantoccini::{Client, ClientBuilder, Locator};
use quire::clock::Clock;
use quire::names::RunId;
use quire::web::{Auth, Limits, Part, Status};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use crate::client::PATIENCE;
use crate::site::Site;

/// A browser of its own, ended with the test.
struct Browser {
    client: Client,
    port: u16,
    session: String,
    _driver: Child,
    _profile: TempDir,
}

impl Drop for Browser {
    /// chromedriver ends its browser when it is asked to quit, not when it is killed, as it is where a test fails.
    fn drop(&mut self) {
        use std::io::{Read, Write};
        let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", self.port)) else { return };
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let _ = write!(
            stream,
            "DELETE /session/{} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            self.session
        );
        let _ = stream.read(&mut [0; 1024]);
    }
}

impl Browser {
    async fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver cannot be started: apt-get install chromium chromium-driver");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = timeout(PATIENCE, async {
            loop {
                let line = lines.next_line().await.unwrap().expect("chromedriver ended at once");
                if let Some((_, port)) = line.split_once("successfully on port ") {
                    return port.trim_end_matches('.').parse::<u16>().unwrap();
                }
            }
        });
        let port = port.await.expect("chromedriver does not come up");
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let folder = format!("--user-data-dir={}", profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--no-proxy-server",
            "--host-resolver-rules=MAP quire.test 127.0.0.1",
            &folder,
        ];
        let wanted = json!({
            "goog:chromeOptions": { "args": arguments, "binary": "/usr/bin/chromium" },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let connector = hyper_util::client::legacy::connect::HttpConnector::new();
        let client = ClientBuilder::new(connector)
            .capabilities(wanted.as_object().unwrap().clone())
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("Chromium cannot be started");
        let session = client.session_id().await.unwrap().unwrap();
        Self { client, port, session, _driver: driver, _profile: profile }
    }

    /// Sends a command that WebDriver's standard does not have.
    async fn post(&self, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let head = format!(
            "POST /session/{}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            self.session,
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        // chromedriver keeps the connection open, so the length counts.
        let (mut bytes, mut buffer) = (Vec::new(), [0u8; 16384]);
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .to_ascii_lowercase()
                    .lines()
                    .find_map(|l| l.strip_prefix("content-length:").map(|n| n.trim().parse::<usize>().unwrap()));
                if body.len() >= length.unwrap_or(usize::MAX) {
                    return serde_json::from_str::<Value>(body).unwrap()["value"].clone();
                }
            }
            let n = timeout(PATIENCE, stream.read(&mut buffer)).await.expect("chromedriver does not answer").unwrap();
            assert!(n > 0, "chromedriver closed: {text}");
            bytes.extend_from_slice(&buffer[..n]);
        }
    }

    /// The DevTools protocol.
    async fn cdp(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters })).await
    }

    async fn look(&self, width: u32, height: u32, dark: bool) {
        let phone = width < 600;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": if phone { 2 } else { 1 }, "mobile": phone });
        self.cdp("Emulation.setDeviceMetricsOverride", metrics).await;
        let scheme = if dark { "dark" } else { "light" };
        self.cdp("Emulation.setEmulatedMedia", json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] })).await;
    }

    /// Keeps a picture where `QUIRE_SCREENSHOTS` asks for it.
    async fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("QUIRE_SCREENSHOTS") else { return };
        let png = self.client.screenshot().await.unwrap();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(std::path::Path::new(&folder).join(format!("{name}.png")), png).unwrap();
    }

    async fn script(&self, code: &str) -> Value {
        self.client.execute(code, vec![]).await.unwrap()
    }

    /// Waits until a script's value is true.
    async fn until(&self, code: &str) {
        let deadline = Instant::now() + PATIENCE;
        // A script that fails because something is not there yet is not true yet.
        while self.client.execute(code, vec![]).await.ok() != Some(Value::Bool(true)) {
            assert!(Instant::now() < deadline, "never true: {code}\n{}", self.script("return document.body.innerText").await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What the browser complained about: a blocked style, a script error, a missing file.
    async fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({ "type": "browser" })).await;
        let entries = log.as_array().cloned().unwrap_or_default();
        entries.iter().map(|e| e["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// No page is wider than its window.
    async fn assert_fits(&self, what: &str) {
        let wide = self.script("return document.documentElement.scrollWidth - document.documentElement.clientWidth").await;
        assert_eq!(wide, 0, "{what} is wider than the window");
    }
}

async fn site() -> Site {
    let mut site = Site::with(Auth::Ssh, Clock::system(), Limits::default()).await;
    // The browser comes by the address itself.
    site.state.config.url = format!("http://{}", site.address);
    site.restart().await;
    site.healthy();
    site.state.health.set(Part::Docker, Status::Ok, "Engine 28.3, API 1.51, answered in 3 ms", None);
    site.state.health.set(Part::Sshd, Status::Ok, "running", None);
    site
}

/// An appliance that has been in use for a while; the run is active, its test just began.
fn furnish(site: &Site) -> RunId {
    let (seed, now) = (&site.seed, site.state.clock.now());
    let before = |seconds: i64| now.plus(-seconds * 1000);
    let ended = |repo: &str, branch: &str, ago: i64, took: i64, outcome: &str, message: Option<&str>| {
        let run = seed.run(repo, branch, before(ago));
        seed.start(run, before(ago));
        seed.end(run, outcome, message, before(ago - took));
        run
    };
    seed.repo("dotfiles");
    ended("work/ledger", "main", 86_400 * 3, 74, "complete", None);
    ended("garden-notes", "main", 86_400, 9, "complete", None);
    ended("work/ledger", "rounding", 14_000, 41, "job", Some("job `test` failed: `cargo test --locked` exited with 101"));
    ended("work/ledger", "rounding", 13_000, 12, "superseded", None);
    ended("work/ledger", "rounding", 12_950, 88, "complete", None);
    ended(
        "site",
        "topic/a-rather-long-branch-name-that-somebody-chose",
        4_000,
        5,
        "pipeline",
        Some(".quire/ci.fnl:7:2: job `deploy` waits for `biuld`, which does not exist; did you mean `build`?"),
    );
    let run = seed.run("work/ledger", "main", before(76));
    seed.start(run, before(75));
    seed.log("work/ledger", run, None, &["Image rust:1.95 is here", "Container started in 0.4 s"], before(74));
    for (position, (job, inputs)) in [("lint", "quire/push"), ("test", "quire/push"), ("package", "test")].into_iter().enumerate() {
        seed.job(run, job, u32::try_from(position).unwrap(), &[inputs]);
    }
    seed.job_state(run, "lint", "active", before(73));
    seed.step(run, 1, "lint", "cargo fmt --check", before(73));
    seed.step_end(run, 1, 0, before(72));
    seed.step(run, 2, "lint", "cargo clippy --all-targets --locked -- -D warnings", before(72));
    seed.log(
        "work/ledger",
        run,
        Some(("lint", 2)),
        &["!\u{1b}[1;32m    Checking\u{1b}[0m ledger v0.4.1 (/work)", "!\u{1b}[1;32m    Finished\u{1b}[0m `dev` profile in 21.07s"],
        before(50),
    );
    seed.step_end(run, 2, 0, before(50));
    seed.job_state(run, "lint", "complete", before(50));
    seed.job_state(run, "test", "active", before(73));
    seed.step(run, 3, "test", "cargo build --locked", before(73));
    seed.log("work/ledger", run, Some(("test", 3)), &["!\u{1b}[1;32m   Compiling\u{1b}[0m ledger v0.4.1 (/work)"], before(60));
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
    let mut site = site().await;
    let run = furnish(&site);
    let base = format!("http://{}", site.address);
    let browser = Browser::start().await;
    let page = &browser.client;
    browser.look(1200, 900, false).await;

    // The link that the hook printed; not signed in.
    page.goto(&format!("{base}/runs/{run}")).await.unwrap();
    assert!(page.source().await.unwrap().contains("ssh -p 2222 git@git.home.example login"));
    browser.picture("stranger").await;
    browser.complaints().await;
    let token = site.seed.login_link("laptop", site.state.clock.now().plus(300_000));
    page.goto(&format!("{base}/login/{token}")).await.unwrap();
    browser.picture("login").await;
    page.find(Locator::Css("button.main")).await.unwrap().click().await.unwrap();
    browser.until(&format!("return location.pathname === '/runs/{run}'")).await;

    // The log moves, and the step that runs is open.
    browser.until("return document.querySelector('#step-4').open && !document.querySelector('#step-2').open").await;
    browser.until("return document.getElementById('test-4-6').textContent.includes('slow disk')").await;
    for (name, width, height, dark) in [
        ("run-light", 1200, 900, false),
        ("run-dark", 1200, 900, true),
        ("run-phone-light", 390, 844, false),
        ("run-phone-dark", 390, 844, true),
    ] {
        browser.look(width, height, dark).await;
        browser.assert_fits(name).await;
        browser.picture(name).await;
    }
    browser.look(1200, 900, false).await;
    site.seed.log("work/ledger", run, Some(("test", 4)), &["test money::parses ... \\"], site.state.clock.now());
    site.state.live.log_grew(run);
    browser.until("return document.getElementById('test-4-7')?.textContent === '7test money::parses ... '").await;
    site.seed.log("work/ledger", run, Some(("test", 4)), &["\u{1b}[32mok\u{1b}[0m", "<b>not markup</b>"], site.state.clock.now());
    site.state.live.log_grew(run);
    browser.until("return document.getElementById('test-4-7').textContent === '7test money::parses ... ok'").await;
    browser.until("return document.getElementById('test-4-8').textContent === '8<b>not markup</b>'").await;

    // The appliance restarts in the middle: the page says that it is not live, then goes on without a seam.
    site.stop().await;
    browser.until("return document.body.classList.contains('offline')").await;
    site.seed.log(
        "work/ledger",
        run,
        Some(("test", 4)),
        &["test result: \u{1b}[31mFAILED\u{1b}[0m. 5 passed; 1 failed"],
        site.state.clock.now(),
    );
    site.restart().await;
    browser.until("return document.getElementById('test-4-9')?.textContent.includes('FAILED')").await;
    browser.until("return !document.body.classList.contains('offline')").await;
    assert_eq!(browser.script("return document.querySelectorAll('#step-4 .l').length").await, 9, "nothing doubled");

    // It ends: state, job, step and title follow; the failed step stays open.
    let now = site.state.clock.now();
    site.seed.step_end(run, 4, 101, now);
    site.seed.job_state(run, "test", "failed", now);
    site.seed.job_state(run, "package", "skipped", now);
    site.seed.end(run, "job", Some("job `test` failed: `cargo test --locked` exited with 101"), now);
    site.state.live.state_changed(run);
    browser.until("return document.title.startsWith('✗')").await;
    browser.until("return document.querySelector('#head').textContent.includes('Run again')").await;
    browser
        .until(
            "return document.querySelector('#step-4').open && document.querySelector('#step-4 summary').textContent.includes('exit 101')",
        )
        .await;
    browser.until("return document.querySelector('#follow').hidden").await;
    browser.picture("run-failed").await;

    // A link to a line of a closed step opens it.
    page.goto(&format!("{base}/runs/{run}#lint-2-1")).await.unwrap();
    page.refresh().await.unwrap();
    browser.until("return document.querySelector('#step-2').open").await;
    assert_eq!(
        browser
            .complaints()
            .await
            .iter()
            .filter(|m| !m.contains("ERR_CONNECTION_REFUSED") && !m.contains("ERR_INCOMPLETE_CHUNKED"))
            .count(),
        0,
        "{:?}",
        browser.complaints().await
    );
    page.clone().close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_begins_while_it_is_looked_at_builds_its_page() {
    let mut site = site().await;
    site.state.config.auth = Auth::Open;
    site.restart().await;
    let now = site.state.clock.now();
    let run = site.seed.run("app", "main", now);
    let browser = Browser::start().await;
    browser.client.goto(&format!("http://{}/runs/{run}", site.address)).await.unwrap();
    browser.until("return document.querySelector('#none').textContent.includes('No job has begun')").await;
    site.seed.start(run, now);
    site.seed.log("app", run, None, &["pulling image"], now);
    site.state.live.state_changed(run);
    browser
        .until("return document.querySelector('#step-0').open && document.querySelector('#step-0 .l').textContent === '1pulling image'")
        .await;
    site.seed.job(run, "a\"b<c>%20", 0, &["quire/push"]);
    site.seed.job_state(run, "a\"b<c>%20", "active", now);
    site.seed.step(run, 1, "a\"b<c>%20", "make one\nmake two", now);
    site.seed.log("app", run, Some(("a\"b<c>%20", 1)), &["hello"], now);
    site.state.live.state_changed(run);
    browser.until("return document.querySelector('#step-1 .l')?.textContent === '1hello'").await;
    browser.until("return document.querySelector('#step-1 .long').textContent === 'make one\\nmake two'").await;
    browser.until("return document.querySelector('.job h2').textContent === 'a\"b<c>%20'").await;
    // Live and loaded pages agree, down to the ids of the lines.
    let shape = "return [...document.querySelectorAll('.l')].map((l) => l.id + l.firstChild.hash + l.textContent.trim()).join('|')";
    let live = browser.script(shape).await;
    browser.client.refresh().await.unwrap();
    assert_eq!(browser.script(shape).await, live);
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.client.clone().close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_move_and_everything_fits_in_light_and_dark() {
    let mut site = site().await;
    let base = format!("http://{}", site.address);
    site.state.config.auth = Auth::Open;
    site.restart().await;
    let browser = Browser::start().await;
    let page = &browser.client;
    let looks = [("light", 1200, 900, false), ("dark", 1200, 900, true), ("phone-light", 390, 844, false), ("phone-dark", 390, 844, true)];
    let shoot = async |what: &str| {
        for (look, width, height, dark) in looks {
            browser.look(width, height, dark).await;
            browser.assert_fits(&format!("{what} {look}")).await;
            browser.picture(&format!("{what}-{look}")).await;
        }
    };
    std::fs::write(site.state.paths.effective_keys(), "").unwrap();
    page.goto(&base).await.unwrap();
    shoot("empty").await;
    std::fs::write(site.state.paths.effective_keys(), "ssh-ed25519 AAAA me\n").unwrap();

    // The page is open; the first runs appear by themselves.
    let run = furnish(&site);
    site.state.live.state_changed(run);
    browser.until("return document.body.innerText.includes('work/ledger') && document.body.innerText.includes('dotfiles')").await;
    shoot("home").await;
    site.seed.end(run, "complete", None, site.state.clock.now());
    site.state.live.state_changed(run);
    browser.until("return document.querySelector('.repos li .s-complete') !== null && document.querySelector('.s-active') === null").await;
    for (name, path) in [("runs", "/runs"), ("repo", "/work/ledger"), ("health", "/-/health")] {
        page.goto(&format!("{base}{path}")).await.unwrap();
        shoot(name).await;
    }
    // Each text keeps the contrast that WCAG AA asks for, in both schemes.
    for path in ["/", &format!("/runs/{run}"), "/-/health"] {
        page.goto(&format!("{base}{path}")).await.unwrap();
        browser.script("document.querySelectorAll('details').forEach((d) => { d.open = true; })").await;
        for dark in [false, true] {
            browser.look(1200, 900, dark).await;
            assert_eq!(browser.script(CONTRAST).await, json!([]), "{path}, dark: {dark}");
        }
    }
    assert_eq!(browser.complaints().await, [""; 0]);
    page.clone().close().await.unwrap();
}

/// Texts whose contrast to what lies behind them is under 4.5 : 1.
const CONTRAST: &str = r"
const parse = (c) => { const m = c.match(/[\d.]+/g).map(Number); return { rgb: m.slice(0, 3), a: m.length > 3 ? m[3] : 1 }; };
const light = (rgb) => rgb.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; })
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (node) => {
  for (; node; node = node.parentElement) { const c = parse(getComputedStyle(node).backgroundColor); if (c.a === 1) return c.rgb; }
  return [255, 255, 255];
};
const bad = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || !node.checkVisibility()) continue;
  const [a, b] = [light(parse(getComputedStyle(node).color).rgb), light(behind(node))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) bad.push(ratio.toFixed(2) + ' ' + walker.currentNode.textContent.trim().slice(0, 40));
}
return bad;";
