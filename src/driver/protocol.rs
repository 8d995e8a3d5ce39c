//! What the runner and the driver say to each other: one JSON object a line, over the driver's
//! standard input and output. The driver runs foreign code, so what comes from it is checked
//! like any foreign input, and a line over [`MAX_LINE_BYTES`] ends it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::pipeline::Language;
use crate::pipeline::{Diagnostic, PipelineText, Place, Registration};
use crate::secret::Secret;

/// The longest line either side accepts, in bytes.
pub const MAX_LINE_BYTES: usize = 32 << 20;

/// A pipeline in Fennel.
pub const FENNEL_FILE: &str = ".quire/ci.fnl";
/// A pipeline in Lua.
pub const LUA_FILE: &str = ".quire/ci.lua";
/// A pipeline's image.
pub const DOCKERFILE: &str = ".quire/Dockerfile";
/// Files of the same folder that are something else.
const CONFIG_FILES: [&str; 2] = [".quire/config.fnl", ".quire/config.lua"];

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

impl PipelineSource {
    /// The pipeline among the files of a commit's `.quire` folder (path within the commit, text):
    /// `.quire/ci.fnl` or `.quire/ci.lua`, with the other Fennel and Lua files there as helpers.
    /// `None` where there is neither.
    ///
    /// # Errors
    /// Where there are both.
    pub fn from_files(files: Vec<(String, String)>) -> Result<Option<Self>, Diagnostic> {
        let has = |name: &str| files.iter().any(|(path, _)| path == name);
        let (language, file) = match (has(FENNEL_FILE), has(LUA_FILE)) {
            (false, false) => return Ok(None),
            (true, false) => (Language::Fennel, FENNEL_FILE),
            (false, true) => (Language::Lua, LUA_FILE),
            (true, true) => {
                return Err(Diagnostic {
                    message: format!("there are two pipelines: {FENNEL_FILE} and {LUA_FILE}"),
                    place: Some(Place {
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
            .map(|(_, text)| text)
            .unwrap_or_default();
        let helpers = others
            .into_iter()
            .filter(|(path, _)| is_pipeline_file(path))
            .collect();
        Ok(Some(Self {
            language,
            file: file.to_owned(),
            text,
            helpers,
        }))
    }

    /// The pipeline's own file, to point into.
    #[must_use]
    pub fn pipeline_text(&self) -> PipelineText {
        PipelineText {
            file: self.file.clone(),
            text: self.text.clone(),
        }
    }

    /// All its files, to point into: its own first.
    #[must_use]
    pub fn texts(&self) -> Vec<PipelineText> {
        let helpers = self.helpers.iter().map(|(file, text)| PipelineText {
            file: file.clone(),
            text: text.clone(),
        });
        std::iter::once(self.pipeline_text())
            .chain(helpers)
            .collect()
    }
}

/// Whether a path within a commit is that of a pipeline's file or of a helper.
#[must_use]
pub fn is_pipeline_file(path: &str) -> bool {
    path.starts_with(".quire/")
        && (path.ends_with(".fnl") || path.ends_with(".lua"))
        && !CONFIG_FILES.contains(&path)
}

/// Runner to driver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum ToDriver {
    /// First line: evaluate this and register its jobs.
    Register {
        /// What to evaluate.
        source: PipelineSource,
        /// How long that may take, in milliseconds.
        limit_ms: u64,
        /// Files of it whose Lua is known: path within the commit, Lua text.
        #[serde(default)]
        compiled: Vec<(String, String)>,
    },
    /// What `(jobs name)` gives from now on, in the jobs after it; nil where this was not said.
    Value {
        /// A source, or a job that ended.
        name: String,
        /// What it gave.
        value: Value,
    },
    /// Call a job's function. Answered by [`FromDriver::JobEnded`], whatever happens.
    RunJob {
        /// The job's id.
        job: String,
        /// How long the function may take, in milliseconds.
        timeout_ms: Option<u64>,
        /// What `(env name)` gives: the variables that its commands see without options of their own.
        #[serde(default)]
        env: Vec<(String, String)>,
    },
    /// Answer to [`FromDriver::Sh`]: the command ended.
    ShEnded {
        /// The call.
        call: u64,
        /// How it ended.
        result: ShResult,
    },
    /// Answer to [`FromDriver::ReadFile`].
    FileRead {
        /// The call.
        call: u64,
        /// What the file holds, secrets in place; or a sentence that says why it cannot be read.
        content: Result<Text, String>,
    },
    /// Answer to [`FromDriver::WriteFile`] and [`FromDriver::Artifact`].
    Done {
        /// The call.
        call: u64,
        /// A sentence that says why it was not done.
        done: Result<(), String>,
    },
    /// Answer to [`FromDriver::Secret`].
    SecretValue {
        /// The call.
        call: u64,
        /// The value, or a sentence that says why there is none.
        #[serde(with = "exposed")]
        value: Result<Secret, String>,
    },
}

/// A secret's value on its way to the driver: the one place where it is written as it is.
mod exposed {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::secret::Secret;

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

impl Text {
    /// Of any bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Plain(text),
            Err(error) => Self::Encoded {
                base64: BASE64.encode(error.as_bytes()),
            },
        }
    }

    /// The bytes.
    ///
    /// # Errors
    /// It is no base64.
    pub fn into_bytes(self) -> Result<Vec<u8>, base64::DecodeError> {
        match self {
            Self::Plain(text) => Ok(text.into_bytes()),
            Self::Encoded { base64 } => BASE64.decode(base64),
        }
    }
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
    pub stdin: Option<Text>,
}

/// Driver to runner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum FromDriver {
    /// What files of the source compiled to, as far as that was not known: path within the commit,
    /// Lua text. Just before [`FromDriver::Registered`], or never.
    Compiled {
        /// The files.
        files: Vec<(String, String)>,
    },
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
    /// A job wants to read a file of the workspace.
    ReadFile {
        /// Names this call in the answer.
        call: u64,
        /// The job.
        job: String,
        /// Path within the workspace, as written.
        path: String,
    },
    /// A job wants to write a file of the workspace, folders on the way included.
    WriteFile {
        /// Names this call in the answer.
        call: u64,
        /// The job.
        job: String,
        /// Path within the workspace, as written.
        path: String,
        /// What it shall hold.
        content: Text,
    },
    /// A job wants a file or folder of the workspace kept with the run.
    Artifact {
        /// Names this call in the answer.
        call: u64,
        /// The job.
        job: String,
        /// Path within the workspace, as written.
        path: String,
        /// The name it is kept under; its path where there is none.
        name: Option<String>,
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
    /// It went on for longer than its time limit without waiting for anything, and was stopped.
    TimedOut {
        /// One sentence.
        message: String,
        /// Where in the file it was.
        place: Option<Place>,
    },
}
