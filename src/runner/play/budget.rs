//! How much of a run goes into the database: what its commands are, and what its jobs return. The log
//! has a cap of its own; without these, a run could fill the database with what is no log.

use serde_json::Value;

use crate::pipeline::format_size;

/// The most that is kept of one command.
const COMMAND_BYTES: usize = 8 << 10;
/// The most that is kept of a run's commands together.
const COMMANDS_BYTES: usize = 32 << 20;
/// The most that a run's jobs may return together, as JSON.
const OUTPUTS_BYTES: usize = 64 << 20;

/// What is left for a run.
#[derive(Debug)]
pub(super) struct Budget {
    commands: usize,
    outputs: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            commands: COMMANDS_BYTES,
            outputs: OUTPUTS_BYTES,
        }
    }
}

impl Budget {
    /// A command as it is kept. One that is too long loses its end, and says so.
    pub(super) fn command(&mut self, whole: String) -> String {
        let most = COMMAND_BYTES.min(self.commands);
        let kept = if whole.len() <= most {
            whole
        } else {
            let end = whole.floor_char_boundary(most);
            format!(
                "{}… (the command goes on: it has {} bytes, and ran as a whole)",
                &whole[..end],
                whole.len()
            )
        };
        self.commands = self.commands.saturating_sub(kept.len());
        kept
    }

    /// Counts what a job returns; a sentence where it is too much.
    pub(super) fn output(&mut self, output: &Value) -> Result<(), String> {
        let bytes = output.to_string().len();
        self.outputs = self.outputs.checked_sub(bytes).ok_or_else(|| {
            let most = format_size(OUTPUTS_BYTES as u64);
            format!("what it returns cannot be stored: the jobs of a run may return {most} together; keep it as an artifact")
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_lose_their_end_and_say_so() {
        let mut budget = Budget::default();
        assert_eq!(budget.command("make".to_owned()), "make");
        let long = "ä".repeat(COMMAND_BYTES);
        let kept = budget.command(long);
        assert!(
            kept.len() < COMMAND_BYTES + 100
                && kept
                    .ends_with("… (the command goes on: it has 16384 bytes, and ran as a whole)"),
            "{kept}"
        );
    }

    #[test]
    fn a_run_of_a_million_commands_takes_no_more_than_its_budget() {
        let mut budget = Budget::default();
        let long = "x".repeat(COMMAND_BYTES);
        let all: usize = (0..10_000)
            .map(|_| budget.command(long.clone()).len())
            .sum();
        assert!(all < COMMANDS_BYTES + 10_000 * 100, "{all}");
    }

    #[test]
    fn jobs_return_so_much_together_and_a_small_result_still_fits() {
        let mut budget = Budget::default();
        let large = Value::from("x".repeat(OUTPUTS_BYTES / 2));
        budget.output(&large).unwrap();
        assert!(budget.output(&large).unwrap_err().contains("64m together"));
        budget.output(&Value::from(7)).unwrap();
    }
}
