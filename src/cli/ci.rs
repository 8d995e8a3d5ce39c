//! `quire ci`: pipelines on the author's own machine.
//!
//! `ci check` evaluates the pipeline of a working tree in the same driver that the appliance uses
//! and prints its graph, or everything that is wrong with it.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use miette::{LabeledSpan, MietteDiagnostic, NamedSource, Report, SourceOffset};
use serde_json::json;

use crate::driver::protocol::{DOCKERFILE, PipelineSource, is_pipeline_file};
use crate::driver::{Driver, DriverError};
use crate::pipeline::{Diagnostic, Input, Pipeline, PipelineImage, PipelineText, format_duration};

/// The most files of `.quire` that are looked at.
const MAX_FILES: usize = 500;
/// The largest of them, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Pipelines on this machine.
#[derive(Debug, clap::Args)]
pub(super) struct CiArguments {
    #[command(subcommand)]
    command: CiCommand,
}

#[derive(Debug, Subcommand)]
enum CiCommand {
    /// Check the pipeline of this working tree, and print its graph or its errors
    Check {
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

/// How `ci check` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For Graphviz.
    Dot,
}

/// Why `ci` could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(super) enum CiError {
    /// No pipeline here.
    #[error("there is no pipeline: neither .quire/ci.fnl nor .quire/ci.lua in {} or above it", .0.display())]
    NoPipeline(PathBuf),
    /// A file could not be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// Too many or too large files.
    #[error("{}: {why}", path.display())]
    TooMuch {
        /// The file or folder.
        path: PathBuf,
        /// In what way.
        why: &'static str,
    },
    /// The pipeline is wrong.
    #[error("the pipeline is wrong")]
    Wrong(Vec<Diagnostic>, PipelineText),
    /// The driver failed.
    #[error(transparent)]
    Driver(DriverError),
    /// This program could not find or start itself.
    #[error("cannot start the pipeline's driver")]
    Start(#[source] std::io::Error),
}

/// Runs `quire ci …`.
pub(super) fn run(arguments: CiArguments) -> ExitCode {
    match arguments.command {
        CiCommand::Check { format } => check(format),
    }
}

fn check(format: Format) -> ExitCode {
    match checked_here() {
        Ok((tree, pipeline)) => {
            match format {
                Format::Text => print!("{}", as_text(&tree.source.file, &pipeline)),
                Format::Json => println!("{:#}", as_json(&tree.source.file, &pipeline)),
                Format::Dot => print!("{}", as_dot(&pipeline)),
            }
            ExitCode::SUCCESS
        }
        Err(CiError::Wrong(diagnostics, text)) => {
            if format == Format::Json {
                println!("{:#}", json!({ "errors": diagnostics }));
            } else {
                eprint!("{}", render(&diagnostics, &text));
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            let mut words = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                let _ = write!(words, ": {cause}");
                source = cause.source();
            }
            if format == Format::Json {
                println!("{:#}", json!({ "errors": [{ "message": words }] }));
            } else {
                eprintln!("error: {words}");
            }
            ExitCode::FAILURE
        }
    }
}

fn checked_here() -> Result<(WorkingTree, Pipeline), CiError> {
    let folder = std::env::current_dir().map_err(|error| CiError::Read(PathBuf::from("."), error))?;
    let tree = WorkingTree::find(&folder)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CiError::Start)?;
    let pipeline = runtime.block_on(async {
        let program = std::env::current_exe().map_err(CiError::Start)?;
        let (pipeline, driver) = tree.register(&program).await?;
        driver.kill().await;
        Ok(pipeline)
    })?;
    Ok((tree, pipeline))
}

/// A folder with a pipeline, as `ci check` and `ci run` take it.
#[derive(Debug)]
pub(super) struct WorkingTree {
    /// The folder that holds `.quire`.
    pub(super) root: PathBuf,
    /// The pipeline in it.
    pub(super) source: PipelineSource,
}

impl WorkingTree {
    /// The pipeline of `folder`, or of the nearest folder above it that has a `.quire`.
    pub(super) fn find(folder: &Path) -> Result<Self, CiError> {
        let no_pipeline = || CiError::NoPipeline(folder.to_path_buf());
        let root = folder.ancestors().find(|folder| folder.join(".quire").is_dir()).ok_or_else(no_pipeline)?;
        let mut files = Vec::new();
        collect(root, &root.join(".quire"), &mut files)?;
        files.sort();
        let source = PipelineSource::from_files(files).map_err(|problem| CiError::Wrong(vec![problem], PipelineText::default()))?;
        Ok(Self { root: root.to_path_buf(), source: source.ok_or_else(no_pipeline)? })
    }

    /// Whether it has an image of its own.
    pub(super) fn has_dockerfile(&self) -> bool {
        self.root.join(DOCKERFILE).is_file()
    }

    /// Has a driver evaluate the pipeline and checks what it registered; the driver is ready to run its jobs.
    pub(super) async fn register(&self, program: &Path) -> Result<(Pipeline, Driver), CiError> {
        let wrong = |diagnostics| CiError::Wrong(diagnostics, self.source.pipeline_text());
        let mut driver = Driver::spawn(program).map_err(CiError::Driver)?;
        let registration = driver.register(self.source.clone()).await.map_err(|error| match error {
            DriverError::Rejected(diagnostics) => wrong(diagnostics),
            other => CiError::Driver(other),
        })?;
        match Pipeline::check(registration, &self.source.pipeline_text(), self.has_dockerfile()) {
            Ok(pipeline) => Ok((pipeline, driver)),
            Err(diagnostics) => {
                driver.kill().await;
                Err(wrong(diagnostics))
            }
        }
    }
}

