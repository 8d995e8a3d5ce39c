//! `quire run start`: a run by hand.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::manage::{Context, Format};
use super::report::Failure;
use super::run::ref_name;
use crate::git::{Git, GitError, nearest};
use crate::hook;
use crate::names::{JobName, ObjectId, RefName, RepoName, RunId};
use crate::pipeline::Source;
use crate::run::event::SocketRequest;
use crate::run::{FailureKind, Run, RunState, Trigger};
use crate::store::{NewRun, Store};

/// The most parameters, and the longest value in bytes.
const MAX_PARAMS: usize = 100;
const MAX_VALUE: usize = 64 << 10;
/// How long a word on the run's pipeline is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
pub(super) struct StartArgs {
    /// The repository.
    repo: RepoName,
    /// The branch, or any ref by its full name; the default branch where none is given.
    #[arg(long = "ref", value_name = "REF", visible_alias = "branch", value_parser = ref_name)]
    ref_name: Option<RefName>,
    /// Something that the pipeline's jobs read with (jobs :quire/manual).
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = param)]
    params: Vec<(String, String)>,
    /// Only this job, and those it waits for.
    #[arg(long)]
    job: Option<JobName>,
    /// Where it fails, keep its container for a while.
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    pub(super) format: Format,
}

/// `NAME=VALUE`, with a name that can be written in a pipeline.
fn param(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it like NAME=VALUE")?;
    let first = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !first
        || name.len() > 64
        || !name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    {
        return Err(
            "a name is letters, digits, `_` and `-`, starts with a letter, and has 64 at most"
                .to_owned(),
        );
    }
    if value.len() > MAX_VALUE || value.contains('\0') {
        return Err(format!(
            "a value is text of at most {} KiB",
            MAX_VALUE >> 10
        ));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Queues a run of where a ref stands now.
pub(super) fn start(context: &Context<'_>, args: &StartArgs) -> Result<Run, Failure> {
    let mut params = Map::new();
    for (name, value) in &args.params {
        if params
            .insert(name.clone(), Value::from(value.as_str()))
            .is_some()
        {
            return Err(Failure::usage(format!(
                "the parameter `{name}` is given twice"
            )));
        }
    }
    if params.len() > MAX_PARAMS {
        return Err(Failure::usage(format!(
            "there are more than {MAX_PARAMS} parameters"
        )));
    }
    let git = Git::new(context.paths);
    let repo = git.current(&args.repo);
    if !git.exists(&repo)? {
        return Err(no_repository(&git, &repo)?);
    }
    let store = context.store()?;
    let ref_name = match &args.ref_name {
        Some(name) => name.clone(),
        None => git.head(&repo)?.ok_or_else(|| {
            Failure::failed("the repository has no default branch").hint("name one: --branch")
        })?,
    };
    let (sha, may_group) = commit(context, &git, &repo, &ref_name)?;
    let run = NewRun {
        trigger: Trigger::Manual,
        source: Source::Manual.to_string(),
        pusher: Some(context.caller.name().to_owned()),
        only_job: args.job.as_ref().map(ToString::to_string),
        params: Some(params),
        unexamined: may_group,
        keep: args.keep,
        ..NewRun::of_push(repo, ref_name, sha, context.clock.now())
    };
    let id = store.start_run(&run)?;
    let heard = hook::ask(
        context.paths,
        &SocketRequest::Wake,
        Duration::from_millis(500),
    )
    .is_ok();
    let run = looked_at(&store, id, if heard { PATIENCE } else { Duration::ZERO })?;
    match (&run.failure_kind, &run.message) {
        (Some(FailureKind::Pipeline), Some(message)) => {
            let failure = Failure::failed(format!("run {} failed: {message}", run.id));
            Err(failure.hint("a job that people start has :quire/manual among its inputs"))
        }
        _ => Ok(run),
    }
}

/// The run when its pipeline has been looked at, or when that will take longer: only the server evaluates pipelines,
/// and what is wrong with this one it says as soon as the run has its turn.
fn looked_at(store: &Store, id: RunId, patience: Duration) -> Result<Run, Failure> {
    let until = Instant::now() + patience;
    loop {
        let run = store
            .run(id)?
            .ok_or_else(|| Failure::not_found(format!("there is no run `{id}` any more")))?;
        let waits = run.state == RunState::Pending && run.message.is_some();
        if run.state.is_final() || waits || !store.jobs(id)?.is_empty() || Instant::now() >= until {
            return Ok(run);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// That there is no such repository, with the one that was probably meant.
pub(super) fn no_repository(git: &Git, name: &RepoName) -> Result<Failure, Failure> {
    let names = git.list()?;
    let failure = Failure::from(GitError::NoRepository(name.clone()));
    Ok(nearest(name, &names)
        .map(|near| format!("did you mean `{near}`?"))
        .into_iter()
        .fold(failure, Failure::hint))
}

/// What a ref stands at, which must have a pipeline; and whether that may name a group.
fn commit(
    context: &Context<'_>,
    git: &Git,
    repo: &RepoName,
    ref_name: &RefName,
) -> Result<(ObjectId, bool), Failure> {
    let folder = context.paths.repo(repo);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime =
        runtime.map_err(|error| Failure::failed(format!("git cannot be asked: {error}")))?;
    let (sha, facts) = runtime.block_on(async {
        let Some(sha) = git
            .push_facts(&folder, &[], &[ref_name])
            .await?
            .refs
            .into_iter()
            .next()
            .flatten()
        else {
            return Ok::<_, GitError>((None, None));
        };
        let facts = git
            .commit_facts(&folder, std::slice::from_ref(&sha))
            .await?
            .into_iter()
            .next();
        Ok((Some(sha), facts))
    })?;
    let Some(sha) = sha else {
        return Err(Failure::not_found(format!("`{repo}` has no {ref_name}"))
            .hint("--branch takes a branch, --ref also a full name such as refs/tags/v1"));
    };
    match facts.filter(|facts| facts.fennel || facts.lua) {
        Some(facts) => Ok((sha, facts.may_group)),
        None => Err(
            Failure::failed(format!("{} of `{repo}` has no pipeline", sha.short()))
                .hint("`quire ci init` in a checkout makes one"),
        ),
    }
}
