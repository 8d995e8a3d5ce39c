//! The messages between the runner and the driver: one JSON object per line, over the driver's
//! standard input and output. The driver runs untrusted code, so its messages are checked like any
//! untrusted input, and a line longer than [`MAX_LINE_BYTES`] ends the driver.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::Language;
use crate::{Diagnostic, Location, Registration, SourceFile};
use quire_types::secret::Secret;
use quire_types::text::with_unix_line_ends;

/// The longest line that either side accepts, in bytes.
pub const MAX_LINE_BYTES: usize = 32 << 20;

/// The folder of the pipeline.
pub const FOLDER: &str = ".quire";
/// The pipeline in Fennel.
pub const FENNEL_FILE: &str = ".quire/ci.fnl";
/// The pipeline in Lua.
pub const LUA_FILE: &str = ".quire/ci.lua";
/// The Dockerfile of the pipeline's image.
pub const DOCKERFILE: &str = ".quire/Dockerfile";
/// Files in the same folder that are not helpers of a pipeline.
const CONFIG_FILES: [&str; 2] = [".quire/config.fnl", ".quire/config.lua"];

/// The files of a pipeline, which the driver receives because it has no file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineSource {
    pub language: Language,
    /// Path within the commit, for messages.
    pub file: String,
    pub text: String,
    /// Helper files that it may require, as pairs of path within the commit and text.
    pub helpers: Vec<(String, String)>,
}

impl PipelineSource {
    /// Finds the pipeline among the files of a commit's `.quire` folder, given as pairs of path
    /// within the commit and text: `.quire/ci.fnl` or `.quire/ci.lua`, with the other Fennel and Lua
    /// files as helpers. Returns `None` if there is neither.
    ///
    /// # Errors
    /// Fails if there are both.
    pub fn from_files(files: Vec<(String, String)>) -> Result<Option<Self>, Diagnostic> {
        let has = |name: &str| files.iter().any(|(path, _)| path == name);
        let (language, file) = match (has(FENNEL_FILE), has(LUA_FILE)) {
            (false, false) => return Ok(None),
            (true, false) => (Language::Fennel, FENNEL_FILE),
            (false, true) => (Language::Lua, LUA_FILE),
            (true, true) => {
                return Err(Diagnostic {
                    message: format!("there are two pipelines: {FENNEL_FILE} and {LUA_FILE}"),
                    location: Some(Location {
                        file: LUA_FILE.to_owned(),
                        line: 1,
                        column: 1,
                    }),
                    source_line: None,
                    hint: Some("remove one of them".to_owned()),
                });
            }
        };
        let (main, others): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|(path, _)| path == file);
        let text = main
            .into_iter()
            .next()
            .map(|(_, text)| with_unix_line_ends(text))
            .unwrap_or_default();
        let helpers = others
            .into_iter()
            .filter(|(path, _)| is_pipeline_file(path))
            .map(|(path, text)| (path, with_unix_line_ends(text)))
            .collect();
        Ok(Some(Self {
            language,
            file: file.to_owned(),
            text,
            helpers,
        }))
    }

    /// The pipeline's own file.
    #[must_use]
    pub fn pipeline_text(&self) -> SourceFile {
        SourceFile {
            file: self.file.clone(),
            text: self.text.clone(),
        }
    }

    /// All files: its own first, then its helpers.
    #[must_use]
    pub fn texts(&self) -> Vec<SourceFile> {
        let helpers = self.helpers.iter().map(|(file, text)| SourceFile {
            file: file.clone(),
            text: text.clone(),
        });
        std::iter::once(self.pipeline_text())
            .chain(helpers)
            .collect()
    }
}

/// Whether a path within a commit belongs to the pipeline or to one of its helpers.
#[must_use]
pub fn is_pipeline_file(path: &str) -> bool {
    path.starts_with(".quire/")
        && (path.ends_with(".fnl") || path.ends_with(".lua"))
        && !CONFIG_FILES.contains(&path)
}

/// Messages from the runner to the driver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum ToDriver {
    /// The first message: evaluate this source and register its jobs.
    Register {
        source: PipelineSource,
        /// The time limit in milliseconds.
        limit_ms: u64,
        /// Files that are compiled already, as pairs of path within the commit and Lua text.
        #[serde(default)]
        compiled: Vec<(String, String)>,
    },
    /// Sets what `(jobs name)` returns from now on. Without this message it returns nil.
    Value {
        /// The name of a source, or of a job that ended.
        name: String,
        value: Value,
    },
    /// Calls a job's function. The driver always replies with [`FromDriver::JobEnded`].
    RunJob {
        job: String,
        /// The time limit of the function in milliseconds.
        timeout_ms: Option<u64>,
        /// The variables that `(env name)` returns, which are those of its commands.
        #[serde(default)]
        env: Vec<(String, String)>,
    },
    /// Evaluates a text in Fennel in the environment of the pipeline, with the tools of a job as globals. It may use
    /// the tools as the function of a job does. The driver always replies with [`FromDriver::JobEnded`].
    Evaluate {
        /// The name of the evaluation, which no job has.
        job: String,
        text: String,
        /// The variables that `(env name)` returns.
        env: Vec<(String, String)>,
    },
    /// Ends a job or an evaluation, as failed. Nothing if it has ended.
    Interrupt { job: String },
    /// The reply to [`FromDriver::Sh`]: the command ended.
    ShEnded { call: u64, result: ShResult },
    /// The reply to [`FromDriver::ReadFile`].
    FileRead {
        call: u64,
        /// The content with secrets in location, or a message why the file cannot be read.
        content: Result<EncodedBytes, String>,
    },
    /// The reply to [`FromDriver::WriteFile`] and [`FromDriver::Artifact`].
    Done {
        call: u64,
        /// A message why the request failed.
        done: Result<(), String>,
    },
    /// The reply to [`FromDriver::Secret`].
    SecretValue {
        call: u64,
        /// The value, or a message why there is none.
        #[serde(with = "exposed")]
        value: Result<Secret, String>,
    },
}

