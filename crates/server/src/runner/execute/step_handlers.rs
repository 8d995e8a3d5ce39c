//! Commands and secrets that jobs ask for.

use tokio::task::JoinError;

use super::exit::{LoopExit, failed, failure_of, internal_error, log_failed};
use super::job_loop::{JobLoop, RunningStep, StepEnd};
use crate::runner::step::{self, StepOutput};
use quire_executor::{CommandEnd, ExecutorError};
use quire_pipeline::driver::protocol::{ShCommand, ShOptions, ToDriver};
use quire_types::failpoint;
use quire_types::names::JobName;
use quire_types::run::FailureKind;

/// The most commands of a run; each costs a row and a log file.
const MAX_STEPS: u32 = 1_000_000;

impl JobLoop {
    /// Starts a command of a job.
    pub(super) fn start_step(
        &mut self,
        call: u64,
        job: &str,
        cmd: ShCommand,
        opts: ShOptions,
    ) -> Result<(), LoopExit> {
        let (job, cancel) = self.validate_call(call, job)?;
        if self.seq >= MAX_STEPS {
            return Err(failed(
                FailureKind::Pipeline,
                format!("the run has more than {MAX_STEPS} commands"),
            ));
        }
        self.seq += 1;
        let seq = self.seq;
        let redacted = self
            .context
            .log
            .redactor()
            .redact_text(&step::display(&cmd));
        let recorded = self.quota.command(redacted);
        self.context.recorder.step_started(seq, &job, &recorded)?;
        failpoint::hit("runner-step-recorded");
        let log = self.context.log.step(&job, seq);
        let output = StepOutput::new(log.map_err(|error| log_failed(&error))?);
        let command = step::command(cmd, opts, self.job_env(&job));
        let running = RunningStep {
            seq,
            job,
            output: output.clone(),
            timeout: command.timeout,
        };
        self.running_steps.insert(call, running);
        let workspace = self.context.workspace.clone();
        self.steps.spawn(async move {
            let end = workspace.run_command(command, Box::new(output), cancel);
            (call, end.await)
        });
        Ok(())
    }

    /// The variables of a job's commands, in addition to those of the run.
    pub(super) fn job_env(&self, job: &JobName) -> impl Iterator<Item = &(String, String)> {
        let job = self.pipeline.job(job);
        job.into_iter().flat_map(|job| &job.options.env)
    }

    pub(super) fn step_ended(&mut self, ended: Result<StepEnd, JoinError>) -> Result<(), LoopExit> {
        let (call, end) = ended
            .map_err(|error| internal_error(&format!("the task of a step failed: {error}")))?;
        let Some(step) = self.running_steps.remove(&call) else {
            return Ok(());
        };
        match end {
            Ok(end) => {
                let exit_code = match end {
                    CommandEnd::Exited(code) => Some(code),
                    _ => None,
                };
                let job = self.jobs.get(&step.job).filter(|job| job.timed_out);
                let job_timeout_ms = job.and_then(|job| job.timeout_ms);
                let error = step::interruption_message(&end, step.timeout, job_timeout_ms);
                if let Some(error) = &error {
                    step.output.line(&format!("quire: {error}"));
                }
                self.finish_step(&step, exit_code, error, call)
            }
            Err(ExecutorError::Command(error)) => {
                let message = error.to_string();
                step.output.line(&format!("quire: {message}"));
                self.finish_step(&step, None, Some(message), call)
            }
            Err(error) => {
                let (kind, message) = failure_of(&error);
                step.output.line(&format!("quire: {message}"));
                step.output.finish(-1, None, self.context.log.redactor());
                self.context.recorder.step_ended(step.seq, None)?;
                Err(failed(kind, message))
            }
        }
    }

    /// Records the end of a step and replies to the job.
    fn finish_step(
        &mut self,
        step: &RunningStep,
        exit_code: Option<i32>,
        error: Option<String>,
        call: u64,
    ) -> Result<(), LoopExit> {
        let redactor = self.context.log.redactor();
        let result = step.output.finish(exit_code.unwrap_or(-1), error, redactor);
        self.context.recorder.step_ended(step.seq, exit_code)?;
        failpoint::hit("runner-step-ended");
        self.reply(&step.job, ToDriver::ShEnded { call, result });
        Ok(())
    }

    /// Replies with the value of a secret, which is redacted from now on.
    pub(super) fn reply_secret(
        &mut self,
        call: u64,
        job: &str,
        name: &str,
        json: bool,
    ) -> Result<(), LoopExit> {
        let (job, _) = self.validate_call(call, job)?;
        let value = (self.context.secrets)(name);
        if let Ok(secret) = &value {
            let redactor = self.context.log.redactor();
            if json {
                redactor.add_json(name, secret);
            } else {
                redactor.add(name, secret);
            }
            if secret.is_too_short() {
                self.note(&format!(
                    "secret `{name}` is shorter than 8 characters, so it is not redacted in the log"
                ));
            }
        }
        self.reply(&job, ToDriver::SecretValue { call, value });
        Ok(())
    }
}
