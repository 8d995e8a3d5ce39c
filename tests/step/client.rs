//! A container whose first process is the helper, and the frames to and from it: through its standard
//! streams, or through a connection that it opens.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use quire_step::{
    ChannelReceiver, ChannelSender, ChannelToken, ExitStatus, FIRST_MESSAGE_LENGTH, FailureReason,
    FrameDecoder, FromHelper, SecureChannel, StartTask, TOKEN_BYTES, TaskIds, TerminalSize,
    ToHelper, answer_helper, first_message_id,
};
use tempfile::TempDir;

pub(crate) const DEBIAN: &str = "debian:trixie-slim";

/// A helper that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

static CONTAINERS: AtomicU32 = AtomicU32::new(0);

/// Makes two tests of each function: one for each way in which a helper is reached.
#[macro_export]
macro_rules! over_both {
    ($($name:ident),* $(,)?) => {
        mod over_streams {
            $(
                #[test]
                fn $name() {
                    super::$name($crate::client::LinkKind::Streams);
                }
            )*
        }
        mod over_connection {
            $(
                #[test]
                fn $name() {
                    super::$name($crate::client::LinkKind::Connection);
                }
            )*
        }
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkKind {
    Streams,
    Connection,
}

/// What came from the helper, without borrows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Hello(u16),
    Pong(u64),
    Oom(u64),
    User(TaskIds, String),
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Data(Vec<u8>),
    Credit(u32),
    Exited(ExitStatus),
    Error(FailureReason, i32, String),
    Done,
}

/// Everything that a task sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) status: Option<ExitStatus>,
    pub(crate) error: Option<(FailureReason, String)>,
    pub(crate) user: Option<(TaskIds, String)>,
    pub(crate) oom: Option<u64>,
}

/// A command to start.
#[derive(Clone, Default)]
pub(crate) struct Spec {
    pub(crate) uid: u32,
    pub(crate) merge: bool,
    pub(crate) input: bool,
    pub(crate) terminal: Option<TerminalSize>,
    pub(crate) cwd: String,
    pub(crate) argv: Vec<Vec<u8>>,
    pub(crate) env: Vec<String>,
}

/// A container whose entry point is the helper, without a link to it.
pub(crate) struct Container {
    pub(crate) name: String,
    child: Child,
    _program: TempDir,
}

/// Where frames to a helper are written.
enum HelperInput {
    Streams(ChildStdin),
    Connection(Arc<TcpStream>, ChannelSender),
}

/// Where bytes from a helper are read.
enum HelperOutput {
    Streams(std::process::ChildStdout),
    Connection(Arc<TcpStream>, ChannelReceiver),
}

/// Where a helper connects to, as the appliance would.
pub(crate) struct Appliance {
    pub(crate) token: ChannelToken,
    listener: TcpListener,
}

pub(crate) struct Helper {
    pub(crate) name: String,
    container: Container,
    input: Option<HelperInput>,
    events: Receiver<(u32, Event)>,
    next_id: u32,
    /// Events of tasks that were not waited for yet.
    kept: VecDeque<(u32, Event)>,
}

impl Outcome {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn code(&self) -> Option<u8> {
        match self.status {
            Some(ExitStatus::Code(code)) => Some(code),
            _ => None,
        }
    }
}

impl Spec {
    pub(crate) fn new<T: Into<Vec<u8>>>(argv: impl IntoIterator<Item = T>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: vec!["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".into()],
            ..Self::default()
        }
    }

    pub(crate) fn shell(script: &str) -> Self {
        Self::new(["sh", "-c", script])
    }

    pub(crate) fn uid(mut self, uid: u32) -> Self {
        self.uid = uid;
        self
    }
}

impl Container {
    /// Starts a container of an image with further options of `docker run`.
    pub(crate) fn start(image: &str, options: &[&str]) -> Self {
        let program = TempDir::new().unwrap();
        let path = program.path().join("step");
        std::fs::write(&path, quire_step_program::PROGRAM).unwrap();
        set_executable(&path);
        let number = CONTAINERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("quire-step-test-{}-{number}", std::process::id());
        let child = Command::new("docker")
            .args(["run", "--interactive", "--rm", "--pull", "never"])
            .args(["--user", "0", "--name", &name])
            .args(["--entrypoint", "/.quire/step", "--volume"])
            .arg(format!("{}:/.quire:ro", program.path().display()))
            .args(options)
            .arg(image)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            name,
            child,
            _program: program,
        }
    }

    /// Waits for the end of the container, and returns its exit code and what it wrote to standard error.
    pub(crate) fn wait(&mut self) -> (Option<i32>, String) {
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut text).unwrap();
        }
        (self.child.wait().unwrap().code(), text)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _: Output = Command::new("docker")
            .args(["rm", "--force", &self.name])
            .output()
            .unwrap();
        let _ = self.child.wait();
    }
}

