//! From a [`Registration`] to a [`Pipeline`]: every check, all problems in one pass.

use std::collections::{HashMap, HashSet};

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::Dfs;

use super::{Diagnostic, Input, Job, JobRegistration, Pipeline, PipelineImage, PipelineText, Place, Registration, Source, nearest};
use crate::names::JobName;

/// The most jobs a pipeline may have.
pub const MAX_JOBS: usize = 10_000;
/// The most inputs one job may have.
pub const MAX_INPUTS: usize = 1_000;
/// The most inputs all jobs together may have.
pub const MAX_EDGES: usize = 100_000;
/// The most problems that are reported.
const MAX_PROBLEMS: usize = 100;

pub(super) fn check(registration: Registration, source: &PipelineText, has_dockerfile: bool) -> Result<Pipeline, Vec<Diagnostic>> {
    if let Some(problem) = too_much(&registration, source) {
        return Err(vec![problem]);
    }
    let mut check = Check { source, jobs: &registration.jobs, problems: registration.problems };
    let names = check.ids();
    check.inputs(&names);
    check.graph(&names);
    let image = check.image(&registration.images, has_dockerfile);
    let timeout_ms = check.timeout(&registration.timeouts);
    if registration.jobs.is_empty() && check.problems.is_empty() {
        let problem = source.diagnostic("the pipeline registers no job", 1, 1);
        check.problems.push(problem.with_hint("register one: (ci.job :test [:quire/push] (fn [{: sh}] (sh \"make test\")))"));
    }
    let mut problems = check.problems;
    if !problems.is_empty() {
        problems.sort_by_key(|problem| problem.place.as_ref().map(|place| (place.file != source.file, place.line)));
        problems.truncate(MAX_PROBLEMS);
        return Err(problems);
    }
    let jobs: Vec<Job> = registration.jobs.into_iter().filter_map(checked).collect();
    let index = jobs.iter().enumerate().map(|(at, job)| (job.id.clone(), at)).collect();
    Ok(Pipeline {
        jobs,
        index,
        image,
        env: last_of_each(registration.env),
        timeout_ms,
        caches: registration.caches.into_iter().map(|(cache, _)| cache).collect(),
        services: registration.services.into_iter().map(|(service, _)| service).collect(),
        group: registration.groups.into_iter().next().map(|(group, _)| group),
        network: registration.networks.into_iter().next().map(|(network, _)| network),
        resources: registration.resources.into_iter().next().map(|(resources, _)| resources).unwrap_or_default(),
        crons: registration.crons.into_iter().map(|(cron, _)| cron).collect(),
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
        let input = Source::from_name(name).map(Input::Source).or_else(|| name.parse().ok().map(Input::Job))?;
        if !inputs.contains(&input) {
            inputs.push(input);
        }
    }
    Some(Job { id: job.id.parse().ok()?, inputs, options: job.options, place: job.place })
}

/// The last value of each name, in the order of the names' first appearance.
fn last_of_each(pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut at: HashMap<String, usize> = HashMap::new();
    let mut kept: Vec<(String, String)> = Vec::new();
    for (name, value) in pairs {
        let at = *at.entry(name.clone()).or_insert(kept.len());
        if at < kept.len() { kept[at].1 = value } else { kept.push((name, value)) }
    }
    kept
}

struct Check<'a> {
    source: &'a PipelineText,
    jobs: &'a [JobRegistration],
    problems: Vec<Diagnostic>,
}

impl<'a> Check<'a> {
    fn problem(&mut self, message: String, place: Place, hint: Option<String>) {
        let diagnostic = self.source.diagnostic_at(message, place);
        self.problems.push(Diagnostic { hint, ..diagnostic });
    }

    /// Checks the ids; gives the first job of each valid one.
    fn ids(&mut self) -> HashMap<&'a str, usize> {
        let mut names: HashMap<&str, usize> = HashMap::new();
        for (index, job) in self.jobs.iter().enumerate() {
            if let Err(error) = job.id.parse::<JobName>() {
                let hint = job.id.contains('/').then(|| format!("call it `{}`", quoted(&job.id.replace('/', "-"))));
                self.problem(error.to_string(), job.place.clone(), hint);
            } else if let Some(first) = names.get(job.id.as_str()) {
                let first = self.jobs[*first].place.line;
                let message = format!("job `{}` is registered twice: here and at line {first}", job.id);
                self.problem(message, job.place.clone(), Some("give one of them another id".to_owned()));
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
            if job.inputs.is_empty() {
                let hint = "name what starts it, such as [:quire/push]".to_owned();
                self.problem(format!("job `{id}` has no inputs, so nothing would ever start it"), job.place.clone(), Some(hint));
            }
            if job.inputs.len() > MAX_INPUTS {
                self.problem(format!("job `{id}` has more than {MAX_INPUTS} inputs"), job.place.clone(), None);
                continue;
            }
            let mut reported: HashSet<&str> = HashSet::new();
            for name in &job.inputs {
                if names.contains_key(name.as_str()) || Source::from_name(name).is_some() || !reported.insert(name) {
                    continue;
                }
                let (what, hint) = unknown_input(name, names, &job.id);
                let message = format!("job `{id}` waits for `{}`, which is no {what}", quoted(name));
                let place = self.place_of_input(job, name);
                self.problem(message, place, Some(hint));
            }
        }
    }

    /// Where an input is written: between its job and the next one of the file.
    fn place_of_input(&self, job: &JobRegistration, name: &str) -> Place {
        if job.place.file != self.source.file {
            return job.place.clone();
        }
        let after = self.jobs.iter().filter(|other| other.place.file == job.place.file).map(|other| other.place.line);
        let end = after.filter(|line| *line > job.place.line).min().unwrap_or(job.place.line.saturating_add(50));
        match self.source.find(job.place.line, end, name) {
            Some((line, column)) => Place { line, column, ..job.place.clone() },
            None => job.place.clone(),
        }
    }

