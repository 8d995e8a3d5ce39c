//! `quire ci check`: the graph, or every error with its line.

use serde_json::json;

use super::support::*;

const GOOD: &str = r#"(local ci (require :quire.ci))

(ci.image "rust:1.95")
(ci.env {:CARGO_TERM_COLOR :always})
(ci.timeout "30m")

(ci.job :test [:quire/push :quire/manual]
  (fn [{: sh}]
    (sh ["cargo" "test"])))

(ci.job :package [:test] {:timeout "10m" :allow-failure true :retry 2}
  (fn [{: sh}] (sh "make")))
"#;

#[test]
fn a_good_pipeline_is_shown_as_a_graph() {
    let text = check(&[(".quire/ci.fnl", GOOD)], &[]);
    assert_eq!(text.code, 0);
    assert_eq!(
        text.stdout.as_str(),
        ".quire/ci.fnl: 2 jobs\n  test     ← quire/push, quire/manual\n  package  ← test  (at most 10m, may fail, tried up to 3 times)\n\
             sources: quire/push, quire/manual\nimage: rust:1.95\ntime limit: 30m\n"
    );
    assert_eq!(text.stderr.as_str(), "");
    let dot = check(&[(".quire/ci.fnl", GOOD)], &["--format", "dot"]);
    assert!(
        dot.stdout.contains("  \"test\" -> \"package\";\n")
            && dot.stdout.contains("\"quire/push\" -> \"test\""),
        "{}",
        dot.stdout
    );
    let found: serde_json::Value =
        serde_json::from_str(&check(&[(".quire/ci.fnl", GOOD)], &["--format", "json"]).stdout)
            .unwrap();
    assert_eq!(
        found["jobs"][1],
        json!({"id": "package", "inputs": ["test"], "timeout_ms": 600_000, "allow_failure": true, "retry": 2, "env": {}, "file": ".quire/ci.fnl", "line": 11})
    );
    assert_eq!(found["image"], json!("rust:1.95"));
    assert_eq!(found["timeout_ms"], json!(1_800_000));
    assert_eq!(found["sources"], json!(["quire/push", "quire/manual"]));
}

#[test]
fn it_works_from_a_folder_within_and_in_lua() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join(".quire")).unwrap();
    std::fs::create_dir_all(folder.path().join("src/deep")).unwrap();
    std::fs::write(
        folder.path().join(".quire/ci.lua"),
        "require('quire.ci').job('a', {'quire/push'}, function() end)",
    )
    .unwrap();
    std::fs::write(folder.path().join(".quire/Dockerfile"), "FROM scratch").unwrap();
    let checked = check_in(&folder.path().join("src/deep"), &[]);
    assert_eq!(
        (checked.code, checked.stdout.as_str()),
        (
            0,
            ".quire/ci.lua: 1 job\n  a  ← quire/push\nsources: quire/push\nimage: built from .quire/Dockerfile\n"
        )
    );
}

#[test]
fn an_error_shows_its_line() {
    let checked = check(
        &[(
            ".quire/ci.fnl",
            "(local ci (require :quire.ci))\n(ci.job :test [:quire/push] (fn [] nil))\n(ci.job :package\n  [:quire/manual\n   :tset] (fn [] nil))\n",
        )],
        &[],
    );
    assert_eq!(checked.code, 1);
    assert_eq!(checked.stdout, "");
    for part in [
        "job `package` waits for `tset`, which is not a job",
        ".quire/ci.fnl:5:4",
        "   :tset] (fn [] nil))",
        "did you mean :test?",
        "1 error in the pipeline",
    ] {
        assert!(checked.stderr.contains(part), "{part}\n{}", checked.stderr);
    }
}

