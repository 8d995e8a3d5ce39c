//! Checks a [`Registration`] and converts it to a [`Pipeline`]. All problems are found in one pass.
//!
//! `jobs` checks the ids and inputs of the jobs, `cycles` their graph, and `parts` the settings
//! beside the jobs.

mod checker;
mod container;
mod cycles;
mod jobs;
mod limits;
mod settings;

use std::collections::HashMap;

use self::checker::{Checker, MAX_PROBLEMS};
pub use self::limits::{MAX_EDGES, MAX_INPUTS, MAX_JOBS};
pub use self::settings::WORKSPACE;
use super::diagnostic::{Diagnostic, Location};
use super::graph::{Job, Pipeline};
use super::lua_advice::in_lua;
use super::registration::{JobRegistration, Registration, Service};
use super::source::{Input, Source};
use super::source_file::SourceFile;
use quire_types::image_reference::ImageReference;

impl Pipeline {
    /// Checks what a pipeline without helper files registered.
    ///
    /// # Errors
    /// Returns all problems, in the order of the file. There is at least one.
    pub fn check(
        registration: Registration,
        source: &SourceFile,
        has_dockerfile: bool,
    ) -> Result<Self, Vec<Diagnostic>> {
        Self::check_among(registration, std::slice::from_ref(source), has_dockerfile)
    }

    /// Checks what a pipeline registered. `sources` are all its files, its own first: helper files
    /// can register jobs as well.
    ///
    /// # Errors
    /// Returns all problems, in the order of the files. There is at least one.
    pub fn check_among(
        registration: Registration,
        sources: &[SourceFile],
        has_dockerfile: bool,
    ) -> Result<Self, Vec<Diagnostic>> {
        let no_source = SourceFile::default();
        let source = sources.first().unwrap_or(&no_source);
        if let Some(problem) = oversized(&registration, source) {
            return Err(vec![problem]);
        }
        let mut checker = Checker {
            sources,
            jobs: &registration.jobs,
            crons: &registration.crons,
            problems: registration.problems,
        };
        let first_by_id = checker.ids();
        checker.inputs(&first_by_id);
        checker.graph(&first_by_id);
        let image = checker.image(&registration.images, has_dockerfile);
        let timeout_ms = checker.only_once("ci.timeout", &registration.timeouts);
        let group = checker.group(&registration.groups);
        let network = checker.only_once("ci.network", &registration.networks);
        let resources = checker.resources(&registration.resources);
        let checkout = checker.only_once("ci.checkout", &registration.checkouts);
        let caches = checker.caches(&registration.caches);
        let container = checker.container(&registration.containers, &caches);
        let docker = checker.only_once("ci.docker", &registration.dockers);
        checker.services(&registration.services);
        checker.schedules();
        if registration.jobs.is_empty() && checker.problems.is_empty() {
            let problem = source.diagnostic("the pipeline registers no jobs", 1, 1);
            checker.problems.push(problem.with_hint(
                "register one: (ci.job :test [:quire/push] (fn [{: sh}] (sh \"make test\")))",
            ));
        }
        if !checker.problems.is_empty() {
            return Err(sorted(checker.problems, source));
        }
        let jobs: Vec<Job> = registration
            .jobs
            .into_iter()
            .filter_map(checked_job)
            .collect();
        let index = jobs
            .iter()
            .enumerate()
            .map(|(at, job)| (job.id.clone(), at))
            .collect();
        Ok(Pipeline {
            jobs,
            index,
            image,
            env: last_values(registration.env),
            timeout_ms,
            caches,
            services: registration
                .services
                .into_iter()
                .filter_map(|(service, _)| checked_service(service))
                .collect(),
            group,
            network,
            resources,
            container,
            docker: docker.unwrap_or_default(),
            crons: without_locations(registration.crons),
            checkout: checkout.unwrap_or_default(),
        })
    }
}

fn without_locations<T, P>(calls: Vec<(T, P)>) -> Vec<T> {
    calls.into_iter().map(|(value, _)| value).collect()
}

/// The first [`MAX_PROBLEMS`] problems, those of the pipeline's own file before those of helpers.
fn sorted(mut problems: Vec<Diagnostic>, source: &SourceFile) -> Vec<Diagnostic> {
    problems.sort_by_cached_key(|problem| {
        let location = problem.location.as_ref();
        location.map(|location| {
            (
                location.file != source.file,
                location.file.clone(),
                location.line,
                location.column,
            )
        })
    });
    problems.truncate(MAX_PROBLEMS);
    for problem in &mut problems {
        if problem.location.as_ref().is_some_and(Location::is_in_lua) {
            problem.message = in_lua(&problem.message);
            problem.hint = problem.hint.as_deref().map(in_lua);
        }
    }
    problems
}

/// The only problem of a registration that is too large to be checked.
fn oversized(registration: &Registration, source: &SourceFile) -> Option<Diagnostic> {
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

/// Converts a job. Returns `None` if a name is invalid, which the checks have ruled out.
fn checked_job(job: JobRegistration) -> Option<Job> {
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
        location: job.location,
    })
}

/// Converts a service. Returns `None` if its image is invalid, which the checks have ruled out.
fn checked_service(service: Service) -> Option<Service<ImageReference>> {
    Some(Service {
        name: service.name,
        image: service.image.parse().ok()?,
        env: service.env,
        command: service.command,
        ready: service.ready,
        ready_within_ms: service.ready_within_ms,
    })
}

/// The last value of each name, in the order in which the names first appear.
fn last_values(pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut at: HashMap<String, usize> = HashMap::new();
    let mut last: Vec<(String, String)> = Vec::new();
    for (name, value) in pairs {
        let at = *at.entry(name.clone()).or_insert(last.len());
        if at < last.len() {
            last[at].1 = value;
        } else {
            last.push((name, value));
        }
    }
    last
}

#[cfg(test)]
mod tests;
