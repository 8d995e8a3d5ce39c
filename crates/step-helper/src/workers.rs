//! Starts the processes of tasks.

use quire_step::{StartTask, ToHelper};
use rustix::process::Pid;

use crate::owner::Owner;
use crate::report::{Reporter, TaskFailure};
use crate::stdio::{self, ChildStdio, TaskStdio};
use crate::task::{Task, TaskKind};
use crate::{command, files, home, sys, tree};

/// Starts the task that a frame begins; `None` if the frame begins none.
pub(crate) fn start(frame: &ToHelper<'_>) -> Option<Result<Task, TaskFailure>> {
    Some(match frame {
        ToHelper::Start(task) => start_command(task),
        ToHelper::Who { user } => start_worker(false, |_, reporter| home::who(user, reporter)),
        ToHelper::Tree {
            uid,
            gid,
            folder,
            caches,
        } => start_worker(true, |stdio, _| {
            let owner = Owner::new(*uid, *gid);
            caches
                .iter()
                .try_for_each(|cache| owner.take_cache(cache))?;
            tree::unpack(owner, folder, &stdio.input)
        }),
        ToHelper::Read { file, limit } => {
            start_worker(false, |stdio, _| files::read(file, *limit, &stdio.output))
        }
        ToHelper::Write(file) => start_worker(true, |stdio, _| files::write(file, &stdio.input)),
        ToHelper::Export(file) => {
            start_worker(false, |stdio, _| files::export(file, &stdio.output))
        }
        _ => return None,
    })
}

fn start_command(task: &StartTask<'_>) -> Result<Task, TaskFailure> {
    let stdio = match task.terminal {
        Some(size) => stdio::terminal(size)?,
        None => stdio::command_pipes(task.merge, task.input)?,
    };
    start_process(TaskKind::Command, stdio, |stdio, reporter| {
        command::run_nanny(task, stdio, reporter)
    })
}

/// A worker exits with 0 in any case, after a report if it failed: another end is that of a signal.
fn start_worker(
    with_input: bool,
    work: impl FnOnce(&ChildStdio, &Reporter) -> Result<(), TaskFailure>,
) -> Result<Task, TaskFailure> {
    let stdio = stdio::worker_pipes(with_input)?;
    start_process(TaskKind::Worker, stdio, |stdio, reporter| {
        sys::reset_signals();
        if let Err(failure) = work(stdio, reporter) {
            reporter.failed(&failure);
        }
        0
    })
}

fn start_process(
    kind: TaskKind,
    (child, task): (ChildStdio, TaskStdio),
    work: impl FnOnce(&ChildStdio, &Reporter) -> u8,
) -> Result<Task, TaskFailure> {
    let system = |errno| TaskFailure::system(errno, b"");
    let (read, write) = stdio::report_pipe().map_err(system)?;
    let reporter = Reporter::new(write);
    let process: Pid = sys::fork(|| {
        let [input, output, error] = child.raw_fds();
        sys::close_all_except(&mut [input, output, error, reporter.raw_fd()]);
        work(&child, &reporter)
    })
    .map_err(system)?;
    Ok(Task::new(kind, process, read, task))
}
