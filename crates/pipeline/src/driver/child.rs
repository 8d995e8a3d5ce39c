//! The child process: reads the pipeline, reports what it registers, then runs its jobs until
//! standard input is closed.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use super::compiled::CompiledFiles;
use super::evaluator::{Evaluator, LuaStates};
use super::modules::ENVIRONMENT;
use super::protocol::{FromDriver, PipelineSource, ToDriver};
use super::sandbox;
use super::stdio::{self, MessageReader, Received};
use crate::{Diagnostic, Registration};

/// How much a child with low priority adds to its nice value.
const NICE_INCREMENT: i32 = 10;

#[derive(Debug, Clone, Copy, Default)]
pub struct ChildOptions {
    /// Runs with a lower CPU priority.
    pub low_priority: bool,
    /// Runs even if the kernel does not support system call filters.
    pub allow_unsandboxed: bool,
}

/// The exit code of a child that could not enter its sandbox.
pub(super) const EXIT_UNSANDBOXED: u8 = 77;

/// Runs the child from the first message until standard input is closed.
#[must_use]
pub fn child_main(manner: ChildOptions) -> ExitCode {
    if manner.low_priority {
        // The priority is not essential, so a failure is ignored.
        let _ = rustix::process::nice(NICE_INCREMENT);
    }
    if let Err(error) = sandbox::enter()
        && !manner.allow_unsandboxed
    {
        eprintln!("{error}");
        return ExitCode::from(EXIT_UNSANDBOXED);
    }
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quire driver: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    // The states are loaded while the runner still reads the repository.
    let states = LuaStates::new();
    let mut reader = MessageReader::new(io::stdin());
    let (source, limit_ms, compiled) = match reader.next(true)? {
        Received::Message(message) => match *message {
            ToDriver::Register {
                source,
                limit_ms,
                compiled,
            } => (source, limit_ms, compiled),
            _ => {
                return Err(io::Error::other(
                    "the first message must register a pipeline",
                ));
            }
        },
        _ => return Ok(()),
    };
    let limit = Duration::from_millis(limit_ms);
    let Some(mut evaluator) = register(states, source, limit, compiled)? else {
        return Ok(());
    };
    loop {
        match reader.next(!evaluator.has_runnable())? {
            Received::Message(message) => evaluator.handle(*message)?,
            Received::WouldBlock => evaluator.step()?,
            Received::Eof => return Ok(()),
        }
    }
}

/// Evaluates the pipeline's file and reports the result. Returns `None` if it was rejected.
fn register(
    states: Result<LuaStates, crate::fennel::LuaError>,
    source: PipelineSource,
    limit: Duration,
    compiled: CompiledFiles,
) -> io::Result<Option<Evaluator>> {
    let (evaluator, registration) = match Evaluator::register(states, source, limit, compiled) {
        Ok(registered) => registered,
        Err(diagnostics) => {
            stdio::write_message(&FromDriver::Rejected { diagnostics })?;
            return Ok(None);
        }
    };
    let files = evaluator.take_compiled();
    if !files.is_empty() {
        // If this is too long for a message the parent's cache misses it, which does no harm.
        stdio::write_message(&FromDriver::Compiled { files })?;
    }
    if !stdio::write_message(&FromDriver::Registered(registration))? {
        let message = "the pipeline registers more than can be reported";
        let diagnostics = vec![evaluator.diagnostic(message)];
        stdio::write_message(&FromDriver::Rejected { diagnostics })?;
        return Ok(None);
    }
    Ok(Some(evaluator))
}

/// Evaluates a pipeline's file in the calling process, without a sandbox. Only for tests of the
/// evaluation itself; all other code starts a driver process.
///
/// # Errors
/// Returns what is wrong with the file.
pub fn register_in_process(
    source: PipelineSource,
    limit: Duration,
) -> Result<Registration, Vec<Diagnostic>> {
    let states = LuaStates::new();
    let lua = states.as_ref().ok().map(LuaStates::pipeline_lua);
    let registered = Evaluator::register(states, source, limit, CompiledFiles::new())
        .map(|(_, registration)| registration);
    // The functions in the Lua state hold the object that holds the state. A driver process frees
    // both by exiting; here the cycle has to be broken.
    if let Some(lua) = lua {
        let _ = lua.unset_named_registry_value(ENVIRONMENT);
        let _ = lua.gc_collect().and_then(|()| lua.gc_collect());
    }
    registered
}
