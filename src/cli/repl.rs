//! `quire run repl`: evaluates what a person types with the tools of a job, in the container of a run.
//!
//! On a terminal there is a prompt with a line editor. Otherwise standard input is evaluated entry by entry, and the
//! exit code is that of a failure if one of them failed.

use std::io::{self, BufRead, IsTerminal};

use nix::sys::signal::{SigSet, Signal};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::args::OutputArgs;
use super::attach::{AttachReader, AttachWriter, connect, connection_lost, print_until_end, send};
use super::context::Context;
use super::error::{CommandError, FAILED};
use super::output::Output;
use quire_pipeline::repl::{EntryState, TOOLS, as_job, entry_state, with_lasting_names};
use quire_server::control::attach_frames::{AttachedProgram, FrameKind, MAX_FRAME};
use quire_types::names::RunId;
use quire_types::run::RunSelector;

#[derive(clap::Args)]
pub(super) struct ReplArgs {
    /// The run: `#14`, `tally#14`, `latest`, REPOSITORY@BRANCH, or the beginning or end of its id
    pub(super) run: RunSelector,
    #[command(flatten)]
    pub(super) format: OutputArgs,
}

/// Where lines come from.
enum EntrySource {
    Terminal(Box<DefaultEditor>),
    Pipe,
}

impl EntrySource {
    /// On a terminal, Ctrl-C ends the entry that is being evaluated.
    fn open(writer: &AttachWriter) -> Result<Self, CommandError> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(Self::Pipe);
        }
        let failed = |error: &dyn std::fmt::Display| {
            CommandError::failed(format!("the terminal cannot be used: {error}"))
        };
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.thread_block().map_err(|error| failed(&error))?;
        let writer = writer.clone();
        std::thread::spawn(move || {
            while signals.wait().is_ok() && send(&writer, FrameKind::Interrupt, &[]).is_ok() {}
        });
        let editor = DefaultEditor::new().map_err(|error| failed(&error))?;
        Ok(Self::Terminal(Box::new(editor)))
    }

    /// Reads a line, without its end; `None` at the end of the input. `Err` discards what was typed so far.
    fn line(&mut self, is_first: bool) -> Result<Option<String>, ()> {
        match self {
            Self::Terminal(editor) => match editor.readline(if is_first { "> " } else { ".. " }) {
                Ok(line) => {
                    let _ = editor.add_history_entry(&line);
                    Ok(Some(line))
                }
                Err(ReadlineError::Interrupted) => Err(()),
                Err(_) => Ok(None),
            },
            Self::Pipe => {
                let mut line = String::new();
                match io::stdin().lock().read_line(&mut line) {
                    Ok(1..) => Ok(Some(line.trim_end_matches('\n').to_owned())),
                    Ok(0) | Err(_) => Ok(None),
                }
            }
        }
    }

    /// Reads an entry; `None` at the end of the input.
    fn entry(&mut self) -> Option<String> {
        let mut entry = String::new();
        loop {
            match self.line(entry.is_empty()) {
                Ok(Some(line)) => entry.push_str(&line),
                Ok(None) if entry_state(&entry) == EntryState::Empty => return None,
                // The compiler says what is not closed.
                Ok(None) => return Some(entry),
                Err(()) => {
                    entry.clear();
                    continue;
                }
            }
            match entry_state(&entry) {
                EntryState::Complete => return Some(entry),
                EntryState::Empty => entry.clear(),
                EntryState::Open => entry.push('\n'),
            }
        }
    }
}

/// Evaluates entries until the end of the input.
pub(super) fn repl(
    context: &Context<'_>,
    run: RunId,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let (mut reader, writer) = connect(context, run, AttachedProgram::Repl)?;
    let mut input = EntrySource::open(&writer)?;
    if matches!(input, EntrySource::Terminal(_)) {
        println!(
            "Fennel in the container of run {run}, with the tools of a job: {}.",
            TOOLS.join(", ")
        );
        println!("Ctrl-C ends what is running, Ctrl-D ends the session.");
    }
    let mut worked = Vec::new();
    let mut failed = false;
    while let Some(entry) = input.entry() {
        match evaluate(&entry, &mut reader, &writer)? {
            None => worked.push(entry),
            Some(reason) => {
                failed = true;
                eprintln!("quire: {reason}");
            }
        }
    }
    if !worked.is_empty() {
        out.line("\n;; What worked, as a job:")?;
        out.line(as_job(&worked).trim_end())?;
    }
    if failed && matches!(input, EntrySource::Pipe) {
        return Err(CommandError::exit_only(FAILED));
    }
    Ok(())
}

/// Evaluates one entry and prints its output. Returns why it failed, or `None`.
fn evaluate(
    entry: &str,
    reader: &mut AttachReader,
    writer: &AttachWriter,
) -> Result<Option<String>, CommandError> {
    let text = with_lasting_names(entry);
    if text.len() > MAX_FRAME {
        return Ok(Some(format!(
            "the entry is longer than {} KiB",
            MAX_FRAME >> 10
        )));
    }
    let end = send(writer, FrameKind::Input, text.as_bytes())
        .and_then(|()| print_until_end(reader))
        .map_err(|error| connection_lost(&error))?;
    match end {
        (FrameKind::EntryEnd, reason) if reason.is_empty() => Ok(None),
        (FrameKind::EntryEnd, reason) => Ok(Some(String::from_utf8_lossy(&reason).into_owned())),
        _ => Err(connection_lost(&io::ErrorKind::InvalidData.into())),
    }
}
