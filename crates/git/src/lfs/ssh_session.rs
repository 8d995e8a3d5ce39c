//! A session of `git-lfs-transfer` on another machine, as its client.
//!
//! ```text
//! other side: version=1                                        the head of an answer: status N, arguments
//! client:     version 1 ─► batch: which objects? ─► put-object or get-object for each that is wanted ─► …
//! ```
//! A message is lines; after a delimiter follow further lines or content; a flush ends it. [`LfsSshConnection`] holds the process, and
//! kills it when it is dropped; [`LfsSshSession`] blocks, and ends then.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::process::Stdio;

use tokio::process::Child;

use super::direction::LfsDirection;
use super::packets::{MAX_DATA, Packet, PacketError, PacketReader, PacketWriter};
use super::pointer::LfsPointer;
use super::store::{LfsStore, LfsUpload, UploadError};
use super::transferred::{Counted, LfsProgress, TransferredObjects};
use crate::command::read_capped;
use crate::git::Git;
use crate::remote_access::RemoteAccess;
use crate::remote_output::last_words;
use quire_runtime::process::{GroupGuard, Limits, ProcError, capture};
use quire_types::text::{excerpt, single_line};

const VERSION: &str = "1";
/// How many lines the head of an answer may have, and how long what the other side says may be in a message.
const MAX_LINES: usize = 1000;
const MAX_WORDS: usize = 200;
/// How much may follow the content of an object, in bytes, to go on after it.
const MAX_EXCESS: u64 = 1 << 20;

