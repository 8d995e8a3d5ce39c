//! Images that come from a real registry: progress in the run's log, refusals in the registry's words, and a
//! registry that is cut off, silent, damaged or asked by two at once.

use quire_testkit::{TestForge, Tree, wait_for};
use quire_types::run::{FailureKind, Run, RunState};

use super::containers::{Contained, endpoint, skipped};
use super::registry::{IN_A_LAYER, Line, Registry};
use super::settled_well;

fn pipeline(image: &str) -> String {
    format!(
        r#"(local ci (require :quire.ci))
(ci.image "{image}")
(ci.job :test [:quire/push] (fn [{{: sh}}] (sh "echo all is well")))
"#
    )
}

/// A server on the machine's engine, running.
fn contained() -> Contained {
    let mut contained = Contained::new(&endpoint());
    contained.forge.serve();
    contained
}

fn push(forge: &TestForge, repo: &str, image: &str) -> (Tree, Run) {
    let tree = forge.tree_with(repo, &pipeline(image));
    tree.push(&["main"]);
    let run = forge.newest(repo);
    (tree, run)
}

fn log(forge: &TestForge, run: &Run) -> String {
    forge.ssh_ok(&format!("run logs {}", run.id))
}

/// Waits until the layer is on its way.
#[track_caller]
fn downloading(forge: &TestForge, run: &Run) {
    wait_for("the download", || {
        log(forge, run).contains("of 1 layers, ").then_some(())
    });
}

#[test]
fn a_missing_image_is_pulled_once_with_progress() {
    if skipped() {
        return;
    }
    let (registry, contained) = (Registry::start().fill(), contained());
    let forge = &contained.forge;
    // Both runs wait for the same layer before either has it.
    registry.set(Line::Silent(IN_A_LAYER));
    let (tree, one) = push(forge, "one", &registry.image());
    downloading(forge, &one);
    let (_, two) = push(forge, "two", &registry.image());
    downloading(forge, &two);
    registry.set(Line::Whole);
    for run in [&one, &two] {
        let ended = forge.end_of(run.id);
        let log = log(forge, run);
        assert_eq!(ended.state, RunState::Complete, "{ended:?}\n{log}");
        for words in [
            &format!("quire: pulling {}", registry.image()),
            " MB downloaded",
            "Status: ",
            "all is well",
        ] {
            assert!(log.contains(words), "{words}: {log}");
        }
    }
    assert_eq!(
        registry.layers_given(),
        1,
        "the layer came over the wire twice"
    );
    // What is there is not asked for again.
    tree.push_new("again");
    let run = forge.end_of(forge.newest("one").id);
    assert!(
        run.state == RunState::Complete && !log(forge, &run).contains("pulling"),
        "{run:?}"
    );
    settled_well(forge);
    contained.nothing_left();
}

#[test]
fn an_image_that_cannot_be_had_fails_its_run_in_the_registrys_words() {
    if skipped() {
        return;
    }
    let (registry, private, contained) =
        (Registry::start().fill(), Registry::private(), contained());
    let forge = &contained.forge;
    let fails = |repo: &str, image: &str, words: &[&str]| {
        let run = forge.end_of(push(forge, repo, image).1.id);
        let message = run.message.clone().unwrap_or_default();
        assert_eq!(
            (run.state, run.failure_kind),
            (RunState::Failed, Some(FailureKind::Image)),
            "{run:?}"
        );
        assert!(
            message.starts_with(&format!("the image {image} cannot be pulled: ")),
            "{message}"
        );
        assert!(
            words.iter().any(|words| message.contains(words)),
            "{message}"
        );
        assert!(log(forge, &run).contains(&message), "{}", log(forge, &run));
    };
    fails(
        "tag",
        &registry.name("quire-test:none"),
        &["manifest unknown"],
    );
    fails(
        "name",
        &registry.name("no/such:1"),
        &["manifest unknown", "name unknown"],
    );
    fails("private", &private.image(), &["no basic auth credentials"]);
    registry.damage();
    fails("damaged", &registry.image(), &["verification failed"]);
    registry.lose();
    fails("lost", &registry.image(), &["unknown blob", "blob unknown"]);
    registry.set(Line::Cut(0));
    fails("away", &registry.image(), &["EOF", "connection reset"]);
    contained.nothing_left();
}

