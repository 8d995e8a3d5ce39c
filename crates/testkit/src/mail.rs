//! A mail server: aiosmtpd (Debian's `python3-aiosmtpd`), with answers that a test plans.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::wait::wait_for;

/// Debian's Python, for which the package is.
pub(crate) const PYTHON: &str = "/usr/bin/python3";
const PROGRAM: &str = include_str!("smtp_receiver.py");
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// When a mail server begins TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    Never,
    /// It takes no mail before STARTTLS.
    StartTls,
    /// From the beginning of the connection.
    Implicit,
}

/// A mail server on loopback. It accepts each mail for which no other answer is planned.
#[derive(Debug)]
pub struct MailServer {
    pub port: u16,
    child: Child,
    plans: Mutex<ChildStdin>,
    acknowledged: Mutex<Receiver<()>>,
    mails: Arc<Mutex<Vec<Value>>>,
    reader: Option<JoinHandle<()>>,
}

impl MailServer {
    /// Starts one that needs no login. `certificate` is a file with a certificate and its key.
    pub fn start(tls: MailTls, certificate: Option<&Path>) -> Self {
        Self::start_with(tls, certificate, Value::Null)
    }

    /// Starts one that accepts mail of this user only.
    pub fn start_with_login(tls: MailTls, certificate: &Path, user: &str, password: &str) -> Self {
        Self::start_with(tls, Some(certificate), json!([user, password]))
    }

    fn start_with(tls: MailTls, certificate: Option<&Path>, login: Value) -> Self {
        let tls = match tls {
            MailTls::Never => "never",
            MailTls::StartTls => "starttls",
            MailTls::Implicit => "implicit",
        };
        let settings = json!({"tls": tls, "certificate": certificate, "login": login});
        let mut child = Command::new(PYTHON)
            .args(["-W", "ignore", "-c", PROGRAM, &settings.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{PYTHON}: {error}"));
        let mails = Arc::<Mutex<Vec<Value>>>::default();
        let (said_port, port) = channel();
        let (acknowledge, acknowledged) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        let received = mails.clone();
        let reader = std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).unwrap();
                if let Some(port) = line["port"].as_u64() {
                    let _ = said_port.send(u16::try_from(port).unwrap());
                } else if line["mail"].is_object() {
                    received.lock().unwrap().push(line["mail"].clone());
                } else {
                    let _ = acknowledge.send(());
                }
            }
        });
        let port = port.recv_timeout(START_TIMEOUT).unwrap_or_else(|error| {
            panic!("{error}: the mail server does not start; `scripts/setup tests` installs python3-aiosmtpd")
        });
        Self {
            port,
            plans: Mutex::new(child.stdin.take().unwrap()),
            child,
            acknowledged: Mutex::new(acknowledged),
            mails,
            reader: Some(reader),
        }
    }

    /// Plans the next answer to a step, `RCPT` or `DATA`. `close` closes the connection.
    pub fn plan(&self, step: &str, answer: &str) {
        let plan = json!({"step": step, "answer": answer});
        writeln!(self.plans.lock().unwrap(), "{plan}").unwrap();
        let acknowledged = self.acknowledged.lock().unwrap();
        acknowledged.recv_timeout(START_TIMEOUT).unwrap();
    }

    /// All mails, also those that were not accepted: `from`, `to`, `text`, its decoded `headers` and `body`, `user`, `tls` and the
    /// planned `answer`.
    pub fn mails(&self) -> Vec<Value> {
        self.mails.lock().unwrap().clone()
    }

    /// Waits until this many mails were received, and returns all.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Value> {
        wait_for(&format!("{count} mails"), || {
            Some(self.mails()).filter(|mails| mails.len() >= count)
        })
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
