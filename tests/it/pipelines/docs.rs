//! The examples of docs/pipelines.md are pipelines that the binary accepts, and whose jobs run.

use quire_pipeline::driver::protocol::{JobEnd, Language, PipelineSource};
use serde_json::json;

use super::support::*;

/// The fenced blocks of a document: language and text.
fn examples(document: &str) -> Vec<(&str, String)> {
    let mut examples = Vec::new();
    let mut current: Option<(&str, String)> = None;
    for line in document.lines() {
        current = match (current.take(), line.strip_prefix("```")) {
            (None, Some(language)) => Some((language, String::new())),
            (Some((language, code)), Some(_)) => {
                examples.push((language, code));
                None
            }
            (Some((language, code)), None) => Some((language, code + line + "\n")),
            (None, None) => None,
        };
    }
    examples
}

/// An example as a whole pipeline; none where it is something else.
fn pipeline(language: &str, code: &str) -> Option<PipelineSource> {
    let text = match language {
        "fennel" if code.contains("(require :quire.ci)") => code.to_owned(),
        // A form, or the body of a job.
        "fennel" if code.trim_start().starts_with("(ci.") || code.contains("(ci.cron") => {
            format!("(local ci (require :quire.ci))\n{code}(ci.job :the-end [:quire/push] #nil)")
        }
        "fennel" => {
            format!(
                "(local ci (require :quire.ci))\n(ci.job :a [:quire/push] (fn [{{: sh : jobs : env : secret : log : read-file : read-json : write-file : artifact}}]\n{code}))"
            )
        }
        "lua" => code.to_owned(),
        _ => return None,
    };
    let helpers = vec![(
        ".quire/helpers.fnl".to_owned(),
        "{:cargo (fn [sh ...] (sh [:cargo ...]))}".to_owned(),
    )];
    let source = if language == "lua" {
        lua(&text)
    } else {
        fennel(&text)
    };
    Some(PipelineSource { helpers, ..source })
}

#[tokio::test]
async fn every_example_of_the_manual_is_accepted_and_its_jobs_run() {
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/pipelines.md")).unwrap();
    let values = json!({
        "quire/push": {"sha": "0123", "branch": "main", "files-changed": ["a"]},
        "quire/manual": {"sha": "0123", "params": {}},
        "quire/cron/nightly": {"sha": "0123", "name": "nightly"},
    });
    let (mut checked, mut ran) = (0, 0);
    for source in examples(&document)
        .iter()
        .filter_map(|(language, code)| pipeline(language, code))
    {
        let file = if source.language == Language::Lua {
            ".quire/ci.lua"
        } else {
            ".quire/ci.fnl"
        };
        let helper = (source.helpers[0].0.as_str(), source.helpers[0].1.as_str());
        let found = check(&[(file, &source.text), helper], &[]);
        assert_eq!(found.code, 0, "{}\n{}", source.text, found.stderr);
        checked += 1;
        let mut session = Session::start(source.clone()).await.unwrap();
        let jobs: Vec<String> = session
            .registration
            .jobs
            .iter()
            .map(|job| job.id.clone())
            .collect();
        for job in &jobs {
            let story = session.run(&[job], &values, |_| (0, "1")).await;
            assert!(
                !matches!(story.ends[job], JobEnd::Failed { .. }),
                "{}\n{}",
                source.text,
                story.end(job)
            );
            ran += story.commands.len();
        }
        session.close().await;
    }
    assert!(
        checked >= 25 && ran >= 25,
        "only {checked} examples were found, with {ran} commands"
    );
}

#[test]
fn every_form_and_every_tool_has_an_example_of_its_own() {
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/pipelines.md")).unwrap();
    let wrong = check(
        &[(
            ".quire/ci.fnl",
            "(local ci (require :quire.ci))\n(ci.zzzzzzzz)",
        )],
        &[],
    )
    .stderr;
    let forms = wrong
        .split("it has")
        .nth(1)
        .unwrap()
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|form| format!("ci.{form}"));
    let tools = [
        "sh",
        "jobs",
        "env",
        "secret",
        "log",
        "read-file",
        "read-json",
        "write-file",
        "artifact",
    ]
    .map(str::to_owned);
    for name in forms.chain(tools) {
        let title = |section: &&str| {
            section
                .lines()
                .next()
                .is_some_and(|title| title.contains(&format!("`({name} ")))
        };
        let section = document.split("\n### ").skip(1).find(title);
        let section = section.unwrap_or_else(|| panic!("`{name}` has no section"));
        let code: String = examples(section)
            .into_iter()
            .map(|(_, code)| code)
            .collect();
        assert!(
            code.contains(&format!("({name} ")),
            "`{name}` has no example"
        );
    }
}
