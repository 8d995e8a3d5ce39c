//! From a [`Registration`] to a [`Pipeline`]: every check, all problems in one pass. Here those of
//! the jobs and their graph; [`parts`] has those of what stands beside them.

mod parts;

use std::collections::{HashMap, HashSet};

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::Dfs;

use super::{
    CRON_SOURCE, Cron, Diagnostic, Input, Job, JobRegistration, Pipeline, PipelineText, Place,
    Registration, Source, nearest,
};
use crate::names::JobName;

pub use parts::WORKSPACE;

/// The most jobs a pipeline may have.
pub const MAX_JOBS: usize = 10_000;
/// The most inputs one job may have.
pub const MAX_INPUTS: usize = 1_000;
/// The most inputs all jobs together may have.
pub const MAX_EDGES: usize = 100_000;
/// The most problems that are reported.
const MAX_PROBLEMS: usize = 100;

pub(super) fn check(
    registration: Registration,
    sources: &[PipelineText],
    has_dockerfile: bool,
) -> Result<Pipeline, Vec<Diagnostic>> {
    let none = PipelineText::default();
    let source = sources.first().unwrap_or(&none);
    if let Some(problem) = too_much(&registration, source) {
        return Err(vec![problem]);
    }
    let mut check = Check {
        sources,
        jobs: &registration.jobs,
        crons: &registration.crons,
        problems: registration.problems,
    };
    let names = check.ids();
    check.inputs(&names);
    check.graph(&names);
    let image = check.image(&registration.images, has_dockerfile);
    let timeout_ms = check.once("the run's time limit is set", &registration.timeouts);
    let group = check.group(&registration.groups);
    let network = check.once(
        "whether the run has a network is said",
        &registration.networks,
    );
    let resources = check.resources(&registration.resources);
    let caches = check.caches(&registration.caches);
    check.services(&registration.services);
    check.schedules();
    if registration.jobs.is_empty() && check.problems.is_empty() {
        let problem = source.diagnostic("the pipeline registers no job", 1, 1);
        check.problems.push(problem.with_hint(
            "register one: (ci.job :test [:quire/push] (fn [{: sh}] (sh \"make test\")))",
        ));
    }
    let mut problems = check.problems;
    if !problems.is_empty() {
        problems.sort_by_cached_key(|problem| {
            let place = problem.place.as_ref();
            place.map(|place| {
                (
                    place.file != source.file,
                    place.file.clone(),
                    place.line,
                    place.column,
                )
            })
        });
        problems.truncate(MAX_PROBLEMS);
        return Err(problems);
    }
    let jobs: Vec<Job> = registration.jobs.into_iter().filter_map(checked).collect();
    let index = jobs
        .iter()
        .enumerate()
        .map(|(at, job)| (job.id.clone(), at))
        .collect();
    Ok(Pipeline {
        jobs,
        index,
        image,
        env: last_of_each(registration.env),
        timeout_ms,
        caches,
        services: registration
            .services
            .into_iter()
            .map(|(service, _)| service)
            .collect(),
        group,
        network,
        resources,
        crons: registration
            .crons
            .into_iter()
            .map(|(cron, _)| cron)
            .collect(),
    })
}

/// The one problem of a registration that is too large to look at.
fn too_much(registration: &Registration, source: &PipelineText) -> Option<Diagnostic> {
    let edges: usize = registration.jobs.iter().map(|job| job.inputs.len()).sum();
    let message = if registration.jobs.len() > MAX_JOBS {
        format!("the pipeline registers more than {MAX_JOBS} jobs")
    } else if edges > MAX_EDGES {
        format!("the jobs of the pipeline have more than {MAX_EDGES} inputs together")
    } else {
        return None;
    };
    Some(source.diagnostic(message, 1, 1))
}

/// A job whose names were all found valid.
fn checked(job: JobRegistration) -> Option<Job> {
    let mut inputs: Vec<Input> = Vec::with_capacity(job.inputs.len());
    for name in &job.inputs {
        let input = Source::from_name(name)
            .map(Input::Source)
            .or_else(|| name.parse().ok().map(Input::Job))?;
        if !inputs.contains(&input) {
            inputs.push(input);
        }
    }
    Some(Job {
        id: job.id.parse().ok()?,
        inputs,
        options: job.options,
        place: job.place,
    })
}

/// The last value of each name, in the order of the names' first appearance.
fn last_of_each(pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut at: HashMap<String, usize> = HashMap::new();
    let mut kept: Vec<(String, String)> = Vec::new();
    for (name, value) in pairs {
        let at = *at.entry(name.clone()).or_insert(kept.len());
        if at < kept.len() {
            kept[at].1 = value
        } else {
            kept.push((name, value))
        }
    }
    kept
}

