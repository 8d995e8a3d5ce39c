//! The engine behind a proxy that cuts or stalls: runs wait and go on by themselves, and health
//! says so while it answers at once.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use quire::run::{FailureKind, RunState};

use super::containers::{Contained, endpoint, skipped};
use super::forge::{DEADLINE, wait_for, wait_until};
use super::settled_well;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Through,
    /// Every connection ends at once.
    Cut,
    /// Connections stay open and nothing moves.
    Stall,
}

#[derive(Default)]
struct Shared {
    mode: Mutex<Option<Mode>>,
    changed: Condvar,
    open: Mutex<Vec<UnixStream>>,
}

/// Stands between quire and the engine.
struct Proxy {
    shared: Arc<Shared>,
    path: PathBuf,
}

impl Proxy {
    fn start(folder: &Path) -> Self {
        let path = folder.join("engine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        // It ends with the process: a listener has no end of its own.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || pass(&shared, client));
            }
        });
        Self { shared, path }
    }

    fn set(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap() = Some(mode);
        if mode == Mode::Cut {
            for stream in self.shared.open.lock().unwrap().drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        self.shared.changed.notify_all();
    }

    fn endpoint(&self) -> String {
        format!("unix://{}", self.path.display())
    }
}

impl Shared {
    /// Waits while everything stalls; whether to go on.
    fn may_pass(&self) -> bool {
        let mode = self.mode.lock().unwrap();
        let mode = self.changed.wait_while(mode, |mode| *mode == Some(Mode::Stall)).unwrap();
        *mode != Some(Mode::Cut)
    }
}

fn pass(shared: &Arc<Shared>, client: UnixStream) {
    if !shared.may_pass() {
        return;
    }
    let Ok(engine) = UnixStream::connect(endpoint().trim_start_matches("unix://")) else { return };
    {
        let mut open = shared.open.lock().unwrap();
        open.extend([client.try_clone().unwrap(), engine.try_clone().unwrap()]);
    }
    let copy = |mut from: UnixStream, mut to: UnixStream| {
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                if !shared.may_pass() || to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Write);
        })
    };
    let back = copy(engine.try_clone().unwrap(), client.try_clone().unwrap());
    let _ = copy(client, engine).join();
    let _ = back.join();
}

const WELL: &str = "(local ci (require :quire.ci))\n(ci.job :test [:quire/push] (fn [{: sh}] (sh \"echo all is well\")))\n";
const LONG: &str = "(local ci (require :quire.ci))\n(ci.job :test [:quire/push] (fn [{: sh}] (sh \"echo begun; sleep 300\")))\n";

fn docker_is(contained: &Contained, status: &str) -> String {
    let part = wait_for(status, || {
        let health = contained.forge.get("/healthz");
        assert_eq!(health.status, 200, "{health:?}");
        Some(health.json()["parts"]["docker"].clone()).filter(|part| part["status"] == status)
    });
    part["message"].as_str().unwrap().to_owned()
}

#[test]
fn runs_wait_for_an_engine_that_is_away_or_silent() {
    if skipped() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(folder.path());
    let mut contained = Contained::new(&proxy.endpoint());
    proxy.set(Mode::Cut);
    contained.forge.serve();
    let tree = contained.forge.tree_with("app", WELL);
    for mode in [Mode::Cut, Mode::Stall] {
        proxy.set(mode);
        tree.push_new("more");
        let run = contained.forge.newest("app");
        let waits = |run: &quire::run::Run| run.message.as_deref().is_some_and(|message| message.starts_with("waits: "));
        let run = wait_for("the reason", || Some(contained.forge.run(run.id)).filter(waits));
        assert_eq!(run.state, RunState::Pending, "{run:?}");
        assert!(docker_is(&contained, "degraded").starts_with("runs wait: "));
        assert!(contained.forge.get(&format!("/runs/{}", run.id)).body.contains("waits: "));
        assert_eq!(contained.forge.health()["status"], "degraded");
        proxy.set(Mode::Through);
        let run = contained.forge.end_of(run.id);
        assert_eq!((run.state, run.message), (RunState::Complete, None));
        docker_is(&contained, "ok");
    }
    settled_well(&contained.forge);
    assert_eq!(contained.containers(), Vec::<String>::new());
}

#[test]
fn an_engine_that_goes_away_under_a_run() {
    if skipped() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(folder.path());
    let mut contained = Contained::new(&proxy.endpoint());
    contained.forge.serve();
    let tree = contained.forge.tree_with("app", LONG);
    let begun = |contained: &Contained| {
        let run = contained.forge.newest("app");
        let log = contained.forge.run_folder(&run).join("jobs/test/1.log");
        wait_for("the command", || std::fs::read_to_string(&log).ok().filter(|log| log.contains("begun")));
        run
    };
    tree.push(&["main"]);
    let run = begun(&contained);
    proxy.set(Mode::Cut);
    contained.forge.wait_for_log("the run's workspace cannot be removed yet");
    // Nobody knows whether its container is gone: it is not called ended.
    assert_eq!(contained.forge.run(run.id).state, RunState::Active);
    assert_eq!(contained.containers().len(), 1);
    docker_is(&contained, "degraded");
    proxy.set(Mode::Through);
    let run = contained.forge.end_of(run.id);
    assert_eq!((run.state, run.failure_kind), (RunState::Failed, Some(FailureKind::DockerUnavailable)), "{run:?}");
    assert_eq!(contained.containers(), Vec::<String>::new());

    // Told to stop while the engine is silent: it does not wait for it, and the next start puts it right.
    tree.push_new("second");
    let run = begun(&contained);
    proxy.set(Mode::Stall);
    contained.forge.signal(nix::sys::signal::Signal::SIGTERM);
    let server = contained.forge.pid();
    // `quire init` gives 8 s before it kills; a busy machine gets a little more.
    let gone = wait_until(Duration::from_secs(12), || {
        let stat = std::fs::read_to_string(format!("/proc/{server}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z')).then_some(())
    });
    assert!(gone.is_some(), "{}", contained.forge.log());
    assert!(contained.forge.ended().success());
    assert_eq!(contained.containers().len(), 1);
    assert_eq!(contained.forge.run(run.id).state, RunState::Active);
    proxy.set(Mode::Through);
    contained.forge.serve();
    let run = contained.forge.end_of(run.id);
    assert_eq!((run.state, run.failure_kind), (RunState::Failed, Some(FailureKind::Orphaned)), "{run:?}");
    let again = wait_until(DEADLINE, || contained.forge.runs().into_iter().find(|other| other.retry_of == Some(run.id))).unwrap();
    contained.forge.store().request_cancel(again.id).unwrap();
    contained.forge.ssh_ok("run list");
    contained.forge.wait_for_quiet();
    contained.forge.check_whole();
    assert_eq!(contained.containers(), Vec::<String>::new());
}
