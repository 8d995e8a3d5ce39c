//! What a pipeline compiled to is kept for its next run, and for no other pipeline.

use std::path::Path;

use quire_pipeline::Registration;
use quire_pipeline::driver::protocol::PipelineSource;
use quire_pipeline::driver::{CompiledCache, DriverHandle};

use super::support::*;

/// Its job's name is another one each time it is compiled.
const DICE: &str = "(local ci (require :quire.ci))\n(macro dice [] (.. :j (math.random 1000000000)))\n(ci.job (dice) [:quire/push] #1)";

async fn registered(
    program: &Path,
    source: &PipelineSource,
    cache: &CompiledCache,
) -> Registration {
    let mut driver = DriverHandle::spawn(program)
        .unwrap()
        .with_cache(cache.clone());
    driver.register(source.clone()).await.unwrap()
}

async fn job(source: &PipelineSource, cache: &CompiledCache) -> String {
    registered(&program(), source, cache).await.jobs[0]
        .id
        .clone()
}

#[tokio::test]
async fn the_same_text_is_compiled_once() {
    let cache = CompiledCache::default();
    let first = job(&fennel(DICE), &cache).await;
    assert_eq!(job(&fennel(DICE), &cache).await, first);
    assert_ne!(
        job(&fennel(DICE), &CompiledCache::default()).await,
        first,
        "each compilation throws its own dice"
    );
    let changed = fennel(&format!("{DICE} ; changed"));
    assert_ne!(job(&changed, &cache).await, first);
    let beside = PipelineSource {
        helpers: vec![(".quire/h.fnl".to_owned(), "1".to_owned())],
        ..fennel(DICE)
    };
    assert_ne!(
        job(&beside, &cache).await,
        first,
        "a macro might come out of any file beside it"
    );
}

#[tokio::test]
async fn helpers_and_faults_are_the_same_from_the_cache() {
    let cache = CompiledCache::default();
    let text = "(local ci (require :quire.ci))\n(local h (require :h))\n(ci.job (h.name) [:quire/push] (fn []\n  (error :no)))";
    let helper = "(macro dice [] (.. :h (math.random 1000000000)))\n{:name #(dice)}";
    let source = PipelineSource {
        helpers: vec![(".quire/h.fnl".to_owned(), helper.to_owned())],
        ..fennel(text)
    };
    let mut seen = Vec::new();
    for _ in 0..2 {
        let mut driver = DriverHandle::spawn(&program())
            .unwrap()
            .with_cache(cache.clone());
        let registration = driver.register(source.clone()).await.unwrap();
        let id = registration.jobs[0].id.clone();
        let mut session = Session {
            driver,
            registration,
        };
        let story = session.run(&[&id], &serde_json::json!({}), usual).await;
        seen.push((
            id.clone(),
            story.end(&id),
            session.registration.jobs[0].location.clone(),
        ));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].1, "4:3: no");
}

/// A driver that says what it likes.
fn liar(lines: &[String]) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("driver");
    std::fs::write(
        &path,
        format!(
            "#!/bin/sh\nread -r x\ncat <<'END'\n{}\nEND\n",
            lines.join("\n")
        ),
    )
    .unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    (folder, path)
}

#[tokio::test]
async fn a_driver_that_lies_deceives_only_runs_of_its_own_text() {
    let cache = CompiledCache::default();
    let honest = fennel("(local ci (require :quire.ci))\n(ci.job :honest [:quire/push] #1)");
    let mean = fennel("(local ci (require :quire.ci))\n(ci.job :mean [:quire/push] #1)");
    let forged = "local ci = require('quire.ci') ci.job('forged', {'quire/push'}, function() end)";
    let registration = serde_json::to_value(
        quire_pipeline::driver::protocol::FromDriver::Registered(Registration::default()),
    )
    .unwrap()
    .to_string();
    let lie = serde_json::json!({"say": "compiled", "files": [[".quire/ci.fnl", forged], [".quire/h.fnl", forged]]}).to_string();
    let (_folder, path) = liar(&[lie.clone(), registration.clone()]);
    registered(&path, &mean, &cache).await;
    assert_eq!(job(&mean, &cache).await, "forged");
    assert_eq!(job(&honest, &cache).await, "honest");
    // Nor is anything taken that comes twice, or from one that registers nothing.
    for lines in [vec![lie.clone(), lie.clone(), registration], vec![lie]] {
        let (_folder, path) = liar(&lines);
        let cache = CompiledCache::default();
        let mut driver = DriverHandle::spawn(&path)
            .unwrap()
            .with_cache(cache.clone());
        driver.register(mean.clone()).await.unwrap_err();
        assert_eq!(job(&mean, &cache).await, "mean");
    }
}
