//! Chromium, driven over WebDriver: what a person sees of a page. Needs `chromium` and `chromedriver`
//! (Debian: chromium, chromium-driver). `QUIRE_SCREENSHOTS=<folder>` keeps pictures of what it saw.

use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use fantoccini::{Client, ClientBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use crate::wait::{WAIT_TIMEOUT, wait_for_async};

/// The name of a machine on the LAN, for the browser that of this machine.
const LAN_HOST: &str = "nas.test";

/// The screens that pages are looked at on: name, width, height, whether the system asks for dark.
const LOOKS: [(&str, u32, u32, bool); 4] = [
    ("light", 1200, 900, false),
    ("dark", 1200, 900, true),
    ("phone-light", 390, 844, false),
    ("phone-dark", 390, 844, true),
];

/// A browser of its own, ended with the test.
pub struct Browser {
    pub client: Client,
    port: u16,
    session: String,
    /// What the browser's log held when it was last read and no test has asked for yet.
    unread_complaints: Mutex<Vec<String>>,
    _driver: Child,
    _profile: TempDir,
}

impl Drop for Browser {
    /// chromedriver ends its browser when it is asked to quit, not when it is killed, as it is where a test fails.
    fn drop(&mut self) {
        use std::io::{Read, Write};
        let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", self.port)) else {
            return;
        };
        let _ = stream.set_read_timeout(Some(WAIT_TIMEOUT));
        let _ = write!(
            stream,
            "DELETE /session/{} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            self.session
        );
        let _ = stream.read(&mut [0; 1024]);
    }
}

impl Browser {
    /// Starts one.
    pub async fn start() -> Self {
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
        let port = timeout(WAIT_TIMEOUT, async {
            loop {
                let line = lines
                    .next_line()
                    .await
                    .unwrap()
                    .expect("chromedriver ended at once");
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
            &format!("--host-resolver-rules=MAP {LAN_HOST} 127.0.0.1"),
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
        Self {
            client,
            port,
            session,
            unread_complaints: Mutex::default(),
            _driver: driver,
            _profile: profile,
        }
    }

    /// The address of a server on the loopback interface as that of a machine on the LAN. Without TLS a browser trusts it less
    /// than `localhost`, and sends other headers.
    #[must_use]
    pub fn lan_url(port: u16) -> String {
        format!("http://{LAN_HOST}:{port}")
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
        stream
            .write_all(format!("{head}{body}").as_bytes())
            .await
            .unwrap();
        // chromedriver keeps the connection open, so the length counts.
        let (mut bytes, mut buffer) = (Vec::new(), [0u8; 16384]);
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.to_ascii_lowercase().lines().find_map(|l| {
                    l.strip_prefix("content-length:")
                        .map(|n| n.trim().parse::<usize>().unwrap())
                });
                if body.len() >= length.unwrap_or(usize::MAX) {
                    return serde_json::from_str::<Value>(body).unwrap()["value"].clone();
                }
            }
            let n = timeout(WAIT_TIMEOUT, stream.read(&mut buffer))
                .await
                .expect("chromedriver does not answer")
                .unwrap();
            assert!(n > 0, "chromedriver closed: {text}");
            bytes.extend_from_slice(&buffer[..n]);
        }
    }

    /// The DevTools protocol.
    async fn cdp(&self, command: &str, parameters: Value) -> Value {
        self.post(
            "/goog/cdp/execute",
            &json!({ "cmd": command, "params": parameters }),
        )
        .await
    }

    /// Makes the page's window this large, of a system that is light or dark.
    pub async fn look(&self, width: u32, height: u32, dark: bool) {
        let phone = width < 600;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": if phone { 2 } else { 1 }, "mobile": phone });
        self.cdp("Emulation.setDeviceMetricsOverride", metrics)
            .await;
        let scheme = if dark { "dark" } else { "light" };
        self.cdp(
            "Emulation.setEmulatedMedia",
            json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        )
        .await;
    }

    /// Keeps a picture where `QUIRE_SCREENSHOTS` asks for it.
    pub async fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("QUIRE_SCREENSHOTS") else {
            return;
        };
        let png = self.client.screenshot().await.unwrap();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(
            std::path::Path::new(&folder).join(format!("{name}.png")),
            png,
        )
        .unwrap();
    }

    /// What a script in the page returns.
    pub async fn script(&self, code: &str) -> Value {
        self.client.execute(code, vec![]).await.unwrap()
    }

