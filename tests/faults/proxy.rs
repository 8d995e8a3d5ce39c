//! Stands between quire and the engine, and does to it what a test says.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::containers::endpoint;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Through,
    /// Every connection ends at once.
    Cut,
    /// Connections stay open and nothing moves.
    Stall,
    /// Every request is answered with 500.
    Broken,
    /// Every answer comes so much later.
    Slow(Duration),
}

struct Shared {
    mode: Mutex<Mode>,
    changed: Condvar,
    open: Mutex<Vec<UnixStream>>,
}

pub(crate) struct Proxy {
    shared: Arc<Shared>,
    path: PathBuf,
}

impl Proxy {
    pub(crate) fn start(folder: &Path) -> Self {
        let path = folder.join("engine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let shared = Arc::new(Shared { mode: Mutex::new(Mode::Through), changed: Condvar::new(), open: Mutex::default() });
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

    pub(crate) fn set(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap() = mode;
        if matches!(mode, Mode::Cut | Mode::Broken) {
            self.cut_what_is_open();
        }
        self.shared.changed.notify_all();
    }

    /// Ends the connections there are; new ones go through.
    pub(crate) fn cut_what_is_open(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.path.display())
    }
}

impl Shared {
    /// Waits while everything stalls; what to do then.
    fn turn(&self) -> Mode {
        let mode = self.mode.lock().unwrap();
        *self.changed.wait_while(mode, |mode| *mode == Mode::Stall).unwrap()
    }
}

/// Hears one request and refuses it.
fn refuse(mut client: UnixStream) {
    let mut request = Vec::new();
    let mut buffer = [0; 65536];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read(&mut buffer) {
            Ok(count @ 1..) => request.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
    let body = r#"{"message":"the engine is out of order"}"#;
    let head = "Content-Type: application/json\r\nConnection: close";
    let _ = write!(client, "HTTP/1.1 500 Internal Server Error\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
}

fn pass(shared: &Arc<Shared>, client: UnixStream) {
    match shared.turn() {
        Mode::Cut => return,
        Mode::Broken => return refuse(client),
        _ => {}
    }
    let Ok(engine) = UnixStream::connect(endpoint().trim_start_matches("unix://")) else { return };
    {
        let mut open = shared.open.lock().unwrap();
        open.extend([client.try_clone().unwrap(), engine.try_clone().unwrap()]);
    }
    // Whether something was asked since the last answer began.
    let asked = Arc::new(AtomicBool::new(false));
    let copy = |mut from: UnixStream, mut to: UnixStream, answers: bool| {
        let (shared, asked) = (Arc::clone(shared), Arc::clone(&asked));
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                let mode = shared.turn();
                if !answers {
                    asked.store(true, Ordering::Relaxed);
                } else if asked.swap(false, Ordering::Relaxed)
                    && let Mode::Slow(delay) = mode
                {
                    std::thread::sleep(delay);
                }
                if mode == Mode::Cut || to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Write);
        })
    };
    let back = copy(engine.try_clone().unwrap(), client.try_clone().unwrap(), true);
    let _ = copy(client, engine, false).join();
    let _ = back.join();
}
