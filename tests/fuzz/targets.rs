//! What is fed with foreign bytes, and what must hold of it whatever they are. The fuzz targets
//! call one function each; `tests/it/integration/corpus.rs` calls all of them with the corpus.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each target uses one function; a failure is a finding"
)]

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use quire::ssh::command::{SshCommand, parse};
use quire::ssh::lfs::request::{LfsRequest, read_head, read_objects};
use quire_git::lfs::LfsPointer;
use quire_git::lfs::packets::{Packet, PacketReader};
use quire_git::read::{
    CodeCursor, HistoryCursor, PathCursor, PathFilters, PathGlobs, RevPath, TextPattern, TreePath,
};
use quire_pipeline::driver::protocol::{
    EncodedBytes, FromDriver, Language, PipelineSource, ToDriver,
};
use quire_pipeline::driver::register_in_process;
use quire_pipeline::{JobTracker, Pipeline, SourceFile};
use quire_run_files::logs::Cursor;
use quire_run_files::logs::line::{MAX_TEXT_BYTES, Parser, Stamp, encode};
use quire_server::control::protocol::{ControlRequest, ControlResponse};
use quire_step::{
    ChannelToken, FIRST_MESSAGE_LENGTH, FrameDecoder, FromHelper, HelperHandshake, SecureChannel,
    TOKEN_BYTES, ToHelper, answer_helper,
};
use quire_types::image_reference::ImageReference;
use quire_types::names::{EventId, JobName, ObjectId, RefName, RepoName, RunId};
use quire_types::push_event::PushEvent;
use quire_types::secret::{Redactor, Secret};

/// Takes bytes, and panics where what must hold of them does not.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const ALL: [(&str, Target); 17] = [
    ("channel", channel),
    ("driver_line", driver_line),
    ("hook_input", hook_input),
    ("image_reference", image_reference),
    ("lfs_request", lfs_request),
    ("log_line", log_line),
    ("names", names),
    ("path_filters", path_filters),
    ("pipeline_source", pipeline_source),
    ("redaction", redaction),
    ("rev_path", rev_path),
    ("search_query", search_query),
    ("socket_line", socket_line),
    ("spool_event", spool_event),
    ("ssh_command", ssh_command),
    ("step_from_helper", step_from_helper),
    ("step_to_helper", step_to_helper),
];

/// The filters of a commit-graph: the first byte says how many commits there are, the second how long the path is.
pub fn path_filters(data: &[u8]) {
    let [commits, length, rest @ ..] = data else {
        return;
    };
    let (path, rest) = rest.split_at(rest.len().min(usize::from(*length)));
    let (index, chunk) = rest.split_at(rest.len().min(4 * usize::from(*commits)));
    let Some(filters) = PathFilters::parse(index.to_vec(), chunk.to_vec()) else {
        return;
    };
    assert_eq!(filters.len(), index.len() / 4);
    let keys = TreePath::parse(path).and_then(|path| filters.keys(&path));
    if let Some(keys) = keys {
        for place in [0, 1, 2, u32::from(*commits), u32::MAX] {
            let is_there = usize::try_from(place).is_ok_and(|place| place < filters.len());
            assert!(filters.may_have_changed(place, &keys) || is_there);
        }
    }
}

/// The part of a page's address that names a revision and a path, and the cursor of a history.
pub fn rev_path(data: &[u8]) {
    if let Some(path) = TreePath::parse(data) {
        assert_eq!(TreePath::parse(path.as_bytes()), Some(path.clone()));
        assert!(!path.as_bytes().contains(&0) && !path.as_bytes().starts_with(b"/"));
        assert!(path.parts().all(|part| !part.is_empty()));
        let mut joined = TreePath::default();
        for part in path.parts() {
            joined = joined.join(part);
        }
        assert_eq!(joined, path);
        assert_eq!(RevPath::parse(data).is_some(), !path.is_root());
    } else {
        assert!(RevPath::parse(data).is_none());
    }
    let cursor = std::str::from_utf8(data)
        .ok()
        .and_then(HistoryCursor::parse);
    if let Some(cursor) = cursor {
        assert_eq!(HistoryCursor::parse(&cursor.to_string()), Some(cursor));
    }
}

