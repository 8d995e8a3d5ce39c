//! What changed on a run's page since the last event of a live stream.
//!
//! A step that has ended never changes again. So a read fetches and compares only what began or ended
//! since the last one, however many steps the run has, and each fragment is sent once.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use askama::Template;
use serde_json::{Map, Value, json};

use super::artifacts::ArtifactLinks;
use super::error::WebError;
use super::html::title_sign;
use super::log;
use super::run_data::{RunData, StepQuery};
use super::run_views::{JobLine, RunHeader, StepLine};
use super::state::WebConfig;
use quire_types::clock::Millis;
use quire_types::run::{RunJob, RunStep};

/// How far back a number that was passed over is waited for: no more jobs than that run at once.
const MAX_CONCURRENT_STEPS: u32 = 1000;

/// What a follower has been told.
#[derive(Debug, Default)]
pub(super) struct RunUpdates {
    run: Option<u64>,
    artifacts: Option<u64>,
    jobs: HashMap<String, u64>,
    /// The newest step.
    last: u32,
    /// Steps up to it that may still change, with what was told of them. None: not seen yet, for jobs
    /// that run at once may record their steps in another order than that of their numbers.
    open: BTreeMap<u32, Option<u64>>,
}

impl RunUpdates {
    /// The steps that may be new or different.
    pub(super) fn step_query(&self) -> StepQuery {
        StepQuery {
            after: self.last,
            also: self.open.keys().copied().collect(),
        }
    }

    /// The news as data for the script; none when there is none. `rows` holds at least the steps of [`RunUpdates::step_query`].
    pub(super) fn diff(
        &mut self,
        rows: &RunData,
        config: &WebConfig,
        now: Millis,
        may_act: bool,
    ) -> Result<Option<Value>, WebError> {
        let mut news = Map::new();
        // Only the rows decide whether there is news: rendered times move by themselves.
        let run = digest(&(
            format!("{:?}{:?}{:?}", rows.run, rows.kept, rows.landing),
            rows.successor,
        ));
        if self.run.replace(run) != Some(run) {
            let head = RunHeader::new(rows, config, now, may_act).render()?;
            news.insert(
                "title".to_owned(),
                format!(
                    "{} {} {}",
                    title_sign(rows.run.state),
                    rows.run.name(),
                    rows.run.ref_name.short()
                )
                .into(),
            );
            news.insert("head".to_owned(), head.into());
        }
        let artifacts = digest(&format!("{:?}", rows.artifacts));
        if self.artifacts.replace(artifacts) != Some(artifacts) {
            news.insert(
                "artifacts".to_owned(),
                ArtifactLinks {
                    run: rows.run.id,
                    rows: rows.artifacts.clone(),
                }
                .render()?
                .into(),
            );
        }
        let (mut jobs, mut steps) = (Vec::new(), Vec::new());
        for job in rows.jobs.iter().filter(|job| self.job_changed(job)) {
            jobs.push(json!({ "id": job.job_id, "state": job.state, "html": JobLine { job, now, names: &rows.names }.render()? }));
        }
        let over = rows.run.state.is_final();
        for step in rows
            .steps
            .iter()
            .filter(|step| self.step_changed(step, over))
        {
            let line = StepLine { step, now, over };
            steps.push(json!({
                "seq": step.seq, "job": step.job_id, "open": line.is_open(), "prefix": log::prefix(step),
                "command": line.is_long().then_some(step.command.trim()), "html": line.render()?,
            }));
        }
        for (name, list) in [("jobs", jobs), ("steps", steps)] {
            if !list.is_empty() {
                news.insert(name.to_owned(), list.into());
            }
        }
        Ok((!news.is_empty()).then(|| news.into()))
    }

    fn job_changed(&mut self, job: &RunJob) -> bool {
        let shown = digest(&(
            job.state.as_str(),
            times(job.started_at_ms, job.finished_at_ms),
            &job.message,
        ));
        match self.jobs.get_mut(job.job_id.as_str()) {
            Some(told) => std::mem::replace(told, shown) != shown,
            None => self.jobs.insert(job.job_id.to_string(), shown).is_none(),
        }
    }

    fn step_changed(&mut self, step: &RunStep, over: bool) -> bool {
        if step.seq > self.last {
            let passed_over =
                self.last.max(step.seq.saturating_sub(MAX_CONCURRENT_STEPS)) + 1..step.seq;
            self.open.extend(passed_over.map(|seq| (seq, None)));
            self.open.insert(step.seq, None);
            self.last = step.seq;
        }
        let Some(told) = self.open.get_mut(&step.seq) else {
            return false;
        };
        let shown = digest(&(
            times(Some(step.started_at_ms), step.finished_at_ms),
            step.exit_code,
            over,
        ));
        let is_news = told.replace(shown) != Some(shown);
        if step.finished_at_ms.is_some() {
            self.open.remove(&step.seq);
        }
        is_news
    }
}

fn times(start: Option<Millis>, end: Option<Millis>) -> (Option<i64>, Option<i64>) {
    (start.map(|at| at.0), end.map(|at| at.0))
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(seq: u32, end: Option<i64>) -> RunStep {
        RunStep {
            run_id: "0197a1b2-0000-7000-8000-000000000001".parse().unwrap(),
            seq,
            job_id: "test".parse().unwrap(),
            command: "make".to_owned(),
            exit_code: end.map(|_| 0),
            started_at_ms: Millis(5),
            finished_at_ms: end.map(Millis),
        }
    }

    #[test]
    fn steps_that_have_ended_are_not_asked_for_again() {
        let mut updates = RunUpdates::default();
        assert_eq!(
            updates.step_query(),
            StepQuery {
                after: 0,
                also: vec![]
            }
        );
        for seq in 1..=10_000 {
            assert!(updates.step_changed(&step(seq, Some(9)), false));
        }
        assert!(updates.step_changed(&step(10_001, None), false));
        assert_eq!(
            updates.step_query(),
            StepQuery {
                after: 10_001,
                also: vec![10_001]
            }
        );
        assert!(!updates.step_changed(&step(10_001, None), false));
        assert!(
            !updates.step_changed(&step(77, Some(9)), true),
            "told already"
        );
        // One that the end of the run cut off looks different then.
        assert!(updates.step_changed(&step(10_001, None), true));
        assert!(updates.step_changed(&step(10_001, Some(10)), true));
        assert_eq!(
            updates.step_query(),
            StepQuery {
                after: 10_001,
                also: vec![]
            }
        );
    }

    #[test]
    fn a_step_that_is_recorded_after_a_later_one_is_not_missed() {
        let mut updates = RunUpdates::default();
        assert!(updates.step_changed(&step(3, Some(9)), false));
        assert_eq!(
            updates.step_query(),
            StepQuery {
                after: 3,
                also: vec![1, 2]
            }
        );
        assert!(updates.step_changed(&step(2, Some(9)), false));
        assert!(updates.step_changed(&step(1, None), false));
        assert_eq!(
            updates.step_query(),
            StepQuery {
                after: 3,
                also: vec![1]
            }
        );
        assert!(updates.step_changed(&step(u32::MAX, Some(9)), false));
        assert!(updates.step_query().also.len() < 2000);
    }
}
