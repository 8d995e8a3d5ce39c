//! What jobs do with files of the workspace: read, write, keep. Each goes on beside everything
//! else, and is answered with what it gave or a sentence that the job can catch. Only what says
//! that the workspace is lost ends the run.

use std::collections::HashMap;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Play, Stop, executor_failed, failed};
use crate::artifacts::{ArtifactName, Kept};
use crate::causes::with_causes;
use crate::driver::protocol::{Text, ToDriver};
use crate::executor::ExecutorError;
use crate::names::JobName;
use crate::run::FailureKind;

/// The files that are on their way, and what was kept.
#[derive(Default)]
pub(super) struct Files {
    tasks: JoinSet<Ended>,
    /// Which job waits for which call.
    waiting: HashMap<u64, JobName>,
    kept: Vec<(JobName, Kept)>,
}

/// What came of a call.
pub(super) struct Ended {
    call: u64,
    what: What,
}

enum What {
    Read(Result<Vec<u8>, Trouble>),
    Written(Result<(), Trouble>),
    Kept(Result<Kept, Trouble>),
}

/// Why it came to nothing.
enum Trouble {
    /// A sentence for the job.
    Refused(String),
    /// The workspace is lost.
    Lost(ExecutorError),
}

impl From<ExecutorError> for Trouble {
    fn from(error: ExecutorError) -> Self {
        match error {
            ExecutorError::File(why) => Self::Refused(why),
            ExecutorError::Cancelled => Self::Refused("the run was stopped".to_owned()),
            lost => Self::Lost(lost),
        }
    }
}

impl Files {
    /// The next one that ended; none where none is under way.
    pub(super) async fn next(&mut self) -> Option<Result<Ended, JoinError>> {
        self.tasks.join_next().await
    }

    /// Whether a job waits for one.
    pub(super) fn has(&self, job: &JobName) -> bool {
        self.waiting.values().any(|waiting| waiting == job)
    }

    /// Whether one was asked for by this call.
    pub(super) fn has_call(&self, call: u64) -> bool {
        self.waiting.contains_key(&call)
    }
}

impl Play {
    /// Notes which job waits for a file; gives what stops it.
    fn file_asker(&mut self, call: u64, job: &str) -> Result<CancellationToken, Stop> {
        let (job, cancel) = self.asker(call, job)?;
        self.files.waiting.insert(call, job);
        Ok(cancel)
    }

    pub(super) fn read_file(&mut self, call: u64, job: &str, path: String) -> Result<(), Stop> {
        let cancel = self.file_asker(call, job)?;
        let workspace = self.scene.workspace.clone();
        self.files.tasks.spawn(async move {
            let read = cancel.run_until_cancelled(workspace.read_file(&path)).await;
            Ended {
                call,
                what: What::Read(
                    read.unwrap_or(Err(ExecutorError::Cancelled))
                        .map_err(Trouble::from),
                ),
            }
        });
        Ok(())
    }

    pub(super) fn write_file(
        &mut self,
        call: u64,
        job: &str,
        path: String,
        content: Text,
    ) -> Result<(), Stop> {
        let cancel = self.file_asker(call, job)?;
        let workspace = self.scene.workspace.clone();
        // Only a driver gone wild sends what is no base64; it writes nothing.
        let content = content.into_bytes().unwrap_or_default();
        self.files.tasks.spawn(async move {
            let written = cancel
                .run_until_cancelled(workspace.write_file(&path, content))
                .await;
            Ended {
                call,
                what: What::Written(
                    written
                        .unwrap_or(Err(ExecutorError::Cancelled))
                        .map_err(Trouble::from),
                ),
            }
        });
        Ok(())
    }

    pub(super) fn artifact(
        &mut self,
        call: u64,
        job: &str,
        path: String,
        name: Option<String>,
    ) -> Result<(), Stop> {
        let cancel = self.file_asker(call, job)?;
        let (workspace, keeper) = (self.scene.workspace.clone(), self.scene.artifacts.clone());
        let name = self.artifact_name(name.as_deref().unwrap_or(&path));
        self.files.tasks.spawn(async move {
            let keep = async {
                let name = name.map_err(Trouble::Refused)?;
                let archive = workspace.export(&path).await?;
                let kept = keeper.keep(name, archive, &cancel).await;
                kept.map_err(|error| Trouble::Refused(format!("`{path}`: {}", with_causes(&error))))
            };
            let kept = keep.await;
            Ended {
                call,
                what: What::Kept(kept),
            }
        });
        Ok(())
    }

    /// A name for an artifact, which is shown and stored: it must hold no secret.
    fn artifact_name(&self, name: &str) -> Result<ArtifactName, String> {
        let parsed = name
            .parse::<ArtifactName>()
            .map_err(|error| error.to_string())?;
        let shown = self.scene.log.redactor().redact_text(parsed.as_str());
        if shown == parsed.as_str() {
            Ok(parsed)
        } else {
            Err(format!(
                "the name of the artifact holds a secret: {shown}; give it another with {{:name \"…\"}}"
            ))
        }
    }

    pub(super) fn file_ended(&mut self, ended: Result<Ended, JoinError>) -> Result<(), Stop> {
        let Ended { call, what } = ended.map_err(|error| {
            failed(
                FailureKind::Internal,
                format!("internal error: a file's task broke off: {error}"),
            )
        })?;
        let Some(job) = self.files.waiting.remove(&call) else {
            return Ok(());
        };
        let answer = match what {
            What::Read(read) => ToDriver::FileRead {
                call,
                content: sentence(read)?.map(Text::new),
            },
            What::Written(written) => ToDriver::Done {
                call,
                done: sentence(written)?,
            },
            What::Kept(kept) => {
                let kept = sentence(kept)?;
                if let Ok(kept) = &kept {
                    self.scene.recorder.artifact_kept(&job, kept)?;
                    self.files.kept.push((job.clone(), kept.clone()));
                }
                ToDriver::Done {
                    call,
                    done: kept.map(drop),
                }
            }
        };
        self.answer(&job, answer);
        Ok(())
    }

    /// Waits for what is still on its way; what is kept too late for a row is removed again.
    pub(super) async fn forget_files(&mut self) {
        while let Some(ended) = self.files.next().await {
            if let Ok(Ended {
                what: What::Kept(Ok(kept)),
                ..
            }) = ended
            {
                // What cannot be removed goes with the run.
                let _ = self.scene.artifacts.discard(&kept);
            }
        }
    }

    /// A job is tried again, and keeps again what it kept.
    pub(super) fn discard_artifacts(&mut self, job: &JobName) -> Result<(), Stop> {
        let (own, others) = std::mem::take(&mut self.files.kept)
            .into_iter()
            .partition(|(keeper, _)| keeper == job);
        self.files.kept = others;
        let own: Vec<(JobName, Kept)> = own;
        if own.is_empty() {
            return Ok(());
        }
        // The rows first: a row without its files would be an artifact that nobody can fetch.
        self.scene.recorder.artifacts_discarded(job)?;
        for (_, kept) in own {
            if let Err(error) = self.scene.artifacts.discard(&kept) {
                return Err(failed(
                    FailureKind::Internal,
                    format!("the artifact `{}` cannot be removed: {error}", kept.name),
                ));
            }
        }
        Ok(())
    }
}

/// What goes to the job: the result or the sentence. A lost workspace is the run's end.
fn sentence<T>(result: Result<T, Trouble>) -> Result<Result<T, String>, Stop> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Trouble::Refused(why)) => Ok(Err(why)),
        Err(Trouble::Lost(error)) => {
            let (kind, message) = executor_failed(&error);
            Err(failed(kind, message))
        }
    }
}
