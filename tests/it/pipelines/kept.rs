//! `quire ci run`: artifacts, caches and services, as the author sees them.

use quire_executor::engine::{Engine, Labels, Timeouts};
use quire_testkit::skipped;

use super::run::{Project, finished};

#[test]
fn artifacts_go_with_the_run_or_into_a_folder() {
    let project = Project::new(
        r#"(ci.job :a [:quire/push] (fn [{: sh : artifact}]
           (sh "mkdir -p out/sub; echo one >out/one; echo two >out/sub/two")
           (artifact "out/one")
           (artifact "out" {:name "all"})))"#,
    );
    let run = project.ci(&["run", "--executor", "host"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(
        run.stderr,
        "quire: 2 artifacts removed with the run; use --artifacts DIR to keep artifacts\n"
    );
    project.nothing_is_left();
    let kept = project.root().join("kept");
    let run = project.ci(&["run", "--executor", "host", "--artifacts", "kept"]);
    assert_eq!(
        (run.code, run.stderr),
        (0, format!("quire: 2 artifacts in {}\n", kept.display())),
        "{}",
        run.stdout
    );
    assert_eq!(
        std::fs::read_to_string(kept.join("out/one")).unwrap(),
        "one\n"
    );
    assert_eq!(
        std::fs::read_to_string(kept.join("all/sub/two")).unwrap(),
        "two\n"
    );
    let mut names: Vec<_> = std::fs::read_dir(&kept)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["all", "out"]);
    // Nothing of the author's is ever replaced.
    let run = project.ci(&["run", "--executor", "host", "--artifacts", "kept"]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(run.stderr.contains("is not empty"), "{}", run.stderr);
}

#[test]
fn a_cache_of_the_host_lies_in_the_authors_own() {
    let project = Project::new(
        r#"(ci.cache :build "target")
         (ci.job :a [:quire/push] (fn [{: sh}] (sh "cat target/kept 2>/dev/null || echo nothing; echo before >target/kept")))"#,
    );
    let caches = project.root().parent().unwrap().join("caches");
    let run = || {
        finished(
            project
                .command(&["run", "--executor", "host"])
                .env("XDG_CACHE_HOME", &caches),
        )
    };
    let (first, second) = (run(), run());
    assert!(
        first.stdout.contains("nothing\n"),
        "{}{}",
        first.stdout,
        first.stderr
    );
    assert!(
        second.stdout.contains("before\n"),
        "{}{}",
        second.stdout,
        second.stderr
    );
    assert!(!project.root().join("target").exists());
    project.nothing_is_left();
}

/// Greets whoever connects.
const SERVER: &str = "$s = IO::Socket::INET->new(Listen => 5, LocalPort => 5432) or die; while ($c = $s->accept) { print $c qq(hello\\\\n); close $c }";

#[test]
fn a_service_and_a_cache_in_containers() {
    if skipped("docker") {
        return;
    }
    let image = "debian:trixie-slim";
    let project = Project::new(&format!(
        r#"(ci.image {image:?})
         (ci.cache :build "target")
         (ci.service :db {{:image {image:?} :command ["perl" "-MIO::Socket::INET" "-e" "{SERVER}"]
                           :ready ["bash" "-c" "exec 3<>/dev/tcp/127.0.0.1/5432"]}})
         (ci.job :a [:quire/push] (fn [{{: sh : read-file : write-file : artifact}}]
           (sh ["bash" "-c" "exec 3<>/dev/tcp/db/5432; cat <&3 >answer; cat target/kept 2>/dev/null || echo nothing; echo before >target/kept"])
           (sh ["echo" "the service says" (read-file "answer")])
           (write-file "deep/file" "written")
           (artifact "deep")))"#
    ));
    let run = || project.ci(&["run", "--executor", "docker"]);
    let (first, second) = (run(), run());
    assert_eq!(
        (first.code, second.code),
        (0, 0),
        "{}{}{}",
        first.stdout,
        first.stderr,
        second.stdout
    );
    assert!(
        first.stdout.contains("the service says hello") && first.stdout.contains("nothing\n"),
        "{}",
        first.stdout
    );
    assert!(second.stdout.contains("before\n"), "{}", second.stdout);
    assert!(
        first.stdout.contains("waiting for db to be ready"),
        "{}",
        first.stdout
    );
    // On the host it does not start, and says why.
    let host = project.ci(&["run", "--executor", "host"]);
    assert_eq!(host.code, 1);
    assert!(
        host.stdout
            .contains("services need containers: run this pipeline with the docker executor"),
        "{}",
        host.stdout
    );
    project.nothing_is_left();

    // The cache stays, marked as this folder's; nothing else does.
    let endpoint =
        std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let engine = Engine::new(&endpoint, Timeouts::default());
        let repo = vec![
            ("io.quire.repo".to_owned(), "project".to_owned()),
            ("io.quire.cache".to_owned(), "build".to_owned()),
        ];
        let volumes = engine.volumes(&repo).await.unwrap();
        // Another test's folder may have the same name.
        let mut own: Vec<(String, Labels)> = Vec::new();
        for volume in volumes {
            own.push((volume.name, volume.labels));
        }
        assert!(!own.is_empty());
        for (name, labels) in own {
            let instance: Labels = labels
                .into_iter()
                .filter(|(key, _)| key == "io.quire.instance")
                .collect();
            assert_eq!(
                engine.containers(&instance).await.unwrap().len()
                    + engine.networks(&instance).await.unwrap().len(),
                0
            );
            engine.remove_volume(&name).await.unwrap();
        }
    });
}
