//! Which runs a push makes: one for each updated branch or tag whose commit has a pipeline.

use crate::git::{CommitFacts, Git};
use crate::names::{ObjectId, RefName};
use crate::paths::Paths;
use crate::run::event::{PushEvent, RefUpdate};
use crate::store::{NewRun, RefsNow};

use super::{IntakeError, disk};

/// The runs of a push, and what the pusher is told.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) runs: Vec<NewRun>,
    pub(super) refs_now: RefsNow,
    pub(super) notes: Vec<String>,
}

/// The push option that makes no runs.
pub(super) const SKIP: &str = "ci.skip";

/// The push options that quire knows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    skip: bool,
    only_job: Option<String>,
    keep: bool,
    unknown: Vec<String>,
}

impl Options {
    fn parse(options: &[String]) -> Self {
        let mut parsed = Self::default();
        for option in options {
            match option.split_once('=') {
                None if option == SKIP => parsed.skip = true,
                // The hook's own: it stays and shows the log.
                None if option == "ci.wait" => {}
                None if option == "ci.keep" => parsed.keep = true,
                Some(("ci.job", job)) if !job.is_empty() => {
                    parsed.only_job = Some(job.chars().take(128).collect())
                }
                // Options that are not quire's may be another tool's.
                _ if !option.starts_with("ci.") => {}
                _ => parsed.unknown.push(
                    option
                        .chars()
                        .take(60)
                        .filter(|c| !c.is_control())
                        .collect(),
                ),
            }
        }
        parsed
    }
}

/// Plans a push.
pub(super) async fn plan(git: &Git, paths: &Paths, push: &PushEvent) -> Result<Plan, IntakeError> {
    let mut plan = Plan::default();
    let options = Options::parse(&push.options);
    for option in &options.unknown {
        plan.notes.push(format!("push option `{option}` is not known; there are ci.skip, ci.wait, ci.keep and ci.job=NAME"));
    }
    let (looker, name) = (git.clone(), push.repo.clone());
    if !disk(move || looker.is_reached_by(&name)).await?? {
        plan.notes.push(format!(
            "repository {} is gone; its runs are not made",
            push.repo
        ));
        plan.refs_now = push
            .refs
            .iter()
            .map(|update| (update.ref_name.clone(), None))
            .collect();
        return Ok(plan);
    }
    let repo = paths.repo(&push.repo);
    let wanted: Vec<&RefUpdate> = push
        .refs
        .iter()
        .filter(|update| !options.skip && makes_a_run(update))
        .collect();
    let commits: Vec<ObjectId> = wanted.iter().map(|update| update.new_sha.clone()).collect();
    let names: Vec<&RefName> = push.refs.iter().map(|update| &update.ref_name).collect();
    let facts = git.push_facts(&repo, &commits, &names).await?;
    plan.refs_now = names.into_iter().cloned().zip(facts.refs).collect();
    for (update, facts) in wanted.iter().zip(facts.commits) {
        match verdict(&facts) {
            Verdict::Run => plan.runs.push(new_run(push, update, &facts, &options)),
            Verdict::Skip(note) => plan
                .notes
                .extend(note.map(|note| format!("{}: {note}", update.ref_name.short()))),
        }
    }
    Ok(plan)
}

/// Branches and tags that exist make runs; notes, replace refs and deletions do not.
fn makes_a_run(update: &RefUpdate) -> bool {
    !update.new_sha.is_zero()
        && (update.ref_name.branch().is_some() || update.ref_name.tag().is_some())
}

enum Verdict {
    Run,
    Skip(Option<&'static str>),
}

fn verdict(facts: &CommitFacts) -> Verdict {
    if !facts.fennel && !facts.lua {
        return Verdict::Skip(None);
    }
    if facts
        .message
        .as_deref()
        .is_some_and(|message| message.contains("[skip ci]"))
    {
        return Verdict::Skip(Some("the commit message says [skip ci]"));
    }
    Verdict::Run
}

fn new_run(push: &PushEvent, update: &RefUpdate, facts: &CommitFacts, options: &Options) -> NewRun {
    NewRun {
        previous_sha: (!update.old_sha.is_zero()).then(|| update.old_sha.clone()),
        pusher: push.pusher.clone(),
        only_job: options.only_job.clone(),
        unexamined: facts.may_group,
        keep: options.keep,
        ..NewRun::of_push(
            push.repo.clone(),
            update.ref_name.clone(),
            update.new_sha.clone(),
            push.pushed_at,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn push_options_are_read_and_unknown_ones_named() {
        let options = [
            "ci.skip",
            "ci.wait",
            "ci.job=test",
            "ci.jbo=x",
            "ci.job=",
            "topic=y",
            "\u{1b}[2J",
        ]
        .map(String::from);
        let parsed = Options::parse(&options);
        assert!(parsed.skip);
        assert_eq!(parsed.only_job.as_deref(), Some("test"));
        assert_eq!(parsed.unknown, ["ci.jbo=x", "ci.job="]);
        assert_eq!(Options::parse(&[]), Options::default());
    }
}
