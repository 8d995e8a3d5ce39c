//! The checks of what stands beside the jobs: image, time limit, caches, services, group,
//! network, resources, schedules.

use std::collections::{HashMap, HashSet};

use super::{Check, quoted};
use crate::pipeline::{
    Cache, CronSchedule, Group, PipelineImage, Place, Resources, Service, Source,
};

/// Where the container of a run has its workspace.
pub const WORKSPACE: &str = "/work";
/// The most caches of a pipeline.
const MAX_CACHES: usize = 50;
/// The most services.
const MAX_SERVICES: usize = 20;
/// The most schedules.
const MAX_SCHEDULES: usize = 100;
/// The least memory that Docker starts anything with, in bytes.
const MIN_MEMORY: u64 = 6 << 20;
/// The least share of a CPU, in thousandths.
const MIN_MILLI_CPUS: u64 = 10;
/// Folders of the system's own that nothing is mounted over.
const SYSTEM: [&str; 3] = ["/proc", "/sys", "/dev"];

impl Check<'_> {
    pub(super) fn image(
        &mut self,
        images: &[(String, Place)],
        has_dockerfile: bool,
    ) -> PipelineImage {
        for (image, place) in images.iter().skip(1) {
            let first = at(&images[0].1, place);
            let message = format!(
                "the image is declared twice: `{}` here, and another at {first}",
                quoted(image)
            );
            self.problem(
                message,
                place.clone(),
                Some("a pipeline has one image: keep one of them".to_owned()),
            );
        }
        match images.first() {
            Some((image, place)) if has_dockerfile => {
                let message = format!(
                    "the image `{}` is declared, and the commit has a .quire/Dockerfile too",
                    quoted(image)
                );
                self.problem(
                    message,
                    place.clone(),
                    Some("remove one of them".to_owned()),
                );
                PipelineImage::Dockerfile
            }
            Some((image, place)) => {
                self.reference(image, place);
                PipelineImage::Reference(image.clone())
            }
            None if has_dockerfile => PipelineImage::Dockerfile,
            None => PipelineImage::Default,
        }
    }

    fn reference(&mut self, image: &str, place: &Place) {
        let bad = |c: char| c.is_whitespace() || c.is_control();
        if image.is_empty() || image.len() > 512 || image.contains(bad) {
            let message = format!("`{}` is not an image reference", quoted(image));
            self.problem(
                message,
                place.clone(),
                Some("write it like \"debian:trixie-slim\"".to_owned()),
            );
        }
    }

    /// The value of a form that may be used once. `what` begins the sentence: "the time limit is set".
    pub(super) fn once<T: Clone>(&mut self, what: &str, calls: &[(T, Place)]) -> Option<T> {
        let (first, first_place) = calls.first()?;
        for (_, place) in &calls[1..] {
            let message = format!("{what} twice: here and at {}", at(first_place, place));
            self.problem(message, place.clone(), Some("keep one of them".to_owned()));
        }
        Some(first.clone())
    }

    pub(super) fn group(&mut self, groups: &[(Group, Place)]) -> Option<Group> {
        for (group, place) in groups {
            self.name("group", &group.name, place);
        }
        self.once("the group is set", groups)
    }

    pub(super) fn resources(&mut self, calls: &[(Resources, Place)]) -> Resources {
        for (resources, place) in calls {
            if resources.memory.is_some_and(|bytes| bytes < MIN_MEMORY) {
                let message =
                    "`ci.resources` asks for less memory than anything runs with".to_owned();
                self.problem(
                    message,
                    place.clone(),
                    Some("ask for at least \"6m\"".to_owned()),
                );
            }
            if resources
                .milli_cpus
                .is_some_and(|milli| milli < MIN_MILLI_CPUS)
            {
                let message =
                    "`ci.resources` asks for less of a CPU than anything runs with".to_owned();
                self.problem(
                    message,
                    place.clone(),
                    Some("ask for at least 0.01".to_owned()),
                );
            }
            if resources.pids == Some(0) {
                self.problem(
                    "`ci.resources` asks for no processes".to_owned(),
                    place.clone(),
                    None,
                );
            }
        }
        self.once("what the run asks for is set", calls)
            .unwrap_or_default()
    }

    /// The caches, their paths in one spelling.
    pub(super) fn caches(&mut self, calls: &[(Cache, Place)]) -> Vec<Cache> {
        self.few("caches", calls, MAX_CACHES);
        let (mut names, mut paths) = (HashMap::new(), HashMap::new());
        let mut caches = Vec::new();
        for (cache, place) in calls {
            let name = quoted(&cache.name);
            if self.name("cache", &cache.name, place) {
                self.unique(
                    &mut names,
                    format!("cache `{name}`"),
                    cache.name.clone(),
                    place,
                );
            }
            match cache_path(&cache.path) {
                Ok(path) => {
                    self.unique(
                        &mut paths,
                        format!("the path `{}` of cache `{name}`", quoted(&cache.path)),
                        path.clone(),
                        place,
                    );
                    caches.push(Cache {
                        path,
                        ..cache.clone()
                    });
                }
                Err((why, hint)) => {
                    let message = format!(
                        "cache `{name}` cannot be mounted at `{}`: {why}",
                        quoted(&cache.path)
                    );
                    self.problem(message, place.clone(), Some(hint.to_owned()));
                }
            }
        }
        caches
    }

    pub(super) fn services(&mut self, calls: &[(Service, Place)]) {
        self.few("services", calls, MAX_SERVICES);
        let mut names = HashMap::new();
        for (service, place) in calls {
            let name = quoted(&service.name);
            if is_host_name(&service.name) {
                self.unique(
                    &mut names,
                    format!("service `{name}`"),
                    service.name.clone(),
                    place,
                );
            } else {
                let message =
                    format!("`{name}` cannot be the name of a service, for it is no host name");
                let hint = "use lower-case letters, digits and `-`, at most 63, beginning and ending with a letter or digit";
                self.problem(message, place.clone(), Some(hint.to_owned()));
            }
            self.reference(&service.image, place);
            if service.command.as_ref().is_some_and(Vec::is_empty)
                || service.ready.as_ref().is_some_and(Vec::is_empty)
            {
                self.problem(
                    format!("a command of service `{name}` is empty"),
                    place.clone(),
                    None,
                );
            }
        }
    }

    /// Checks the schedules, and that each starts some job.
    pub(super) fn schedules(&mut self) {
        self.few("schedules", self.crons, MAX_SCHEDULES);
        let used: HashSet<&str> = self
            .jobs
            .iter()
            .flat_map(|job| &job.inputs)
            .map(String::as_str)
            .collect();
        let mut names = HashMap::new();
        for (cron, place) in self.crons {
            let name = quoted(&cron.name);
            let source = format!("{}{}", super::CRON_SOURCE, cron.name);
            if let Err(error) = CronSchedule::parse(&cron.schedule) {
                self.problem(
                    format!("the schedule `{name}`: {error}"),
                    place.clone(),
                    None,
                );
            }
            if self.name("schedule", &cron.name, place) && Source::from_name(&source).is_some() {
                self.unique(
                    &mut names,
                    format!("the schedule `{name}`"),
                    cron.name.clone(),
                    place,
                );
            }
            if !used.contains(source.as_str()) {
                let hint = format!(
                    "let a job wait for it, (ci.job … [:{}] …), or remove it",
                    quoted(&source)
                );
                self.problem(
                    format!("the schedule `{name}` starts nothing: no job waits for it"),
                    place.clone(),
                    Some(hint),
                );
            }
        }
    }

    fn few<T>(&mut self, what: &str, calls: &[(T, Place)], most: usize) {
        if let Some((_, place)) = calls.get(most) {
            self.problem(
                format!("the pipeline has more than {most} {what}"),
                place.clone(),
                None,
            );
        }
    }

    /// Whether something can be called so: files, volumes and rows are named after it.
    fn name(&mut self, what: &str, name: &str, place: &Place) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let good = (1..=64).contains(&name.len())
            && name.chars().all(plain)
            && !name.starts_with(['.', '-']);
        if !good {
            let message = format!("`{}` cannot be the name of a {what}", quoted(name));
            let hint = "use letters, digits, `.`, `_` and `-`, at most 64, beginning with none of `.` and `-`";
            self.problem(message, place.clone(), Some(hint.to_owned()));
        }
        good
    }

    fn unique(
        &mut self,
        seen: &mut HashMap<String, Place>,
        what: String,
        key: String,
        place: &Place,
    ) {
        match seen.get(&key) {
            Some(first) => {
                let message = format!(
                    "{what} is registered twice: here and at {}",
                    at(first, place)
                );
                self.problem(message, place.clone(), Some("keep one of them".to_owned()));
            }
            None => drop(seen.insert(key, place.clone())),
        }
    }
}

