//! Which runs a push makes: one for each updated branch or tag whose commit has a pipeline.

use std::path::Path;

use quire_git::{CommitInfo, Git};
use quire_store::{CurrentRefs, NewRun};
use quire_types::landing::{LandingMethod, LandingRef};
use quire_types::names::{ObjectId, RefName};
use quire_types::paths::Paths;
use quire_types::push_event::{PUSH_OPTIONS, PushEvent, RefUpdate, SKIP_OPTION};

use super::changes;
use super::error::IntakeError;
use super::overwritten;
use quire_types::text::excerpt_name;

/// The runs of a push, and what the pusher is told.
#[derive(Debug, Default)]
pub(super) struct PushPlan {
    pub(super) runs: Vec<NewRun>,
    pub(super) refs_now: CurrentRefs,
    /// Those of its refs whose old objects are kept.
    pub(super) overwritten: Vec<RefUpdate>,
    /// How its commits land, if it says so.
    pub(super) landing: Option<LandingMethod>,
    pub(super) notes: Vec<String>,
    /// New commits that have change ids, with these.
    pub(super) changes: Vec<(ObjectId, String)>,
}

impl PushPlan {
    /// Keeps at most so many runs: those of branches, and those of tags only if there is room for all of them. A push of all
    /// tags of an old repository is not meant to release each of its versions.
    pub(super) fn limit_runs(&mut self, max: usize) {
        let wanted = self.runs.len();
        if wanted <= max {
            return;
        }
        let name = self.runs[0].repo.clone();
        self.runs.retain(|run| run.ref_name.branch().is_some());
        self.runs.truncate(max);
        let kept = self.runs.len();
        self.notes.push(format!(
            "{wanted} refs have a pipeline, and a push makes at most {max} runs (`ci.max-runs-per-push`): {kept} runs of branches were made; `run start {name} --source push --ref REF` makes others"
        ));
    }
}

/// The push options that quire knows.
#[derive(Debug, Default, PartialEq, Eq)]
struct PushOptions {
    skip: bool,
    only_job: Option<String>,
    keep: bool,
    landing: Option<LandingMethod>,
    unknown: Vec<String>,
}

impl PushOptions {
    fn parse(options: &[String]) -> Self {
        let mut parsed = Self::default();
        for option in options {
            match option.split_once('=') {
                None if option == SKIP_OPTION => parsed.skip = true,
                // The hook's own: it stays and shows the log.
                None if option == "ci.wait" => {}
                None if option == "ci.keep" => parsed.keep = true,
                Some(("ci.job", job)) if !job.is_empty() => {
                    parsed.only_job = Some(job.chars().take(128).collect())
                }
                Some(("ci.land", method)) if method.parse::<LandingMethod>().is_ok() => {
                    parsed.landing = method.parse().ok();
                }
                // Options that are not quire's may be another tool's.
                _ if !option.starts_with("ci.") => {}
                _ => parsed.unknown.push(excerpt_name(option)),
            }
        }
        parsed
    }
}