#[test]
fn a_silent_registry_costs_one_run_its_time_limit_and_no_other() {
    if skipped() {
        return;
    }
    let registry = Registry::start().fill();
    let mut contained = Contained::new(&endpoint());
    contained.forge.set("QUIRE_CI_TIMEOUT", "6s").serve();
    let forge = &contained.forge;
    let mut runs = Vec::new();
    // Before its first word, and in the middle of a layer.
    for (repo, silent_after) in [("mute", 0), ("stuck", IN_A_LAYER)] {
        registry.set(Line::Silent(silent_after));
        let run = forge.end_of(push(forge, repo, &registry.image()).1.id);
        assert_eq!(
            (run.state, run.failure_kind),
            (RunState::Failed, Some(FailureKind::Timeout)),
            "{run:?}"
        );
        assert_eq!(
            run.message.as_deref(),
            Some("the run timed out after 6s, before its image and container were ready")
        );
        assert!(
            log(forge, &run).contains("quire: pulling "),
            "{}",
            log(forge, &run)
        );
        runs.push(run);
    }
    // It speaks again: the engine has not kept what was given up.
    registry.set(Line::Whole);
    contained.forge.stop();
    contained.forge.unset("QUIRE_CI_TIMEOUT").serve();
    for run in runs {
        contained.forge.ssh_ok(&format!("run retry {}", run.id));
        let again = contained.forge.newest(run.repo.as_str());
        let again = contained.forge.end_of(again.id);
        assert_eq!(
            again.state,
            RunState::Complete,
            "{again:?}\n{}",
            log(&contained.forge, &again)
        );
    }
    contained.nothing_left();
}

#[test]
fn a_registry_that_is_gone_for_a_while_is_asked_again() {
    if skipped() {
        return;
    }
    let (registry, contained) = (Registry::start().fill(), contained());
    let forge = &contained.forge;
    registry.set(Line::Cut(IN_A_LAYER));
    let (_, run) = push(forge, "app", &registry.image());
    // The engine tries a few times by itself; whoever follows the log sees why nothing moves.
    wait_for("the retry", || {
        log(forge, &run).contains("Retrying in ").then_some(())
    });
    registry.set(Line::Whole);
    let run = forge.end_of(run.id);
    assert_eq!(
        run.state,
        RunState::Complete,
        "{run:?}\n{}",
        log(forge, &run)
    );
    contained.nothing_left();
}

#[test]
fn the_server_killed_while_it_pulls() {
    if skipped() {
        return;
    }
    let (registry, mut contained) = (Registry::start().fill(), contained());
    registry.set(Line::Silent(IN_A_LAYER));
    let (_, run) = push(&contained.forge, "app", &registry.image());
    downloading(&contained.forge, &run);
    contained.forge.kill();
    contained.forge.serve();
    // Its second try meets the engine as the first one left it.
    let again = wait_for("the second try", || {
        contained
            .forge
            .runs()
            .into_iter()
            .find(|again| again.retry_of == Some(run.id))
    });
    wait_for("its pull", || {
        log(&contained.forge, &again)
            .contains("quire: pulling ")
            .then_some(())
    });
    registry.set(Line::Whole);
    settled_well(&contained.forge);
    let runs = contained.forge.runs();
    let kinds: Vec<_> = runs
        .iter()
        .map(|run| (run.state, run.failure_kind))
        .collect();
    assert_eq!(
        kinds,
        [
            (RunState::Failed, Some(FailureKind::Orphaned)),
            (RunState::Complete, None)
        ]
    );
    contained.nothing_left();
}