    /// Waits until a script's value is true.
    pub async fn until(&self, code: &str) {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        // A script that fails because something is not there yet is not true yet.
        while self.client.execute(code, vec![]).await.ok() != Some(Value::Bool(true)) {
            assert!(
                Instant::now() < deadline,
                "never true: {code}\n{}",
                self.script("return document.body.innerText").await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Clicks what a selector finds, once it is there. Found and clicked at once, since a page that is live replaces its parts.
    pub async fn click(&self, selector: &str) {
        self.until(&format!(
            "const found = document.querySelector({}); if (!found) return false; found.click(); return true",
            json!(selector)
        ))
        .await;
    }

    /// Waits until a reader of the page sees this text.
    pub async fn until_visible(&self, text: &str) {
        self.until(&format!(
            "return document.body.innerText.includes({})",
            json!(text)
        ))
        .await;
    }

    /// Waits until the browser has complained about this, such as a status of 401, and takes that
    /// complaint. A notice of the network comes whenever it likes, also after the page is there.
    pub async fn until_complaint(&self, text: &str) {
        wait_for_async(&format!("a complaint with {text:?}"), async || {
            self.read_complaints().await;
            let mut complaints = self.unread_complaints.lock().unwrap();
            let at = complaints.iter().position(|line| line.contains(text))?;
            complaints.remove(at);
            Some(())
        })
        .await;
    }

    /// What the browser complained about since last asked: a blocked style, a script error, a missing file.
    ///
    /// The log is read up to a mark that the page itself sets now, so all that the page reported
    /// before is in it.
    pub async fn complaints(&self) -> Vec<String> {
        const MARK: &str = "quire's tests have read up to here";
        self.script(&format!("console.error({})", json!(MARK)))
            .await;
        self.until_complaint(MARK).await;
        std::mem::take(&mut self.unread_complaints.lock().unwrap())
    }

    async fn read_complaints(&self) {
        let log = self.post("/se/log", &json!({ "type": "browser" })).await;
        let entries = log.as_array().cloned().unwrap_or_default();
        self.unread_complaints.lock().unwrap().extend(
            entries
                .iter()
                .map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()),
        );
    }

    /// No page is wider than its window.
    pub async fn assert_fits(&self, what: &str) {
        let wide = self.script("return document.documentElement.scrollWidth - document.documentElement.clientWidth").await;
        assert_eq!(wide, 0, "{what} is wider than the window");
    }

    /// axe-core finds nothing on the page that keeps people out who use it by other means than eyes and a mouse.
    pub async fn assert_accessible(&self, what: &str) {
        // It stays in the page until another one is opened.
        if self.script("return typeof axe").await == "undefined" {
            let axe = std::fs::read_to_string(AXE);
            self.script(&axe.expect("run scripts/axe, which downloads axe-core"))
                .await;
        }
        let violations = self.client.execute_async(VIOLATIONS, vec![]).await.unwrap();
        assert_eq!(violations, json!([]), "axe-core on {what}");
    }

    /// Looks at the page on every screen, light and dark: it fits and is accessible. Ends on the first of them. Keeps pictures where asked to.
    pub async fn look_at_all(&self, what: &str) {
        for (look, width, height, dark) in LOOKS {
            self.look(width, height, dark).await;
            self.assert_fits(&format!("{what} {look}")).await;
            self.assert_accessible(&format!("{what} {look}")).await;
            self.picture(&format!("{what}-{look}")).await;
        }
        let (_, width, height, dark) = LOOKS[0];
        self.look(width, height, dark).await;
    }

    /// Each text keeps the contrast that WCAG AA asks for, in both schemes.
    pub async fn assert_contrast(&self, what: &str) {
        for dark in [false, true] {
            self.look(1200, 900, dark).await;
            assert_eq!(
                self.script(CONTRAST).await,
                json!([]),
                "{what}, dark: {dark}"
            );
        }
    }

    /// Ends it.
    pub async fn close(self) {
        self.client.clone().close().await.unwrap();
    }
}

/// Where scripts/axe puts axe-core.
const AXE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/axe.min.js");

/// What axe-core finds: the rules that are broken, and where.
const VIOLATIONS: &str = r"
const done = arguments[arguments.length - 1];
const html = ({ html }) => html.slice(0, 200);
const found = ({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 5).map(html).join(' | ')}`;
axe.run(document).then(({ violations }) => done(violations.map(found)), (error) => done([String(error)]));";

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
