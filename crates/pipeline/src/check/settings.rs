//! Checks the settings beside the jobs: image, time limit, caches, services, group, network,
//! resources and schedules.

use std::collections::{HashMap, HashSet};

use super::checker::{Checker, line_of, quoted};
use crate::cron::CronSchedule;
use crate::diagnostic::Location;
use crate::graph::PipelineImage;
use crate::registration::{Cache, Group, Resources, Service};
use crate::source::{CRON_SOURCE, Source};
use quire_types::image_reference::ImageReference;

/// The path of the workspace in the container of a run.
pub const WORKSPACE: &str = "/work";
const MAX_CACHES: usize = 50;
const MAX_SERVICES: usize = 20;
const MAX_SCHEDULES: usize = 100;
/// Docker's minimum for the memory of a container, in bytes.
const MIN_MEMORY: u64 = 6 << 20;
/// In thousandths of a CPU.
const MIN_MILLI_CPUS: u64 = 10;
/// The longest path of a cache, in bytes.
const MAX_PATH: usize = 512;
/// No cache is mounted at these folders or inside of them.
const SYSTEM_FOLDERS: [&str; 4] = ["/proc", "/sys", "/dev", "/.quire"];

impl Checker<'_> {
    pub(super) fn image(
        &mut self,
        images: &[(String, Location)],
        has_dockerfile: bool,
    ) -> PipelineImage {
        for (image, location) in images.iter().skip(1) {
            let first = line_of(&images[0].1, location);
            let message = format!(
                "`ci.image` is called twice: with `{}` here, and at {first}",
                quoted(image)
            );
            self.problem_with_hint(
                message,
                location,
                "a pipeline has one image: keep one of them",
            );
        }
        match images.first() {
            Some((image, location)) if has_dockerfile => {
                let message = format!(
                    "the image `{}` is set, but the commit has a .quire/Dockerfile too",
                    quoted(image)
                );
                self.problem_with_hint(message, location, "remove one of them");
                PipelineImage::Dockerfile
            }
            Some((image, location)) => {
                let reference = self.reference(image, location);
                reference.map_or(PipelineImage::Default, PipelineImage::Reference)
            }
            None if has_dockerfile => PipelineImage::Dockerfile,
            None => PipelineImage::Default,
        }
    }

    fn reference(&mut self, image: &str, location: &Location) -> Option<ImageReference> {
        match image.parse() {
            Ok(reference) => Some(reference),
            Err(error) => {
                let message = format!("`{}` is not an image reference: {error}", quoted(image));
                self.problem_with_hint(message, location, "write it like \"debian:trixie-slim\"");
                None
            }
        }
    }

    /// The value of a function that may be called at most once.
    pub(super) fn only_once<T: Clone>(
        &mut self,
        function: &str,
        calls: &[(T, Location)],
    ) -> Option<T> {
        let (first, first_location) = calls.first()?;
        for (_, location) in &calls[1..] {
            let first = line_of(first_location, location);
            let message = format!("`{function}` is called twice: here and at {first}");
            self.problem_with_hint(message, location, "keep one of them");
        }
        Some(first.clone())
    }

    pub(super) fn group(&mut self, groups: &[(Group, Location)]) -> Option<Group> {
        for (group, location) in groups {
            self.name("group", &group.name, location);
        }
        self.only_once("ci.group", groups)
    }

    pub(super) fn resources(&mut self, calls: &[(Resources, Location)]) -> Resources {
        for (resources, location) in calls {
            if resources.memory.is_some_and(|bytes| bytes < MIN_MEMORY) {
                self.problem_with_hint(
                    "the :memory of `ci.resources` is below the minimum",
                    location,
                    "use at least \"6m\"",
                );
            }
            if resources
                .milli_cpus
                .is_some_and(|milli| milli < MIN_MILLI_CPUS)
            {
                self.problem_with_hint(
                    "the :cpus of `ci.resources` are below the minimum",
                    location,
                    "use at least 0.01",
                );
            }
            if resources.pids == Some(0) {
                self.problem_with_hint(
                    "the :pids of `ci.resources` are below the minimum",
                    location,
                    "use at least 1",
                );
            }
        }
        self.only_once("ci.resources", calls).unwrap_or_default()
    }

    /// Checks the caches and returns them with normalized paths.
    pub(super) fn caches(&mut self, calls: &[(Cache, Location)]) -> Vec<Cache> {
        self.at_most("caches", calls, MAX_CACHES);
        let (mut names, mut paths) = (HashMap::new(), HashMap::new());
        let mut caches = Vec::new();
        for (cache, location) in calls {
            let name = quoted(&cache.name);
            if self.name("cache", &cache.name, location) {
                self.unique(
                    &mut names,
                    format!("cache `{name}`"),
                    cache.name.clone(),
                    location,
                );
            }
            match cache_path(&cache.path) {
                Ok(path) => {
                    self.unique(
                        &mut paths,
                        format!("the path `{}` of cache `{name}`", quoted(&cache.path)),
                        path.clone(),
                        location,
                    );
                    caches.push(Cache {
                        path,
                        ..cache.clone()
                    });
                }
                Err((reason, hint)) => {
                    let message = format!(
                        "cache `{name}` cannot be mounted at `{}`: {reason}",
                        quoted(&cache.path)
                    );
                    self.problem_with_hint(message, location, hint);
                }
            }
        }
        caches
    }

    pub(super) fn services(&mut self, calls: &[(Service, Location)]) {
        self.at_most("services", calls, MAX_SERVICES);
        let mut names = HashMap::new();
        for (service, location) in calls {
            let name = quoted(&service.name);
            if is_host_name(&service.name) {
                self.unique(
                    &mut names,
                    format!("service `{name}`"),
                    service.name.clone(),
                    location,
                );
            } else {
                let message = format!(
                    "`{name}` is not a valid name for a service, because it is not a valid host name"
                );
                let hint = "use 1 to 63 lower-case letters, digits and `-`, beginning and ending with a letter or digit";
                self.problem_with_hint(message, location, hint);
            }
            self.reference(&service.image, location);
            if service.command.as_ref().is_some_and(Vec::is_empty)
                || service.ready.as_ref().is_some_and(Vec::is_empty)
            {
                let message = format!("a command of service `{name}` is empty");
                self.problem(message, location, None);
            }
        }
    }

    /// Checks the schedules, and that each starts at least one job.
    pub(super) fn schedules(&mut self) {
        self.at_most("schedules", self.crons, MAX_SCHEDULES);
        let used: HashSet<&str> = self
            .jobs
            .iter()
            .flat_map(|job| &job.inputs)
            .map(String::as_str)
            .collect();
        let mut names = HashMap::new();
        for (cron, location) in self.crons {
            let name = quoted(&cron.name);
            let source = format!("{CRON_SOURCE}{}", cron.name);
            if let Err(error) = CronSchedule::parse(&cron.schedule) {
                self.problem(format!("schedule `{name}`: {error}"), location, None);
            }
            if self.name("schedule", &cron.name, location) && Source::from_name(&source).is_some() {
                self.unique(
                    &mut names,
                    format!("schedule `{name}`"),
                    cron.name.clone(),
                    location,
                );
            }
            if !used.contains(source.as_str()) {
                let hint = format!(
                    "add it to the inputs of a job, as in (ci.job … [:{}] …), or remove it",
                    quoted(&source)
                );
                self.problem_with_hint(
                    format!("schedule `{name}` starts nothing: no job waits for it"),
                    location,
                    hint,
                );
            }
        }
    }

    fn at_most<T>(&mut self, what: &str, calls: &[(T, Location)], max: usize) {
        if let Some((_, location)) = calls.get(max) {
            let message = format!("the pipeline has more than {max} {what}");
            self.problem(message, location, None);
        }
    }

    /// Checks a name that is used for files, volumes and rows of the database.
    fn name(&mut self, what: &str, name: &str, location: &Location) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let good = (1..=64).contains(&name.len())
            && name.chars().all(plain)
            && !name.starts_with(['.', '-']);
        if !good {
            let message = format!("`{}` is not a valid name for a {what}", quoted(name));
            let hint =
                "use 1 to 64 letters, digits, `.`, `_` and `-`, not beginning with `.` or `-`";
            self.problem_with_hint(message, location, hint);
        }
        good
    }

    fn unique(
        &mut self,
        seen: &mut HashMap<String, Location>,
        what: String,
        key: String,
        location: &Location,
    ) {
        match seen.get(&key) {
            Some(first) => {
                let message = format!(
                    "{what} is registered twice: here and at {}",
                    line_of(first, location)
                );
                self.problem_with_hint(message, location, "keep one of them");
            }
            None => drop(seen.insert(key, location.clone())),
        }
    }
}

