//! The log of a run as one document, in JSON or YAML.

use std::collections::BTreeMap;

use serde::Serialize;

use super::error::CommandError;
use super::follow::RunObserver;
use quire_run_files::logs::{LogLine, Stream};
use quire_server::forge::views::RunJson;
use quire_types::names::JobName;
use quire_types::run::{JobState, Run, RunJob, RunStep};

/// Collects a whole log.
#[derive(Default)]
pub(super) struct LogCollector {
    /// Standard output and standard error of each step; those of the run itself have the number 0.
    outputs: BTreeMap<u32, [Vec<u8>; 2]>,
}

impl RunObserver for LogCollector {
    fn run_read(&mut self, _run: &Run) {}

    fn log_lines(&mut self, lines: &[LogLine], _steps: &[RunStep]) -> Result<(), CommandError> {
        for line in lines {
            let outputs = self.outputs.entry(line.seq.unwrap_or(0)).or_default();
            let text = &mut outputs[usize::from(line.stream == Stream::Stderr)];
            text.extend_from_slice(&line.text);
            if !line.partial {
                text.push(b'\n');
            }
        }
        Ok(())
    }

    fn continued(&mut self, _why: &str) {
        self.outputs.clear();
    }
}

#[derive(Debug, Serialize)]
pub(super) struct LogDocument<'a> {
    run: RunJson<'a>,
    /// The lines of quire: image, pull, build.
    log: String,
    jobs: Vec<JobLog<'a>>,
}

#[derive(Debug, Serialize)]
struct JobLog<'a> {
    job_id: &'a JobName,
    state: JobState,
    message: Option<&'a str>,
    steps: Vec<StepDocument<'a>>,
}

#[derive(Debug, Serialize)]
struct StepDocument<'a> {
    seq: u32,
    command: &'a str,
    exit_code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// One command in the YAML document.
#[derive(Serialize)]
struct YamlStep<'a> {
    command: &'a str,
    exit: Option<i32>,
    stdout: &'a str,
    stderr: &'a str,
}

impl LogCollector {
    pub(super) fn document<'a>(
        mut self,
        run: &'a Run,
        jobs: &'a [RunJob],
        steps: &'a [RunStep],
        only: Option<&JobName>,
    ) -> LogDocument<'a> {
        let log = self.take(0).concat();
        let selected = jobs
            .iter()
            .filter(|job| only.is_none_or(|only| job.job_id == *only));
        let jobs = selected.map(|job| self.job_log(job, steps)).collect();
        LogDocument {
            run: RunJson::from(run),
            log,
            jobs,
        }
    }

    fn job_log<'a>(&mut self, job: &'a RunJob, steps: &'a [RunStep]) -> JobLog<'a> {
        let own = steps.iter().filter(|step| step.job_id == job.job_id);
        let document = |step: &'a RunStep| {
            let [stdout, stderr] = self.take(step.seq);
            StepDocument {
                seq: step.seq,
                command: &step.command,
                exit_code: step.exit_code,
                stdout,
                stderr,
            }
        };
        JobLog {
            job_id: &job.job_id,
            state: job.state,
            message: job.message.as_deref(),
            steps: own.map(document).collect(),
        }
    }

    fn take(&mut self, seq: u32) -> [String; 2] {
        let outputs = self.outputs.remove(&seq).unwrap_or_default();
        outputs.map(|text| {
            String::from_utf8(text)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
        })
    }
}

impl LogDocument<'_> {
    /// For each job the list of its commands with exit code, stdout and stderr.
    pub(super) fn to_yaml(&self) -> Result<String, CommandError> {
        let jobs: Vec<(&str, Vec<YamlStep<'_>>)> = self
            .jobs
            .iter()
            .map(|job| {
                let steps = job.steps.iter().map(|step| YamlStep {
                    command: step.command,
                    exit: step.exit_code,
                    stdout: &step.stdout,
                    stderr: &step.stderr,
                });
                (job.job_id.as_str(), steps.collect())
            })
            .collect();
        to_yaml(&InOrder(jobs))
    }
}

/// A map whose entries keep their order.
struct InOrder<K, V>(Vec<(K, V)>);

impl<K: Serialize, V: Serialize> Serialize for InOrder<K, V> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

fn to_yaml(value: &impl Serialize) -> Result<String, CommandError> {
    serde_saphyr::to_string(value).map_err(|error| {
        CommandError::failed(format!(
            "internal error: the log cannot be written as YAML: {error}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_of_texts_that_need_care() {
        let texts = [
            ("empty", ""),
            ("plain", "make test"),
            ("like a number", "0x1F"),
            ("like a boolean", "no"),
            ("like a map", "a: b # c"),
            ("lines", "a\n\nb\n\n"),
            ("indented", " a\nb\n"),
            ("escape sequence", "a\u{1b}[0m\nb\u{9b}2J\n"),
            ("line ends only", "\n\n"),
            ("carriage return", "10%\r20%\n"),
            ("quotes", "a \"b\" \\\nc"),
            ("tab", "a\tb\n\tc\n"),
            ("separators", "a\u{2028}b\u{feff}c"),
            ("document end", "---\n...\n"),
        ];
        let yaml = to_yaml(&InOrder(texts.to_vec())).unwrap();
        insta::assert_snapshot!(yaml);
    }

    proptest::proptest! {
        #[test]
        fn yaml_is_read_back_and_safe_for_a_terminal(
            texts in proptest::collection::vec("([ -~]|\\PC|\\pC|[\n\t\r]){0,60}", 0..4)
        ) {
            let yaml = to_yaml(&texts).unwrap();
            let read: Vec<String> = serde_saphyr::from_str(&yaml).unwrap();
            proptest::prop_assert_eq!(read, texts);
            let acts = |c: char| c.is_control() && c != '\n' && c != '\t';
            proptest::prop_assert!(!yaml.contains(acts), "{:?}", yaml);
        }
    }
}
