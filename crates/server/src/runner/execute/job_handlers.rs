//! The start and the end of jobs.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::exit::{LoopExit, internal_error};
use super::job_loop::{ActiveJob, FailedJob, JobLoop};
use quire_pipeline::driver::protocol::{JobEnd, ToDriver};
use quire_pipeline::{Location, sanitize_message};
use quire_store::JobResult;
use quire_types::names::JobName;
use quire_types::run::JobState;
use serde_json::Value;

/// The result of a job that has ended, before it is recorded.
struct EndedJob {
    state: JobState,
    exit_code: Option<i32>,
    message: Option<String>,
    output: Option<Value>,
    timed_out: bool,
}

impl JobLoop {
    /// Starts every job whose inputs are done.
    pub(super) fn start_ready(&mut self) -> Result<(), LoopExit> {
        for job in self.tracker.ready() {
            self.context.recorder.job_started(&job)?;
            self.tracker.started(&job);
            self.call_function(&job);
        }
        Ok(())
    }

    /// Tells the driver to call the function of a job.
    fn call_function(&mut self, job: &JobName) {
        let registered = self.pipeline.job(job);
        let timeout_ms = registered.and_then(|job| job.options.timeout_ms);
        let deadline = timeout_ms.map(|millis| Instant::now() + Duration::from_millis(millis));
        let active = ActiveJob {
            deadline,
            timeout_ms,
            timed_out: false,
            cancel: CancellationToken::new(),
            pending_replies: Arc::default(),
        };
        self.jobs.insert(job.clone(), active);
        let mut env = self.context.env.clone();
        env.extend(self.job_env(job).cloned());
        self.send(ToDriver::RunJob {
            job: job.to_string(),
            timeout_ms,
            env,
        });
    }

    pub(super) fn job_ended(&mut self, job: &str, end: JobEnd) -> Result<(), LoopExit> {
        let job = job.parse::<JobName>().ok();
        let Some((job, active)) = job.and_then(|job| self.jobs.remove_entry(&job)) else {
            return Err(internal_error("the driver ended a job that is not active"));
        };
        active.cancel.cancel();
        if let JobEnd::Failed { message, .. } = &end
            && !active.timed_out
            && self.tracker.retry(&job)
        {
            self.note(&format!(
                "job `{job}` failed and is retried: {}",
                sanitize_message(message)
            ));
            self.discard_artifacts(&job)?;
            self.call_function(&job);
            return Ok(());
        }
        let ended = self.redacted_end(end, active.timed_out);
        let result = JobResult {
            state: ended.state,
            exit_code: ended.exit_code,
            message: ended.message.as_deref(),
            output: ended.output.as_ref(),
        };
        self.context
            .recorder
            .job_ended(&job, JobState::Active, &result)?;
        if let Some(message) = ended.message {
            self.note(&format!("job `{job}` failed: {message}"));
            self.failed_jobs.push(FailedJob {
                job: job.clone(),
                message,
                timed_out: ended.timed_out,
            });
        }
        // The driver gets only the results that another job can ask for.
        if let Some(value) = ended.output
            && self.needed_outputs.contains(&job)
        {
            self.send(ToDriver::Value {
                name: job.to_string(),
                value,
            });
        }
        self.skip_dependents(&job, ended.state)?;
        self.start_ready()
    }

    /// What is recorded of a job that ended: its output and message without secrets.
    fn redacted_end(&mut self, end: JobEnd, timed_out: bool) -> EndedJob {
        let redactor = self.context.log.redactor().clone();
        let clean = |message: &str| sanitize_message(&redactor.redact_text(message));
        let mut ended = EndedJob {
            state: JobState::Failed,
            exit_code: None,
            message: None,
            output: None,
            timed_out,
        };
        match end {
            JobEnd::Complete { output } => {
                let output = redactor.redact_json(output);
                match self.quota.output(&output) {
                    Ok(()) => {
                        ended.state = JobState::Complete;
                        ended.output = Some(output);
                    }
                    Err(reason) => ended.message = Some(clean(&reason)),
                }
            }
            JobEnd::Skipped => ended.state = JobState::Skipped,
            JobEnd::Failed {
                message,
                exit_code,
                location,
            } => {
                ended.exit_code = exit_code;
                ended.message = Some(clean(&with_location(&message, location.as_ref())));
            }
            JobEnd::TimedOut { message, location } => {
                ended.timed_out = true;
                ended.message = Some(clean(&with_location(&message, location.as_ref())));
            }
        }
        ended
    }

    /// Tells the tracker that a job ended, and records the jobs that are skipped for it.
    fn skip_dependents(&mut self, job: &JobName, state: JobState) -> Result<(), LoopExit> {
        for skipped in self.tracker.ended(job, state) {
            let message = format!("`{job}` failed");
            let result = JobResult {
                message: Some(&message),
                ..JobResult::of_state(JobState::Skipped)
            };
            self.context
                .recorder
                .job_ended(&skipped, JobState::Pending, &result)?;
        }
        Ok(())
    }
}

fn with_location(message: &str, location: Option<&Location>) -> String {
    match location {
        Some(location) => format!("{location}: {message}"),
        None => message.to_owned(),
    }
}