/// Normalizes the path of a cache, so that two spellings of a path are equal: it is either absolute
/// or relative to the workspace. An error is a reason and a hint.
pub(super) fn cache_path(path: &str) -> Result<String, (&'static str, &'static str)> {
    const HINT: &str = "use an absolute path, or a path in the workspace such as \"target\"";
    if path.is_empty() || path.len() > MAX_PATH || path.contains(char::is_control) {
        return Err(("it is not a valid path", HINT));
    }
    if path.starts_with('~') || path.contains('$') {
        return Err((
            "`~` and variables are not expanded",
            "write the path out, such as \"/root/.cargo\"",
        ));
    }
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.contains(&"..") {
        return Err(("it contains `..`", HINT));
    }
    let plain = parts.join("/");
    if !path.starts_with('/') {
        return if plain.is_empty() {
            Err(("it would hide the workspace", HINT))
        } else {
            Ok(plain)
        };
    }
    let plain = format!("/{plain}");
    if plain == "/" {
        return Err(("it would hide the whole file system", HINT));
    }
    if plain == WORKSPACE {
        return Err(("it would hide the workspace", HINT));
    }
    if SYSTEM_FOLDERS.iter().any(|folder| {
        plain == *folder
            || plain
                .strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/'))
    }) {
        return Err(("it is in a system folder", HINT));
    }
    // A folder of the workspace is always relative, so that it is not mounted twice.
    match plain
        .strip_prefix(WORKSPACE)
        .and_then(|rest| rest.strip_prefix('/'))
    {
        Some(within) => Ok(within.to_owned()),
        None => Ok(plain),
    }
}

