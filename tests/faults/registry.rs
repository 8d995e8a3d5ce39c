//! A real registry on loopback, and what stands before it: it can be cut off or go silent after so many bytes of an answer.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use quire_testkit::{files_below, free_port, transcript, wait_for};

use super::containers::endpoint;

/// What becomes of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    Whole,
    /// After this many bytes a connection stays open and nothing moves, until the line is another.
    Silent(usize),
    /// After this many bytes a connection ends.
    Cut(usize),
}

/// More than a manifest, enough for the engine to speak of progress, and less than the layer.
pub(crate) const IN_A_LAYER: usize = 2 << 20;

type Shared = Arc<(Mutex<Line>, Condvar)>;

/// A registry of the test's own with one image. The image goes from the engine when this is dropped.
pub(crate) struct Registry {
    folder: tempfile::TempDir,
    process: Child,
    line: Shared,
    port: u16,
}

impl Registry {
    /// An empty one that anybody may use.
    pub(crate) fn start() -> Self {
        Self::with("")
    }

    /// One that asks for a password.
    pub(crate) fn private() -> Self {
        Self::with("auth: {htpasswd: {realm: quire, path: passwords}}\n")
    }

    fn with(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let behind = free_port();
        let settings = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{behind}\"}}\n{more}",
            folder.path().join("data").display(),
        );
        fs::write(folder.path().join("settings.yml"), settings).unwrap();
        // `someone` with the password `secret`; nobody says it here.
        fs::write(
            folder.path().join("passwords"),
            "someone:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n",
        )
        .unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new("docker-registry")
            .args(["serve", "settings.yml"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("docker-registry: {error}; `scripts/setup registry` installs it")
            });
        wait_for("the registry", || {
            TcpStream::connect(("127.0.0.1", behind)).ok()
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let line = Shared::new((Mutex::new(Line::Whole), Condvar::new()));
        let before = Arc::clone(&line);
        // It ends with the process: a listener has no end of its own.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let line = Arc::clone(&before);
                std::thread::spawn(move || pass(&line, client, behind));
            }
        });
        Self {
            folder,
            process,
            line,
            port,
        }
    }

    pub(crate) fn set(&self, line: Line) {
        *self.line.0.lock().unwrap() = line;
        self.line.1.notify_all();
    }

    /// What an image of this registry is called.
    pub(crate) fn name(&self, image: &str) -> String {
        format!("127.0.0.1:{}/{image}", self.port)
    }

    /// The image that it holds.
    pub(crate) fn image(&self) -> String {
        self.name("quire-test:1")
    }

    /// Gives it an image with a shell and a layer of 8 MB that nobody has had before, and takes it from the engine.
    pub(crate) fn fill(self) -> Self {
        let tools = "/bin/sh /usr/bin/sleep";
        let script = format!(
            "tar -ch {tools} $(for tool in {tools}; do ldd $tool | grep -o '/[^ ]*'; done | sort -u) 2>/dev/null; true"
        );
        let tar = self.folder.path().join("image.tar");
        let made = docker(&[
            "run",
            "--rm",
            "--network",
            "none",
            "debian:trixie-slim",
            "sh",
            "-c",
            &script,
        ])
        .output()
        .unwrap();
        fs::write(&tar, &made.stdout).unwrap();
        let mut random = vec![0; 8 << 20];
        fs::File::open("/dev/urandom")
            .unwrap()
            .read_exact(&mut random)
            .unwrap();
        fs::write(self.folder.path().join("ballast"), random).unwrap();
        let folder = self.folder.path().to_str().unwrap();
        let added = Command::new("tar")
            .args(["-C", folder, "-rf", tar.to_str().unwrap(), "ballast"])
            .output()
            .unwrap();
        assert!(added.status.success(), "{}", transcript(&added));
        ok(&["import", tar.to_str().unwrap(), &self.image()]);
        ok(&["push", &self.image()]);
        ok(&["rmi", &self.image()]);
        self
    }

    /// How many times somebody asked for the layer and got it.
    pub(crate) fn layers_given(&self) -> usize {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
        let lines = log
            .lines()
            .filter(|line| line.contains("\"GET /v2/quire-test/blobs/"));
        // The image's description is a blob too, and small.
        lines
            .filter(|line| {
                line.split("\" 200 ")
                    .nth(1)
                    .is_some_and(|rest| rest.split(' ').next().unwrap().len() > 6)
            })
            .count()
    }

    fn layer(&self) -> PathBuf {
        let blobs = files_below(&self.folder.path().join("data"));
        blobs
            .into_iter()
            .find(|blob| fs::metadata(blob).unwrap().len() > 1 << 20)
            .unwrap()
    }

    /// Turns one bit of the layer over, as a bad disk does.
    pub(crate) fn damage(&self) {
        let layer = self.layer();
        let mut bytes = fs::read(&layer).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&layer, bytes).unwrap();
    }

    /// Loses the layer.
    pub(crate) fn lose(&self) {
        fs::remove_file(self.layer()).unwrap();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // An engine in the middle of a pull from here gives up only once nobody holds its connection.
        self.set(Line::Cut(0));
        let _ = docker(&["rmi", "--force", &self.image()]).output();
    }
}

fn docker(arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command
        .args(["--host", &endpoint()])
        .args(arguments)
        .stdin(Stdio::null());
    command
}

#[track_caller]
fn ok(arguments: &[&str]) {
    let output = docker(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "docker {arguments:?}: {}",
        transcript(&output)
    );
}

fn pass(line: &Shared, client: TcpStream, behind: u16) {
    let Ok(registry) = TcpStream::connect(("127.0.0.1", behind)) else {
        return;
    };
    let (mut from, mut to) = (registry.try_clone().unwrap(), client.try_clone().unwrap());
    let line = Arc::clone(line);
    let answers = std::thread::spawn(move || {
        let (mut buffer, mut given) = (vec![0; 16 << 10], 0);
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            given += count;
            let now = line.0.lock().unwrap();
            let now = line
                .1
                .wait_while(
                    now,
                    |line| matches!(*line, Line::Silent(most) if given > most),
                )
                .unwrap();
            if matches!(*now, Line::Cut(most) if given > most) {
                break;
            }
            drop(now);
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
    });
    let (mut from, mut to) = (client, registry);
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
    let _ = answers.join();
}
