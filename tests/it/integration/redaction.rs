//! A secret's value reaches no disk, whatever it is made of and wherever a pipeline puts it.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use quire_run_files::logs::{DEFAULT_CAP_BYTES, RunLog, Stream};
use quire_runtime::changes::ChangeNotifier;
use quire_store::Store;
use quire_testkit::{TestForge, files_below};
use quire_types::clock::Clock;
use quire_types::names::RunId;
use quire_types::secret::{Redactor, Secret};
use serde_json::json;

use crate::QUIRE;

/// Values as people have them: long enough to be redacted, of any characters, some of several lines.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-zA-Z0-9_]{12,40}",
        2 => "[a-zA-Z0-9+/=!@#$%^&*()\"'`\\\\ <>|;~-]{12,40}",
        1 => "[a-zA-Z0-9äöüß€😀]{12,30}",
        1 => "[A-Z]{10,20}(\n[a-z0-9+/]{10,24}){1,3}",
    ]
    .prop_map(|value| format!("k{}k", value.trim()))
}

/// What must not be found of a value: itself, each of its lines, all but its last character, and base64
/// of it wherever it begins.
fn traces(value: &str) -> Vec<String> {
    let mut traces = vec![value.to_owned(), value[..value.len() - 1].to_owned()];
    traces.extend(
        value
            .lines()
            .filter(|line| line.chars().count() >= 8)
            .map(str::to_owned),
    );
    for before in 0..3 {
        let encoded = STANDARD.encode([&[b'x'; 2][..before], value.as_bytes()].concat());
        // A character at either end holds bits of its neighbours.
        traces.push(encoded[4..encoded.len() - 4].to_owned());
    }
    traces
}