/// The parts of a search page's address: text or regular expression, globs, and where to go on.
pub fn search_query(data: &[u8]) {
    if let Some(cursor) = CodeCursor::parse(data) {
        assert_eq!(CodeCursor::parse(&cursor.to_bytes()), Some(cursor));
    }
    if let Some(cursor) = PathCursor::parse(data) {
        assert_eq!(PathCursor::parse(&cursor.to_bytes()), Some(cursor));
    }
    let _ = PathGlobs::parse(data);
    if let Some(path) = TreePath::parse(data) {
        assert!(PathGlobs::parse(&PathGlobs::exact(&path)).is_ok());
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(pattern) = TextPattern::literal(text) {
        assert_eq!(text.is_empty(), pattern.marks_in(text).is_empty());
    }
    if let Ok(pattern) = TextPattern::regex(text) {
        let mut end = 0;
        for found in pattern.marks_in(text) {
            assert!(end <= found.start && !found.is_empty());
            assert!(!data[found.clone()].contains(&b'\n'), "{text:?}");
            end = found.end;
        }
    }
}

/// `SSH_ORIGINAL_COMMAND`: an answer from the closed set, or one printable line.
pub fn ssh_command(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match parse(Some(text)) {
        Ok(SshCommand::Transport(_, repo)) => {
            stays_inside(&repo);
            // What a client writes chooses among three programs, and nothing else of their arguments.
            assert!(unquoted(text).contains("git"), "{text:?}");
        }
        Ok(SshCommand::Lfs(_, repo)) => {
            stays_inside(&repo);
            assert!(unquoted(text).contains("git-lfs-transfer"), "{text:?}");
        }
        Ok(SshCommand::Manage(words)) => {
            assert!(!words.is_empty());
            assert!(!words[0].starts_with("git-"), "{words:?}");
        }
        Ok(SshCommand::Greeting) => {}
        Err(refusal) => {
            let line = refusal.to_string();
            assert!(
                !line.contains(char::is_control) && line.len() < 1000,
                "{line:?}"
            );
        }
    }
}

/// A command without the characters with which a shell quotes: `'git'-upload-pack` is a spelling of the program, too.
fn unquoted(text: &str) -> String {
    text.replace("\\\n", "").replace(['\'', '"', '\\'], "")
}

/// What git-lfs sends: requests in order until the connection ends or is out of order. And pointers in commits.
pub fn lfs_request(data: &[u8]) {
    if let Some(pointer) = LfsPointer::parse(data) {
        is_oid(pointer.oid.as_str());
    }
    let mut packets = PacketReader::new(data);
    while let Ok(Some(head)) = read_head(&mut packets) {
        match head.request {
            Ok(LfsRequest::PutObject(object) | LfsRequest::VerifyObject(object)) => {
                is_oid(object.oid.as_str());
            }
            Ok(LfsRequest::GetObject(oid)) => is_oid(oid.as_str()),
            Ok(LfsRequest::Batch { .. }) if head.has_body => {
                if let Ok(Ok(objects)) = read_objects(&mut packets) {
                    objects.iter().for_each(|one| is_oid(one.oid.as_str()));
                }
                continue;
            }
            Ok(LfsRequest::Lock { path }) => {
                assert!(!path.is_empty() && !path.contains(char::is_control));
            }
            Ok(_) => {}
            Err(refusal) => {
                let line = refusal.to_string();
                assert!(
                    !line.contains(char::is_control) && line.len() < 1000,
                    "{line:?}"
                );
            }
        }
        while head.has_body && !matches!(packets.read(), Ok(Packet::Flush) | Err(_)) {}
    }
}

fn is_oid(oid: &str) {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    assert!(oid.len() == 64 && oid.bytes().all(is_digit), "{oid:?}");
}

fn stays_inside(repo: &RepoName) {
    let name = repo.as_str();
    assert!(
        !name.starts_with(['/', '.', '-']) && !name.contains("..") && name.split('/').count() <= 2,
        "{name:?}"
    );
    assert!(
        name.split('/')
            .all(|part| !part.is_empty() && part.len() <= 100 && !part.ends_with(".lock")),
        "{name:?}"
    );
}

/// A value, a line feed, and output: the value is not in what a log or a page shows of the output, and however the output is
/// cut, it is redacted in the same way.
pub fn redaction(data: &[u8]) {
    let Some(end) = data.iter().position(|b| *b == b'\n') else {
        return;
    };
    let (value, output) = (&data[..end], &data[end + 1..]);
    if !(8..=64).contains(&value.len()) || !value.iter().all(u8::is_ascii_alphanumeric) {
        return;
    }
    let value = String::from_utf8_lossy(value).into_owned();
    // The name shares no character with a value.
    let redactor = Redactor::new([("-", &Secret::new(value.clone()))]);
    let whole = redactor.redact_bytes(output).into_owned();
    for size in [1, 3, 64] {
        let mut stream = redactor.stream();
        let mut shown = Vec::new();
        for chunk in output.chunks(size) {
            shown.extend_from_slice(&stream.push(chunk));
        }
        shown.extend_from_slice(&stream.finish());
        assert_eq!(shown, whole, "in pieces of {size} bytes");
    }
    for line in whole.split(|b| *b == b'\n') {
        let shown = quire_types::ansi::strip(line);
        assert!(!shown.contains(&value), "{shown:?} has {value:?}");
    }
}

/// A spool file: an event that is the same when it is written and read again, or damage in words.
pub fn spool_event(data: &[u8]) {
    match quire_server::intake::parse_event(data) {
        Ok(event) => {
            stays_inside(&event.repo);
            let again: PushEvent =
                serde_json::from_slice(&serde_json::to_vec(&event).unwrap()).unwrap();
            assert_eq!(again, event);
        }
        Err(damage) => assert!(!damage.to_string().is_empty()),
    }
}

/// A text that is a name is spelled in one way.
fn one_spelling<T: FromStr + Display>(text: &str) -> Option<T> {
    let name: T = text.parse().ok()?;
    assert_eq!(name.to_string(), text);
    Some(name)
}

/// Names of all kinds.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(repo) = text.parse::<RepoName>() {
        stays_inside(&repo);
        assert_eq!(repo.as_str().parse(), Ok(repo));
    }
    if let Some(name) = one_spelling::<RefName>(text) {
        assert!(!name.as_str().contains("..") && !name.short().is_empty());
    }
    if let Some(id) = one_spelling::<ObjectId>(text) {
        assert_eq!(id.short().len(), 12);
    }
    if let Some(job) = one_spelling::<JobName>(text) {
        assert!(!job.as_str().contains('/') && !job.as_str().starts_with('.'));
    }
    one_spelling::<RunId>(text);
    one_spelling::<EventId>(text);
    one_spelling::<Cursor>(text);
}

