//! Stands between quire and the engine, and does to it what a test says.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    /// These requests, and no others, are answered wrongly.
    Wrong(Request, Answer),
}

/// Requests whose first line has both of these in it.
pub(crate) type Request = (&'static str, &'static str);

/// What the engine answers instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 500, and it does nothing.
    Refused,
    /// It does what was asked, and the JSON of its answer ends in the middle.
    Truncated,
    /// It does what was asked, and the answer stops in the middle.
    Hanging,
    /// It does what was asked, and the answer never ends.
    Endless,
}

impl Mode {
    /// How a request that begins so is to be answered wrongly, if it is.
    fn wrong(self, begin: &[u8]) -> Option<Answer> {
        let Self::Wrong((one, other), answer) = self else {
            return None;
        };
        let line = begin
            .split(|byte| *byte == b'\r')
            .next()
            .map(String::from_utf8_lossy)?;
        (line.contains(one) && line.contains(other)).then_some(answer)
    }
}

struct Shared {
    mode: Mutex<Mode>,
    changed: Condvar,
    open: Mutex<Vec<UnixStream>>,
    /// How many requests were answered wrongly.
    wronged: AtomicUsize,
}

pub(crate) struct Proxy {
    shared: Arc<Shared>,
    path: PathBuf,
}

impl Proxy {
    pub(crate) fn start(folder: &Path) -> Self {
        let path = folder.join("engine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let shared = Arc::new(Shared {
            mode: Mutex::new(Mode::Through),
            changed: Condvar::new(),
            open: Mutex::default(),
            wronged: AtomicUsize::new(0),
        });
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

    /// How many requests were answered wrongly so far.
    pub(crate) fn wronged(&self) -> usize {
        self.shared.wronged.load(Ordering::Relaxed)
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.path.display())
    }
}

impl Shared {
    /// Waits while everything stalls; what to do then.
    fn turn(&self) -> Mode {
        let mode = self.mode.lock().unwrap();
        *self
            .changed
            .wait_while(mode, |mode| *mode == Mode::Stall)
            .unwrap()
    }
}

/// Hears one request and refuses it.
fn hear_and_refuse(mut client: UnixStream) {
    let mut request = Vec::new();
    let mut buffer = [0; 65536];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read(&mut buffer) {
            Ok(count @ 1..) => request.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
    refuse(client);
}

fn refuse(mut client: UnixStream) {
    let body = r#"{"message":"the engine is out of order"}"#;
    let head = "Content-Type: application/json\r\nConnection: close";
    let _ = write!(
        client,
        "HTTP/1.1 500 Internal Server Error\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
}

/// Answers in place of what the engine said, and ends the connection.
fn answer_wrongly(shared: &Shared, answer: Answer, mut client: UnixStream) {
    let head = "HTTP/1.1 201 Created\r\nContent-Type: application/json";
    shared.wronged.fetch_add(1, Ordering::Relaxed);
    let lasts = || matches!(*shared.mode.lock().unwrap(), Mode::Wrong(..));
    match answer {
        Answer::Refused => refuse(client.try_clone().unwrap()),
        Answer::Truncated => drop(write!(
            client,
            "{head}\r\nContent-Length: 8\r\n\r\n{{\"Id\": \""
        )),
        Answer::Hanging => {
            let _ = write!(client, "{head}\r\nContent-Length: 1000\r\n\r\n{{\"Id\": \"");
            let mode = shared.mode.lock().unwrap();
            drop(
                shared
                    .changed
                    .wait_while(mode, |mode| matches!(mode, Mode::Wrong(..)))
                    .unwrap(),
            );
        }
        Answer::Endless => {
            let _ = write!(client, "{head}\r\nTransfer-Encoding: chunked\r\n\r\n");
            while lasts() && write!(client, "400\r\n{}\r\n", " ".repeat(0x400)).is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

fn pass(shared: &Arc<Shared>, client: UnixStream) {
    match shared.turn() {
        Mode::Cut => return,
        Mode::Broken => return hear_and_refuse(client),
        _ => {}
    }
    let Ok(engine) = UnixStream::connect(endpoint().trim_start_matches("unix://")) else {
        return;
    };
    {
        let mut open = shared.open.lock().unwrap();
        open.extend([client.try_clone().unwrap(), engine.try_clone().unwrap()]);
    }
    // Whether something was asked since the last answer began, and how that is to be answered.
    let (asked, wrong) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
    let copy = |mut from: UnixStream, mut to: UnixStream, answers: bool| {
        let (shared, asked, wrong) = (Arc::clone(shared), Arc::clone(&asked), Arc::clone(&wrong));
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                let mode = shared.turn();
                if !answers {
                    if !asked.swap(true, Ordering::Relaxed) {
                        *wrong.lock().unwrap() = mode.wrong(&buffer[..count]);
                    }
                    if *wrong.lock().unwrap() == Some(Answer::Refused) {
                        answer_wrongly(&shared, Answer::Refused, from.try_clone().unwrap());
                        break;
                    }
                } else if let Some(answer) = *wrong.lock().unwrap() {
                    answer_wrongly(&shared, answer, to.try_clone().unwrap());
                    let _ = from.shutdown(Shutdown::Both);
                    break;
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
    let back = copy(
        engine.try_clone().unwrap(),
        client.try_clone().unwrap(),
        true,
    );
    let _ = copy(client, engine, false).join();
    let _ = back.join();
}
