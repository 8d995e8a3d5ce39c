//! One appliance of a test's own: a Compose project, a volume, ports on loopback, a key.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use quire_testkit::{Response, WAIT_TIMEOUT, free_port, run, run_ok, text, wait_for_or_report};

use crate::client::Client;
use crate::docker::{docker, docker_output, image};

/// A running appliance. Dropping it removes its container, network and volume.
pub(crate) struct Appliance {
    /// Names the Compose project and the volume.
    pub(crate) name: String,
    /// Scratch space, also for overriding compose files.
    pub(crate) folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
    compose_files: Vec<PathBuf>,
    ssh_port: u16,
    http_port: u16,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Appliance {
    /// Prepares one; [`Appliance::up`] starts it.
    pub(crate) fn prepare() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "quire-test-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let (ssh_port, http_port) = (free_port(), free_port());
        let environment = [
            ("QUIRE_IMAGE", image()),
            ("QUIRE_VOLUME", name.clone()),
            ("QUIRE_BIND", "127.0.0.1:".to_owned()),
            ("QUIRE_HOST", "127.0.0.1".to_owned()),
            ("QUIRE_SSH_PORT", ssh_port.to_string()),
            ("QUIRE_HTTP_PORT", http_port.to_string()),
        ];
        let environment = environment
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let folder = tempfile::tempdir().unwrap();
        Self {
            name,
            folder,
            environment,
            compose_files: vec![root().join("compose.yaml")],
            ssh_port,
            http_port,
        }
    }

    /// One that is healthy and lets the returned client in.
    pub(crate) fn with_client() -> (Self, Client) {
        let mut appliance = Self::prepare();
        let client = Client::new(&appliance, "owner");
        appliance.set("QUIRE_AUTHORIZED_KEYS", &client.public_key());
        appliance.up();
        (appliance, client)
    }

    /// Sets a variable that compose.yaml reads.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(set, _)| set != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Adds to the service's definition, in YAML, indented as below `quire:`.
    pub(crate) fn add_to_service(&mut self, yaml: &str) {
        let file = self
            .folder
            .path()
            .join(format!("override-{}.yaml", self.compose_files.len()));
        std::fs::write(&file, format!("services:\n  quire:\n{yaml}\n")).unwrap();
        self.compose_files.push(file);
    }

    /// Compose on this project, whichever Compose there is.
    pub(crate) fn compose(&self, arguments: &[&str]) -> Command {
        let mut command = if run(Command::new("docker").args(["compose", "version"]))
            .status
            .success()
        {
            let mut command = Command::new("docker");
            command.arg("compose");
            command
        } else {
            Command::new("docker-compose")
        };
        for file in &self.compose_files {
            command.arg("-f").arg(file);
        }
        command
            .args(["-p", &self.name])
            .args(arguments)
            .current_dir(root());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it and waits until it is healthy.
    pub(crate) fn up(&self) {
        run_ok(&mut self.compose(&["up", "-d", "--no-build"]));
        self.wait_healthy();
    }

    /// Waits until the image's own check says healthy.
    pub(crate) fn wait_healthy(&self) {
        let healthy = || {
            (self.inspect("{{.State.Status}} {{.State.Health.Status}}") == "running healthy")
                .then_some(())
        };
        wait_for_or_report("the appliance to be healthy", healthy, || self.log());
    }

    /// Its container's id.
    pub(crate) fn container(&self) -> String {
        let id = docker(&[
            "ps",
            "--all",
            "--quiet",
            "--no-trunc",
            "--filter",
            &format!("label=com.docker.compose.project={}", self.name),
        ]);
        assert!(
            !id.is_empty() && !id.contains('\n'),
            "one container was expected: {id:?}"
        );
        id
    }

    /// `docker inspect --format` of its container.
    pub(crate) fn inspect(&self, format: &str) -> String {
        docker(&["inspect", "--format", format, &self.container()])
    }

    /// What it wrote so far.
    pub(crate) fn log(&self) -> String {
        let output = docker_output(&["logs", &self.container()]);
        text(&output.stdout) + &text(&output.stderr)
    }

    /// Runs a command in its container as root.
    pub(crate) fn exec(&self, arguments: &[&str]) -> String {
        let container = self.container();
        docker(&[&["exec", &container], arguments].concat())
    }

    /// Where sshd is reached.
    pub(crate) fn ssh_port(&self) -> u16 {
        self.ssh_port
    }

    /// What its pages start with.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// One GET with further header lines, as HTTP/1.0, so that the answer comes in one piece.
    pub(crate) fn get(&self, path: &str, headers: &[&str]) -> Response {
        let exchange = || -> std::io::Result<Vec<u8>> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.http_port))?;
            stream.set_read_timeout(Some(WAIT_TIMEOUT))?;
            let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
            write!(
                stream,
                "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{}\r\n{headers}\r\n",
                self.http_port
            )?;
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes =
            exchange().unwrap_or_else(|error| panic!("GET {path}: {error}\n{}", self.log()));
        Response::parse(&bytes)
            .unwrap_or_else(|| panic!("GET {path} was answered by {:?}", text(&bytes)))
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let output = run(&mut self.compose(&["logs", "--no-color", "--tail", "200"]));
            eprintln!(
                "--- log of {}\n{}{}",
                self.name,
                text(&output.stdout),
                text(&output.stderr)
            );
        }
        let output = run(&mut self.compose(&["down", "--volumes", "--timeout", "10"]));
        if !output.status.success() {
            eprintln!(
                "{} could not be removed: {}",
                self.name,
                text(&output.stderr)
            );
        }
    }
}