#[test]
fn every_problem_is_reported_at_once() {
    let text = r#"(local ci (require :quire.ci))
(ci.image "a:1")
(ci.image "b:1")
(ci.job :a [:b] (fn [] nil))
(ci.job :b [:a] (fn [] nil))
(ci.job :c [:c] (fn [] nil))
(ci.job "d/e" [:quire/push] (fn [] nil))
(ci.job :f [] (fn [] nil))
(ci.job :g [:c] (fn [] nil))
(ci.job :h [:quire/push] 4)
(ci.job :i :quire/push (fn [] nil))
(ci.job :j [:quire/push] {:timout 3} (fn [] nil))
(ci.job :k [:quire/push] {:timeout "ten"} (fn [] nil))
(ci.job :l [:quire/push] {:retry 99} (fn [] nil))
(ci.job 7 [:quire/push] (fn [] nil))
(ci.job :m [:quire/push :quire/pushy 5] (fn [] nil))
(ci.job :n [:quire/push] (fn [] nil))
(ci.job :n [:quire/push] (fn [] nil))
(ci.env {"A=B" 1})
(ci.timeout 30)
"#;
    assert_eq!(
        errors(text),
        [
            "3: `ci.image` is called twice: with `b:1` here, and at line 2 (a pipeline has one image: keep one of them)",
            "4: the jobs form a cycle: `a` → `b` → `a` (remove one of these inputs (each job waits for the one after it))",
            "6: job `c` waits for itself (remove it from its own inputs)",
            "7: `d/e` is not a job id: `/` is reserved for sources such as `quire/push` (call it `d-e`)",
            "8: job `f` has no inputs, so it would never start (add what starts it, such as [:quire/push])",
            "9: job `g` can never start: it does not depend on any source (make `c`, or a job before it, wait for a source such as :quire/push)",
            "10: job `h` has no function: its last argument is the number 4 (write it like (ci.job :test [:quire/push] (fn [{: sh}] …)))",
            "11: the inputs of job `i` must be a list, not the text `quire/push` (write [:quire/push])",
            "12: job `j` has an unknown option :timout (did you mean :timeout?)",
            "13: the :timeout of job `k`: `ten` is not a valid duration: write it like 90s, 10m or 1h30m",
            "14: the :retry of job `l` must be a whole number from 0 to 10, not the number 99",
            "15: a job's id must be text, not the number 7 (write it like (ci.job :test [:quire/push] (fn [{: sh}] …)))",
            "16: input 3 of job `m` must be the name of a job or source, not the number 5",
            "16: job `m` waits for `quire/pushy`, which is not a source (did you mean :quire/push?)",
            "18: job `n` is registered twice: here and at line 17 (give one of them another id)",
            "19: `ci.env`: `A=B` is not a valid variable name",
            r#"20: the argument of `ci.timeout` must be a duration, not the number 30 (write it like (ci.timeout "30m"))"#,
        ]
    );
}

#[test]
fn a_file_that_does_not_compile_or_fails_says_where() {
    for (text, expected) in [
        (
            "(local ci (require :quire.ci))\n(ci.job :a [:quire/push] (fn [] (sh 1)))",
            "2: the file does not compile: unknown identifier: sh (bind `sh` first, or look for a typo; a job's tools are destructured in its parameters: (fn [{: sh}] …))",
        ),
        ("\n(ci.job", "2: the file cannot be parsed: "),
        (
            "(let [x] 1)",
            "1: the file does not compile: expected even number of name/value bindings (try finding where the identifier or value is missing)",
        ),
        (
            "(print 1)",
            "1: the file does not compile: unknown identifier: print (a job writes to its log with `log`)",
        ),
        (
            "(local ci (require :quire.ci))\n(ci.jbo :a)",
            "2: quire.ci has no `jbo`: did you mean `job`?",
        ),
        (
            "(local ci (require :quire.ci))\n(local {: job : imgae} ci)",
            "2: quire.ci has no `imgae`: did you mean `image`?",
        ),
        (
            "(require :qire.ci)",
            "1: there is no module `qire.ci`: a helper is a file beside the pipeline, such as .quire/qire/ci.fnl; did you mean :quire.ci?",
        ),
        (
            "(local x {})\n\n(error x.y.z)",
            "3: attempt to index a nil value (field 'y')",
        ),
        (
            "",
            r#"1: the pipeline registers no jobs (register one: (ci.job :test [:quire/push] (fn [{: sh}] (sh "make test"))))"#,
        ),
    ] {
        let found = errors(text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(expected), "{text}\n{}", found[0]);
    }
}

#[test]
fn what_is_not_a_pipeline_is_one_sentence() {
    let none = check(&[("README", "")], &[]);
    assert!(
        none.code == 1
            && none.stderr.starts_with(
                "quire: no pipeline found: there is no .quire/ci.fnl or .quire/ci.lua in "
            ),
        "{}",
        none.stderr
    );
    let both = check(&[(".quire/ci.fnl", GOOD), (".quire/ci.lua", "")], &[]);
    assert!(
        both.code == 1
            && both
                .stderr
                .contains("there are two pipelines: .quire/ci.fnl and .quire/"),
        "{}",
        both.stderr
    );
    let image = check(
        &[
            (".quire/ci.fnl", GOOD),
            (".quire/Dockerfile", "FROM scratch"),
        ],
        &[],
    );
    assert!(
        image.code == 1 && image.stderr.contains("the commit has a .quire/Dockerfile"),
        "{}",
        image.stderr
    );
    let usage = check(&[(".quire/ci.fnl", GOOD)], &["--format", "xml"]);
    assert_eq!(usage.code, 2);
}
