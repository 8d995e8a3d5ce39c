//! The containers of builds that an engine left because it was killed.
//!
//! The engine makes a container for each command of a build, gives it a name of its own, and removes it. It takes
//! no label for them. But it gives them the host names that a build asks for, and nothing inherits these: so each
//! build asks for one that names the appliance and the run.

use quire_types::names::RunId;

use super::context::DockerContext;
use crate::engine::{DockerError, Labels};

/// The host name in the containers of a run's build.
pub(super) fn build_mark(instance: &str, run: RunId) -> String {
    format!("{run}.{instance}.quire-build")
}

/// Returns the run of a build's container.
fn marked_run(hosts: &[String], instance: &str) -> Option<RunId> {
    let suffix = format!(".{instance}.quire-build");
    let mut runs = hosts.iter().filter_map(|host| host.strip_suffix(&suffix));
    runs.find_map(|run| run.parse().ok())
}

/// Removes the containers of builds of runs that `is_active` does not know, if an engine may have left some.
/// Returns how many there were.
pub(super) async fn remove(
    context: &DockerContext,
    is_active: impl Fn(RunId) -> bool,
) -> Result<usize, DockerError> {
    if !context.in_use.take_suspicion() {
        return Ok(0);
    }
    let removed = remove_all(context, is_active).await;
    // What is active now is looked at again, if it does not end by itself.
    if !matches!(removed, Ok((_, false))) {
        context.in_use.suspect_lost_build();
    }
    removed.map(|(count, _)| count)
}

/// Returns how many were removed, and whether some are active.
async fn remove_all(
    context: &DockerContext,
    is_active: impl Fn(RunId) -> bool,
) -> Result<(usize, bool), DockerError> {
    let engine = &context.engine;
    let (mut count, mut has_active) = (0, false);
    for container in engine.containers(&Labels::new()).await? {
        let hosts = engine.extra_hosts(&container.id).await?;
        let Some(run) = marked_run(&hosts, &context.config.instance) else {
            continue;
        };
        if is_active(run) {
            has_active = true;
            continue;
        }
        let limit = engine.timeouts().removal;
        count += usize::from(engine.remove_container_within(&container.id, limit).await?);
    }
    Ok((count, has_active))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_names_the_run_for_its_own_appliance_only() {
        let run = RunId::new();
        let hosts = vec!["db".to_owned(), build_mark("one", run)];
        assert_eq!(marked_run(&hosts, "one"), Some(run));
        assert_eq!(marked_run(&hosts, "two"), None);
        assert_eq!(marked_run(&hosts[..1], "one"), None);
        assert_eq!(marked_run(&["x.one.quire-build".to_owned()], "one"), None);
    }
}
