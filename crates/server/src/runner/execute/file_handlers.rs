//! Reads, writes and artifacts that jobs ask for. Each runs beside everything else; the job gets the
//! result, or a message that it can catch. Only a lost workspace ends the run.

use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::exit::{LoopExit, failed, failure_of, internal_error};
use super::file_requests::{FileEnd, FileOutcome, FileRequestError};
use super::job_loop::JobLoop;
use quire_executor::ExecutorError;
use quire_pipeline::driver::protocol::{EncodedBytes, ToDriver};
use quire_run_files::artifacts::{ArtifactName, StoredArtifact};
use quire_types::error_chain;
use quire_types::names::JobName;
use quire_types::run::FailureKind;

impl JobLoop {
    /// Notes which job waits for a file; returns the token that cancels the request.
    fn validate_file_call(&mut self, call: u64, job: &str) -> Result<CancellationToken, LoopExit> {
        let (job, cancel) = self.validate_call(call, job)?;
        self.files.waiting.insert(call, job);
        Ok(cancel)
    }

    pub(super) fn read_file(&mut self, call: u64, job: &str, path: String) -> Result<(), LoopExit> {
        let cancel = self.validate_file_call(call, job)?;
        let workspace = self.context.workspace.clone();
        self.files.tasks.spawn(async move {
            let read = cancel.run_until_cancelled(workspace.read_file(&path)).await;
            let read = read.unwrap_or(Err(ExecutorError::Cancelled));
            FileEnd {
                call,
                outcome: FileOutcome::Read(read.map_err(FileRequestError::from)),
            }
        });
        Ok(())
    }

    pub(super) fn write_file(
        &mut self,
        call: u64,
        job: &str,
        path: String,
        content: EncodedBytes,
    ) -> Result<(), LoopExit> {
        let cancel = self.validate_file_call(call, job)?;
        let workspace = self.context.workspace.clone();
        // A correct driver sends valid base64; for any other driver the file is empty.
        let content = content.into_bytes().unwrap_or_default();
        self.files.tasks.spawn(async move {
            let write = workspace.write_file(&path, content);
            let written = cancel.run_until_cancelled(write).await;
            let written = written.unwrap_or(Err(ExecutorError::Cancelled));
            FileEnd {
                call,
                outcome: FileOutcome::Written(written.map_err(FileRequestError::from)),
            }
        });
        Ok(())
    }

    pub(super) fn keep_artifact(
        &mut self,
        call: u64,
        job: &str,
        path: String,
        name: Option<String>,
    ) -> Result<(), LoopExit> {
        let cancel = self.validate_file_call(call, job)?;
        let workspace = self.context.workspace.clone();
        let artifacts = self.context.artifacts.clone();
        let name = self.artifact_name(name.as_deref().unwrap_or(&path));
        self.files.tasks.spawn(async move {
            let keep = async {
                let name = name.map_err(FileRequestError::Rejected)?;
                let archive = workspace.export_archive(&path).await?;
                let kept = artifacts.add(name, archive, &cancel).await;
                kept.map_err(|error| {
                    FileRequestError::Rejected(format!("`{path}`: {}", error_chain::chain(&error)))
                })
            };
            FileEnd {
                call,
                outcome: FileOutcome::Kept(keep.await),
            }
        });
        Ok(())
    }

    /// Parses the name of an artifact. The name is stored and shown, so it must not contain a secret.
    fn artifact_name(&self, name: &str) -> Result<ArtifactName, String> {
        let parsed = name
            .parse::<ArtifactName>()
            .map_err(|error| error.to_string())?;
        let redacted = self.context.log.redactor().redact_text(parsed.as_str());
        if redacted == parsed.as_str() {
            Ok(parsed)
        } else {
            Err(format!(
                "the name of the artifact contains a secret: {redacted}; give another name with {{:name \"…\"}}"
            ))
        }
    }

    pub(super) fn file_ended(&mut self, ended: Result<FileEnd, JoinError>) -> Result<(), LoopExit> {
        let FileEnd { call, outcome } = ended.map_err(|error| {
            internal_error(&format!("the task of a file request failed: {error}"))
        })?;
        let Some(job) = self.files.waiting.remove(&call) else {
            return Ok(());
        };
        let reply = match outcome {
            FileOutcome::Read(read) => ToDriver::FileRead {
                call,
                content: reply_or_exit(read)?.map(EncodedBytes::new),
            },
            FileOutcome::Written(written) => ToDriver::Done {
                call,
                done: reply_or_exit(written)?,
            },
            FileOutcome::Kept(kept) => {
                let kept = reply_or_exit(kept)?;
                if let Ok(kept) = &kept {
                    self.context.recorder.artifact_kept(&job, kept)?;
                    self.files.kept.push((job.clone(), kept.clone()));
                }
                ToDriver::Done {
                    call,
                    done: kept.map(drop),
                }
            }
        };
        self.reply(&job, reply);
        Ok(())
    }

    /// Waits for the requests under way. An artifact that comes too late for a row is removed again.
    pub(super) async fn drain_files(&mut self) {
        while let Some(ended) = self.files.next().await {
            if let Ok(FileEnd {
                outcome: FileOutcome::Kept(Ok(kept)),
                ..
            }) = ended
            {
                // What cannot be removed now is removed with the run.
                let _ = self.context.artifacts.discard(&kept);
            }
        }
    }

    /// Removes the artifacts of a job that is retried, because it will keep them again.
    pub(super) fn discard_artifacts(&mut self, job: &JobName) -> Result<(), LoopExit> {
        let kept = std::mem::take(&mut self.files.kept);
        let (discarded, others): (Vec<(JobName, StoredArtifact)>, _) =
            kept.into_iter().partition(|(keeper, _)| keeper == job);
        self.files.kept = others;
        if discarded.is_empty() {
            return Ok(());
        }
        // The rows first: a row without its files would be an artifact that cannot be fetched.
        self.context.recorder.artifacts_discarded(job)?;
        for (_, kept) in discarded {
            if let Err(error) = self.context.artifacts.discard(&kept) {
                let message = format!("cannot remove the artifact `{}`: {error}", kept.name);
                return Err(failed(FailureKind::Internal, message));
            }
        }
        Ok(())
    }
}

/// The result or the message for the job. A lost workspace ends the run.
fn reply_or_exit<T>(result: Result<T, FileRequestError>) -> Result<Result<T, String>, LoopExit> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(FileRequestError::Rejected(reason)) => Ok(Err(reason)),
        Err(FileRequestError::WorkspaceLost(error)) => {
            let (kind, message) = failure_of(&error);
            Err(failed(kind, message))
        }
    }
}