struct Check<'a> {
    /// The pipeline's own file first.
    sources: &'a [PipelineText],
    jobs: &'a [JobRegistration],
    crons: &'a [(Cron, Place)],
    problems: Vec<Diagnostic>,
}

impl<'a> Check<'a> {
    fn problem(&mut self, message: String, place: Place, hint: Option<String>) {
        let diagnostic = match self.file(&place) {
            Some(source) => source.diagnostic_at(message, place),
            None => PipelineText::default().diagnostic_at(message, place),
        };
        self.problems.push(Diagnostic { hint, ..diagnostic });
    }

    /// The file that a place lies in.
    fn file(&self, place: &Place) -> Option<&'a PipelineText> {
        self.sources.iter().find(|source| source.file == place.file)
    }

    /// Whether an input is the source of a schedule, right or wrong.
    fn is_schedule(&self, input: &str) -> bool {
        input
            .strip_prefix(CRON_SOURCE)
            .is_some_and(|name| self.crons.iter().any(|(cron, _)| cron.name == name))
    }

    /// Whether the driver found something wrong with the call at a place.
    fn is_blamed(&self, place: &Place) -> bool {
        self.problems
            .iter()
            .any(|problem| problem.place.as_ref() == Some(place))
    }

    /// Checks the ids; gives the first job of each valid one.
    fn ids(&mut self) -> HashMap<&'a str, usize> {
        let mut names: HashMap<&str, usize> = HashMap::new();
        for (index, job) in self.jobs.iter().enumerate() {
            if let Err(error) = job.id.parse::<JobName>() {
                let hint = job
                    .id
                    .contains('/')
                    .then(|| format!("call it `{}`", quoted(&job.id.replace('/', "-"))));
                self.problem(error.to_string(), job.place.clone(), hint);
            } else if let Some(first) = names.get(job.id.as_str()) {
                let first = parts::at(&self.jobs[*first].place, &job.place);
                let message = format!("job `{}` is registered twice: here and at {first}", job.id);
                self.problem(
                    message,
                    job.place.clone(),
                    Some("give one of them another id".to_owned()),
                );
            } else {
                names.insert(&job.id, index);
            }
        }
        names
    }

    /// Checks that each job has inputs, and that each is known.
    fn inputs(&mut self, names: &HashMap<&'a str, usize>) {
        for job in self.jobs {
            if self.problems.len() > MAX_PROBLEMS {
                return;
            }
            let id = quoted(&job.id);
            if job.inputs.is_empty() && !self.is_blamed(&job.place) {
                let hint = "name what starts it, such as [:quire/push]".to_owned();
                self.problem(
                    format!("job `{id}` has no inputs, so nothing would ever start it"),
                    job.place.clone(),
                    Some(hint),
                );
            }
            if job.inputs.len() > MAX_INPUTS {
                self.problem(
                    format!("job `{id}` has more than {MAX_INPUTS} inputs"),
                    job.place.clone(),
                    None,
                );
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
                    "job `{id}` waits for `{}`, which is no {what}",
                    quoted(name)
                );
                let place = self.place_of_input(job, name);
                self.problem(message, place, Some(hint));
            }
        }
    }

    /// What an unknown input is not, and what may have been meant.
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
            // Without what they have in common, or anything would be near.
            let bare = |end: &str| end.strip_prefix("cron/").unwrap_or(end).to_owned();
            let bares: Vec<String> = ends.clone().map(bare).collect();
            let near = nearest(&bare(end), bares.iter().map(String::as_str));
            let near = near.and_then(|near| ends.clone().find(|end| bare(end) == near));
            let known = || {
                let names: Vec<String> = ends.clone().map(|end| format!(":quire/{end}")).collect();
                format!("the sources are {}", names.join(" "))
            };
            return (
                "source",
                near.map_or_else(known, |near| meant(&format!("quire/{near}"))),
            );
        }
        let mut jobs: Vec<&str> = names.keys().copied().filter(|id| *id != own).collect();
        jobs.sort_unstable();
        if let Some(near) = nearest(name, jobs.iter().copied()) {
            return ("job", meant(near));
        }
        // `:push` is a likely slip for `:quire/push`, and the name of a schedule for that of its source.
        if let Some(end) = ends
            .clone()
            .find(|end| *end == name || end.strip_prefix("cron/") == Some(name))
        {
            return ("job", meant(&format!("quire/{end}")));
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

    /// Where an input is written: between its job and the next one of the file.
    fn place_of_input(&self, job: &JobRegistration, name: &str) -> Place {
        let Some(source) = self.file(&job.place) else {
            return job.place.clone();
        };
        let after = self
            .jobs
            .iter()
            .filter(|other| other.place.file == job.place.file)
            .map(|other| other.place.line);
        let end = after
            .filter(|line| *line > job.place.line)
            .min()
            .unwrap_or(job.place.line.saturating_add(50));
        match source.find(job.place.line, end, name) {
            Some((line, column)) => Place {
                line,
                column,
                ..job.place.clone()
            },
            None => job.place.clone(),
        }
    }

    /// Checks for cycles and for jobs that no source reaches.
    fn graph(&mut self, names: &HashMap<&'a str, usize>) {
        let mut graph: DiGraph<usize, ()> =
            DiGraph::with_capacity(self.jobs.len() + 1, self.jobs.len());
        let nodes: Vec<NodeIndex> = (0..self.jobs.len())
            .map(|index| graph.add_node(index))
            .collect();
        let start = graph.add_node(usize::MAX);
        // Unknown inputs, and none, are reported already; such a job is not called unreachable on top, nor what waits for it.
        for (index, job) in self.jobs.iter().enumerate() {
            if job.inputs.is_empty() {
                graph.update_edge(start, nodes[index], ());
            }
            for name in &job.inputs {
                match names.get(name.as_str()) {
                    Some(from) => graph.update_edge(nodes[*from], nodes[index], ()),
                    None => graph.update_edge(start, nodes[index], ()),
                };
            }
        }
        let mut in_cycle: HashSet<usize> = HashSet::new();
        // Not tarjan_scc, which recurses: a chain of 10,000 jobs would overflow the stack.
        for component in kosaraju_scc(&graph) {
            let node = component[0];
            if component.len() > 1 || graph.contains_edge(node, node) {
                let mut members: Vec<usize> = component.iter().map(|node| graph[*node]).collect();
                members.sort_unstable();
                in_cycle.extend(&members);
                self.cycle(&members, names);
            }
        }
        let mut reached: HashSet<NodeIndex> = HashSet::new();
        let mut walk = Dfs::new(&graph, start);
        while let Some(node) = walk.next(&graph) {
            reached.insert(node);
        }
        for (index, job) in self.jobs.iter().enumerate() {
            if !reached.contains(&nodes[index]) && !in_cycle.contains(&index) {
                let message = format!(
                    "job `{}` can never start: no source leads to it",
                    quoted(&job.id)
                );
                let hint = format!(
                    "make `{}`, or a job before it, wait for a source such as :quire/push",
                    quoted(&job.inputs[0])
                );
                self.problem(message, job.place.clone(), Some(hint));
            }
        }
    }

    /// Reports one cycle, its members in the order in which each waits for the next.
    fn cycle(&mut self, members: &[usize], names: &HashMap<&'a str, usize>) {
        let within: HashSet<usize> = members.iter().copied().collect();
        let mut path = vec![members[0]];
        let mut position: HashMap<usize, usize> = HashMap::from([(members[0], 0)]);
        // Each member waits for at least one other member: following the first such input must
        // come back to a job seen before, and from there on the path is a cycle.
        let cycle = loop {
            let current = path[path.len() - 1];
            let next = self.jobs[current]
                .inputs
                .iter()
                .filter_map(|name| names.get(name.as_str()).copied())
                .find(|job| within.contains(job));
            let Some(next) = next else { break path };
            if let Some(at) = position.get(&next) {
                break path.split_off(*at);
            }
            position.insert(next, path.len());
            path.push(next);
        };
        let lowest = cycle
            .iter()
            .enumerate()
            .min_by_key(|(_, job)| **job)
            .map_or(0, |(at, _)| at);
        let order: Vec<usize> = cycle
            .iter()
            .cycle()
            .skip(lowest)
            .take(cycle.len())
            .copied()
            .collect();
        let place = self.jobs[order[0]].place.clone();
        let name = |job: usize| quoted(&self.jobs[job].id);
        let (message, hint) = if order.len() == 1 {
            (
                format!("job `{}` waits for itself", name(order[0])),
                "take it out of its own inputs".to_owned(),
            )
        } else {
            let chain: Vec<String> = order
                .iter()
                .take(20)
                .map(|job| format!("`{}`", name(*job)))
                .collect();
            let more = if order.len() > 20 { " → …" } else { "" };
            let others = members.len().saturating_sub(order.len());
            let tangled = if others > 0 {
                format!(" ({others} more jobs are caught in it)")
            } else {
                String::new()
            };
            let message = format!(
                "jobs wait for each other in a circle: {}{more} → `{}`{tangled}",
                chain.join(" → "),
                name(order[0])
            );
            (
                message,
                "remove one of these inputs (each job waits for the one after it)".to_owned(),
            )
        };
        self.problem(message, place, Some(hint));
    }
}

fn meant(name: &str) -> String {
    format!("did you mean :{name}?")
}

/// A foreign name, short and printable enough for a sentence.
fn quoted(name: &str) -> String {
    let mut short: String = name
        .chars()
        .take(60)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if name.chars().nth(60).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
