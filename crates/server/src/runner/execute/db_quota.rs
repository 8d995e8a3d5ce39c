//! Limits what a run writes to the database: the text of its commands and the results of its jobs. The
//! log has a limit of its own.

use serde_json::Value;

use quire_pipeline::format_size;

/// The longest recorded command, in bytes.
const MAX_COMMAND_BYTES: usize = 8 << 10;
/// The most bytes of all recorded commands of a run.
const MAX_COMMANDS_BYTES: usize = 32 << 20;
/// The most bytes of all results of the jobs of a run, as JSON.
const MAX_OUTPUTS_BYTES: usize = 64 << 20;

/// What a run may still write.
#[derive(Debug)]
pub(super) struct DbQuota {
    commands: usize,
    outputs: usize,
}

impl Default for DbQuota {
    fn default() -> Self {
        Self {
            commands: MAX_COMMANDS_BYTES,
            outputs: MAX_OUTPUTS_BYTES,
        }
    }
}

impl DbQuota {
    /// Returns the text of a command as it is recorded: shortened, with a note, if it is too long.
    pub(super) fn command(&mut self, whole: String) -> String {
        let limit = MAX_COMMAND_BYTES.min(self.commands);
        let recorded = if whole.len() <= limit {
            whole
        } else {
            let end = whole.floor_char_boundary(limit);
            format!(
                "{}… (shortened; the whole command of {} bytes was run)",
                &whole[..end],
                whole.len()
            )
        };
        self.commands = self.commands.saturating_sub(recorded.len());
        recorded
    }

    /// Counts the result of a job. The error is a message for the author of the pipeline.
    pub(super) fn output(&mut self, output: &Value) -> Result<(), String> {
        let bytes = output.to_string().len();
        self.outputs = self.outputs.checked_sub(bytes).ok_or_else(|| {
            let limit = format_size(MAX_OUTPUTS_BYTES as u64);
            format!("the result cannot be stored, because the results of a run's jobs are limited to {limit} together; keep large data as an artifact")
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_shortened_with_a_note() {
        let mut quota = DbQuota::default();
        assert_eq!(quota.command("make".to_owned()), "make");
        let long = "ä".repeat(MAX_COMMAND_BYTES);
        let kept = quota.command(long);
        assert!(
            kept.len() < MAX_COMMAND_BYTES + 100
                && kept.ends_with("… (shortened; the whole command of 16384 bytes was run)"),
            "{kept}"
        );
    }

    #[test]
    fn many_commands_take_no_more_than_the_quota() {
        let mut quota = DbQuota::default();
        let long = "x".repeat(MAX_COMMAND_BYTES);
        let all: usize = (0..10_000).map(|_| quota.command(long.clone()).len()).sum();
        assert!(all < MAX_COMMANDS_BYTES + 10_000 * 100, "{all}");
    }

    #[test]
    fn results_share_a_quota_and_a_small_one_still_fits() {
        let mut quota = DbQuota::default();
        let large = Value::from("x".repeat(MAX_OUTPUTS_BYTES / 2));
        quota.output(&large).unwrap();
        assert!(quota.output(&large).unwrap_err().contains("64m together"));
        quota.output(&Value::from(7)).unwrap();
    }
}