impl Appliance {
    pub(crate) fn new() -> Self {
        Self {
            token: ChannelToken::from_random(&[7; TOKEN_BYTES]),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
        }
    }

    pub(crate) fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// Starts a helper that knows these addresses and the token.
    pub(crate) fn container(&self, addresses: &str, image: &str, options: &[&str]) -> Container {
        let addresses = format!("QUIRE_CONNECT={addresses}");
        let token = format!("QUIRE_TOKEN={}", self.token.to_hex());
        let own = ["--network", "host", "--env", &addresses, "--env", &token];
        Container::start(image, &[&own, options].concat())
    }

    /// Waits for a connection, and for the first message on it.
    pub(crate) fn accept(&self) -> (TcpStream, [u8; FIRST_MESSAGE_LENGTH]) {
        let (mut stream, _) = self.listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut message = [0; FIRST_MESSAGE_LENGTH];
        stream.read_exact(&mut message).unwrap();
        assert_eq!(first_message_id(&message), self.token.id());
        (stream, message)
    }

    pub(crate) fn answer(
        &self,
        mut stream: TcpStream,
        message: &[u8; FIRST_MESSAGE_LENGTH],
    ) -> (TcpStream, SecureChannel) {
        let (reply, channel) = answer_helper(&self.token, message, [8; 32]).unwrap();
        stream.write_all(&reply).unwrap();
        (stream, channel)
    }
}

impl HelperOutput {
    /// Adds what comes next to the decoder; false at the end.
    fn read(&mut self, buffer: &mut [u8], decoder: &mut FrameDecoder) -> bool {
        let read = match self {
            Self::Streams(stdout) => stdout.read(buffer),
            Self::Connection(stream, _) => (&**stream).read(buffer),
        };
        let Ok(count @ 1..) = read else {
            return false;
        };
        match self {
            Self::Streams(_) => decoder.add(&buffer[..count]),
            Self::Connection(_, receiver) => decoder
                .add_by(|to| receiver.open(&buffer[..count], to))
                .unwrap(),
        }
        true
    }
}

impl Helper {
    /// Starts a container of an image, with further options of `docker run`, and waits for HELLO.
    pub(crate) fn start(image: &str, options: &[&str]) -> Self {
        let mut container = Container::start(image, &[&["--network", "none"], options].concat());
        let input = HelperInput::Streams(container.child.stdin.take().unwrap());
        let output = HelperOutput::Streams(container.child.stdout.take().unwrap());
        Self::with_link(container, input, output)
    }

    pub(crate) fn over(link: LinkKind, image: &str, options: &[&str]) -> Self {
        match link {
            LinkKind::Streams => Self::start(image, options),
            LinkKind::Connection => Self::connected(image, options),
        }
    }

    /// The same with a helper that connects.
    fn connected(image: &str, options: &[&str]) -> Self {
        let appliance = Appliance::new();
        let container = appliance.container(&appliance.address(), image, options);
        let (stream, message) = appliance.accept();
        let (stream, channel) = appliance.answer(stream, &message);
        Self::with_connection(container, stream, channel)
    }

    pub(crate) fn with_connection(
        container: Container,
        stream: TcpStream,
        channel: SecureChannel,
    ) -> Self {
        let stream = Arc::new(stream);
        let input = HelperInput::Connection(Arc::clone(&stream), channel.sender);
        let output = HelperOutput::Connection(stream, channel.receiver);
        Self::with_link(container, input, output)
    }