#[track_caller]
fn nowhere(folder: &std::path::Path, values: &[String]) {
    for file in files_below(folder) {
        let bytes = fs::read(&file).unwrap();
        for value in values {
            for trace in traces(value) {
                let found = memchr::memmem::find(&bytes, trace.as_bytes());
                assert!(
                    found.is_none(),
                    "{} holds {trace:?} of {value:?}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn through_the_log_writer_however_it_is_cut() {
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        cases: 200,
        ..Config::default()
    });
    let around = "[a-z \n]{0,12}";
    let cases = (
        prop::collection::vec(value(), 1..4),
        prop::collection::vec((any::<prop::sample::Index>(), around, any::<bool>()), 1..6),
        prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    );
    runner
        .run(&cases, |(values, parts, cuts)| {
            let folder = tempfile::tempdir().unwrap();
            let secrets: Vec<Secret> = values.iter().cloned().map(Secret::new).collect();
            let redactor = Redactor::new(secrets.iter().map(|secret| ("N", secret)));
            let (clock, live) = (Clock::system(), ChangeNotifier::default());
            let log = RunLog::create(
                folder.path().join("run"),
                redactor,
                DEFAULT_CAP_BYTES,
                clock,
                live,
                RunId::new(),
            )
            .unwrap();
            let mut bytes = Vec::new();
            for (which, around, encoded) in &parts {
                let value = which.get(&values);
                bytes.extend_from_slice(around.as_bytes());
                bytes.extend_from_slice(
                    if *encoded {
                        STANDARD.encode(value)
                    } else {
                        value.clone()
                    }
                    .as_bytes(),
                );
                bytes.push(b'\n');
            }
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let mut step = log.step(&"test".parse().unwrap(), 1).unwrap();
            for cut in at.windows(2) {
                for stream in [Stream::Stdout, Stream::Stderr] {
                    step.write(stream, &bytes[cut[0]..cut[1]]);
                }
                step.idle();
            }
            step.line(Stream::Stderr, &String::from_utf8_lossy(&bytes));
            step.finish();
            nowhere(folder.path(), &values);
            prop_assert!(!files_below(folder.path()).is_empty());
            Ok(())
        })
        .unwrap();
}

/// A job that puts a secret wherever a pipeline can put text.
fn job(number: usize, block: usize) -> String {
    format!(
        r#"(ci.job :j{number} [:quire/push] {{:allow-failure true}}
  (fn [{{: sh : secret : log}}]
    (let [s (secret :s{number}) env {{:env {{:S s}}}}]
      (log s) (log (.. "x" s "y")) (log {{:deep [s]}}) (log (.. (string.rep "x" 65530) s))
      (sh [:echo (.. "pre" s "post")])
      (sh "printf 'around'; printf %s \"$S\" | dd bs={block} 2>/dev/null; printf 'x\\n'; printf %s \"$S\" >&2" env)
      (sh "for p in '' a ab; do printf %s \"$p$S\" | base64; printf %s \"$p$S\" | base64 -w0; echo; done" env)
      (local read (sh "printf %s \"$S\"" env))
      (local long (sh (.. "true '" (string.rep "x" 140) "' " (string.format "%q" s) "; exit 3") env))
      (if (= long.exit 0) (log :quoted))
      {{:out s :cut (.. s s s) s 1 :list [s {{:deeper read}}] :read read.stdout}})))
(ci.job :f{number} [:quire/push] {{:allow-failure true}}
  (fn [{{: secret}}] (error (.. "failed with " (secret :s{number}) "!"))))
(ci.job :g{number} [:quire/push] {{:allow-failure true}}
  (fn [{{: secret : sh}}] (sh [:sh :-c "exit 3" (string.rep "x" {cut}) (secret :s{number})])))
(ci.job :h{number} [:quire/push] {{:allow-failure true}}
  (fn [{{: secret : jobs}}] (jobs (.. (string.rep "x" 40) (secret :s{number})))))
(ci.job :i{number} [:quire/push] {{:allow-failure true}}
  (fn [{{: secret : sh}}] (sh :true {{:cwd (.. (string.rep "x" 40) "/../" (secret :s{number}))}})))
(ci.job :k{number} [:quire/push] {{:allow-failure true}}
  (fn [{{: secret}}] (. nil (secret :s{number}))))
"#,
        cut = 120 + block,
    )
}

#[test]
fn through_a_whole_run() {
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    let values: Vec<String> = (0..12)
        .map(|_| value().new_tree(&mut runner).unwrap().current())
        .collect();
    let mut forge = TestForge::new(QUIRE);
    let mut sources = String::new();
    for (number, value) in values.iter().enumerate() {
        let file = forge.file(&format!("secret-{number}"));
        fs::write(&file, value).unwrap();
        sources += &format!(":s{number} {{:file {:?}}} ", file.display().to_string());
    }
    fs::write(
        forge.paths.config_fennel(),
        format!("{{:secrets {{{sources}}}}}"),
    )
    .unwrap();
    forge.serve();
    let tree = forge.tree("app", "app");
    let jobs: String = (0..values.len())
        .map(|number| job(number, number % 5 + 1))
        .collect();
    tree.write(
        ".quire/ci.fnl",
        &format!("(local ci (require :quire.ci))\n{jobs}"),
    );
    tree.push_new("secrets");
    let run = forge.end_of(forge.newest("app").id);
    let log = forge.ssh_ok(&format!("run logs {}", run.id));
    // It did what it should: the names stand where the values were.
    let jobs = forge.jobs(run.id);
    for (number, value) in values.iter().enumerate() {
        let find = |id: String| jobs.iter().find(|job| job.job_id.as_str() == id).unwrap();
        let name = format!("{{{{ s{number} }}}}");
        assert_eq!(
            find(format!("j{number}"))
                .output
                .as_ref()
                .map(|output| &output["out"]),
            Some(&json!(name)),
            "{:?} {:?}",
            find(format!("j{number}")),
            value
        );
        assert!(
            find(format!("f{number}"))
                .message
                .as_ref()
                .unwrap()
                .contains(&format!("failed with {name}!"))
        );
        assert!(log.contains(&format!("x{name}y")), "{number}");
    }
    let pages = forge.get(&format!("/runs/{}", run.id)).body + &log;
    assert!(forge.stop().success());
    fs::write(forge.paths.data().join("pages"), pages).unwrap();
    fs::copy(
        forge.file("serve.log"),
        forge.paths.data().join("serve.log"),
    )
    .unwrap();
    nowhere(forge.paths.data(), &values);
    let store = Store::open_existing(&forge.paths.database(), Clock::system()).unwrap();
    assert!(store.runs().get(run.id).unwrap().is_some());
}
