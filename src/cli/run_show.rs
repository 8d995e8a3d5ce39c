//! `quire run show`: one run with its jobs and steps.

use super::error::CommandError;
use super::output::{Cell, Output};
use quire_server::forge::landings;
use quire_server::forge::run_details::RunDetails;
use quire_store::KeptContainer;
use quire_types::run::{Run, RunJob, RunStep, Trigger};
use quire_types::text::first_line;

pub(super) fn print_run(details: &RunDetails, out: &mut Output<'_>) -> Result<(), CommandError> {
    if out.json {
        return out.json(&details.document());
    }
    print_facts(details, out)?;
    if !details.jobs.is_empty() {
        out.line("")?;
        print_jobs(&details.jobs, out)?;
    }
    if !details.steps.is_empty() {
        out.line("")?;
        print_steps(&details.steps, out)?;
    }
    Ok(())
}

fn print_facts(details: &RunDetails, out: &mut Output<'_>) -> Result<(), CommandError> {
    let run = &details.run;
    let mut facts: Vec<[Cell; 2]> = vec![
        ["run".into(), run.name().to_string().into()],
        ["id".into(), run.id.to_string().into()],
        ["state".into(), run.state.into()],
        ["ref".into(), run.ref_name.as_str().into()],
        ["commit".into(), run.sha.as_str().into()],
        [
            "subject".into(),
            run.subject.as_deref().unwrap_or("-").into(),
        ],
        ["trigger".into(), run.trigger.as_str().into()],
        ["queued".into(), out.time(Some(run.queued_at_ms)).into()],
        [
            "took".into(),
            out.elapsed(run.started_at_ms, run.finished_at_ms).into(),
        ],
    ];
    facts.extend(
        optional_facts(run, details.kept.as_ref())
            .into_iter()
            .chain([("landing", details.landing.as_ref().map(landings::sentence))])
            .filter_map(|(name, value)| Some([name.into(), value?.into()])),
    );
    out.facts(facts)
}

fn optional_facts(run: &Run, kept: Option<&KeptContainer>) -> [(&'static str, Option<String>); 13] {
    let retried = |id| {
        if run.only_failed {
            format!("failed jobs of {id}")
        } else {
            format!("{id}")
        }
    };
    let container = |kept: &KeptContainer| {
        format!(
            "container, until {}; `run attach {}` opens a shell in it",
            kept.until_ms,
            run.name()
        )
    };
    let params = run.params.as_ref().filter(|params| !params.is_empty());
    [
        ("failure", run.failure_kind.map(|kind| kind.to_string())),
        ("why", run.message.clone()),
        ("pusher", run.pusher.clone()),
        ("executor", run.executor.as_ref().map(ToString::to_string)),
        ("image", run.image_tag.clone()),
        ("retries", run.retry_of.map(retried)),
        ("only job", run.only_job.clone()),
        (
            "rebuild",
            run.rebuild
                .then(|| "images are pulled and built afresh".to_owned()),
        ),
        ("kept", kept.map(container)),
        ("group", run.group_name.clone()),
        (
            "source",
            Some(run.source.clone()).filter(|_| run.trigger != Trigger::Push),
        ),
        ("parameters", params.map(parameters)),
        ("superseded by", run.superseded_by.map(|id| id.to_string())),
    ]
}

fn print_jobs(jobs: &[RunJob], out: &mut Output<'_>) -> Result<(), CommandError> {
    let row = |job: &RunJob| {
        let reason = job
            .reused_from
            .map(|run| format!("result of run {run}"))
            .or(job.message.clone())
            .unwrap_or_default();
        [
            job.job_id.as_str().into(),
            job.state.as_str().into(),
            out.elapsed(job.started_at_ms, job.finished_at_ms).into(),
            first_line(&reason, 80).into(),
        ]
    };
    let rows: Vec<_> = jobs.iter().map(row).collect();
    out.table(["JOB", "STATE", "TOOK", "WHY"], &rows)
}

fn print_steps(steps: &[RunStep], out: &mut Output<'_>) -> Result<(), CommandError> {
    let row = |step: &RunStep| {
        let exit_code = step
            .exit_code
            .map_or_else(|| "-".to_owned(), |code| code.to_string());
        [
            step.seq.to_string().into(),
            step.job_id.as_str().into(),
            exit_code.into(),
            out.elapsed(Some(step.started_at_ms), step.finished_at_ms)
                .into(),
            first_line(&step.command, 80).into(),
        ]
    };
    let rows: Vec<_> = steps.iter().map(row).collect();
    out.table(["STEP", "JOB", "EXIT", "TOOK", "COMMAND"], &rows)
}

/// Parameters as `run start` takes them.
fn parameters(params: &serde_json::Map<String, serde_json::Value>) -> String {
    let one = |(name, value): (&String, &serde_json::Value)| {
        format!(
            "{name}={}",
            first_line(value.as_str().unwrap_or_default(), 60)
        )
    };
    params.iter().map(one).collect::<Vec<_>>().join(" ")
}