/// Plans a push. What it overwrote is kept from here on, if `keep_overwritten`.
pub(super) async fn plan(
    git: &Git,
    paths: &Paths,
    push: &PushEvent,
    keep_overwritten: bool,
) -> Result<PushPlan, IntakeError> {
    let mut plan = PushPlan::default();
    let options = PushOptions::parse(&push.options);
    for option in &options.unknown {
        plan.notes.push(format!(
            "push option `{option}` is not known; the push options are {}",
            PUSH_OPTIONS.map(|(name, _)| name).join(", ")
        ));
    }
    plan.landing = options.landing;
    let name = push.repo.clone();
    if !git.call(move |git| git.exists_or_redirects(&name)).await? {
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
    let facts = git.push_info(&repo, &commits, &names).await?;
    plan.refs_now = names.into_iter().cloned().zip(facts.refs).collect();
    if keep_overwritten {
        let parents = wanted
            .iter()
            .zip(&facts.commits)
            .map(|(update, facts)| (&update.ref_name, facts.parents.as_slice()));
        let kept = overwritten::keep(git, &repo, push, &parents.collect()).await;
        plan.notes.extend(kept.note(&push.repo));
        plan.overwritten = kept.refs;
    }
    plan.changes = new_changes(&repo, push, &options, &facts.commits).await;
    for (update, facts) in wanted.iter().zip(facts.commits) {
        if facts.missing {
            // The ref has moved on: git has read what it points to now.
            plan.notes.push(format!(
                "{}: its commit is missing and no longer current, so it has no run",
                update.ref_name.short()
            ));
            continue;
        }
        let problems = facts.problems.iter().map(ToString::to_string);
        let misnamed = facts.misnamed.iter().map(ToString::to_string);
        for warning in problems.chain(misnamed) {
            let note = format!("warning: {warning}");
            if !plan.notes.contains(&note) {
                plan.notes.push(note);
            }
        }
        match ci_decision(&update.ref_name, &facts) {
            CiDecision::Run => plan.runs.push(new_run(push, update, &facts, &options)),
            CiDecision::Skip(note) => plan
                .notes
                .extend(note.map(|note| format!("{}: {note}", update.ref_name.short()))),
        }
    }
    let notes = landing_notes(push, &plan, &options);
    plan.notes.extend(notes);
    Ok(plan)
}

/// The new commits of a push that have change ids. The commits of a push that skips its runs were not looked at.
async fn new_changes(
    repo: &Path,
    push: &PushEvent,
    options: &PushOptions,
    commits: &[CommitInfo],
) -> Vec<(ObjectId, String)> {
    if !options.skip && !commits.iter().any(|commit| commit.has_change_id) {
        return Vec::new();
    }
    let updates = push.refs.iter().filter(|update| makes_a_run(update));
    changes::new_commits(repo.to_owned(), updates.cloned().collect()).await
}

/// Branches and tags that exist make runs, and so do commits that wait to land; notes, replace refs and deletions do not.
fn makes_a_run(update: &RefUpdate) -> bool {
    let name = &update.ref_name;
    !update.new_sha.is_zero()
        && (name.branch().is_some() || name.tag().is_some() || LandingRef::of(name).is_some())
}

/// What the pusher has to know of the commits that are to land.
fn landing_notes(push: &PushEvent, plan: &PushPlan, options: &PushOptions) -> Vec<String> {
    let mut notes = Vec::new();
    let created = push.refs.iter().filter(|update| !update.new_sha.is_zero());
    for update in created {
        let Some(landing) = LandingRef::of(&update.ref_name) else {
            continue;
        };
        let branch = landing.branch.short();
        if !plan.runs.iter().any(|run| run.ref_name == update.ref_name) {
            notes.push(format!(
                "{} has no run, so it does not land; push to {branch} itself",
                landing.commit.short()
            ));
        } else if options.only_job.is_some() {
            notes.push(format!(
                "ci.job is ignored: a commit lands on {branch} only when all of its jobs are green"
            ));
        }
    }
    notes
}

enum CiDecision {
    Run,
    Skip(Option<&'static str>),
}

/// `[skip ci]` is about the branch that the commit was pushed to. A tag of the commit is pushed on purpose, and runs.
fn ci_decision(ref_name: &RefName, facts: &CommitInfo) -> CiDecision {
    if !facts.has_pipeline() {
        return CiDecision::Skip(None);
    }
    if ref_name.branch().is_some()
        && facts
            .message
            .as_deref()
            .is_some_and(|message| message.contains("[skip ci]"))
    {
        return CiDecision::Skip(Some("the commit message says [skip ci]"));
    }
    CiDecision::Run
}

fn new_run(
    push: &PushEvent,
    update: &RefUpdate,
    facts: &CommitInfo,
    options: &PushOptions,
) -> NewRun {
    NewRun {
        subject: facts.subject(),
        previous_sha: (!update.old_sha.is_zero()).then(|| update.old_sha.clone()),
        pusher: push.pusher.clone(),
        only_job: options
            .only_job
            .clone()
            .filter(|_| LandingRef::of(&update.ref_name).is_none()),
        group_unknown: facts.may_declare_group,
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
    fn runs_of_tags_are_made_if_there_is_room_for_all() {
        let plan = |branches: usize, tags: usize| {
            let names = (0..branches).map(|at| format!("refs/heads/b{at}"));
            let names = names.chain((0..tags).map(|at| format!("refs/tags/v{at}")));
            let run = |name: String| {
                NewRun::of_push(
                    "app".parse().unwrap(),
                    name.parse().unwrap(),
                    "1".repeat(40).parse().unwrap(),
                    quire_types::clock::Millis(0),
                )
            };
            PushPlan {
                runs: names.map(run).collect(),
                ..PushPlan::default()
            }
        };
        for (branches, tags, kept) in [(2, 3, 5), (2, 4, 2), (6, 0, 5), (6, 1, 5), (0, 9, 0)] {
            let mut plan = plan(branches, tags);
            plan.limit_runs(5);
            assert_eq!(plan.runs.len(), kept, "{branches} {tags}");
            assert_eq!(plan.notes.len(), usize::from(branches + tags > 5));
        }
    }

    #[test]
    fn push_options_are_read_and_unknown_ones_named() {
        let options = [
            "ci.skip",
            "ci.wait",
            "ci.job=test",
            "ci.jbo=x",
            "ci.land=rebase",
            "ci.land=up",
            "ci.job=",
            "topic=y",
            "\u{1b}[2J",
        ]
        .map(String::from);
        let parsed = PushOptions::parse(&options);
        assert!(parsed.skip);
        assert_eq!(parsed.only_job.as_deref(), Some("test"));
        assert_eq!(parsed.landing, Some(LandingMethod::Rebase));
        assert_eq!(parsed.unknown, ["ci.jbo=x", "ci.land=up", "ci.job="]);
        assert_eq!(PushOptions::parse(&[]), PushOptions::default());
    }
}