/// A place in a sentence about another one: its line, and its file where it is another.
pub(super) fn at(place: &Place, seen_from: &Place) -> String {
    if place.file == seen_from.file {
        format!("line {}", place.line)
    } else {
        format!("{}:{}", place.file, place.line)
    }
}

/// A cache's path in its one spelling: absolute, or within the workspace; or why it is none, with advice.
fn cache_path(path: &str) -> Result<String, (&'static str, &'static str)> {
    const WITHIN: &str = "write an absolute path, or one within the workspace such as \"target\"";
    if path.is_empty() || path.len() > 512 || path.contains(char::is_control) {
        return Err(("that is no path", WITHIN));
    }
    if path.starts_with('~') || path.contains('$') {
        return Err((
            "`~` and variables have no meaning here",
            "write the path out, such as \"/root/.cargo\"",
        ));
    }
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.contains(&"..") {
        return Err(("it leads upward", WITHIN));
    }
    let plain = parts.join("/");
    if !path.starts_with('/') {
        return if plain.is_empty() {
            Err(("it covers the workspace", WITHIN))
        } else {
            Ok(plain)
        };
    }
    let plain = format!("/{plain}");
    if plain == "/" {
        return Err(("it covers the whole container", WITHIN));
    }
    if plain == WORKSPACE {
        return Err(("it covers the workspace", WITHIN));
    }
    if SYSTEM.iter().any(|folder| {
        plain == *folder
            || plain
                .strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/'))
    }) {
        return Err(("that belongs to the system", WITHIN));
    }
    // One way to name a folder of the workspace, so that it is not mounted twice.
    match plain
        .strip_prefix(WORKSPACE)
        .and_then(|rest| rest.strip_prefix('/'))
    {
        Some(within) => Ok(within.to_owned()),
        None => Ok(plain),
    }
}

/// Whether a name can be one label of a host name.
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
    fn cache_paths_have_one_spelling_and_cover_nothing() {
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
            "", "/", "//", ".", "./", "/work", "/work/", "/work/.", "..", "a/../b", "/x/..",
            "~/.cargo", "$HOME/x", "/proc", "/dev/shm", "a\nb",
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
