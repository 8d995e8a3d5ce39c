//! `quire run attach`: runs a shell, or another command, in the container of a run.
//!
//! The server starts the command and relays its input and output over the attach socket. On a
//! terminal the command has a terminal too; otherwise it has pipes, and a shell shows no prompt.

use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use super::args::OutputArgs;
use super::context::Context;
use super::error::CommandError;
use super::terminal::{RawTerminal, SizeChanges, size};
use quire_server::control::attach_frames::{
    AttachRequest, AttachResponse, AttachedProgram, FrameKind, HEADER_LEN, MAX_FRAME,
    TerminalRequest, decode_header, encode_header,
};
use quire_types::names::RunId;
use quire_types::run::RunSelector;
use quire_types::sync::lock;

#[derive(clap::Args)]
pub(super) struct AttachArgs {
    /// The run: `#14`, `tally#14`, `latest`, REPOSITORY@BRANCH, or the beginning or end of its id
    pub(super) run: RunSelector,
    /// The command to run instead of a shell
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<String>,
    #[command(flatten)]
    pub(super) format: OutputArgs,
}

/// Runs the command to its end. Its exit code becomes that of quire.
pub(super) fn attach(
    context: &Context<'_>,
    run: RunId,
    args: &AttachArgs,
) -> Result<(), CommandError> {
    let argv = if args.command.is_empty() {
        vec!["sh".to_owned()]
    } else {
        args.command.clone()
    };
    let changes = SizeChanges::watch()
        .map_err(|error| CommandError::failed(format!("cannot wait for signals: {error}")))?;
    let raw = RawTerminal::enter();
    let terminal = raw.as_ref().map(|_| {
        let (columns, rows) = size();
        TerminalRequest {
            columns,
            rows,
            kind: RawTerminal::kind(),
        }
    });
    let (mut reader, writer) = connect(context, run, AttachedProgram::Command { argv, terminal })?;
    if args.command.is_empty()
        && raw.is_none()
        && (context.caller.remote || io::stdin().is_terminal())
    {
        eprintln!(
            "quire: a shell in run {run}, without a terminal and therefore without a prompt; `exit` or the end of input closes it"
        );
    }
    if raw.is_some() {
        let writer = Arc::clone(&writer);
        std::thread::spawn(move || pass_sizes_on(&changes, &writer));
    }
    std::thread::spawn(move || feed(&writer));
    let code = show(&mut reader).map_err(|error| connection_lost(&error))?;
    drop(raw);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(CommandError::exit_only(
            u8::try_from(code).unwrap_or(super::error::FAILED),
        )),
        None => Err(CommandError::failed(
            "the exit code of the command is unknown because its container was removed",
        )),
    }
}

/// The reading end of a connection to the attach socket.
pub(super) type AttachReader = BufReader<UnixStream>;
/// The writing end, shared by threads.
pub(super) type AttachWriter = Arc<Mutex<UnixStream>>;

/// Asks the server to start a program in the container of a run.
pub(super) fn connect(
    context: &Context<'_>,
    run: RunId,
    program: AttachedProgram,
) -> Result<(AttachReader, AttachWriter), CommandError> {
    let stream = UnixStream::connect(context.paths.attach_socket()).map_err(|error| {
        CommandError::failed(format!("the server is not running: {error}"))
            .hint("`status` shows what is wrong")
    })?;
    let mut writer = stream
        .try_clone()
        .map_err(|error| connection_lost(&error))?;
    let mut reader = BufReader::new(stream);
    let mut request = serde_json::to_vec(&AttachRequest { run, program })
        .map_err(|error| CommandError::usage(error.to_string()))?;
    request.push(b'\n');
    let mut line = String::new();
    writer
        .write_all(&request)
        .and_then(|()| reader.read_line(&mut line))
        .map_err(|error| connection_lost(&error))?;
    let answer: AttachResponse = serde_json::from_str(&line).map_err(|error| {
        CommandError::failed(format!(
            "the server sent a response that is not valid JSON: {error}"
        ))
    })?;
    match answer.error {
        Some(error) => Err(CommandError::failed(error)),
        None => Ok((reader, Arc::new(Mutex::new(writer)))),
    }
}

pub(super) fn connection_lost(error: &io::Error) -> CommandError {
    CommandError::failed(format!("the connection to the server was lost: {error}"))
}

pub(super) fn send(writer: &Mutex<UnixStream>, kind: FrameKind, bytes: &[u8]) -> io::Result<()> {
    let mut writer = lock(writer);
    writer.write_all(&encode_header(kind, bytes.len()))?;
    writer.write_all(bytes)
}

/// Tells the server the size of the terminal each time it changes.
fn pass_sizes_on(changes: &SizeChanges, writer: &Mutex<UnixStream>) {
    while let Ok((columns, rows)) = changes.next() {
        let [a, b] = columns.to_be_bytes();
        let [c, d] = rows.to_be_bytes();
        if send(writer, FrameKind::Resize, &[a, b, c, d]).is_err() {
            return;
        }
    }
}

/// Sends standard input to the server until its end.
fn feed(writer: &Mutex<UnixStream>) {
    let mut stdin = io::stdin().lock();
    let mut buffer = vec![0; MAX_FRAME];
    loop {
        let read = match stdin.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        let sent = send(writer, FrameKind::Input, &buffer[..read]);
        if read == 0 || sent.is_err() {
            return;
        }
    }
}

/// Prints output until the command ends. Returns its exit code, or `None` if it is unknown.
fn show(reader: &mut AttachReader) -> io::Result<Option<i32>> {
    match print_until_end(reader)? {
        (FrameKind::Exit, code) => Ok(String::from_utf8_lossy(&code).parse().ok()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Prints output until a frame of another kind, and returns that one.
pub(super) fn print_until_end(reader: &mut AttachReader) -> io::Result<(FrameKind, Vec<u8>)> {
    loop {
        let mut start = [0; HEADER_LEN];
        reader.read_exact(&mut start)?;
        let (kind, length) = decode_header(start).ok_or(io::ErrorKind::InvalidData)?;
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes)?;
        match kind {
            FrameKind::Stdout => io::stdout()
                .write_all(&bytes)
                .and_then(|()| io::stdout().flush())?,
            FrameKind::Stderr => io::stderr().write_all(&bytes)?,
            other => return Ok((other, bytes)),
        }
    }
}