/// A reference to an image: one that is valid is a part of a URL as it is, and stays itself with its
/// tag written out.
pub fn image_reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Some(reference) = one_spelling::<ImageReference>(text) else {
        return;
    };
    for name in [reference.full_name(), reference.pulled_name()] {
        let again: ImageReference = name.parse().unwrap();
        assert_eq!(again.full_name(), name);
        assert_eq!(again.registry(), reference.registry());
        let has_meaning =
            |c: char| matches!(c, '#' | '?' | '%' | '\\' | '&') || c <= ' ' || !c.is_ascii();
        assert!(!name.contains(has_meaning), "{name:?}");
        let is_part = |part: &str| !matches!(part, "" | "." | "..");
        assert!(name.split('/').all(is_part), "{name:?}");
    }
    if let Some(registry) = reference.registry() {
        assert!(quire_types::image_reference::is_registry(registry));
    }
}

/// Lines of a log file, and positions in it.
pub fn log_line(data: &[u8]) {
    let mut parser = Parser::default();
    for line in data.split(|byte| *byte == b'\n') {
        let Some(parsed) = parser.parse(line) else {
            continue;
        };
        // Another parser, that remembers no time, reads the same.
        assert_eq!(Parser::default().parse(line), Some(parsed));
        if parsed.text.len() <= MAX_TEXT_BYTES {
            let mut written = Vec::new();
            encode(
                &mut written,
                &Stamp::new(parsed.time),
                parsed.stream,
                parsed.partial,
                parsed.text,
            );
            assert_eq!(written.pop(), Some(b'\n'));
            let again = Parser::default().parse(&written).unwrap();
            assert_eq!(
                (again.stream, again.partial, again.text),
                (parsed.stream, parsed.partial, parsed.text)
            );
        }
    }
}

