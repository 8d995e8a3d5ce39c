//! What commands print, as snapshots.

use clap::CommandFactory;

use super::commands::RemoteCli;
use super::context::Caller;
use super::error::CommandError;
use super::greeting::{News, greet, print_news};
use super::output::Output;
use super::repo::print_list;
use super::run_list::print_runs;
use super::run_show::print_run;
use super::sample;
use super::trash::print_trash;
use crate::ssh::command::SshCommandError;
use crate::ssh::git_session::SessionError;
use quire_git::GitError;
use quire_server::forge::ForgeError;
use quire_server::forge::repos::{RepoOverview, RepoOverviews};
use quire_server::forge::run_details::RunDetails;
use quire_server::forge::trash::TrashedOverview;
use quire_server::rename::RenameError;
use quire_store::{KeptContainer, StoreError};
use quire_types::clock::Millis;
use quire_types::names::{RepoName, RunId};
use quire_types::run::{JobState, Run, RunJob, RunState, RunStep};
use quire_types::ssh_keys::KeyLimits;

fn id(last: u8) -> RunId {
    format!("0197a1b2-0000-7000-8000-0000000000{last:02x}")
        .parse()
        .unwrap()
}

fn runs() -> Vec<Run> {
    let mut active = sample::run(id(3), RunState::Active);
    active.started_at_ms = Some(Millis(3000));
    let mut failed = sample::run(id(2), RunState::Failed);
    failed.message = Some("job `test` failed: `make test` failed with exit code 2".to_owned());
    vec![active, failed, sample::run(id(1), RunState::Complete)]
}