/// Serializes a secret's value as it is, which only this message may do.
mod exposed {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use quire_types::secret::Secret;

    pub(super) fn serialize<S: Serializer>(
        value: &Result<Secret, String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(Secret::expose).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Result<Secret, String>, D::Error> {
        Ok(Result::<String, String>::deserialize(deserializer)?.map(Secret::new))
    }
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShResult {
    /// The exit code, or 128 plus the number of the signal that ended the command.
    pub exit: i32,
    /// Standard output up to the capture limit, with secrets in location.
    pub stdout: EncodedBytes,
    /// Standard error up to the capture limit, with secrets in location.
    pub stderr: EncodedBytes,
    /// Why the command could not be run to its end (container died, time-out, cancelled). The job
    /// fails with this message.
    pub error: Option<String>,
}

/// Bytes: as a string if they are valid UTF-8, otherwise as base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EncodedBytes {
    Plain(String),
    Encoded {
        /// Standard base64.
        base64: String,
    },
}

impl EncodedBytes {
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Plain(text),
            Err(error) => Self::Encoded {
                base64: BASE64.encode(error.as_bytes()),
            },
        }
    }

    /// # Errors
    /// Fails if it is not valid base64.
    pub fn into_bytes(self) -> Result<Vec<u8>, base64::DecodeError> {
        match self {
            Self::Plain(text) => Ok(text.into_bytes()),
            Self::Encoded { base64 } => BASE64.decode(base64),
        }
    }
}

/// A command as the pipeline wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ShCommand {
    /// A command line for `sh -c`.
    Shell(String),
    /// A program and its arguments.
    Argv(Vec<String>),
}

/// The options of a call of `sh`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShOptions {
    /// Variables to add to those of the job.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// A folder in the workspace.
    pub cwd: Option<String>,
    pub timeout_ms: Option<u64>,
    /// Standard input.
    pub stdin: Option<EncodedBytes>,
    /// Whether standard error is written to standard output, in the order of the writes.
    #[serde(default)]
    pub merge: bool,
    /// Whether a text of several lines stops at the first command that fails; true if it is `None`.
    pub errexit: Option<bool>,
}

/// Messages from the driver to the runner. `call` numbers a request within the run, and the reply
/// carries the same number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum FromDriver {
    /// The Lua text of files that were not compiled before, as pairs of path within the commit and
    /// Lua text. It is sent just before [`FromDriver::Registered`], or never.
    Compiled {
        files: Vec<(String, String)>,
    },
    /// The file was evaluated and registered this.
    Registered(Registration),
    /// The file could not be evaluated. There is at least one diagnostic.
    Rejected {
        diagnostics: Vec<Diagnostic>,
    },
    /// A job runs a command.
    Sh {
        call: u64,
        job: String,
        cmd: ShCommand,
        #[serde(default)]
        opts: ShOptions,
    },
    /// A job asks for a secret.
    Secret {
        call: u64,
        job: String,
        name: String,
        /// Whether it is parsed as JSON: then each of its texts is a secret of its own.
        #[serde(default)]
        json: bool,
    },
    /// A job reads a file of the workspace.
    ReadFile {
        call: u64,
        job: String,
        /// Path in the workspace, as written.
        path: String,
    },
    /// A job writes a file of the workspace. Missing parent folders are created.
    WriteFile {
        call: u64,
        job: String,
        /// Path in the workspace, as written.
        path: String,
        content: EncodedBytes,
    },
    /// A job stores a file or folder of the workspace with the run.
    Artifact {
        call: u64,
        job: String,
        /// Path in the workspace, as written.
        path: String,
        /// The artifact's name. If it is `None` the path is the name.
        name: Option<String>,
    },
    /// A line for the job's log.
    Log {
        job: String,
        text: String,
    },
    JobEnded {
        job: String,
        end: JobEnd,
    },
}

/// How a job's function ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum JobEnd {
    /// It returned this value.
    Complete { output: Value },
    /// It returned nil without having run a command.
    Skipped,
    Failed {
        message: String,
        /// The exit code of the command that caused the failure.
        exit_code: Option<i32>,
        #[serde(rename = "place")]
        location: Option<Location>,
    },
    /// It computed for longer than its time limit, and was stopped.
    TimedOut {
        message: String,
        /// The last executed line.
        #[serde(rename = "place")]
        location: Option<Location>,
    },
}
