//! The commands that tell whether a service is ready: they run in the service's container, which
//! has no helper, so the engine executes them.

use std::time::{Duration, Instant};

use futures_util::StreamExt;

use crate::engine::{DockerError, Engine, ExecSpec};

/// How long the engine may take to notice the end of a command whose outputs are closed.
const EXIT_CODE_TIMEOUT: Duration = Duration::from_secs(15);

/// The longest pause between two requests for an exit code.
const MAX_EXIT_POLL: Duration = Duration::from_millis(512);

/// Runs a command in a container to its end, and returns whether it succeeded.
pub(super) async fn succeeds(
    engine: &Engine,
    container: &str,
    argv: &[String],
) -> Result<bool, DockerError> {
    let spec = ExecSpec {
        argv: argv.to_vec(),
        workdir: Some("/".into()),
        stdin: false,
        user: None,
    };
    let exec = engine.create_exec(container, &spec).await?;
    let mut started = engine.start_exec(&exec).await?;
    while let Some(frame) = started.output.next().await {
        frame?;
    }
    let deadline = Instant::now() + EXIT_CODE_TIMEOUT;
    let mut pause = Duration::from_millis(1);
    loop {
        let state = engine.exec_state(&exec).await?;
        if !state.running || Instant::now() > deadline {
            return Ok(state.exit_code == Some(0));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_EXIT_POLL);
    }
}