/// Why a session of `git-lfs-transfer` failed.
#[derive(Debug, thiserror::Error)]
pub enum LfsSshError {
    #[error(transparent)]
    Packet(#[from] PacketError),
    #[error("the other side answered {status} to `{request}`{}", with_colon(.words))]
    Status {
        request: &'static str,
        status: u16,
        words: String,
    },
    #[error("the other side does not keep to the protocol: {0}")]
    Protocol(&'static str),
    /// Here.
    #[error("an object of Git LFS cannot be read here")]
    Read(#[source] io::Error),
    #[error("an object of Git LFS cannot be stored here")]
    Store(#[source] UploadError),
    #[error("{0}")]
    NoRoom(String),
}

fn with_colon(words: &str) -> String {
    match words {
        "" => String::new(),
        words => format!(": {words}"),
    }
}

impl From<io::Error> for LfsSshError {
    fn from(error: io::Error) -> Self {
        Self::Packet(error.into())
    }
}

/// The process of a session. It is killed when this is dropped.
pub struct LfsSshConnection {
    /// The first field, so that the group is killed before the process is waited for. `None` once that was done.
    group: Option<GroupGuard>,
    child: Child,
    stderr: Option<tokio::process::ChildStderr>,
}

impl LfsSshConnection {
    /// After a session that has failed: the exit code, and the last words of the other side or of ssh.
    pub async fn end(&mut self) -> (Option<i32>, String) {
        let words = match self.stderr.take() {
            Some(stderr) => read_capped(stderr).await,
            None => Vec::new(),
        };
        let status = self.child.wait().await.ok();
        if status.is_some()
            && let Some(group) = self.group.take()
        {
            group.disarm();
        }
        (
            status.and_then(|status| status.code()),
            last_words(&String::from_utf8_lossy(&words)),
        )
    }
}

/// The requests and answers of a session. Everything blocks.
pub struct LfsSshSession {
    answers: PacketReader<BufReader<Counted<Box<dyn Read + Send>>>>,
    requests: PacketWriter<BufWriter<Counted<Box<dyn Write + Send>>>>,
    direction: LfsDirection,
}

/// The head of an answer.
struct AnswerHead {
    status: u16,
    arguments: Vec<String>,
    /// Whether lines or content follow.
    has_body: bool,
}

/// What is to be done with one object of a batch.
struct WantedObject<'a> {
    pointer: &'a LfsPointer,
    /// What the other side wants to hear again with the object.
    arguments: Vec<String>,
}

/// How `git-lfs-authenticate` ended on another machine.
#[derive(Debug)]
pub struct LfsAuthentication {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// On standard output.
    pub printed: Vec<u8>,
    /// The last words of the other side.
    pub words: String,
}

impl Git {
    /// Asks a remote over SSH for its batch API over HTTPS.
    ///
    /// # Errors
    /// ssh cannot be run to its end.
    pub async fn lfs_authenticate(
        &self,
        remote: &RemoteAccess,
        direction: LfsDirection,
    ) -> Result<LfsAuthentication, ProcError> {
        let words = [
            "git-lfs-authenticate",
            remote.url.path(),
            direction.as_str(),
        ];
        let mut command = self.remote_ssh(remote, &words);
        let ended = capture(&mut command, Limits::default()).await?;
        let words = last_words(&String::from_utf8_lossy(&ended.stderr));
        Ok(LfsAuthentication {
            code: ended.status.code(),
            printed: ended.stdout,
            words: remote.redactor.redact_text(&words),
        })
    }

    /// Starts `git-lfs-transfer` on the machine of a remote.
    ///
    /// # Errors
    /// ssh cannot be started.
    pub fn lfs_ssh_session(
        &self,
        remote: &RemoteAccess,
        direction: LfsDirection,
        progress: &LfsProgress,
    ) -> io::Result<(LfsSshConnection, LfsSshSession)> {
        let words = ["git-lfs-transfer", remote.url.path(), direction.as_str()];
        let mut command = self.remote_ssh(remote, &words);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn()?;
        let group = GroupGuard::of(&child);
        let input: Box<dyn Read + Send> = match child.stdout.take() {
            Some(pipe) => Box::new(File::from(pipe.into_owned_fd()?)),
            None => Box::new(io::empty()),
        };
        let output: Box<dyn Write + Send> = match child.stdin.take() {
            Some(pipe) => Box::new(File::from(pipe.into_owned_fd()?)),
            None => Box::new(io::sink()),
        };
        let session = LfsSshSession::new(input, output, direction, progress);
        let connection = LfsSshConnection {
            stderr: child.stderr.take(),
            child,
            group: Some(group),
        };
        Ok((connection, session))
    }
}

impl LfsSshSession {
    fn new(
        input: Box<dyn Read + Send>,
        output: Box<dyn Write + Send>,
        direction: LfsDirection,
        progress: &LfsProgress,
    ) -> Self {
        let (input, output) = (
            Counted::new(input, progress),
            Counted::new(output, progress),
        );
        Self {
            answers: PacketReader::new(BufReader::with_capacity(MAX_DATA, input)),
            requests: PacketWriter::new(BufWriter::with_capacity(MAX_DATA, output)),
            direction,
        }
    }

    /// Agrees about the version of the protocol. It fails in this place if the other side does not know the command.
    ///
    /// # Errors
    /// The other side does not speak this protocol.
    pub fn begin(&mut self) -> Result<(), LfsSshError> {
        let offered = self.lines_to_flush()?;
        if !offered.iter().any(|line| line == "version=1") {
            return Err(LfsSshError::Protocol("it does not offer version 1"));
        }
        self.requests.line(&format!("version {VERSION}"))?;
        self.requests.flush()?;
        self.ok("version").map(drop)
    }

    /// Transfers those of these objects that the other side, or this one, does not have. `room` says whether this many bytes may be stored.
    ///
    /// # Errors
    /// The session cannot go on.
    pub fn transfer(
        &mut self,
        store: &LfsStore,
        objects: &[LfsPointer],
        room: &dyn Fn(u64) -> Result<(), String>,
    ) -> Result<TransferredObjects, LfsSshError> {
        let (wanted, mut transferred) = self.batch(objects)?;
        for wanted in wanted {
            let oid = &wanted.pointer.oid;
            let moved = match self.direction {
                LfsDirection::Upload => self.put(store, &wanted),
                LfsDirection::Download => self.get(store, &wanted, room).map(|()| true),
            };
            match moved {
                Ok(true) => transferred.moved += 1,
                Ok(false) => transferred.absent.push(oid.clone()),
                Err(LfsSshError::Status {
                    status: 404 | 410, ..
                }) if self.direction == LfsDirection::Download => {
                    transferred.absent.push(oid.clone());
                }
                Err(LfsSshError::Store(
                    error @ (UploadError::Size { .. } | UploadError::Oid { .. }),
                )) => transferred.refuse(wanted.pointer, error.to_string()),
                // The session goes on: the answer was read to its end.
                Err(LfsSshError::Status { words, status, .. }) if is_of_object(status) => {
                    let words = format!("{status}{}", with_colon(&words));
                    transferred.refuse(wanted.pointer, words);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(transferred)
    }

    /// Ends the session.
    ///
    /// # Errors
    /// The connection failed.
    pub fn quit(mut self) -> Result<(), LfsSshError> {
        self.requests.line("quit")?;
        self.requests.flush()?;
        self.ok("quit").map(drop)
    }

    /// Asks what is to be done. Returns which objects are to be transferred, and what became of others already.
    fn batch<'a>(
        &mut self,
        objects: &'a [LfsPointer],
    ) -> Result<(Vec<WantedObject<'a>>, TransferredObjects), LfsSshError> {
        self.requests.line("batch")?;
        self.requests.line("hash-algo=sha256")?;
        self.requests.line("transfer=ssh")?;
        self.requests.delimiter()?;
        for LfsPointer { oid, size } in objects {
            self.requests.line(&format!("{oid} {size}"))?;
        }
        self.requests.flush()?;
        let mut wanted = Vec::new();
        let mut transferred = TransferredObjects::default();
        let mut unnamed: Vec<&LfsPointer> = objects.iter().collect();
        for line in self.ok("batch")? {
            let mut words = line.split(' ');
            let (oid, _, action) = (words.next(), words.next(), words.next());
            let place = unnamed.iter().position(|one| Some(one.oid.as_str()) == oid);
            let place = place.ok_or(LfsSshError::Protocol(
                "it names an object that it was not asked about, or one twice",
            ))?;
            let pointer = unnamed.swap_remove(place);
            match (self.direction, action.unwrap_or_default()) {
                (direction, action) if action == direction.as_str() => {
                    let is_kept =
                        |word: &&str| word.starts_with("id=") || word.starts_with("token=");
                    wanted.push(WantedObject {
                        pointer,
                        arguments: words.filter(is_kept).map(str::to_owned).collect(),
                    });
                }
                (LfsDirection::Upload, "noop") => {}
                (LfsDirection::Download, "noop") => transferred.absent.push(pointer.oid.clone()),
                (_, other) => {
                    let other = excerpt(&single_line(other), MAX_WORDS);
                    let words = format!("the other side asks for `{other}` of it");
                    transferred.refuse(pointer, words);
                }
            }
        }
        for pointer in unnamed {
            match self.direction {
                LfsDirection::Upload => {
                    let words = "the other side said nothing about it".to_owned();
                    transferred.refuse(pointer, words);
                }
                LfsDirection::Download => transferred.absent.push(pointer.oid.clone()),
            }
        }
        Ok((wanted, transferred))
    }

    /// Sends an object. Returns false if it is not here.
    fn put(&mut self, store: &LfsStore, wanted: &WantedObject<'_>) -> Result<bool, LfsSshError> {
        let LfsPointer { oid, size } = wanted.pointer;
        let found = store.open(oid).map_err(LfsSshError::Read)?;
        let Some((file, _)) = found.filter(|(_, found)| found == size) else {
            return Ok(false);
        };
        self.request("put-object", wanted)?;
        self.requests.delimiter()?;
        self.requests.data(file.take(*size))?;
        self.requests.flush()?;
        self.ok("put-object")?;
        self.request("verify-object", wanted)?;
        self.requests.flush()?;
        self.ok("verify-object")?;
        Ok(true)
    }

    /// Receives an object and stores it.
    fn get(
        &mut self,
        store: &LfsStore,
        wanted: &WantedObject<'_>,
        room: &dyn Fn(u64) -> Result<(), String>,
    ) -> Result<(), LfsSshError> {
        let LfsPointer { oid, size } = wanted.pointer;
        room(*size).map_err(LfsSshError::NoRoom)?;
        self.request("get-object", wanted)?;
        self.requests.flush()?;
        let head = self.head()?;
        if head.status != 200 {
            return self.refusal("get-object", head);
        }
        let mut upload = store.upload(oid, *size).map_err(LfsSshError::Store)?;
        let received = match head.has_body {
            true => self.content(&mut upload, *size)?,
            false => Ok(()),
        };
        let stored = received.and_then(|()| upload.finish());
        stored.map_err(LfsSshError::Store)
    }

    /// Reads the content of an object. What is too long is read to its end all the same, since other objects follow.
    fn content(
        &mut self,
        upload: &mut LfsUpload,
        size: u64,
    ) -> Result<Result<(), UploadError>, LfsSshError> {
        let (mut left, mut received) = (size.saturating_add(MAX_EXCESS), Ok(()));
        loop {
            let data = match self.answers.read()? {
                Packet::Flush => return Ok(received),
                Packet::Data(data) if !data.is_empty() => data,
                Packet::Data(_) | Packet::Delimiter => return Err(MALFORMED_BODY),
            };
            let rest = left.checked_sub(data.len() as u64);
            left = rest.ok_or(LfsSshError::Protocol("it sends more than the object"))?;
            if received.is_err() {
                continue;
            }
            match upload.write(data) {
                Err(error @ UploadError::Size { .. }) => received = Err(error),
                written => written.map_err(LfsSshError::Store)?,
            }
        }
    }

    fn request(
        &mut self,
        request: &'static str,
        wanted: &WantedObject<'_>,
    ) -> Result<(), LfsSshError> {
        let LfsPointer { oid, size } = wanted.pointer;
        self.requests.line(&format!("{request} {oid}"))?;
        self.requests.line(&format!("size={size}"))?;
        for argument in &wanted.arguments {
            self.requests.line(argument)?;
        }
        Ok(())
    }

    /// Reads an answer of success. Returns the lines of its body.
    fn ok(&mut self, request: &'static str) -> Result<Vec<String>, LfsSshError> {
        let head = self.head()?;
        match head.status {
            200..=299 if head.has_body => self.lines_to_flush(),
            200..=299 => Ok(Vec::new()),
            _ => self.refusal(request, head),
        }
    }

    /// Reads what follows the head of an answer that is no success.
    fn refusal<T>(&mut self, request: &'static str, head: AnswerHead) -> Result<T, LfsSshError> {
        let mut lines = head.arguments;
        if head.has_body {
            lines.extend(self.lines_to_flush()?);
        }
        Err(LfsSshError::Status {
            request,
            status: head.status,
            words: excerpt(&single_line(&lines.join("; ")), MAX_WORDS),
        })
    }

    fn head(&mut self) -> Result<AnswerHead, LfsSshError> {
        let mut lines = Vec::new();
        let has_body = loop {
            match self.answers.read()? {
                Packet::Flush => break false,
                Packet::Delimiter => break true,
                Packet::Data(data) => push_line(&mut lines, data)?,
            }
        };
        let status = lines.first().and_then(|line| line.strip_prefix("status "));
        let status = status.and_then(|status| status.parse().ok());
        let status = status.ok_or(LfsSshError::Protocol("its answer has no status"))?;
        lines.remove(0);
        Ok(AnswerHead {
            status,
            arguments: lines,
            has_body,
        })
    }

    fn lines_to_flush(&mut self) -> Result<Vec<String>, LfsSshError> {
        let mut lines = Vec::new();
        loop {
            match self.answers.read()? {
                Packet::Flush => return Ok(lines),
                Packet::Delimiter => return Err(MALFORMED_BODY),
                Packet::Data(data) => push_line(&mut lines, data)?,
            }
        }
    }
}

/// An answer could go on like this for ever, and transfer nothing.
const MALFORMED_BODY: LfsSshError =
    LfsSshError::Protocol("it sends a packet without data, or one that begins another part");

/// Whether a status says something of one object alone.
fn is_of_object(status: u16) -> bool {
    !matches!(status, 401 | 408 | 429 | 500..)
}

fn push_line(lines: &mut Vec<String>, data: &[u8]) -> Result<(), LfsSshError> {
    if data.is_empty() {
        return Err(MALFORMED_BODY);
    }
    if lines.len() == MAX_LINES {
        return Err(LfsSshError::Protocol("its answer has too many lines"));
    }
    let line = data.strip_suffix(b"\n").unwrap_or(data);
    lines.push(String::from_utf8_lossy(line).into_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf hello | sha256sum`
    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    const EMPTY: &str = "0004";

    /// What another side sends: lines, a packet without data, and the packets `|` and `.` that end a part and a message.
    fn sent(parts: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in parts {
            let mut writer = PacketWriter::new(&mut bytes);
            match *part {
                EMPTY => bytes.extend(EMPTY.as_bytes()),
                "|" => writer.delimiter().unwrap(),
                "." => writer.flush().unwrap(),
                line => writer.line(line).unwrap(),
            }
        }
        bytes
    }

    fn session(direction: LfsDirection, parts: &[&str]) -> LfsSshSession {
        let input = Box::new(io::Cursor::new(sent(parts)));
        let output = Box::new(io::sink());
        LfsSshSession::new(input, output, direction, &LfsProgress::default())
    }

    fn hello() -> [LfsPointer; 1] {
        let oid = HELLO.parse().unwrap();
        [LfsPointer { oid, size: 5 }]
    }

    #[test]
    fn another_side_without_the_protocol_is_told_apart() {
        let begun = |parts: &[&str]| {
            let begun = session(LfsDirection::Upload, parts).begin();
            begun.map_err(|error| error.to_string())
        };
        assert_eq!(
            begun(&["version=1", "locking", ".", "status 200", "."]),
            Ok(())
        );
        for (parts, problem) in [
            (&[][..], "the connection ended in the middle of a message"),
            (&["version=2", "."], "it does not offer version 1"),
            (
                &["version=1", ".", "hello", "."],
                "its answer has no status",
            ),
            (
                &["version=1", ".", "status 400", "|", "go\u{7} away", "."],
                "answered 400 to `version`: go",
            ),
        ] {
            let error = begun(parts).unwrap_err();
            assert!(error.contains(problem), "{problem}: {error}");
        }
        let endless: Vec<&str> = std::iter::repeat_n("line", MAX_LINES + 1).collect();
        let error = begun(&endless).unwrap_err();
        assert!(error.contains("too many lines"), "{error}");
    }

    #[test]
    fn what_another_side_sends_is_stored_only_if_it_is_the_object() {
        let folder = tempfile::tempdir().unwrap();
        let store = LfsStore::of(folder.path());
        let batch = format!("{HELLO} 5 download");
        let fetched = |parts: &[&str], room: &dyn Fn(u64) -> Result<(), String>| {
            let parts = [&["status 200", "|", &batch, "."], parts].concat();
            let transferred =
                session(LfsDirection::Download, &parts).transfer(&store, &hello(), room);
            assert_eq!(
                std::fs::read_dir(folder.path().join("lfs/tmp")).map_or(0, Iterator::count),
                0
            );
            transferred.map_err(|error| quire_types::error_chain::chain(&error))
        };
        let room = |_| Ok(());
        // The session goes on after what is only wrong.
        for (part, words) in [
            ("hell", "has the SHA-256"),
            ("hello and more", "bytes arrived instead of 5"),
        ] {
            let wrong = fetched(&["status 200", "size=5", "|", part, "."], &room).unwrap();
            assert!(wrong.refused[0].words.contains(words), "{wrong:?}");
        }
        let endless = "more".repeat(16_000);
        let endless: Vec<&str> = [&["status 200", "|"][..], &[endless.as_str(); 20]].concat();
        let endless = fetched(&endless, &room).unwrap_err();
        assert!(endless.contains("more than the object"), "{endless}");
        for body in [&["status 200", "|", "|"][..], &["status 200", "|", EMPTY]] {
            let malformed = fetched(body, &room).unwrap_err();
            assert!(malformed.contains("a packet without data"), "{malformed}");
        }
        let cut = fetched(&["status 200", "size=5", "|", "hel"], &room);
        assert!(cut.unwrap_err().contains("the connection ended"));
        let full = fetched(&[], &|size| Err(format!("no room for {size}")));
        assert_eq!(full.unwrap_err(), "no room for 5");
        let missing = fetched(&["status 404", "|", "not here", "."], &room).unwrap();
        assert_eq!((missing.absent.len(), missing.moved), (1, 0));
        let busy = fetched(&["status 503", "|", "no", "."], &room);
        assert!(busy.unwrap_err().contains("answered 503"));
        let refused = fetched(&["status 403", "|", "no", "."], &room).unwrap();
        assert_eq!(refused.refused[0].words, "403: no");
        assert_eq!(store.size(&hello()[0].oid).unwrap(), None);
    }

    #[test]
    fn objects_that_were_not_asked_for_are_not_sent() {
        let folder = tempfile::tempdir().unwrap();
        let store = LfsStore::of(folder.path());
        let other = format!("{} 5 upload", "a".repeat(64));
        let answered = |line: &str| {
            let parts = ["status 200", "|", line, "."];
            let mut session = session(LfsDirection::Upload, &parts);
            let transferred = session.transfer(&store, &hello(), &|_| Ok(()));
            transferred.map_err(|error| error.to_string())
        };
        let error = answered(&other).unwrap_err();
        assert!(error.contains("it was not asked about"), "{error}");
        assert_eq!(
            answered(&format!("{HELLO} 5 noop")),
            Ok(TransferredObjects::default())
        );
        for line in [format!("{HELLO} 5 download"), format!("{HELLO} 5")] {
            let refused = answered(&line).unwrap().refused;
            assert!(refused[0].words.contains("asks for `"), "{refused:?}");
        }
        let absent = answered(&format!("{HELLO} 5 upload id=1")).unwrap();
        assert_eq!(absent.absent.len(), 1, "it is not here");
        let silent = |direction| {
            let mut session = session(direction, &["status 200", "|", "."]);
            let transferred = session.transfer(&store, &hello(), &|_| Ok(())).unwrap();
            (transferred.absent.len(), transferred.refused.len())
        };
        assert_eq!(silent(LfsDirection::Upload), (0, 1));
        assert_eq!(silent(LfsDirection::Download), (1, 0));
        let parts = ["status 200", "|", &format!("{HELLO} 5 noop"), "."];
        let mut session = session(LfsDirection::Download, &parts);
        let transferred = session.transfer(&store, &hello(), &|_| Ok(())).unwrap();
        assert_eq!(transferred.absent.len(), 1, "it is on neither side");
    }
}