    fn with_link(container: Container, input: HelperInput, mut output: HelperOutput) -> Self {
        let (sender, events) = channel();
        thread::spawn(move || {
            let mut decoder = FrameDecoder::new();
            let mut buffer = vec![0; 65536];
            while output.read(&mut buffer, &mut decoder) {
                while let Some((header, body)) = decoder.next_frame().unwrap() {
                    let event = event(&FromHelper::decode(header.kind, body).unwrap());
                    if sender.send((header.id, event)).is_err() {
                        return;
                    }
                }
            }
        });
        let mut helper = Self {
            name: container.name.clone(),
            container,
            input: Some(input),
            events,
            next_id: 1,
            kept: VecDeque::new(),
        };
        assert_eq!(helper.event(), (0, Event::Hello(quire_step::VERSION)));
        helper
    }

    /// A container of Debian with an empty workspace at `/work`, open to all users.
    pub(crate) fn debian(options: &[&str]) -> Self {
        Self::debian_over(LinkKind::Streams, options)
    }

    pub(crate) fn debian_over(link: LinkKind, options: &[&str]) -> Self {
        let mut helper = Self::over(link, DEBIAN, options);
        let outcome = helper.tree(0, &[]);
        assert_eq!(outcome, Outcome::default());
        let outcome = helper.run(&Spec::new(["chmod", "1777", "."]));
        assert_eq!(outcome.code(), Some(0), "{outcome:?}");
        helper
    }

    pub(crate) fn send(&mut self, id: u32, frame: &ToHelper<'_>) {
        let mut bytes = Vec::new();
        let tail = frame.encode(id, &mut bytes);
        bytes.extend_from_slice(tail);
        self.send_raw(&bytes);
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        // A helper that has ended is found by what it sent before.
        let _ = match self.input.as_mut().unwrap() {
            HelperInput::Streams(stdin) => stdin.write_all(bytes).and_then(|()| stdin.flush()),
            HelperInput::Connection(stream, sender) => {
                let mut records = Vec::new();
                sender.seal(bytes, &mut records).unwrap();
                (&**stream).write_all(&records)
            }
        };
    }

    /// Writes to the connection beside the channel.
    pub(crate) fn write_to_connection(&mut self, bytes: &[u8]) {
        let Some(HelperInput::Connection(stream, _)) = &self.input else {
            panic!("this helper has no connection");
        };
        (&**stream).write_all(bytes).unwrap();
    }

    pub(crate) fn close_input(&mut self) {
        if let Some(HelperInput::Connection(stream, _)) = self.input.take() {
            stream.shutdown(Shutdown::Write).unwrap();
        }
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset_connection(&mut self) {
        let Some(HelperInput::Connection(stream, _)) = self.input.take() else {
            panic!("this helper has no connection");
        };
        let at_once = nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&*stream, sockopt::Linger, &at_once).unwrap();
        // The other owner of the socket reads its end, and the last one to drop it resets the connection.
        stream.shutdown(Shutdown::Read).unwrap();
    }

    pub(crate) fn event(&mut self) -> (u32, Event) {
        self.next_event().expect("the helper has ended")
    }

