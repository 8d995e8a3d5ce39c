//! The status lines of a run: active jobs with their step and elapsed time, finished jobs and
//! waiting jobs. Active jobs are always among them.

use std::collections::HashMap;

use super::progress::{JobProgress, StepProgress};
use super::style::{Colors, DIM, YELLOW, command, elapsed, job_mark};
use quire_types::clock::Millis;
use quire_types::run::JobState;

/// Returns at most `rows` lines.
pub(super) fn status_lines(
    jobs: &[JobProgress],
    steps: &[StepProgress],
    now: Millis,
    rows: usize,
    colors: Colors,
) -> Vec<String> {
    let width = jobs
        .iter()
        .map(|job| job.name.as_str().chars().count())
        .max()
        .unwrap_or(0);
    // The current step of each job; a job runs one step at a time.
    let current: HashMap<&str, &StepProgress> = steps
        .iter()
        .filter(|step| step.ended.is_none())
        .map(|step| (step.job.as_str(), step))
        .collect();
    let lines_of = |job: &JobProgress| {
        1 + usize::from(job.state == JobState::Active && current.contains_key(job.name.as_str()))
    };
    let all: usize = jobs.iter().map(lines_of).sum();
    let shown: Vec<&JobProgress> = if all <= rows {
        jobs.iter().collect()
    } else {
        jobs.iter()
            .filter(|job| job.state == JobState::Active)
            .collect()
    };
    let mut lines = Vec::new();
    for job in &shown {
        lines.push(line(job, now, width, colors));
        if let Some(step) = current
            .get(job.name.as_str())
            .filter(|_| job.state == JobState::Active)
        {
            lines.push(format!(
                "  └─ {}{}",
                command(step),
                colors.with(DIM, &format!(" · {}", elapsed(step.started, now)))
            ));
        }
    }
    if shown.len() < jobs.len() || lines.len() > rows {
        let summary = counts(jobs, shown.len());
        lines.truncate(rows.saturating_sub(1));
        lines.push(colors.with(DIM, &summary));
    }
    lines
}

/// The number of jobs by state.
fn counts(jobs: &[JobProgress], active: usize) -> String {
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

fn line(job: &JobProgress, now: Millis, width: usize, colors: Colors) -> String {
    let name = format!("{:width$}", job.name);
    match job.state {
        JobState::Active => {
            let time = job
                .started
                .map_or_else(String::new, |started| elapsed(started, now));
            format!(
                "{} {name}  {}",
                colors.with(YELLOW, "●"),
                colors.with(DIM, &time)
            )
        }
        JobState::Pending => {
            format!(
                "{} {name}  {}",
                colors.with(DIM, "○"),
                colors.with(DIM, &format!("waits for {}", job.inputs.join(", ")))
            )
        }
        state => {
            let time = match (job.started, job.ended) {
                (Some(started), Some(ended)) => format!(" · {}", elapsed(started, ended)),
                _ => String::new(),
            };
            format!(
                "{} {name}  {}",
                job_mark(job, colors),
                colors.with(DIM, &format!("{state}{time}"))
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str, state: JobState) -> JobProgress {
        let started = (state != JobState::Pending).then_some(Millis(1_000));
        let ended = state.is_final().then_some(Millis(3_000));
        JobProgress {
            name: name.parse().unwrap(),
            inputs: vec!["quire/push".to_owned()],
            state,
            started,
            ended,
            message: None,
        }
    }

    fn step(job: &str) -> StepProgress {
        let command = "make\nall".to_owned();
        StepProgress {
            seq: 1,
            job: job.parse().unwrap(),
            command,
            started: Millis(2_000),
            ended: None,
            exit: None,
        }
    }

    #[test]
    fn all_jobs_are_listed_if_they_fit() {
        let jobs = [
            job("lint", JobState::Complete),
            job("a", JobState::Active),
            job("last", JobState::Pending),
        ];
        let lines = status_lines(&jobs, &[step("a")], Millis(9_000), 4, Colors(false));
        assert_eq!(
            lines,
            [
                "✓ lint  complete · 2.0 s",
                "● a     8.0 s",
                "  └─ make… · 7.0 s",
                "○ last  waits for quire/push"
            ]
        );
    }

    #[test]
    fn active_jobs_come_first_if_not_all_fit() {
        let mut jobs = vec![job("a", JobState::Complete); 30];
        jobs.extend([
            job("b", JobState::Active),
            job("c", JobState::Failed),
            job("d", JobState::Pending),
        ]);
        let lines = status_lines(&jobs, &[step("b")], Millis(9_000), 5, Colors(false));
        assert_eq!(
            lines,
            [
                "● b  8.0 s",
                "  └─ make… · 7.0 s",
                "1 active, 30 done, 1 failed, 1 waiting of 33 jobs"
            ]
        );
        let many = vec![job("b", JobState::Active); 30];
        let lines = status_lines(&many, &[], Millis(9_000), 3, Colors(false));
        assert_eq!(
            (lines.len(), lines[2].as_str()),
            (3, "30 active of 30 jobs")
        );
    }
}
