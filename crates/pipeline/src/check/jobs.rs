//! Checks the ids and inputs of the jobs.

use std::collections::{HashMap, HashSet};

use super::checker::{Checker, MAX_PROBLEMS, line_of, quoted};
use super::limits::MAX_INPUTS;
use crate::closest_match::closest_match;
use crate::diagnostic::Location;
use crate::registration::JobRegistration;
use crate::source::Source;
use quire_types::names::JobName;

impl<'a> Checker<'a> {
    /// Checks the ids. Returns the index of the first job of each valid id.
    pub(super) fn ids(&mut self) -> HashMap<&'a str, usize> {
        let mut names: HashMap<&str, usize> = HashMap::new();
        for (index, job) in self.jobs.iter().enumerate() {
            if let Err(error) = job.id.parse::<JobName>() {
                let hint = job
                    .id
                    .contains('/')
                    .then(|| format!("call it `{}`", quoted(&job.id.replace('/', "-"))));
                self.problem(error.to_string(), &job.location, hint);
            } else if let Some(first) = names.get(job.id.as_str()) {
                let first = line_of(&self.jobs[*first].location, &job.location);
                let message = format!("job `{}` is registered twice: here and at {first}", job.id);
                self.problem_with_hint(message, &job.location, "give one of them another id");
            } else {
                names.insert(&job.id, index);
            }
        }
        names
    }

    /// Checks that each job has inputs, and that all inputs exist.
    pub(super) fn inputs(&mut self, names: &HashMap<&'a str, usize>) {
        for job in self.jobs {
            if self.problems.len() > MAX_PROBLEMS {
                return;
            }
            let id = quoted(&job.id);
            if job.inputs.is_empty() && !self.is_reported(&job.location) {
                self.problem_with_hint(
                    format!("job `{id}` has no inputs, so it would never start"),
                    &job.location,
                    "add what starts it, such as [:quire/push]",
                );
            }
            if job.inputs.len() > MAX_INPUTS {
                let message = format!("job `{id}` has more than {MAX_INPUTS} inputs");
                self.problem(message, &job.location, None);
                continue;
            }
            let mut reported: HashSet<&str> = HashSet::new();
            for name in &job.inputs {
                let known = match Source::from_name(name) {
                    Some(Source::Cron(_)) | None => {
                        self.is_schedule(name) || names.contains_key(name.as_str())
                    }
                    Some(_) => true,
                };
                if known || !reported.insert(name) {
                    continue;
                }
                let (what, hint) = self.unknown_input(name, names, &job.id);
                let message = format!(
                    "job `{id}` waits for `{}`, which is not a {what}",
                    quoted(name)
                );
                let location = self.location_of_input(job, name);
                self.problem_with_hint(message, &location, hint);
            }
        }
    }

    /// The kind of thing that an unknown input should be, and a hint.
    fn unknown_input(
        &self,
        name: &str,
        names: &HashMap<&str, usize>,
        own: &str,
    ) -> (&'static str, String) {
        let schedules: Vec<String> = self
            .crons
            .iter()
            .map(|(cron, _)| format!("cron/{}", cron.name))
            .collect();
        let ends = ["push", "manual"]
            .into_iter()
            .chain(schedules.iter().map(String::as_str));
        if let Some(end) = name.strip_prefix("quire/") {
            // Compared without the common prefix, which would make all names similar.
            let bare = |end: &str| end.strip_prefix("cron/").unwrap_or(end).to_owned();
            let bares: Vec<String> = ends.clone().map(bare).collect();
            let near = closest_match(&bare(end), bares.iter().map(String::as_str));
            let near = near.and_then(|near| ends.clone().find(|end| bare(end) == near));
            let known = || {
                let names: Vec<String> = ends.clone().map(|end| format!(":quire/{end}")).collect();
                format!("the sources are {}", names.join(" "))
            };
            return (
                "source",
                near.map_or_else(known, |near| suggestion(&format!("quire/{near}"))),
            );
        }
        let mut jobs: Vec<&str> = names.keys().copied().filter(|id| *id != own).collect();
        jobs.sort_unstable();
        if let Some(near) = closest_match(name, jobs.iter().copied()) {
            return ("job", suggestion(near));
        }
        // Users write `:push` for `:quire/push`, and the name of a schedule for that of its source.
        if let Some(end) = ends
            .clone()
            .find(|end| *end == name || end.strip_prefix("cron/") == Some(name))
        {
            return ("job", suggestion(&format!("quire/{end}")));
        }
        if jobs.is_empty() {
            return (
                "job",
                "an input is another job's id, or a source such as :quire/push".to_owned(),
            );
        }
        let known: Vec<String> = jobs.iter().take(10).map(|id| format!(":{id}")).collect();
        let more = if jobs.len() > known.len() { " …" } else { "" };
        (
            "job",
            format!("the other jobs are {}{more}", known.join(" ")),
        )
    }

    /// Where an input is written: between its job and the next job of the file.
    fn location_of_input(&self, job: &JobRegistration, name: &str) -> Location {
        let Some(source) = self.file(&job.location) else {
            return job.location.clone();
        };
        let after = self
            .jobs
            .iter()
            .filter(|other| other.location.file == job.location.file)
            .map(|other| other.location.line);
        let end = after
            .filter(|line| *line > job.location.line)
            .min()
            .unwrap_or(job.location.line.saturating_add(50));
        match source.find(job.location.line, end, name) {
            Some((line, column)) => Location {
                line,
                column,
                ..job.location.clone()
            },
            None => job.location.clone(),
        }
    }
}

fn suggestion(name: &str) -> String {
    format!("did you mean :{name}?")
}
