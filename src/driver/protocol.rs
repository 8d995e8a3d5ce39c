//! What the runner and the driver say to each other: one JSON object a line, over the driver's
//! standard input and output. The driver runs foreign code, so what comes from it is checked
//! like any foreign input, and a line over [`MAX_LINE_BYTES`] ends it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::pipeline::{Diagnostic, Place, Registration};

/// The longest line either side accepts, in bytes.
pub const MAX_LINE_BYTES: usize = 32 << 20;

/// The language of a pipeline file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// `.quire/ci.fnl`.
    Fennel,
    /// `.quire/ci.lua`.
    Lua,
}

/// The pipeline's source: what the driver is given instead of a file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineSource {
    /// Which language.
    pub language: Language,
    /// Path within the commit, for messages.
    pub file: String,
    /// The text.
    pub text: String,
    /// Helper files beside it that it may require: path within the commit, text.
    pub helpers: Vec<(String, String)>,
}

/// Runner to driver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum ToDriver {
    /// First line: evaluate this and register its jobs.
    Register {
        /// What to evaluate.
        source: PipelineSource,
    },
    /// Call a job's function. Answered by [`FromDriver::JobEnded`], whatever happens.
    RunJob {
        /// The job's id.
        job: String,
        /// What `(jobs name)` gives, by name: the source's values and the outputs of all
        /// ancestors (null for a skipped one). Any other name is an error in the pipeline.
        inputs: serde_json::Map<String, Value>,
        /// How long the function may take, in milliseconds.
        timeout_ms: Option<u64>,
    },
    /// Answer to [`FromDriver::Sh`]: the command ended.
    ShEnded {
        /// The call.
        call: u64,
        /// How it ended.
        result: ShResult,
    },
    /// Answer to [`FromDriver::Secret`].
    SecretValue {
        /// The call.
        call: u64,
        /// The value, or a sentence that says why there is none.
        value: Result<String, String>,
    },
}

/// What `sh` gives back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShResult {
    /// The exit code; 128 + signal where a signal ended it.
    pub exit: i32,
    /// Standard output, up to the capture limit, secrets in place.
    pub stdout: Text,
    /// Standard error, likewise.
    pub stderr: Text,
    /// Set where the command could not be run to its end (container died, time-out, cancelled): the job fails with it.
    pub error: Option<String>,
}

/// Bytes that are mostly text: UTF-8 as it is, anything else as base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// UTF-8.
    Plain(String),
    /// Anything else.
    Encoded {
        /// Standard base64.
        base64: String,
    },
}

/// A command as the pipeline gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ShCommand {
    /// Run by `sh -c`.
    Shell(String),
    /// Run as it is.
    Argv(Vec<String>),
}

/// Options of one `sh`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShOptions {
    /// Variables to add.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Folder within the workspace.
    pub cwd: Option<String>,
    /// Limit in milliseconds.
    pub timeout_ms: Option<u64>,
    /// What to feed to standard input.
    pub stdin: Option<String>,
}

/// Driver to runner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum FromDriver {
    /// The file ended; this is what it registered.
    Registered(Registration),
    /// The file could not be evaluated.
    Rejected {
        /// Why; at least one.
        diagnostics: Vec<Diagnostic>,
    },
    /// A job wants a command run.
    Sh {
        /// Names this call in the answer; unique within the run.
        call: u64,
        /// The job.
        job: String,
        /// What to run.
        cmd: ShCommand,
        /// How.
        #[serde(default)]
        opts: ShOptions,
    },
    /// A job wants a secret.
    Secret {
        /// Names this call in the answer.
        call: u64,
        /// The job.
        job: String,
        /// The secret's name.
        name: String,
    },
    /// A line for the job's log.
    Log {
        /// The job.
        job: String,
        /// The line.
        text: String,
    },
    /// A job's function ended.
    JobEnded {
        /// The job.
        job: String,
        /// How.
        end: JobEnd,
    },
}

/// How a job's function ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum JobEnd {
    /// It returned; this is its value as plain data.
    Complete {
        /// The value.
        output: Value,
    },
    /// It returned nil without having run a command.
    Skipped,
    /// It failed.
    Failed {
        /// One sentence.
        message: String,
        /// Exit code of the command that failed it, where one did.
        exit_code: Option<i32>,
        /// Where in the file.
        place: Option<Place>,
    },
}