/// A line of the driver's or the runner's; what was registered is checked, and a valid graph can be played.
pub fn driver_line(data: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<ToDriver>(data) {
        assert!(serde_json::from_slice::<ToDriver>(&serde_json::to_vec(&message).unwrap()).is_ok());
    }
    // Bytes of any kind come back as they are; what is no base64 is an error.
    assert_eq!(EncodedBytes::new(data.to_vec()).into_bytes().unwrap(), data);
    let _ = EncodedBytes::Encoded {
        base64: String::from_utf8_lossy(data).into_owned(),
    }
    .into_bytes();
    let Ok(message) = serde_json::from_slice::<FromDriver>(data) else {
        return;
    };
    assert!(serde_json::from_slice::<FromDriver>(&serde_json::to_vec(&message).unwrap()).is_ok());
    if let FromDriver::Registered(registration) = message {
        let text = SourceFile {
            file: ".quire/ci.fnl".to_owned(),
            text: "one\ntwo\u{fc}\n\tthree".to_owned(),
        };
        for has_dockerfile in [false, true] {
            match Pipeline::check(registration.clone(), &text, has_dockerfile) {
                Ok(pipeline) => {
                    let Ok(tracker) = JobTracker::new(&pipeline, "quire/push", &[]) else {
                        continue;
                    };
                    assert!(
                        !tracker.ready().is_empty() || tracker.outcome().is_some(),
                        "nothing to do and no end"
                    );
                }
                Err(diagnostics) => assert!(!diagnostics.is_empty()),
            }
        }
    }
}

/// A pipeline's file, Lua where it begins like a comment of it, else Fennel: its jobs, or what is
/// wrong with it in printable words; never more than the protocol can carry.
pub fn pipeline_source(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (language, file) = if text.starts_with("--") {
        (Language::Lua, ".quire/ci.lua")
    } else {
        (Language::Fennel, ".quire/ci.fnl")
    };
    let helpers = vec![
        (".quire/h.fnl".to_owned(), "{:twice #(* 2 $)}".to_owned()),
        (
            ".quire/m.fnl".to_owned(),
            "{:same (fn [form] `(do ,form ,form))}".to_owned(),
        ),
    ];
    let source = PipelineSource {
        language,
        file: file.to_owned(),
        text: text.to_owned(),
        helpers,
    };
    let written = source.pipeline_text();
    let checked = register_in_process(source, Duration::from_secs(2)).and_then(|registration| {
        let line = serde_json::to_vec(&FromDriver::Registered(registration.clone())).unwrap();
        let again = serde_json::from_slice::<FromDriver>(&line).unwrap();
        assert_eq!(again, FromDriver::Registered(registration.clone()));
        Pipeline::check(registration, &written, false)
    });
    match checked {
        Ok(pipeline) => assert!(!pipeline.jobs().is_empty()),
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty());
            for diagnostic in diagnostics {
                assert!(!diagnostic.message.is_empty());
                assert!(
                    diagnostic
                        .location
                        .is_none_or(|location| location.line > 0 && location.column > 0)
                );
                // The line is quoted from the file, and no longer than can be shown.
                assert!(
                    diagnostic
                        .source_line
                        .is_none_or(|line| line.chars().count() <= 400)
                );
            }
        }
    }
}

/// What git tells the hook.
pub fn hook_input(data: &[u8]) {
    if let Ok(moved) = quire::hook::read_refs(data) {
        let lines = data
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .count();
        assert_eq!(moved.refs.len() + moved.unsupported.len(), lines);
    }
}

