//! The engine behind a proxy that cuts, stalls, refuses or is slow: runs wait and go on by
//! themselves, or end in words; and health says so while it answers at once.

use std::time::Duration;

use quire_testkit::{Tree, WAIT_TIMEOUT, wait_for, wait_until};
use quire_types::run::{FailureKind, Run, RunState};

use super::containers::{Contained, skipped};
use super::proxy::{Answer, Mode, Proxy, Request};
use super::settled_well;

pub(crate) const WELL: &str = r#"(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: sh}] (sh "echo all is well")))
"#;
pub(crate) const LONG: &str = r#"(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: sh}] (sh "echo begun; sleep 300")))
"#;

fn docker_is(contained: &Contained, status: &str) -> String {
    let part = wait_for(status, || {
        let health = contained.forge.get("/healthz");
        assert_eq!(health.status, 200, "{health:?}");
        Some(health.json()["parts"]["docker"].clone()).filter(|part| part["status"] == status)
    });
    part["message"].as_str().unwrap().to_owned()
}

/// A forge whose engine is behind a proxy, which lies in the folder.
pub(crate) fn behind_a_proxy() -> (tempfile::TempDir, Proxy, Contained) {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(folder.path());
    let contained = Contained::new(&proxy.endpoint());
    (folder, proxy, contained)
}

#[test]
fn runs_wait_for_an_engine_that_is_away_or_silent() {
    if skipped() {
        return;
    }
    let (_folder, proxy, mut contained) = behind_a_proxy();
    proxy.set(Mode::Cut);
    contained.forge.serve();
    let tree = contained.forge.tree_with("app", WELL);
    for mode in [Mode::Cut, Mode::Stall, Mode::Broken] {
        proxy.set(mode);
        tree.push_new("more");
        let run = contained.forge.newest("app");
        let waits = |run: &Run| {
            run.message
                .as_deref()
                .is_some_and(|message| message.starts_with("waits: "))
        };
        let run = wait_for("the reason", || {
            Some(contained.forge.run(run.id)).filter(waits)
        });
        assert_eq!(run.state, RunState::Pending, "{run:?}");
        assert!(docker_is(&contained, "degraded").starts_with("runs wait: "));
        assert!(
            contained
                .forge
                .get(&format!("/runs/{}", run.id))
                .body
                .contains("waits: ")
        );
        assert_eq!(contained.forge.health()["status"], "degraded");
        proxy.set(Mode::Through);
        let run = contained.forge.end_of(run.id);
        assert_eq!((run.state, run.message), (RunState::Complete, None));
        docker_is(&contained, "ok");
    }
    settled_well(&contained.forge);
    contained.nothing_left();
}

/// The newest run, once its command has begun.
pub(crate) fn begun(contained: &Contained) -> Run {
    let run = contained.forge.newest("app");
    let log = contained.forge.run_folder(&run).join("jobs/test/1.log");
    wait_for("the command", || {
        std::fs::read_to_string(&log)
            .ok()
            .filter(|log| log.contains("begun"))
    });
    run
}

