//! Renders a checked pipeline, or its errors, as text, JSON or a Graphviz graph.

use std::fmt::Write as _;
use std::io::IsTerminal;

use miette::{LabeledSpan, MietteDiagnostic, NamedSource, Report, SourceOffset};
use serde_json::{Map, json};

use quire_pipeline::driver::protocol::DOCKERFILE;
use quire_pipeline::{
    CheckoutOptions, Diagnostic, Group, History, Input, Location, MAX_QUOTED, Pipeline,
    PipelineImage, Service, SourceFile, format_cpus, format_duration, format_size,
};
use quire_types::image_reference::ImageReference;

/// Renders diagnostics with their source lines, by miette.
pub(super) fn render_errors(diagnostics: &[Diagnostic], texts: &[SourceFile]) -> String {
    let mut words = String::new();
    // A very long source line would make miette slow and the output unreadable.
    let quoted: Vec<String> = texts.iter().map(SourceFile::quoted).collect();
    for diagnostic in diagnostics {
        let mut shown = MietteDiagnostic::new(&diagnostic.message);
        if let Some(hint) = &diagnostic.hint {
            shown = shown.with_help(hint);
        }
        let location = diagnostic.location.as_ref();
        let known = |location: &Location| {
            texts
                .iter()
                .position(|text| text.file == location.file && text.line(location.line).is_some())
        };
        let report = match location.and_then(|location| Some((location, known(location)?))) {
            Some((location, at)) => {
                let quoted = &quoted[at];
                let (line, column) = (location.line as usize, location.column as usize);
                let offset =
                    SourceOffset::from_location(quoted, line, column.min(MAX_QUOTED)).offset();
                let label = LabeledSpan::new_with_span(
                    Some("here".to_owned()),
                    (offset, word_len(&quoted[offset..])),
                );
                Report::from(shown.with_label(label))
                    .with_source_code(NamedSource::new(&texts[at].file, quoted.clone()))
            }
            None => {
                let mut shown = shown;
                if let Some(location) = location {
                    shown.message = format!("{location}: {}", shown.message);
                }
                Report::from(shown)
            }
        };
        let _ = writeln!(words, "{report:?}");
    }
    let count = diagnostics.len();
    let _ = writeln!(
        words,
        "{count} {} in the pipeline",
        if count == 1 { "error" } else { "errors" }
    );
    words
}

/// The number of bytes to mark: those of the word that begins there.
fn word_len(rest: &str) -> usize {
    let end = rest
        .char_indices()
        .skip(1)
        .find(|(_, c)| c.is_whitespace() || "()[]{}".contains(*c));
    end.map_or(rest.len(), |(at, _)| at)
}

/// Renders jobs with their inputs, and the settings of the pipeline, for a person.
pub(super) fn render_text(file: &str, pipeline: &Pipeline) -> String {
    let jobs = pipeline.jobs();
    let bold = |text: String| {
        if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            format!("\u{1b}[1m{text}\u{1b}[0m")
        } else {
            text
        }
    };
    let mut words = format!(
        "{file}: {} {}\n",
        jobs.len(),
        if jobs.len() == 1 { "job" } else { "jobs" }
    );
    let width = jobs
        .iter()
        .map(|job| job.id.as_str().chars().count())
        .max()
        .unwrap_or(0);
    for job in jobs {
        let inputs: Vec<String> = job.inputs.iter().map(ToString::to_string).collect();
        let mut notes = Vec::new();
        notes.extend(
            job.options
                .timeout_ms
                .map(|millis| format!("at most {}", format_duration(millis))),
        );
        notes.extend(job.options.allow_failure.then(|| "may fail".to_owned()));
        notes.extend((!job.options.env.is_empty()).then(|| {
            let names: Vec<&str> = job
                .options
                .env
                .iter()
                .map(|(name, _)| name.as_str())
                .collect();
            format!("sets {}", names.join(" "))
        }));
        notes.extend(
            (job.options.retry > 0).then(|| format!("tried up to {} times", job.options.retry + 1)),
        );
        let notes = if notes.is_empty() {
            String::new()
        } else {
            format!("  ({})", notes.join(", "))
        };
        let _ = writeln!(
            words,
            "  {}  ← {}{notes}",
            bold(format!("{:width$}", job.id)),
            inputs.join(", ")
        );
    }
    for (what, value) in settings(pipeline) {
        let _ = writeln!(words, "{what}: {value}");
    }
    words
}