fn printed(print: impl FnOnce(&mut Output<'_>) -> Result<(), CommandError>) -> String {
    let mut text = Vec::new();
    print(&mut Output::test(&mut text, false, Millis(10_000))).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn a_list_of_runs() {
    insta::assert_snapshot!(printed(|out| print_runs(&runs(), out)));
    assert_eq!(printed(|out| print_runs(&[], out)), "no runs\n");
}

#[test]
fn one_run_with_jobs_and_steps() {
    let run = Run {
        image_tag: Some("alpine:3".to_owned()),
        retry_of: Some(id(1)),
        only_failed: true,
        pusher: Some("laptop".to_owned()),
        ..runs().remove(1)
    };
    let job = |name: &str, state, reused_from| RunJob {
        reused_from,
        run_id: run.id,
        job_id: name.parse().unwrap(),
        position: 0,
        inputs: vec!["quire/push".to_owned()],
        state,
        exit_code: None,
        message: (state == JobState::Failed).then(|| "`make test` failed\nbadly".to_owned()),
        output: None,
        started_at_ms: Some(Millis(1000)),
        finished_at_ms: Some(Millis(2000)),
    };
    let step = RunStep {
        run_id: run.id,
        seq: 1,
        job_id: "test".parse().unwrap(),
        command: "make test\nmake check".to_owned(),
        exit_code: Some(2),
        started_at_ms: Millis(1000),
        finished_at_ms: Some(Millis(1940)),
    };
    let details = RunDetails {
        jobs: vec![
            job("lint", JobState::Complete, Some(id(1))),
            job("test", JobState::Failed, None),
        ],
        steps: vec![step],
        artifacts: Vec::new(),
        kept: None::<KeptContainer>,
        landing: None,
        successor: None,
        run,
    };
    insta::assert_snapshot!(printed(|out| print_run(&details, out)));
}

#[test]
fn a_list_of_repositories() {
    let overview = |name: &str, newest_run: Option<Run>| RepoOverview {
        repo: name.parse().unwrap(),
        description: newest_run.as_ref().map(|_| "Tools of mine".to_owned()),
        default_branch: newest_run.as_ref().map(|_| "main".to_owned()),
        last_push: newest_run.as_ref().map(|_| Millis(5000)),
        newest_run,
    };
    let repos = RepoOverviews {
        repos: vec![
            overview("app", Some(runs().remove(0))),
            overview("work/empty", None),
        ],
        unreadable: Vec::new(),
    };
    insta::assert_snapshot!(printed(|out| print_list(&repos, out)));
}

#[test]
fn a_list_of_removed_repositories() {
    let trashed = [TrashedOverview {
        id: "0197a1b2-0000-7000-8000-0000000000aa".parse().unwrap(),
        repo: "work/app".parse().unwrap(),
        removed_at: Millis(5000),
        removed_by: "laptop".to_owned(),
        until: Millis(65_000),
        bytes: 3 << 20,
    }];
    insta::assert_snapshot!(printed(|out| print_trash(&trashed, out)));
    assert_eq!(printed(|out| print_trash(&[], out)), "the trash is empty\n");
}

#[test]
fn the_help_over_ssh() {
    let help = RemoteCli::command().render_help().to_string();
    insta::assert_snapshot!(help);
}

#[test]
fn the_greeting_over_ssh() {
    let caller = Caller {
        key: None,
        remote: true,
        reached: None,
    };
    insta::assert_snapshot!(printed(|out| greet(&caller, &KeyLimits::default(), out)));
}

#[test]
fn the_news_of_the_greeting() {
    let mut runs = runs();
    let news = News {
        failing: vec![runs.remove(1)],
        newest: runs,
    };
    insta::assert_snapshot!(printed(|out| print_news(Some(&news), out)));
    let nothing = News {
        failing: Vec::new(),
        newest: Vec::new(),
    };
    assert_eq!(printed(|out| print_news(Some(&nothing), out)), "");
    let unreadable = printed(|out| print_news(None, out));
    assert!(unreadable.contains("`status`"), "{unreadable}");
}

/// The exit code and the text of each error.
fn texts(errors: &[CommandError]) -> String {
    let texts: Vec<String> = errors
        .iter()
        .map(|error| format!("exit code {}\n{}", error.code, error.text()))
        .collect();
    texts.join("\n")
}

#[test]
fn messages_of_failed_commands() {
    let repo: RepoName = "work/app".parse().unwrap();
    let other: RepoName = "work/shop".parse().unwrap();
    let errors: Vec<CommandError> = vec![
        GitError::NoRepository(repo.clone()).into(),
        GitError::LooksLikeRunId(repo.clone()).into(),
        StoreError::NoSuchRun("0197".to_owned()).into(),
        StoreError::NotFinished {
            run: id(1).to_string(),
            state: RunState::Active,
        }
        .into(),
        StoreError::Newer {
            path: "/data/quire.db".into(),
            found: 9,
            known: 5,
            snapshot: None,
        }
        .into(),
        RenameError::Unknown(repo.clone()).into(),
        RenameError::Leftovers(repo.clone()).into(),
        RenameError::NotInTrash(repo.clone()).into(),
        RenameError::AmbiguousTrashId("01a1ffdd".parse().unwrap()).into(),
        RenameError::RemovalUnfinished(Box::new(RenameError::ActiveRuns(repo.clone()))).into(),
        RenameError::ActiveRuns(repo.clone()).into(),
        RenameError::Locked.into(),
        RenameError::Redirected {
            name: repo.clone(),
            repo: other,
        }
        .into(),
    ];
    insta::assert_snapshot!(texts(&errors));
}

#[test]
fn messages_of_rejected_operations() {
    let repo: RepoName = "work/app".parse().unwrap();
    let other: RepoName = "work/shop".parse().unwrap();
    let errors: Vec<CommandError> = vec![
        ForgeError::NoDatabase("/data".into()).into(),
        ForgeError::NoRepository {
            name: repo.clone(),
            closest: Some(other.clone()),
            is_in_trash: false,
            existing: vec![other],
        }
        .into(),
        ForgeError::NoRepository {
            name: repo.clone(),
            closest: None,
            is_in_trash: false,
            existing: Vec::new(),
        }
        .into(),
        ForgeError::NoRepository {
            name: repo.clone(),
            closest: None,
            is_in_trash: true,
            existing: Vec::new(),
        }
        .into(),
        ForgeError::NotConfirmed(repo.clone()).into(),
        ForgeError::DeletionNotConfirmed(repo.clone()).into(),
        ForgeError::RunsStillActive(repo.clone()).into(),
        ForgeError::NoDefaultBranch(repo.clone()).into(),
        ForgeError::NoRef {
            repo: repo.clone(),
            ref_name: "refs/heads/main".parse().unwrap(),
        }
        .into(),
        ForgeError::NoPipeline {
            repo: repo.clone(),
            commit: "1".repeat(40).parse().unwrap(),
        }
        .into(),
        ForgeError::NoCache {
            repo: repo.clone(),
            name: "cargo".to_owned(),
        }
        .into(),
        SessionError::CreateDisabled(repo.clone()).into(),
        SessionError::NoSpace {
            free: 1 << 20,
            needed: 64 << 20,
        }
        .into(),
        SessionError::FirstLine(std::io::ErrorKind::UnexpectedEof.into()).into(),
        SshCommandError::Unknown {
            command: "runs".to_owned(),
            closest: Some("run"),
        }
        .into(),
    ];
    insta::assert_snapshot!(texts(&errors));
}
