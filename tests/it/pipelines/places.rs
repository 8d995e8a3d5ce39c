//! Where an error is said to be, and advice in the language of the file.

use super::run::Project;
use super::support::{check, errors};

/// The failed jobs of a pipeline, each as `job: message`.
fn failures(lines: &[&str], arguments: &[&str]) -> Vec<String> {
    let project = Project::new(&lines.join("\n"));
    let run = project.ci(&[&["run", "--executor", "host"], arguments].concat());
    let printed = run.stdout + &run.stderr;
    let mut failures: Vec<String> = printed
        .lines()
        .filter_map(|line| line.strip_prefix("quire: job `"))
        .filter_map(|line| line.split_once("` failed: "))
        .map(|(job, message)| format!("{job}: {message}"))
        .collect();
    failures.sort();
    assert!(!failures.is_empty(), "{printed}");
    failures
}

#[test]
fn each_of_several_jobs_that_fail_at_once_has_its_own_line() {
    let found = failures(
        &[
            "(ci.job :a [:quire/push] (fn [{: artifact}] (artifact :nope)))",
            "(ci.job :b [:quire/push] (fn [{: read-file}] (read-file :nope)))",
            "(ci.job :c [:quire/push] (fn [{: sh}] (sh \"sleep 0.1; false\")))",
            "(ci.job :d [:quire/push] (fn [{: sh}] (sh :true) {:exit 3}))",
            "(ci.job :e [:quire/push] (fn [{: sh}] (sh \"sleep 0.1\") #nil))",
            "(ci.job :f [:quire/push] (fn [{: secret}] (secret :none)))",
            "(ci.job :g [:quire/push] (fn [{: write-file}] (write-file \"../x\" :y)))",
            "(ci.job :h [:quire/push] (fn [{: sh}] (sh :true)))",
        ],
        &[],
    );
    let lines: Vec<String> = found
        .iter()
        .map(|failure| failure.splitn(4, ':').take(3).collect::<Vec<_>>().join(":"))
        .collect();
    let expected: Vec<String> = ["a", "b", "c", "d", "e", "f", "g"]
        .iter()
        .enumerate()
        .map(|(at, job)| format!("{job}: .quire/ci.fnl:{}", at + 2))
        .collect();
    assert_eq!(lines, expected, "{found:#?}");
}

#[test]
fn a_form_that_is_not_closed_is_named() {
    for (text, expected) in [
        (
            "(local ci (require :quire.ci))\n(ci.job :a [:quire/push]\n  (fn [{: sh}] (sh :a))\n(ci.job :b [:a] (fn [] 1))\n",
            "2: the file cannot be parsed: expected closing delimiter ) (the form that begins here is not closed: `(ci.job :a [:quire/push]`)",
        ),
        (
            "; (\n(local x \"(\")\n  (local y [1 2",
            "3: the file cannot be parsed: expected closing delimiters )] (the form that begins here is not closed: `[1 2`)",
        ),
    ] {
        let found = errors(text);
        assert!(found[0].starts_with(expected), "{found:?}");
    }
}

#[test]
fn single_quotes_are_explained() {
    let found = errors(
        "(local ci (require :quire.ci))\n(ci.job :a [:quire/push] (fn [{: sh}] (sh 'make')))",
    );
    assert_eq!(
        found,
        [
            "2: the file cannot be parsed: invalid whitespace after quoting prefix (text is written in double quotes, as in (sh \"make\"))"
        ]
    );
}

