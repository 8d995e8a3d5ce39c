//! The pages in a real browser. Left out where `QUIRE_SKIP` names `browser`; pictures go to
//! the folder that `QUIRE_SCREENSHOTS` names.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::{Client as Browser, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use crate::appliance::{Appliance, PATIENCE};
use crate::docker::{text, wait_for};
use crate::pushes::{push_pipeline, ticking};

/// Width, height, whether it is a phone.
const SCREENS: [(&str, u32, u32, bool); 2] = [("desktop", 1280, 900, false), ("phone", 390, 844, true)];

/// chromedriver and one browser that it drives.
struct Session {
    driver: Child,
    port: u16,
    browser: Browser,
    id: String,
    _profile: tempfile::TempDir,
}

impl Session {
    async fn start() -> Self {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let driver = Command::new("chromedriver").arg(format!("--port={port}")).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let driver = driver.expect("chromedriver is there (scripts/setup browser installs it)");
        let listens = || TcpStream::connect(("127.0.0.1", port)).ok();
        wait_for("chromedriver", PATIENCE, listens, String::new);
        let profile = tempfile::tempdir().unwrap();
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
        ];
        let mut arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let capabilities = json!({"goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}});
        let Value::Object(capabilities) = capabilities else { unreachable!() };
        let connected =
            ClientBuilder::new(HttpConnector::new()).capabilities(capabilities).connect(&format!("http://127.0.0.1:{port}")).await;
        let browser = connected.expect("a browser starts");
        let id = browser.session_id().await.unwrap().unwrap();
        Self { driver, port, browser, id, _profile: profile }
    }

    /// One request about this session to chromedriver; the answer's body.
    fn request(&self, method: &str, path: &str, body: &Value) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let body = body.to_string();
        let (port, id, length) = (self.port, &self.id, body.len());
        let head = format!(
            "{method} /session/{id}{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all((head + &body).as_bytes())?;
        // chromedriver keeps the connection open whatever it is told: its answer ends where it says.
        let mut answer = BufReader::new(stream);
        let (mut line, mut length) = (String::new(), 0);
        while answer.read_line(&mut line)? > 0 && line.trim() != "" {
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
            line.clear();
        }
        let mut body = vec![0; length];
        answer.read_exact(&mut body)?;
        Ok(text(&body))
    }

    /// A command of chromedriver's own, which WebDriver does not know.
    fn extra(&self, path: &str, body: &Value) -> Value {
        let body = self.request("POST", path, body).unwrap_or_else(|error| panic!("{path}: {error}"));
        let body: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"));
        assert!(body["value"].get("error").is_none(), "{path}: {body}");
        body["value"].clone()
    }

    /// One of the DevTools' own commands.
    fn devtools(&self, command: &str, parameters: &Value) {
        self.extra("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}));
    }

    /// What the browser complained about since last asked: blocked by policy, failed to load, scripts' errors.
    fn complaints(&self) -> Vec<String> {
        let entries = self.extra("/se/log", &json!({"type": "browser"}));
        let severe = entries.as_array().unwrap().iter().filter(|entry| entry["level"] == "SEVERE" || entry["source"] == "security");
        severe.map(|entry| entry["message"].to_string()).collect()
    }

    /// The text a reader sees.
    async fn visible(&self) -> String {
        let shown = self.browser.execute("return document.body.innerText", Vec::new()).await.unwrap();
        shown.as_str().unwrap_or_default().to_owned()
    }

    async fn wait_visible(&self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let shown = self.visible().await;
            if shown.contains(what) {
                return;
            }
            assert!(Instant::now() < deadline, "{what:?} did not appear in\n{shown}\n{:?}", self.complaints());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Looks at the page on both screens, light and dark: nothing sticks out sideways. Keeps pictures where asked to.
    async fn look(&self, name: &str) {
        for (screen, width, height, mobile) in SCREENS {
            self.devtools(
                "Emulation.setDeviceMetricsOverride",
                &json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}),
            );
            for scheme in ["light", "dark"] {
                self.devtools("Emulation.setEmulatedMedia", &json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}));
                let wide =
                    self.browser.execute("return document.documentElement.scrollWidth - window.innerWidth", Vec::new()).await.unwrap();
                assert!(wide.as_i64().is_some_and(|wide| wide <= 0), "{name} is {wide} pixels too wide on a {screen}");
                if let Some(folder) = std::env::var_os("QUIRE_SCREENSHOTS") {
                    std::fs::create_dir_all(&folder).unwrap();
                    let picture = self.browser.screenshot().await.unwrap();
                    std::fs::write(std::path::Path::new(&folder).join(format!("{name}-{screen}-{scheme}.png")), picture).unwrap();
                }
            }
        }
        self.devtools("Emulation.clearDeviceMetricsOverride", &json!({}));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // chromedriver ends its browser when it is asked to quit, not when it is killed.
        let _ = self.request("DELETE", "", &json!({}));
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

#[test]
fn a_person_signs_in_and_watches_a_run_grow() {
    if std::env::var("QUIRE_SKIP").is_ok_and(|skip| skip.split([',', ' ']).any(|need| need == "browser")) {
        return;
    }
    let (appliance, client) = Appliance::with_client();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let session = Session::start().await;
        let browser = &session.browser;

        browser.goto(&appliance.url()).await.unwrap();
        session.look("home-stranger").await;
        // That a stranger is told 401 is a complaint of the browser's own, and the only one.
        assert!(session.complaints().iter().all(|said| said.contains("401")), "a stranger's page");

        let link = client.ssh_ok(&["login"]).lines().find(|line| line.starts_with("http")).expect("a link").to_owned();
        browser.goto(&link).await.unwrap();
        session.look("login").await;
        browser.find(Locator::Css("form button")).await.unwrap().click().await.unwrap();
        browser.goto(&appliance.url()).await.unwrap();

        push_pipeline(&client, "watched", &ticking(40));
        let run = client.runs("watched").remove(0);
        session.wait_visible("watched").await;
        session.look("home").await;

        browser.goto(&format!("{}/runs/{}", appliance.url(), run.id)).await.unwrap();
        browser.execute("window.loadedOnce = true", Vec::new()).await.unwrap();
        session.wait_visible("tick 2").await;
        assert!(!session.visible().await.contains("tick 40"), "the page is there before the run ends");
        session.look("run-active").await;
        session.wait_visible("tick 40").await;
        session.wait_visible("complete").await;
        let same = browser.execute("return window.loadedOnce === true", Vec::new()).await.unwrap();
        assert_eq!(same, Value::Bool(true), "the page moved by itself, without being loaded again");
        session.look("run-complete").await;

        browser.goto(&format!("{}/runs", appliance.url())).await.unwrap();
        session.look("runs").await;
        assert_eq!(session.complaints(), Vec::<String>::new());
    });
}