/// A line on the event socket, in both directions.
pub fn socket_line(data: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<ControlRequest>(data) {
        let again: ControlRequest =
            serde_json::from_slice(&serde_json::to_vec(&request).unwrap()).unwrap();
        assert_eq!(again, request);
    }
    if let Ok(answer) = serde_json::from_slice::<ControlResponse>(data) {
        let again: ControlResponse =
            serde_json::from_slice(&serde_json::to_vec(&answer).unwrap()).unwrap();
        assert_eq!(again, answer);
    }
}

/// What the helper receives: frames that are the same when they are written and read again.
pub fn step_to_helper(data: &[u8]) {
    for_each_frame(data, |kind, body| {
        let frame = ToHelper::decode(kind, body).ok()?;
        let mut written = Vec::new();
        let tail = frame.encode(0, &mut written);
        Some([&written[quire_step::HEADER_LENGTH..], tail].concat())
    });
}

/// What a runner receives from a helper.
pub fn step_from_helper(data: &[u8]) {
    for_each_frame(data, |kind, body| {
        let frame = FromHelper::decode(kind, body).ok()?;
        let mut written = Vec::new();
        let tail = frame.encode(0, &mut written);
        Some([&written[quire_step::HEADER_LENGTH..], tail].concat())
    });
}

/// What an appliance receives from a helper that connects, or from one who has no token: a first message, and records
/// of which some were changed on their way.
pub fn channel(data: &[u8]) {
    let token = ChannelToken::from_random(&[7; TOKEN_BYTES]);
    let (handshake, first) = HelperHandshake::begin(&token, [1; 32]).unwrap();
    let answer = |message: &[u8; FIRST_MESSAGE_LENGTH], random: u8| {
        answer_helper(&token, message, [random; 32])
    };
    if let Some(message) = data.first_chunk::<FIRST_MESSAGE_LENGTH>() {
        let mut named = *message;
        named[..16].copy_from_slice(&token.id());
        for message in [*message, named] {
            assert!(answer(&message, 2).is_err() || message == first);
        }
    }
    // A channel that was opened with a copy of the message accepts nothing.
    let (_, mut copy) = answer(&first, 3).unwrap();
    assert_eq!(opened(&mut copy, data), b"");

    let (reply, mut appliance) = answer(&first, 2).unwrap();
    let mut helper = handshake.finish(&reply).unwrap();
    let (mut stream, mut plain, mut ends) = (Vec::new(), Vec::new(), vec![(0, 0)]);
    for text in ["a", "second", "the third record", &"x".repeat(200)] {
        helper.sender.seal(text.as_bytes(), &mut stream).unwrap();
        plain.extend_from_slice(text.as_bytes());
        ends.push((stream.len(), plain.len()));
    }
    // Three bytes are a place and what changes there.
    let mut changed = stream.clone();
    for [high, low, bits] in data.as_chunks::<3>().0 {
        let at = usize::from(u16::from_be_bytes([*high, *low])) % changed.len();
        changed[at] ^= bits;
    }
    let intact = changed
        .iter()
        .zip(&stream)
        .take_while(|(left, right)| left == right)
        .count();
    let whole = ends.iter().rfind(|(end, _)| *end <= intact).unwrap();
    assert_eq!(opened(&mut appliance, &changed), plain[..whole.1]);
}

/// What a channel returns for bytes that arrive in pieces.
fn opened(channel: &mut SecureChannel, bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    for piece in bytes.chunks(7) {
        if let Err(error) = channel.receiver.open(piece, &mut plain) {
            assert!(!error.to_string().is_empty());
            assert_eq!(channel.receiver.open(&[], &mut plain), Err(error));
        }
    }
    plain
}

/// Reads the frames of a stream that arrives in pieces. `again` decodes a frame and returns its body
/// as it is encoded again.
fn for_each_frame(data: &[u8], again: impl Fn(u8, &[u8]) -> Option<Vec<u8>>) {
    let mut decoder = FrameDecoder::new();
    for piece in data.chunks(7) {
        decoder.add(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some((header, body))) => {
                    if let Some(written) = again(header.kind, body) {
                        assert_eq!(written, body);
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    return;
                }
            }
        }
    }
}