/// The settings that the pipeline makes, beside its jobs.
fn settings(pipeline: &Pipeline) -> Vec<(&'static str, String)> {
    let mut settings = Vec::new();
    let mut add = |name: &'static str, items: Vec<String>| {
        if !items.is_empty() {
            settings.push((name, items.join(", ")));
        }
    };
    let sources = pipeline.sources();
    add("sources", sources.iter().map(ToString::to_string).collect());
    let crons = pipeline.crons();
    let schedules = crons
        .iter()
        .map(|cron| format!("{} ({})", cron.name, cron.schedule));
    add("schedules", schedules.collect());
    let image = match pipeline.image() {
        PipelineImage::Reference(image) => image.to_string(),
        PipelineImage::Dockerfile => format!("built from {DOCKERFILE}"),
        PipelineImage::Default => "the configured default".to_owned(),
    };
    add("image", vec![image]);
    add(
        "services",
        pipeline.services().iter().map(describe_service).collect(),
    );
    let caches = pipeline.caches();
    let caches = caches
        .iter()
        .map(|cache| format!("{} ({})", cache.name, cache.path));
    add("caches", caches.collect());
    add(
        "group",
        pipeline.group().map(describe_group).into_iter().collect(),
    );
    let network = pipeline.network();
    let network = network.map(|network| if network { "yes" } else { "none" }.to_owned());
    add("network", network.into_iter().collect());
    add("checkout", describe_checkout(pipeline.checkout()));
    let requested = pipeline.resources();
    let memory = requested.memory;
    let cpus = requested.milli_cpus;
    let resources = [
        memory.map(|bytes| format!("{} of memory", format_size(bytes))),
        cpus.map(|milli| format!("{} CPUs", format_cpus(milli))),
        requested.pids.map(|pids| format!("{pids} processes")),
    ];
    add("resources", resources.into_iter().flatten().collect());
    add("container", describe_container(pipeline));
    let timeout = pipeline.timeout_ms().map(format_duration);
    add("time limit", timeout.into_iter().collect());
    settings
}

fn describe_checkout(checkout: CheckoutOptions) -> Vec<String> {
    let history = checkout.history.map(|history| match history {
        History::Commits(count) => format!("history of {count} commits"),
        History::Full => "whole history".to_owned(),
    });
    let submodules = checkout.submodules.map(|all| match all {
        true => "all submodules".to_owned(),
        false => "no submodules".to_owned(),
    });
    let lfs = checkout.lfs.then(|| "files in Git LFS".to_owned());
    history.into_iter().chain(submodules).chain(lfs).collect()
}

fn describe_container(pipeline: &Pipeline) -> Vec<String> {
    let options = pipeline.container();
    let mut parts = Vec::new();
    parts.extend(options.user.as_ref().map(|user| format!("user {user}")));
    let shm_size = options.shm_size.map(format_size);
    parts.extend(shm_size.map(|size| format!("{size} of shared memory")));
    parts.extend(options.tmpfs.iter().map(|(path, size)| match size {
        Some(size) => format!("{path} in memory ({})", format_size(*size)),
        None => format!("{path} in memory"),
    }));
    let privileges = &options.privileges;
    if !privileges.is_empty() {
        parts.push(format!("privileges {}", privileges.join(" ")));
    }
    parts.extend(pipeline.docker().then(|| "the engine's socket".to_owned()));
    parts
}

fn describe_service(service: &Service<ImageReference>) -> String {
    let ready = service
        .ready
        .as_ref()
        .map(|ready| format!(", ready when `{}` succeeds", shell_words::join(ready)));
    format!(
        "{} ({}{}, within {})",
        service.name,
        service.image,
        ready.unwrap_or_default(),
        format_duration(service.ready_within_ms)
    )
}

fn describe_group(group: &Group) -> String {
    let how = if group.supersede {
        "a newer run supersedes older runs"
    } else {
        "each run waits for earlier runs"
    };
    format!("{} ({how})", group.name)
}

/// Renders the pipeline for a program.
pub(super) fn render_json(file: &str, pipeline: &Pipeline) -> serde_json::Value {
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
                "env": Map::from_iter(job.options.env.iter().map(|(name, value)| (name.clone(), json!(value)))),
                "file": job.location.file,
                "line": job.location.line,
            })
        })
        .collect();
    let (image, dockerfile) = match pipeline.image() {
        PipelineImage::Reference(image) => (Some(image), false),
        PipelineImage::Dockerfile => (None, true),
        PipelineImage::Default => (None, false),
    };
    let sources: Vec<String> = pipeline.sources().iter().map(ToString::to_string).collect();
    json!({
        "file": file, "jobs": jobs, "sources": sources, "image": image, "dockerfile": dockerfile, "timeout_ms": pipeline.timeout_ms(),
        "caches": pipeline.caches(), "services": pipeline.services(), "group": pipeline.group(), "network": pipeline.network(),
        "resources": pipeline.resources(), "container": pipeline.container(), "docker": pipeline.docker(), "crons": pipeline.crons(),
        "checkout": pipeline.checkout(),
    })
}

/// Renders the job graph for Graphviz.
pub(super) fn render_dot(pipeline: &Pipeline) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
    let mut words = "digraph pipeline {\n  rankdir=LR;\n".to_owned();
    for source in pipeline.sources() {
        let _ = writeln!(words, "  {} [shape=plain];", quoted(&source.to_string()));
    }
    for job in pipeline.jobs() {
        let _ = writeln!(words, "  {} [shape=box];", quoted(job.id.as_str()));
        for input in &job.inputs {
            let from = match input {
                Input::Job(id) => quoted(id.as_str()),
                Input::Source(source) => quoted(&source.to_string()),
            };
            let _ = writeln!(words, "  {from} -> {};", quoted(job.id.as_str()));
        }
    }
    let label: String = settings(pipeline)
        .into_iter()
        .filter(|(what, _)| *what != "sources")
        .map(|(what, value)| format!("{what}: {value}\n"))
        .collect();
    // `\l` ends a left-aligned line.
    let _ = writeln!(
        words,
        "  labeljust=l;\n  label={};\n}}",
        quoted(&label).replace('\n', "\\l")
    );
    words
}