    /// The next event; `None` once the helper has ended.
    pub(crate) fn next_event(&mut self) -> Option<(u32, Event)> {
        match self.events.recv_timeout(PATIENCE) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the helper hangs"),
        }
    }

    pub(crate) fn new_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    /// Starts a command and returns its id.
    pub(crate) fn begin(&mut self, spec: &Spec) -> u32 {
        let id = self.new_id();
        let task = StartTask {
            ids: TaskIds {
                uid: spec.uid,
                gid: spec.uid,
                groups: Vec::new(),
            },
            merge: spec.merge,
            input: spec.input,
            terminal: spec.terminal,
            folder: b"/work",
            cwd: spec.cwd.as_bytes(),
            argv: spec.argv.iter().map(Vec::as_slice).collect(),
            env: spec.env.iter().map(String::as_bytes).collect(),
        };
        self.send(id, &ToHelper::Start(task));
        id
    }

    pub(crate) fn run(&mut self, spec: &Spec) -> Outcome {
        let id = self.begin(spec);
        self.finish(id)
    }

    /// Collects what a task sends up to DONE, and grants credit for it. Events of other tasks are kept for their turn.
    pub(crate) fn finish(&mut self, id: u32) -> Outcome {
        let mut outcome = Outcome::default();
        let (own, others) = std::mem::take(&mut self.kept)
            .into_iter()
            .partition(|(from, _)| *from == id);
        self.kept = others;
        let mut own: VecDeque<_> = own;
        loop {
            let (from, event) = match own.pop_front() {
                Some(event) => event,
                None => self.event(),
            };
            if let Event::Oom(kills) = event {
                outcome.oom = Some(kills);
                continue;
            }
            if from != id {
                self.kept.push_back((from, event));
                continue;
            }
            let (bytes, to) = match event {
                Event::Stdout(bytes) => (bytes, &mut outcome.stdout),
                Event::Stderr(bytes) => (bytes, &mut outcome.stderr),
                Event::Data(bytes) => (bytes, &mut outcome.data),
                Event::Exited(status) => {
                    assert_eq!(outcome.status.replace(status), None);
                    continue;
                }
                Event::Error(reason, _, detail) => {
                    assert_eq!(outcome.error.replace((reason, detail)), None);
                    continue;
                }
                Event::User(ids, home) => {
                    outcome.user = Some((ids, home));
                    continue;
                }
                Event::Done => return outcome,
                _ => continue,
            };
            to.extend_from_slice(&bytes);
            let credit = u32::try_from(bytes.len()).unwrap();
            self.send(id, &ToHelper::Credit(credit));
        }
    }

    /// Waits until the output of a task has this text.
    pub(crate) fn wait_for(&mut self, id: u32, text: &str) {
        let mut all = Vec::new();
        while !String::from_utf8_lossy(&all).contains(text) {
            match self.event() {
                (from, Event::Stdout(bytes) | Event::Stderr(bytes)) if from == id => {
                    all.extend_from_slice(&bytes);
                }
                (from, event @ (Event::Done | Event::Error(..))) if from == id => {
                    panic!("{event:?} instead of {text:?}");
                }
                _ => {}
            }
        }
    }

    pub(crate) fn kill(&mut self, id: u32) -> Outcome {
        self.send(id, &ToHelper::Kill);
        self.finish(id)
    }

    /// Sends input in pieces, each when there is credit for it.
    pub(crate) fn send_input(&mut self, id: u32, bytes: &[u8]) -> Vec<Event> {
        let mut window = quire_step::INPUT_CREDIT as usize;
        let mut others = Vec::new();
        for piece in bytes.chunks(256 << 10) {
            while window < piece.len() {
                match self.event() {
                    (from, Event::Credit(more)) if from == id => window += more as usize,
                    (from, event @ (Event::Error(..) | Event::Done)) if from == id => {
                        others.push(event);
                        if others.contains(&Event::Done) {
                            return others;
                        }
                    }
                    _ => {}
                }
            }
            window -= piece.len();
            self.send(id, &ToHelper::Stdin(piece));
        }
        self.send(id, &ToHelper::StdinEof);
        others
    }

    pub(crate) fn tree(&mut self, uid: u32, archive: &[u8]) -> Outcome {
        let id = self.new_id();
        let frame = ToHelper::Tree {
            uid,
            gid: uid,
            folder: b"/work",
            caches: Vec::new(),
        };
        self.send(id, &frame);
        assert_eq!(self.send_input(id, archive), []);
        self.finish(id)
    }

    /// The processes of the container, as the engine shows them: one line each, without the helper and its nannies.
    pub(crate) fn processes(&self) -> Vec<String> {
        let output = docker(&["top", &self.name, "-eo", "pid,comm,args"]);
        let lines = output.lines().skip(1).map(str::to_owned);
        lines
            .filter(|line| !line.contains("/.quire/step"))
            .collect()
    }

    /// Waits for the end of the container and returns its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let (code, stderr) = self.container.wait();
        eprint!("{stderr}");
        code
    }
}

pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn set_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn event(frame: &FromHelper<'_>) -> Event {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match frame {
        FromHelper::Hello { version, .. } => Event::Hello(*version),
        FromHelper::Pong { nonce } => Event::Pong(*nonce),
        FromHelper::Oom { kills } => Event::Oom(*kills),
        FromHelper::User { ids, home } => Event::User(ids.clone(), text(home)),
        FromHelper::Stdout(bytes) => Event::Stdout(bytes.to_vec()),
        FromHelper::Stderr(bytes) => Event::Stderr(bytes.to_vec()),
        FromHelper::Data(bytes) => Event::Data(bytes.to_vec()),
        FromHelper::Credit(bytes) => Event::Credit(*bytes),
        FromHelper::Exited(status) => Event::Exited(*status),
        FromHelper::Error(error) => Event::Error(error.reason, error.errno, text(error.detail)),
        FromHelper::Done => Event::Done,
    }
}
