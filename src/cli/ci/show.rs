//! A pipeline, or what is wrong with it, as text, JSON or a graph for Graphviz.

use std::fmt::Write as _;
use std::io::IsTerminal;

use miette::{LabeledSpan, MietteDiagnostic, NamedSource, Report, SourceOffset};
use serde_json::{Map, json};

use crate::driver::protocol::DOCKERFILE;
use crate::pipeline::{
    Diagnostic, Group, Input, MAX_QUOTED, Pipeline, PipelineImage, PipelineText, Place, Service,
    format_cpus, format_duration, format_size,
};

/// Diagnostics with their source lines, as miette draws them.
pub(super) fn errors(diagnostics: &[Diagnostic], texts: &[PipelineText]) -> String {
    let mut words = String::new();
    // Neither a person nor miette has use for a line of any length.
    let quoted: Vec<String> = texts.iter().map(PipelineText::quoted).collect();
    for diagnostic in diagnostics {
        let mut shown = MietteDiagnostic::new(&diagnostic.message);
        if let Some(hint) = &diagnostic.hint {
            shown = shown.with_help(hint);
        }
        let place = diagnostic.place.as_ref();
        let known = |place: &Place| {
            texts
                .iter()
                .position(|text| text.file == place.file && text.line(place.line).is_some())
        };
        let report = match place.and_then(|place| Some((place, known(place)?))) {
            Some((place, at)) => {
                let quoted = &quoted[at];
                let (line, column) = (place.line as usize, place.column as usize);
                let offset =
                    SourceOffset::from_location(quoted, line, column.min(MAX_QUOTED)).offset();
                let label = LabeledSpan::new_with_span(
                    Some("here".to_owned()),
                    (offset, marked(&quoted[offset..])),
                );
                Report::from(shown.with_label(label))
                    .with_source_code(NamedSource::new(&texts[at].file, quoted.clone()))
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
    let _ = writeln!(
        words,
        "{count} {} in the pipeline",
        if count == 1 { "error" } else { "errors" }
    );
    words
}

/// How many bytes of the text at a place are marked: the word that begins there.
fn marked(rest: &str) -> usize {
    let end = rest
        .char_indices()
        .skip(1)
        .find(|(_, c)| c.is_whitespace() || "()[]{}".contains(*c));
    end.map_or(rest.len(), |(at, _)| at)
}

/// Jobs with their inputs, sources and image, for people.
pub(super) fn text(file: &str, pipeline: &Pipeline) -> String {
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
    for (what, value) in facts(pipeline) {
        let _ = writeln!(words, "{what}: {value}");
    }
    words
}

/// What stands beside the jobs, as far as there is something.
fn facts(pipeline: &Pipeline) -> Vec<(&'static str, String)> {
    let list = |items: Vec<String>| (!items.is_empty()).then(|| items.join(", "));
    let image = match pipeline.image() {
        PipelineImage::Reference(image) => image.clone(),
        PipelineImage::Dockerfile => format!("built from {DOCKERFILE}"),
        PipelineImage::Default => "the configured default".to_owned(),
    };
    let service = |service: &Service| {
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
    };
    let group = |group: &Group| {
        let how = if group.supersede {
            "a newer run takes the place of older ones"
        } else {
            "each run waits for those before it"
        };
        format!("{} ({how})", group.name)
    };
    let asked = pipeline.resources();
    let resources = [
        asked
            .memory
            .map(|bytes| format!("{} of memory", format_size(bytes))),
        asked
            .milli_cpus
            .map(|milli| format!("{} CPUs", format_cpus(milli))),
        asked.pids.map(|pids| format!("{pids} processes")),
    ];
    let facts = [
        (
            "sources",
            list(pipeline.sources().iter().map(ToString::to_string).collect()),
        ),
        (
            "schedules",
            list(
                pipeline
                    .crons()
                    .iter()
                    .map(|cron| format!("{} ({})", cron.name, cron.schedule))
                    .collect(),
            ),
        ),
        ("image", Some(image)),
        (
            "services",
            list(pipeline.services().iter().map(service).collect()),
        ),
        (
            "caches",
            list(
                pipeline
                    .caches()
                    .iter()
                    .map(|cache| format!("{} ({})", cache.name, cache.path))
                    .collect(),
            ),
        ),
        ("group", pipeline.group().map(group)),
        (
            "network",
            pipeline
                .network()
                .map(|network| if network { "yes" } else { "none" }.to_owned()),
        ),
        ("resources", list(resources.into_iter().flatten().collect())),
        ("time limit", pipeline.timeout_ms().map(format_duration)),
    ];
    facts
        .into_iter()
        .filter_map(|(what, value)| Some((what, value?)))
        .collect()
}

/// The same for programs.
pub(super) fn json(file: &str, pipeline: &Pipeline) -> serde_json::Value {
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
    let sources: Vec<String> = pipeline.sources().iter().map(ToString::to_string).collect();
    json!({
        "file": file, "jobs": jobs, "sources": sources, "image": image, "dockerfile": dockerfile, "timeout_ms": pipeline.timeout_ms(),
        "caches": pipeline.caches(), "services": pipeline.services(), "group": pipeline.group(), "network": pipeline.network(),
        "resources": pipeline.resources(), "crons": pipeline.crons(),
    })
}

/// The same for Graphviz.
pub(super) fn dot(pipeline: &Pipeline) -> String {
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
    let label: String = facts(pipeline)
        .into_iter()
        .filter(|(what, _)| *what != "sources")
        .map(|(what, value)| format!("{what}: {value}\n"))
        .collect();
    // `\l` ends a line that begins at the left.
    let _ = writeln!(
        words,
        "  labeljust=l;\n  label={};\n}}",
        quoted(&label).replace('\n', "\\l")
    );
    words
}