/// Whether a name is valid as one label of a host name.
fn is_host_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| plain(b) || b == b'-')
        && name.bytes().next().is_some_and(plain)
        && name.bytes().last().is_some_and(plain)
        && name != "localhost"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_paths_are_normalized_and_hide_nothing() {
        for (path, plain) in [
            ("target", "target"),
            ("./a//b/", "a/b"),
            ("/root/.cargo/", "/root/.cargo"),
            ("/work/target", "target"),
            ("/work//./x", "x"),
            ("/workspace", "/workspace"),
            ("/device", "/device"),
        ] {
            assert_eq!(cache_path(path).as_deref(), Ok(plain), "{path}");
        }
        for path in [
            "",
            "/",
            "//",
            ".",
            "./",
            "/work",
            "/work/",
            "/work/.",
            "..",
            "a/../b",
            "/x/..",
            "~/.cargo",
            "$HOME/x",
            "/proc",
            "/dev/shm",
            "/.quire/step",
            "a\nb",
        ] {
            assert!(cache_path(path).is_err(), "{path}");
        }
    }

    #[test]
    fn host_names() {
        for name in ["db", "db-1", "0", &"a".repeat(63)] {
            assert!(is_host_name(name), "{name}");
        }
        for name in [
            "",
            "-db",
            "db-",
            "DB",
            "d_b",
            "d.b",
            "ü",
            "localhost",
            &"a".repeat(64),
        ] {
            assert!(!is_host_name(name), "{name}");
        }
    }
}