    /// Checks for cycles and for jobs that no source reaches.
    fn graph(&mut self, names: &HashMap<&'a str, usize>) {
        let mut graph: DiGraph<usize, ()> = DiGraph::with_capacity(self.jobs.len() + 1, self.jobs.len());
        let nodes: Vec<NodeIndex> = (0..self.jobs.len()).map(|index| graph.add_node(index)).collect();
        let start = graph.add_node(usize::MAX);
        // An unknown input is reported already; its job is not called unreachable on top.
        for (index, job) in self.jobs.iter().enumerate() {
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
            if !reached.contains(&nodes[index]) && !job.inputs.is_empty() && !in_cycle.contains(&index) {
                let message = format!("job `{}` can never start: no source leads to it", quoted(&job.id));
                let hint = format!("make `{}`, or a job before it, wait for a source such as :quire/push", quoted(&job.inputs[0]));
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
            let next =
                self.jobs[current].inputs.iter().filter_map(|name| names.get(name.as_str()).copied()).find(|job| within.contains(job));
            let Some(next) = next else { break path };
            if let Some(at) = position.get(&next) {
                break path.split_off(*at);
            }
            position.insert(next, path.len());
            path.push(next);
        };
        let lowest = cycle.iter().enumerate().min_by_key(|(_, job)| **job).map_or(0, |(at, _)| at);
        let order: Vec<usize> = cycle.iter().cycle().skip(lowest).take(cycle.len()).copied().collect();
        let place = self.jobs[order[0]].place.clone();
        let name = |job: usize| quoted(&self.jobs[job].id);
        let (message, hint) = if order.len() == 1 {
            (format!("job `{}` waits for itself", name(order[0])), "take it out of its own inputs".to_owned())
        } else {
            let chain: Vec<String> = order.iter().take(20).map(|job| format!("`{}`", name(*job))).collect();
            let more = if order.len() > 20 { " → …" } else { "" };
            let others = members.len().saturating_sub(order.len());
            let tangled = if others > 0 { format!(" ({others} more jobs are caught in it)") } else { String::new() };
            let message = format!("jobs wait for each other in a circle: {}{more} → `{}`{tangled}", chain.join(" → "), name(order[0]));
            (message, "remove one of these inputs (each job waits for the one after it)".to_owned())
        };
        self.problem(message, place, Some(hint));
    }

    fn image(&mut self, images: &[(String, Place)], has_dockerfile: bool) -> PipelineImage {
        for (image, place) in images.iter().skip(1) {
            let first = images[0].1.line;
            let message = format!("the image is declared twice: `{}` here, and another at line {first}", quoted(image));
            self.problem(message, place.clone(), Some("a pipeline has one image: keep one of them".to_owned()));
        }
        match images.first() {
            Some((image, place)) if has_dockerfile => {
                let message = format!("the image `{}` is declared, and the commit has a .quire/Dockerfile too", quoted(image));
                self.problem(message, place.clone(), Some("remove one of them".to_owned()));
                PipelineImage::Dockerfile
            }
            Some((image, place)) => {
                let bad = |c: char| c.is_whitespace() || c.is_control();
                if image.is_empty() || image.len() > 512 || image.contains(bad) {
                    let message = format!("`{}` is not an image reference", quoted(image));
                    self.problem(message, place.clone(), Some("write it like \"debian:trixie-slim\"".to_owned()));
                }
                PipelineImage::Reference(image.clone())
            }
            None if has_dockerfile => PipelineImage::Dockerfile,
            None => PipelineImage::Default,
        }
    }

    fn timeout(&mut self, timeouts: &[(u64, Place)]) -> Option<u64> {
        if let Some((_, place)) = timeouts.get(1) {
            let message = format!("the run's time limit is set twice: here and at line {}", timeouts[0].1.line);
            self.problem(message, place.clone(), Some("keep one of them".to_owned()));
        }
        timeouts.first().map(|(millis, _)| *millis)
    }
}

/// What an unknown input is not, and what may have been meant.
fn unknown_input(name: &str, names: &HashMap<&str, usize>, own: &str) -> (&'static str, String) {
    if let Some(end) = name.strip_prefix("quire/") {
        // Without what they have in common, or anything would be near.
        let sources = ["push", "manual"].into_iter();
        let known = || "the sources are :quire/push and :quire/manual".to_owned();
        return ("source", nearest(end, sources).map_or_else(known, |near| meant(&format!("quire/{near}"))));
    }
    let mut jobs: Vec<&str> = names.keys().copied().filter(|id| *id != own).collect();
    jobs.sort_unstable();
    if let Some(near) = nearest(name, jobs.iter().copied()) {
        return ("job", meant(near));
    }
    // `:push` is a likely slip for `:quire/push`.
    if let Some(source) = Source::from_name(&format!("quire/{name}")) {
        return ("job", meant(&source.to_string()));
    }
    if jobs.is_empty() {
        return ("job", "an input is another job's id, or a source such as :quire/push".to_owned());
    }
    let known: Vec<String> = jobs.iter().take(10).map(|id| format!(":{id}")).collect();
    let more = if jobs.len() > known.len() { " …" } else { "" };
    ("job", format!("the other jobs are {}{more}", known.join(" ")))
}

fn meant(name: &str) -> String {
    format!("did you mean :{name}?")
}

/// A foreign name, short and printable enough for a sentence.
fn quoted(name: &str) -> String {
    let mut short: String = name.chars().take(60).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if name.chars().nth(60).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