/// The Fennel and Lua files below a folder, as paths within the root. Links are not followed.
fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) -> Result<(), CiError> {
    let unreadable = |error| CiError::Read(folder.to_path_buf(), error);
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(unreadable)?);
        let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str) else { continue };
        if kind.is_dir() {
            collect(root, &path, files)?;
        } else if kind.is_file() && is_pipeline_file(name) {
            if files.len() >= MAX_FILES {
                return Err(CiError::TooMuch { path: root.join(".quire"), why: "it holds more than 500 Fennel and Lua files" });
            }
            if entry.metadata().map_err(unreadable)?.len() > MAX_FILE {
                return Err(CiError::TooMuch { path, why: "a pipeline's file is at most 1 MiB long" });
            }
            let text = std::fs::read_to_string(&path).map_err(|error| CiError::Read(path.clone(), error))?;
            files.push((name.to_owned(), text));
        }
    }
    Ok(())
}

/// Diagnostics with their source lines, as miette draws them.
pub(super) fn render(diagnostics: &[Diagnostic], text: &PipelineText) -> String {
    let mut words = String::new();
    for diagnostic in diagnostics {
        let mut shown = MietteDiagnostic::new(&diagnostic.message);
        if let Some(hint) = &diagnostic.hint {
            shown = shown.with_help(hint);
        }
        let place = diagnostic.place.as_ref();
        let report = match place.filter(|place| place.file == text.file && text.line(place.line).is_some()) {
            Some(place) => {
                let (line, column) = (place.line as usize, place.column as usize);
                let offset = SourceOffset::from_location(&text.text, line, column).offset();
                let label = LabeledSpan::new_with_span(Some("here".to_owned()), (offset, marked(&text.text[offset..])));
                Report::from(shown.with_label(label)).with_source_code(NamedSource::new(&text.file, text.text.clone()))
            }
            None => {
                let mut shown = shown;
                if let Some(place) = place {
                    shown.message = format!("{place}: {}", shown.message);
                }
                Report::from(shown)
            }
        };
        let _ = writeln!(words, "{report:?}");
    }
    let count = diagnostics.len();
    let _ = writeln!(words, "{count} {} in the pipeline", if count == 1 { "error" } else { "errors" });
    words
}

/// How many bytes of the text at a place are marked: the word that begins there.
fn marked(rest: &str) -> usize {
    let end = rest.char_indices().skip(1).find(|(_, c)| c.is_whitespace() || "()[]{}".contains(*c));
    end.map_or(rest.len(), |(at, _)| at)
}

fn as_text(file: &str, pipeline: &Pipeline) -> String {
    let jobs = pipeline.jobs();
    let bold = |text: String| {
        if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text }
    };
    let mut words = format!("{file}: {} {}\n", jobs.len(), if jobs.len() == 1 { "job" } else { "jobs" });
    let width = jobs.iter().map(|job| job.id.as_str().chars().count()).max().unwrap_or(0);
    for job in jobs {
        let inputs: Vec<String> = job.inputs.iter().map(ToString::to_string).collect();
        let mut notes = Vec::new();
        notes.extend(job.options.timeout_ms.map(|millis| format!("at most {}", format_duration(millis))));
        notes.extend(job.options.allow_failure.then(|| "may fail".to_owned()));
        notes.extend((job.options.retry > 0).then(|| format!("tried up to {} times", job.options.retry + 1)));
        let notes = if notes.is_empty() { String::new() } else { format!("  ({})", notes.join(", ")) };
        let _ = writeln!(words, "  {}  ← {}{notes}", bold(format!("{:width$}", job.id)), inputs.join(", "));
    }
    let image = match pipeline.image() {
        PipelineImage::Reference(image) => image.clone(),
        PipelineImage::Dockerfile => format!("built from {DOCKERFILE}"),
        PipelineImage::Default => "the configured default".to_owned(),
    };
    let sources: Vec<&str> = pipeline.sources().into_iter().map(crate::pipeline::Source::as_str).collect();
    let _ = writeln!(words, "sources: {}\nimage: {image}", sources.join(", "));
    words
}

fn as_json(file: &str, pipeline: &Pipeline) -> serde_json::Value {
    let jobs: Vec<_> = pipeline
        .jobs()
        .iter()
        .map(|job| {
            json!({
                "id": job.id,
                "inputs": job.inputs.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "timeout_ms": job.options.timeout_ms,
                "allow_failure": job.options.allow_failure,
                "retry": job.options.retry,
                "file": job.place.file,
                "line": job.place.line,
            })
        })
        .collect();
    let (image, dockerfile) = match pipeline.image() {
        PipelineImage::Reference(image) => (Some(image), false),
        PipelineImage::Dockerfile => (None, true),
        PipelineImage::Default => (None, false),
    };
    let sources: Vec<&str> = pipeline.sources().into_iter().map(crate::pipeline::Source::as_str).collect();
    json!({ "file": file, "jobs": jobs, "sources": sources, "image": image, "dockerfile": dockerfile, "timeout_ms": pipeline.timeout_ms() })
}

fn as_dot(pipeline: &Pipeline) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
    let mut words = "digraph pipeline {\n  rankdir=LR;\n".to_owned();
    for source in pipeline.sources() {
        let _ = writeln!(words, "  {} [shape=plain];", quoted(source.as_str()));
    }
    for job in pipeline.jobs() {
        let _ = writeln!(words, "  {} [shape=box];", quoted(job.id.as_str()));
        for input in &job.inputs {
            let from = match input {
                Input::Job(id) => quoted(id.as_str()),
                Input::Source(source) => quoted(source.as_str()),
            };
            let _ = writeln!(words, "  {from} -> {};", quoted(job.id.as_str()));
        }
    }
    words.push_str("}\n");
    words
}
