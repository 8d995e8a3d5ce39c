//! A run as it stands, as a few lines: what goes on, with the time it has taken, what is done and
//! what waits. The jobs that go on are always among them.

use std::collections::HashMap;

use super::board::{Job, Step};
use super::screen::{DIM, Paint, YELLOW, command, job_mark, took};
use crate::clock::Millis;
use crate::run::JobState;

/// At most `room` lines.
pub(super) fn standing(
    jobs: &[Job],
    steps: &[Step],
    now: Millis,
    room: usize,
    paint: Paint,
) -> Vec<String> {
    let width = jobs
        .iter()
        .map(|job| job.name.as_str().chars().count())
        .max()
        .unwrap_or(0);
    // The newest of each job; a job has one step at a time.
    let current: HashMap<&str, &Step> = steps
        .iter()
        .filter(|step| step.ended.is_none())
        .map(|step| (step.job.as_str(), step))
        .collect();
    let lines_of = |job: &Job| {
        1 + usize::from(job.state == JobState::Active && current.contains_key(job.name.as_str()))
    };
    let all: usize = jobs.iter().map(lines_of).sum();
    let shown: Vec<&Job> = if all <= room {
        jobs.iter().collect()
    } else {
        jobs.iter()
            .filter(|job| job.state == JobState::Active)
            .collect()
    };
    let mut lines = Vec::new();
    for job in &shown {
        lines.push(line(job, now, width, paint));
        if let Some(step) = current
            .get(job.name.as_str())
            .filter(|_| job.state == JobState::Active)
        {
            lines.push(format!(
                "  └─ {}{}",
                command(step),
                paint.with(DIM, &format!(" · {}", took(step.started, now)))
            ));
        }
    }
    if shown.len() < jobs.len() || lines.len() > room {
        let summary = counts(jobs, shown.len());
        lines.truncate(room.saturating_sub(1));
        lines.push(paint.with(DIM, &summary));
    }
    lines
}

/// What is not shown, in numbers.
fn counts(jobs: &[Job], active: usize) -> String {
    let count = |states: &[JobState]| {
        jobs.iter()
            .filter(|job| states.contains(&job.state))
            .count()
    };
    let parts = [
        (active, "active"),
        (count(&[JobState::Complete, JobState::Skipped]), "done"),
        (count(&[JobState::Failed, JobState::Aborted]), "failed"),
        (count(&[JobState::Pending]), "waiting"),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    format!("{} of {} jobs", parts.join(", "), jobs.len())
}

fn line(job: &Job, now: Millis, width: usize, paint: Paint) -> String {
    let name = format!("{:width$}", job.name);
    match job.state {
        JobState::Active => {
            let time = job
                .started
                .map_or_else(String::new, |started| took(started, now));
            format!(
                "{} {name}  {}",
                paint.with(YELLOW, "●"),
                paint.with(DIM, &time)
            )
        }
        JobState::Pending => {
            format!(
                "{} {name}  {}",
                paint.with(DIM, "○"),
                paint.with(DIM, &format!("waits for {}", job.inputs.join(", ")))
            )
        }
        state => {
            let time = match (job.started, job.ended) {
                (Some(started), Some(ended)) => format!(" · {}", took(started, ended)),
                _ => String::new(),
            };
            format!(
                "{} {name}  {}",
                job_mark(job, paint),
                paint.with(DIM, &format!("{state}{time}"))
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str, state: JobState) -> Job {
        let started = (state != JobState::Pending).then_some(Millis(1_000));
        let ended = state.is_final().then_some(Millis(3_000));
        Job {
            name: name.parse().unwrap(),
            inputs: vec!["quire/push".to_owned()],
            state,
            started,
            ended,
            message: None,
        }
    }

    fn step(job: &str) -> Step {
        let command = "make\nall".to_owned();
        Step {
            seq: 1,
            job: job.parse().unwrap(),
            command,
            started: Millis(2_000),
            ended: None,
            exit: None,
        }
    }

    #[test]
    fn everything_is_shown_where_there_is_room() {
        let jobs = [
            job("lint", JobState::Complete),
            job("a", JobState::Active),
            job("last", JobState::Pending),
        ];
        let lines = standing(&jobs, &[step("a")], Millis(9_000), 4, Paint(false));
        assert_eq!(
            lines,
            [
                "✓ lint  complete · 2 s",
                "● a     8 s",
                "  └─ make… · 7 s",
                "○ last  waits for quire/push"
            ]
        );
    }

    #[test]
    fn where_there_is_not_what_goes_on_comes_first() {
        let mut jobs = vec![job("a", JobState::Complete); 30];
        jobs.extend([
            job("b", JobState::Active),
            job("c", JobState::Failed),
            job("d", JobState::Pending),
        ]);
        let lines = standing(&jobs, &[step("b")], Millis(9_000), 5, Paint(false));
        assert_eq!(
            lines,
            [
                "● b  8 s",
                "  └─ make… · 7 s",
                "1 active, 30 done, 1 failed, 1 waiting of 33 jobs"
            ]
        );
        let many = vec![job("b", JobState::Active); 30];
        let lines = standing(&many, &[], Millis(9_000), 3, Paint(false));
        assert_eq!(
            (lines.len(), lines[2].as_str()),
            (3, "30 active of 30 jobs")
        );
    }
}
