//! `quire run attach`: a shell, or another command, in the container of a run.
//!
//! There is no terminal on the way (SSH sessions of the appliance have none), so the shell reads
//! lines and shows no prompt. The server runs it; bytes go over a socket of its own.

use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;

use super::manage::{Context, Format};
use super::report::Failure;
use crate::names::RunId;
use crate::run::attach::{
    AttachAnswer, AttachRequest, FrameKind, HEAD, MAX_FRAME, head, parse_head,
};

#[derive(clap::Args)]
pub(super) struct AttachArgs {
    /// The run.
    pub(super) id: String,
    /// What to run in place of a shell.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<String>,
    #[command(flatten)]
    pub(super) format: Format,
}

/// Runs the command to its end, which is the exit code.
pub(super) fn attach(context: &Context<'_>, run: RunId, args: &AttachArgs) -> Result<(), Failure> {
    let lost = |error: io::Error| {
        Failure::failed(format!("the connection to the server broke off: {error}"))
    };
    let stream = UnixStream::connect(context.paths.attach_socket()).map_err(|error| {
        Failure::failed(format!("the server is not there: {error}")).hint("`status` tells more")
    })?;
    let mut writer = stream.try_clone().map_err(lost)?;
    let mut reader = BufReader::new(stream);
    let argv = if args.command.is_empty() {
        vec!["sh".to_owned()]
    } else {
        args.command.clone()
    };
    let mut request = serde_json::to_vec(&AttachRequest { run, argv })
        .map_err(|error| Failure::usage(error.to_string()))?;
    request.push(b'\n');
    writer.write_all(&request).map_err(lost)?;
    let mut line = String::new();
    reader.read_line(&mut line).map_err(lost)?;
    let answer: AttachAnswer = serde_json::from_str(&line).map_err(|error| {
        Failure::failed(format!("the server's answer cannot be understood: {error}"))
    })?;
    if let Some(error) = answer.error {
        return Err(Failure::failed(error));
    }
    if args.command.is_empty() && (context.caller.remote || io::stdin().is_terminal()) {
        eprintln!(
            "quire: a shell in run {run}, without a terminal and so without a prompt; `exit` or the end of input leaves it"
        );
    }
    std::thread::spawn(move || feed(&mut writer));
    let code = show(&mut reader).map_err(lost)?;
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(Failure::silent(
            u8::try_from(code).unwrap_or(super::report::FAILED),
        )),
        None => Err(Failure::failed(
            "the command's end is not known: its container is gone",
        )),
    }
}

/// Passes standard input on, to its end.
fn feed(writer: &mut UnixStream) {
    let mut stdin = io::stdin().lock();
    let mut buffer = vec![0; MAX_FRAME];
    loop {
        let read = match stdin.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        let sent = writer
            .write_all(&head(FrameKind::Input, read))
            .and_then(|()| writer.write_all(&buffer[..read]));
        if read == 0 || sent.is_err() {
            return;
        }
    }
}

/// Shows output until the command ends; gives its exit code.
fn show(reader: &mut impl Read) -> io::Result<Option<i32>> {
    loop {
        let mut start = [0; HEAD];
        reader.read_exact(&mut start)?;
        let (kind, length) = parse_head(start).ok_or(io::ErrorKind::InvalidData)?;
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes)?;
        match kind {
            FrameKind::Stdout => io::stdout()
                .write_all(&bytes)
                .and_then(|()| io::stdout().flush())?,
            FrameKind::Stderr => io::stderr().write_all(&bytes)?,
            FrameKind::Exit => return Ok(String::from_utf8_lossy(&bytes).parse().ok()),
            FrameKind::Input => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