#[test]
fn an_engine_that_goes_away_under_a_run() {
    if skipped() {
        return;
    }
    let (_folder, proxy, mut contained) = behind_a_proxy();
    contained.forge.serve();
    let tree = contained.forge.tree_with("app", LONG);
    tree.push(&["main"]);
    let run = begun(&contained);
    proxy.set(Mode::Cut);
    contained
        .forge
        .wait_for_log("cannot end the run's commands yet");
    // It is not known whether its container has ended, so the run is not ended.
    assert_eq!(contained.forge.run(run.id).state, RunState::Active);
    assert_eq!(contained.containers().len(), 1);
    docker_is(&contained, "degraded");
    proxy.set(Mode::Through);
    let run = contained.forge.end_of(run.id);
    assert_eq!(
        (run.state, run.failure_kind),
        (RunState::Failed, Some(FailureKind::DockerUnavailable)),
        "{run:?}"
    );
    contained.nothing_left();

    // Told to stop while the engine is silent: it does not wait for it, and the next start puts it right.
    tree.push_new("second");
    let run = begun(&contained);
    proxy.set(Mode::Stall);
    contained.forge.signal(nix::sys::signal::Signal::SIGTERM);
    let server = contained.forge.pid();
    // `quire init` gives 8 s before it kills; a busy machine gets a little more.
    let gone = wait_until(Duration::from_secs(12), || {
        let stat = std::fs::read_to_string(format!("/proc/{server}/stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_none_or(|(_, rest)| rest.starts_with('Z'))
            .then_some(())
    });
    assert!(gone.is_some(), "{}", contained.forge.log());
    assert!(contained.forge.ended().success());
    assert_eq!(contained.containers().len(), 1);
    assert_eq!(contained.forge.run(run.id).state, RunState::Active);
    proxy.set(Mode::Through);
    contained.forge.serve();
    let run = contained.forge.end_of(run.id);
    assert_eq!(
        (run.state, run.failure_kind),
        (RunState::Failed, Some(FailureKind::Orphaned)),
        "{run:?}"
    );
    let again = wait_until(WAIT_TIMEOUT, || {
        contained
            .forge
            .runs()
            .into_iter()
            .find(|other| other.retry_of == Some(run.id))
    })
    .unwrap();
    contained
        .forge
        .store()
        .runs()
        .request_cancel(again.id)
        .unwrap();
    contained.forge.ssh_ok("run list");
    contained.forge.wait_for_quiet();
    contained.forge.check_whole();
    contained.nothing_left();
}

#[test]
fn an_engine_that_breaks_under_a_run_or_drops_its_stream() {
    if skipped() {
        return;
    }
    let (_folder, proxy, mut contained) = behind_a_proxy();
    contained.forge.serve();
    let tree = contained.forge.tree_with("app", LONG);
    // It answers 500 to everything, until it is repaired.
    tree.push(&["main"]);
    let run = begun(&contained);
    proxy.set(Mode::Broken);
    let log = quire_types::paths::Paths::run_log(&contained.forge.run_folder(&run));
    wait_for("the words", || {
        std::fs::read_to_string(&log)
            .ok()
            .filter(|log| log.contains("the engine is out of order"))
    });
    assert_eq!(contained.forge.run(run.id).state, RunState::Active);
    docker_is(&contained, "degraded");
    proxy.set(Mode::Through);
    ended_in_words(&contained, &run);
    // Nothing is wrong with it but that the connection to the container ends, and the container with it.
    tree.push_new("second");
    let run = begun(&contained);
    proxy.cut_what_is_open();
    let run = contained.forge.end_of(run.id);
    assert_eq!(
        (run.state, run.failure_kind, run.message.as_deref()),
        (
            RunState::Failed,
            Some(FailureKind::DockerUnavailable),
            Some(
                "the Docker engine failed to run the command: it closed the connection to the container; retry the run"
            )
        )
    );
    // And it goes on.
    tree.write(".quire/ci.fnl", WELL);
    tree.push_new("third");
    assert_eq!(
        contained
            .forge
            .end_of(contained.forge.newest("app").id)
            .state,
        RunState::Complete
    );
    settled_well(&contained.forge);
    contained.nothing_left();
}

#[track_caller]
fn ended_in_words(contained: &Contained, run: &Run) {
    let run = contained.forge.end_of(run.id);
    assert_eq!(
        (run.state, run.failure_kind),
        (RunState::Failed, Some(FailureKind::DockerUnavailable)),
        "{run:?}"
    );
    assert!(
        run.message
            .as_deref()
            .is_some_and(|message| message.contains("the engine is out of order")),
        "{run:?}"
    );
    contained.nothing_left();
}

#[test]
fn an_engine_whose_every_answer_takes_five_seconds() {
    if skipped() {
        return;
    }
    let (_folder, proxy, mut contained) = behind_a_proxy();
    proxy.set(Mode::Slow(Duration::from_secs(5)));
    contained.forge.serve();
    contained.forge.tree_with("app", WELL).push(&["main"]);
    let run = contained.forge.newest("app");
    assert_eq!(contained.forge.get("/healthz").status, 200);
    let ended = wait_until(WAIT_TIMEOUT * 3, || {
        Some(contained.forge.run(run.id)).filter(|run| run.state.is_final())
    });
    assert_eq!(
        ended.map(|run| run.state),
        Some(RunState::Complete),
        "{}",
        contained.forge.log()
    );
    proxy.set(Mode::Through);
    settled_well(&contained.forge);
    contained.nothing_left();
}

/// What a run asks of the engine, in this order.
const MAKE: Request = ("POST", "/containers/create");
const ATTACH: Request = ("/containers/", "/attach");
const START: Request = ("/containers/", "/start");
const KILL: Request = ("/containers/", "/kill");
const REMOVE: Request = ("DELETE", "/containers/");
/// The image of the run.
const IMAGE: Request = ("GET", "/images/");

/// Pushes while these requests are answered so; the run has to end as the engine's fault, its container gone. Gives its message.
#[track_caller]
fn is_the_engines_fault(
    contained: &Contained,
    proxy: &Proxy,
    tree: &Tree,
    request: Request,
    answer: Answer,
) -> String {
    proxy.set(Mode::Wrong(request, answer));
    tree.push_new("more");
    let run = contained.forge.end_of(contained.forge.newest("app").id);
    // At the very moment at which it says that it has ended.
    assert_eq!(
        contained.count(&["ps", "--all"]),
        0,
        "{request:?} {answer:?}: {run:?}"
    );
    assert_eq!(
        run.failure_kind,
        Some(FailureKind::DockerUnavailable),
        "{request:?} {answer:?}: {run:?}"
    );
    proxy.set(Mode::Through);
    run.message.unwrap()
}

#[test]
fn an_engine_that_answers_500_to_one_kind_of_request() {
    if skipped() {
        return;
    }
    let (_folder, proxy, mut contained) = behind_a_proxy();
    contained.forge.serve();
    let tree = contained.forge.tree_with("app", WELL);
    // The first container of all brings the helper.
    let message = is_the_engines_fault(&contained, &proxy, &tree, MAKE, Answer::Refused);
    assert_eq!(
        message,
        "the Docker engine failed to put quire's helper onto the engine: the engine is out of order"
    );
    tree.push_new("the helper");
    let run = contained.forge.newest("app");
    assert_eq!(contained.forge.end_of(run.id).state, RunState::Complete);
    for request in [MAKE, ATTACH, START] {
        let message = is_the_engines_fault(&contained, &proxy, &tree, request, Answer::Refused);
        assert_eq!(
            message, "the Docker engine failed to start the container: the engine is out of order",
            "{request:?}"
        );
    }
    // What it does not kill or remove is no fault of the run's. The run has not ended before its container has.
    for (request, state) in [(KILL, RunState::Active), (REMOVE, RunState::Complete)] {
        proxy.set(Mode::Wrong(request, Answer::Refused));
        let before = proxy.wronged();
        tree.push_new("the end");
        let run = contained.forge.newest("app");
        wait_for("some tries", || {
            (proxy.wronged() > before + 2).then_some(())
        });
        assert_eq!(
            (
                contained.forge.run(run.id).state,
                contained.containers().len()
            ),
            (state, 1),
            "{request:?}"
        );
        proxy.set(Mode::Through);
        assert_eq!(contained.forge.end_of(run.id).state, RunState::Complete);
        contained.nothing_left();
    }
    contained.forge.wait_for_quiet();
    contained.forge.check_whole();
}

#[test]
fn an_engine_whose_answers_are_cut_hang_or_never_end() {
    if skipped() {
        return;
    }
    let (_folder, proxy, mut contained) = behind_a_proxy();
    contained.forge.serve();
    let tree = contained.forge.tree_with("app", WELL);
    for request in [MAKE, IMAGE] {
        let message = is_the_engines_fault(&contained, &proxy, &tree, request, Answer::Truncated);
        assert!(
            message.contains("the engine sent a response that quire cannot read"),
            "{request:?}: {message}"
        );
    }
    for answer in [Answer::Hanging, Answer::Endless] {
        let message = is_the_engines_fault(&contained, &proxy, &tree, IMAGE, answer);
        assert!(
            message.contains(
                "the engine did not respond within 30 s while quire tried to inspect the image"
            ),
            "{answer:?}: {message}"
        );
    }
    tree.push_new("as ever");
    assert_eq!(
        contained
            .forge
            .end_of(contained.forge.newest("app").id)
            .state,
        RunState::Complete
    );
    contained.nothing_left();
    contained.forge.check_whole();
}
