//! Small commands of quire's own in a run's container, beside the run's.
//!
//! They run what the image (or the run) put at these paths, with no more rights than the run has:
//! what they say is a hint from inside, never trusted for anything but this run's own outcome.

use std::time::{Duration, Instant};

use futures_util::StreamExt;

use crate::docker::{DockerError, Engine, ExecSpec, Frame};

/// How much of their output is kept.
const MOST: usize = 64 << 10;

/// How long the engine may take to note that one has ended whose outputs are closed.
const PATIENCE: Duration = Duration::from_secs(15);

/// Runs a command; gives its exit code and the beginning of its output, errors included.
pub(super) async fn run(
    engine: &Engine,
    container: &str,
    user: Option<&str>,
    argv: &[&str],
) -> Result<(Option<i64>, String), DockerError> {
    let argv = argv.iter().map(|a| (*a).to_owned()).collect();
    let spec = ExecSpec {
        argv,
        env: Vec::new(),
        folder: Some("/".into()),
        stdin: false,
        user: user.map(str::to_owned),
    };
    let exec = engine.create_exec(container, &spec).await?;
    let mut started = engine.start_exec(&exec).await?;
    let mut kept = Vec::new();
    while let Some(frame) = started.output.next().await {
        let (Frame::Stdout(bytes) | Frame::Stderr(bytes)) = frame?;
        let room = MOST.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(&bytes[..room]);
    }
    Ok((
        exit_code(engine, &exec).await?,
        String::from_utf8_lossy(&kept).into_owned(),
    ))
}

/// Waits until a command that was started has a process, or has ended: before that there is nothing to be found of it.
pub(super) async fn begun(engine: &Engine, exec: &str) -> Result<(), DockerError> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        match engine.exec_state(exec).await {
            Ok(state) if !state.begun => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) if error.is_unavailable() => return Err(error),
            // An engine that knows it no more has seen it end.
            _ => break,
        }
    }
    Ok(())
}

pub(super) async fn exit_code(engine: &Engine, exec: &str) -> Result<Option<i64>, DockerError> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        let state = engine.exec_state(exec).await?;
        if !state.running || started.elapsed() > PATIENCE {
            return Ok(state.exit_code.filter(|_| !state.running));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// How many processes the kernel has ended in the container for want of memory; none when it
/// cannot be known. The engine itself says so only once the whole container has ended.
pub(super) async fn out_of_memory_kills(
    engine: &Engine,
    container: &str,
) -> Result<Option<u64>, DockerError> {
    // Cgroup v2 and v1; one of the two is missing.
    let files = [
        "cat",
        "/sys/fs/cgroup/memory.events",
        "/sys/fs/cgroup/memory/memory.oom_control",
    ];
    match tokio::time::timeout(PATIENCE, run(engine, container, None, &files)).await {
        Ok(asked) => asked.map(|(_, text)| count(&text)),
        Err(_) => Ok(None),
    }
}

fn count(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Why a file could not be given to somebody.
pub(super) enum NotGiven {
    /// The engine did not do its part.
    Engine(DockerError),
    /// What the command said.
    Refused(String),
}

impl NotGiven {
    pub(super) fn refused(words: &str) -> Self {
        Self::Refused(words.lines().next().unwrap_or("it failed").to_owned())
    }
}

impl From<DockerError> for NotGiven {
    fn from(error: DockerError) -> Self {
        Self::Engine(error)
    }
}

/// Gives a file, or a folder with everything in it but what is at the paths in `without`, to the image's user, where that is not root.
pub(super) async fn give(
    engine: &Engine,
    container: &str,
    folder: &str,
    user: &str,
    without: &[&str],
) -> Result<(), NotGiven> {
    let mut argv = vec!["find", folder];
    for path in without {
        argv.extend(["-path", path, "-prune", "-o"]);
    }
    // Not the symbolic links: what they lead to may lie elsewhere, and some storage drivers refuse to change a link itself.
    argv.extend(["!", "-type", "l", "-exec", "chown", user, "{}", "+"]);
    match run(engine, container, Some("0"), &argv).await? {
        (Some(0), _) => Ok(()),
        (_, words) => Err(NotGiven::refused(&words)),
    }
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn both_kernels_words() {
        assert_eq!(
            count("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            Some(2)
        );
        assert_eq!(
            count("low 0\nhigh 0\nmax 31\noom 1\noom_kill 1\noom_group_kill 0\n"),
            Some(1)
        );
        assert_eq!(count("cat: not found"), None);
    }
}
