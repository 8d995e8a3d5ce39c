//! A person's command in a run's container, beside those of its jobs.

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use uuid::Uuid;

use super::{DockerExecutor, FOLDER, aside, container_name, ending, fault};
use crate::docker::{Engine, ExecSpec, Frame};
use crate::executor::{Attached, AttachedEnd, ExecutorError, Stream};
use crate::names::RunId;

/// What marks the processes of such a command.
const MARK: &str = "QUIRE_ATTACHED";

impl DockerExecutor {
    pub(super) async fn attach(
        &self,
        run: RunId,
        argv: Vec<String>,
    ) -> Result<Attached, ExecutorError> {
        let failed = |error| fault("start the command", &error);
        let container = container_name(run);
        if !self.is_own(&container, run).await {
            return Err(ExecutorError::Command(
                "the run has no container any more".to_owned(),
            ));
        }
        let mark = format!("{MARK}={}", Uuid::now_v7());
        let spec = ExecSpec {
            argv,
            env: vec![mark.clone()],
            folder: Some(FOLDER.to_owned()),
            stdin: true,
            user: None,
        };
        let exec = self
            .engine
            .create_exec(&container, &spec)
            .await
            .map_err(failed)?;
        let started = self.engine.start_exec(&exec).await.map_err(failed)?;
        let output = started.output.map_ok(|frame| match frame {
            Frame::Stdout(bytes) => (Stream::Stdout, bytes),
            Frame::Stderr(bytes) => (Stream::Stderr, bytes),
        });
        let output = output
            .map_err(|error| fault("read the command's output", &error))
            .boxed();
        Ok(Attached {
            output,
            input: started.input,
            end: Box::new(Command {
                engine: self.engine.clone(),
                container,
                exec,
                mark,
            }),
        })
    }
}

struct Command {
    engine: Engine,
    container: String,
    exec: String,
    mark: String,
}

impl AttachedEnd for Command {
    fn exit_code(&self) -> BoxFuture<'_, Option<i32>> {
        async {
            aside::exit_code(&self.engine, &self.exec)
                .await
                .ok()
                .flatten()
                .and_then(|code| i32::try_from(code).ok())
        }
        .boxed()
    }

    fn end(&self) -> BoxFuture<'_, ()> {
        async {
            // Never the whole container: the run's own commands may be in it.
            if let Err(error) = ending::marked(&self.engine, &self.container, &self.mark).await {
                tracing::warn!(container = self.container, %error, "what a person left running in a container cannot be ended");
            }
        }
        .boxed()
    }
}