#[test]
fn unknown_tools_are_found_before_a_job_runs() {
    let found = errors(
        "(local ci (require :quire.ci))
(ci.job :a [:quire/push] (fn [{: shell}] (shell :make)))
(ci.job :b [:quire/push] (fn [tools] (tools.sh :make) (#(tools.lg :x))))
(ci.job :c [:quire/push] (fn [{: sh :read-file read : jobs} ?x] (sh :a) (let [x {}] x.nope)))
(fn build [{: sh : artefact}] (sh :make))
(ci.job :d [:quire/push] build)",
    );
    assert_eq!(
        found,
        [
            "2: the job's table has no `shell` (did you mean `sh`?)",
            "3: the job's table has no `lg` (did you mean `log`?)",
            "5: the job's table has no `artefact` (did you mean `artifact`?)",
        ]
    );
}

/// The errors of a pipeline in Lua, as `ci check` prints them.
fn in_lua(text: &str) -> String {
    let text = format!("local ci = require('quire.ci')\n{text}");
    let checked = check(&[(".quire/ci.lua", &text)], &[]);
    assert_eq!(checked.code, 1, "{}{}", checked.stdout, checked.stderr);
    checked.stderr
}

#[test]
fn advice_for_lua_is_in_lua() {
    for (text, expected) in [
        (
            "ci.job('a', {'quire/push'})",
            "write it like ci.job(\"test\", {\"quire/push\"}, function(t) … end)",
        ),
        (
            "ci.job('a', {'quire/psh'}, function() end)",
            "did you mean \"quire/push\"?",
        ),
        (
            "ci.job('a', 'quire/push', function() end)",
            "write {\"quire/push\"}",
        ),
        (
            "ci.job('a', {'quire/push'}, function(t) t.read('x') end)",
            "did you mean t[\"read-file\"]?",
        ),
        (
            "ci.job('a', {'quire/push'}, {tiemout = '1m'}, function(t) end)",
            "did you mean \"timeout\"?",
        ),
        ("ci.imgae('x')", "did you mean `image`?"),
    ] {
        let printed = in_lua(text);
        // miette breaks lines.
        let printed = printed.split_whitespace().collect::<Vec<_>>().join(" ");
        let printed = printed.replace("│ ", "");
        assert!(printed.contains(expected), "{text}: {printed}");
        assert!(
            !printed.contains(" :") && !printed.contains("(ci."),
            "{printed}"
        );
    }
}

#[test]
fn undefined_names_are_found_in_lua() {
    for (text, expected) in [
        (
            "ci.job('a', {'quire/push'}, function(t) t.sh(comand) end)",
            "`comand` is not defined",
        ),
        ("prnt('x')", "`prnt` is not defined"),
        ("local x = pirs({})", "did you mean `pairs`?"),
        ("print('x')", "a job writes to its log with `log`"),
        (
            "os.exit(1)",
            "only through the table that each job's function",
        ),
    ] {
        let printed = in_lua(text);
        // miette breaks lines.
        let printed = printed.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(printed.contains(expected), "{text}: {printed}");
    }
    let helper = (
        ".quire/helper.lua",
        "shared = 2\nlocal t = {}\nfunction t.f() return later end\nreturn t",
    );
    let pipeline = "local ci = require('quire.ci')\nlocal t = require('helper')\nlater = shared\nlocal function f() return later, own end\nown = _VERSION\nci.job('a', {'quire/push'}, function(t) t.sh('true') end)";
    let checked = check(&[(".quire/ci.lua", pipeline), helper], &[]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    let checked = check(
        &[
            (".quire/ci.lua", pipeline),
            (".quire/helper.lua", "shared = 1\n\nreturn nobody"),
        ],
        &[],
    );
    assert!(
        checked.stderr.contains(".quire/helper.lua:3:8")
            && checked.stderr.contains("`nobody` is not defined"),
        "{}",
        checked.stderr
    );
}

#[test]
fn a_source_that_the_run_did_not_start_from_explains_a_nil() {
    let pipeline = [
        "(ci.job :a [:quire/push :quire/manual] (fn [{: sh : jobs}]",
        "  (sh [\"echo\" (. (jobs :quire/push) :branch)])))",
    ];
    let found = failures(&pipeline, &["--source", "manual"]);
    assert_eq!(
        found,
        [
            "a: .quire/ci.fnl:3:3: attempt to index a nil value; `(jobs :quire/push)` is nil because this run started from `quire/manual`"
        ]
    );
    let project = Project::empty();
    project.write(
        ".quire/ci.lua",
        "local ci = require('quire.ci')\nci.job('a', {'quire/push', 'quire/manual'}, function(t)\n  local push = t.jobs('quire/push')\n  t.sh({'echo', push.branch})\nend)",
    );
    let run = project.ci(&["run", "--executor", "host", "--source", "manual"]);
    assert!(
        run.stdout.contains("(local 'push'); `jobs(\"quire/push\")` is nil because this run started from `quire/manual`"),
        "{}",
        run.stdout
    );
    let project = Project::new(&pipeline.join("\n"));
    let run = project.on_host();
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
}
