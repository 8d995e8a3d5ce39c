//! A server of git over HTTPS: `git http-backend` behind a small program in Python, and beside it giftless, a server of Git LFS.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::git::hermetic_git;
use crate::mail::PYTHON;
use crate::program::run_ok;

const PROGRAM: &str = include_str!("git_http_server.py");

/// The server, on loopback, with a folder of bare repositories. It accepts one user with one token.
#[derive(Debug)]
pub struct GitHttpServer {
    pub port: u16,
    folder: TempDir,
    child: Child,
    requests: Arc<Mutex<Vec<Value>>>,
    reader: Option<JoinHandle<()>>,
}

impl GitHttpServer {
    /// `certificate` is a file with a certificate and its key. Without Git LFS.
    pub fn start(certificate: &Path, user: &str, token: &str) -> Self {
        Self::start_with(certificate, (user, token), None, &json!({}))
    }

    /// With giftless, which serves Git LFS for repositories in a folder. `scripts/giftless` installs it.
    pub fn start_with_lfs(certificate: &Path, user: &str, token: &str) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/giftless");
        assert!(
            program.join("giftless").is_dir(),
            "giftless is missing; scripts/giftless installs it"
        );
        let program = program.canonicalize().unwrap();
        Self::start_with(certificate, (user, token), Some(&program), &json!({}))
    }

    /// The batch API of these repositories, named without `.git`, answers as planned: with a status, or the same for each object, in which
    /// `OID` stands for its id.
    pub fn start_with_planned_lfs(
        certificate: &Path,
        login: (&str, &str),
        planned: &Value,
    ) -> Self {
        Self::start_with(certificate, login, None, planned)
    }

    fn start_with(
        certificate: &Path,
        (user, token): (&str, &str),
        giftless: Option<&Path>,
        planned: &Value,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let gitconfig = folder.path().join("gitconfig");
        fs::write(&gitconfig, "[safe]\n\tdirectory = *\n").unwrap();
        let settings = json!({
            "certificate": certificate, "root": folder.path(), "gitconfig": gitconfig, "user": user, "token": token,
            "giftless": giftless, "planned": planned,
        });
        let mut child = Command::new(PYTHON)
            .args(["-W", "ignore", "-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The token is on no command line, which the server looks for.
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "{settings}").unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next().unwrap().unwrap().parse().unwrap();
        let requests = Arc::<Mutex<Vec<Value>>>::default();
        let received = requests.clone();
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let request = serde_json::from_str(&line).unwrap();
                received.lock().unwrap().push(request);
            }
        });
        Self {
            port,
            folder,
            child,
            requests,
            reader: Some(reader),
        }
    }

    /// A new bare repository; its path on the disk. Below `public/` no login is needed, and no fetch ends below `stuck/`.
    pub fn repo(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let path_text = path.to_str().unwrap();
        let arguments = ["init", "-q", "--bare", "-b", "main", path_text];
        run_ok(&mut hermetic_git(
            self.folder.path(),
            self.folder.path(),
            &arguments,
        ));
        path
    }

    /// The objects of Git LFS that giftless has of a repository, by id.
    pub fn lfs_objects(&self, name: &str) -> PathBuf {
        self.folder.path().join("lfs-storage").join(name)
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}/{path}", self.port)
    }

    /// The requests so far: `method`, `path`, `login` (`none`, `right` or `wrong`), and in `seen` the command lines that
    /// had the token at that moment.
    pub fn requests(&self) -> Vec<Value> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for GitHttpServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
