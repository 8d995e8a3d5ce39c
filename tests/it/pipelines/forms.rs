//! Every registration form: what it makes, and what is said when it is wrong.

use serde_json::{Value, json};

use super::support::*;

const EVERYTHING: &str = r#"(local ci (require :quire.ci))
(ci.cache :cargo "/usr/local/cargo/registry/")
(ci.cache :target "./target")
(ci.service :db {:image "postgres:18" :env {:POSTGRES_PASSWORD :x :A 1} :command [:postgres :-c "fsync=off"]
                 :ready [:pg_isready :-q] :ready-within "30s"})
(ci.service :cache-1 {:image "redis:8" :ready "redis-cli ping"})
(ci.group :deploy)
(ci.network false)
(ci.resources {:memory "2g" :cpus 0.5 :pids 500})
(ci.container {:user "node:adm" :shm-size "1g" :tmpfs {"/tmp" "64m" "/run" "1m"} :privileges [:SYS_PTRACE :NET_ADMIN]})
(ci.docker true)
(local nightly (ci.cron :nightly "0 3 * * *"))
(ci.cron :weekly "0 4 * * SUN")
(ci.job :test [:quire/push nightly :quire/cron/weekly] {:env {:B 2 :A "one"}} (fn [{: jobs}] (jobs nightly)))
"#;

fn json_of(text: &str) -> Value {
    let checked = check(&[(".quire/ci.fnl", text)], &["--format", "json"]);
    assert_eq!(checked.code, 0, "{}{}", checked.stdout, checked.stderr);
    serde_json::from_str(&checked.stdout).unwrap()
}

#[test]
fn every_form_makes_what_it_says() {
    let found = json_of(EVERYTHING);
    assert_eq!(
        found["caches"],
        json!([{"name": "cargo", "path": "/usr/local/cargo/registry"}, {"name": "target", "path": "target"}]),
        "paths have one spelling"
    );
    assert_eq!(
        found["services"],
        json!([
            {"name": "db", "image": "postgres:18", "env": [["A", "1"], ["POSTGRES_PASSWORD", "x"]],
             "command": ["postgres", "-c", "fsync=off"], "ready": ["pg_isready", "-q"], "ready_within_ms": 30_000},
            {"name": "cache-1", "image": "redis:8", "env": [], "command": null, "ready": ["sh", "-c", "redis-cli ping"],
             "ready_within_ms": 60_000},
        ])
    );
    assert_eq!(
        found["group"],
        json!({"name": "deploy", "supersede": false})
    );
    assert_eq!(found["network"], json!(false));
    assert_eq!(
        found["resources"],
        json!({"memory": 2u64 << 30, "milli_cpus": 500, "pids": 500})
    );
    assert_eq!(
        found["container"],
        json!({"user": "node:adm", "shm_size": 1u64 << 30, "tmpfs": [["/run", 1 << 20], ["/tmp", 64 << 20]],
               "privileges": ["SYS_PTRACE", "NET_ADMIN"]})
    );
    assert_eq!(found["docker"], json!(true));
    assert_eq!(
        found["crons"],
        json!([{"name": "nightly", "schedule": "0 3 * * *"}, {"name": "weekly", "schedule": "0 4 * * SUN"}])
    );
    assert_eq!(
        found["sources"],
        json!(["quire/push", "quire/cron/nightly", "quire/cron/weekly"])
    );
    assert_eq!(
        found["jobs"][0]["inputs"],
        json!(["quire/push", "quire/cron/nightly", "quire/cron/weekly"])
    );
    assert_eq!(found["jobs"][0]["env"], json!({"A": "one", "B": "2"}));
    // Nothing of it where nothing is said.
    let plain = json_of("((. (require :quire.ci) :job) :a [:quire/push] #nil)");
    for (name, value) in [
        ("caches", json!([])),
        ("services", json!([])),
        ("group", Value::Null),
        ("network", Value::Null),
        ("crons", json!([])),
    ] {
        assert_eq!(plain[name], value, "{name}");
    }
    assert_eq!(
        plain["resources"],
        json!({"memory": null, "milli_cpus": null, "pids": null})
    );
    assert_eq!(
        plain["container"],
        json!({"user": null, "shm_size": null, "tmpfs": [], "privileges": []})
    );
    assert_eq!(plain["docker"], json!(false));
}

#[test]
fn every_form_is_shown() {
    let text = check(&[(".quire/ci.fnl", EVERYTHING)], &[]);
    assert_eq!(
        text.stdout,
        ".quire/ci.fnl: 1 job
  test  ← quire/push, quire/cron/nightly, quire/cron/weekly  (sets A B)
sources: quire/push, quire/cron/nightly, quire/cron/weekly
schedules: nightly (0 3 * * *), weekly (0 4 * * SUN)
image: the configured default
services: db (postgres:18, ready when `pg_isready -q` succeeds, within 30s), cache-1 (redis:8, ready when `sh -c 'redis-cli ping'` succeeds, within 1m)
caches: cargo (/usr/local/cargo/registry), target (target)
group: deploy (each run waits for earlier runs)
network: none
resources: 2g of memory, 0.5 CPUs, 500 processes
container: user node:adm, 1g of shared memory, /run in memory (1m), /tmp in memory (64m), privileges SYS_PTRACE NET_ADMIN, the engine's socket
"
    );
    let dot = check(&[(".quire/ci.fnl", EVERYTHING)], &["--format", "dot"]);
    for part in [
        "\"quire/cron/nightly\" -> \"test\";",
        "\\lcaches: cargo (/usr/local/cargo/registry), target (target)\\l",
        "within 30s), cache-1 (redis:8, ready when `sh -c 'redis-cli ping'` succeeds",
    ] {
        assert!(dot.stdout.contains(part), "{part}\n{}", dot.stdout);
    }
}

#[test]
fn lua_has_the_same_forms() {
    let text = r#"local ci = require("quire.ci")
ci.cache("target", "target")
ci.service("db", {image = "postgres:18", ["ready-within"] = "5m"})
ci.group("deploy", {supersede = true})
ci.network(true)
ci.resources({memory = 1073741824, cpus = 2})
local nightly = ci.cron("nightly", "*/5 * * * 1-5")
ci.job("a", {nightly}, {env = {A = "x"}}, function() end)"#;
    let checked = check(&[(".quire/ci.lua", text)], &["--format", "json"]);
    let found: Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!(found["services"][0]["ready_within_ms"], json!(300_000));
    assert_eq!(
        (&found["group"]["supersede"], &found["network"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(
        found["resources"],
        json!({"memory": 1 << 30, "milli_cpus": 2000, "pids": null})
    );
    assert_eq!(found["jobs"][0]["inputs"], json!(["quire/cron/nightly"]));
    let wrong = check(
        &[(
            ".quire/ci.lua",
            "local ci = require('quire.ci')\nci.job('a', {'quire/push'}, {\n  retry = 1, tiemout = '1m'}, function()\nend)",
        )],
        &[],
    );
    for part in [
        "job `a` has an unknown option \"tiemout\"",
        ".quire/ci.lua:3:14",
        "did you mean \"timeout\"?",
    ] {
        assert!(wrong.stderr.contains(part), "{part}\n{}", wrong.stderr);
    }
}

/// The errors of a file that begins with the line that gets the module, as `line:column: message (hint)`.
fn wrong(text: &str) -> Vec<String> {
    let text = format!("(local ci (require :quire.ci))\n{text}");
    let checked = check(&[(".quire/ci.fnl", &text)], &["--format", "json"]);
    assert_eq!(checked.code, 1, "{} {}", checked.stdout, checked.stderr);
    let found: Value = serde_json::from_str(&checked.stdout).unwrap();
    let shown = |error: &Value| {
        let line = error["place"]["line"].as_u64().unwrap();
        assert_eq!(
            error["source_line"].as_str(),
            text.lines().nth(usize::try_from(line).unwrap() - 1),
            "the line itself: {error}"
        );
        let hint = error["hint"]
            .as_str()
            .map(|hint| format!(" ({hint})"))
            .unwrap_or_default();
        format!(
            "{line}:{}: {}{hint}",
            error["place"]["column"],
            error["message"].as_str().unwrap()
        )
    };
    found["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(shown)
        .collect()
}

#[test]
fn all_errors_within_a_call_are_reported_with_their_place() {
    let found = wrong(
        r#"(ci.cache 7 "x")
(ci.cache :a)
(ci.service 7)
(ci.service :db)
(ci.service :db2 {:img :x :env {"A=B" 1}
  :ready 7 :ready-within :soon})
(ci.service :db3 {:image :x :command [] :ready [:a {}]})
(ci.group)
(ci.group :g {:superseed true})
(ci.network :no)
(ci.resources)
(ci.resources {:memory :lots :cpus :two :pids 0 :disk 1})
(ci.cron :n)
(ci.cron)
(ci.job :j [:quire/cron/n] {:env {:A {}} :retry -1 :allow-failure :yes :timeout 5}
  (fn [] nil))
(ci.job :k [:j] {:a 1 :b 2} (fn [] nil))"#,
    );
    assert_eq!(
        found,
        [
            r#"2:1: a cache's name must be text, not the number 7 (write it like (ci.cache :cargo "/usr/local/cargo/registry"))"#,
            r#"3:1: the path of cache `a` must be text, not nil (write it like (ci.cache :cargo "/usr/local/cargo/registry"))"#,
            r#"4:1: a service's name must be text, not the number 7 (write it like (ci.service :db {:image "postgres:18" :ready ["pg_isready"]}))"#,
            r#"5:1: service `db` has no :image (write it like (ci.service :db {:image "postgres:18" :ready ["pg_isready"]}))"#,
            r#"6:1: service `db2` has no :image (write it like (ci.service :db {:image "postgres:18" :ready ["pg_isready"]}))"#,
            "6:19: service `db2` has an unknown option :img (did you mean :image?)",
            "6:27: the :env of service `db2`: `A=B` is not a valid variable name",
            "7:3: the :ready of service `db2` must be a command, not the number 7 (write it like [\"pg_isready\" \"-q\"], or as text for `sh -c`)",
            "7:12: the :ready-within of service `db2`: `soon` is not a valid duration: write it like 90s, 10m or 1h30m",
            "8:29: the :command of service `db3` must be a command, not a table (write it like [\"pg_isready\" \"-q\"], or as text for `sh -c`)",
            "8:41: each part of the :ready of service `db3` must be text, not a table (write it like [\"pg_isready\" \"-q\"], or as text for `sh -c`)",
            "9:1: a group's name must be text, not nil (write it like (ci.group :deploy))",
            "10:15: group `g` has an unknown option :superseed (did you mean :supersede?)",
            "11:1: the argument of `ci.network` must be true or false, not the text `no`",
            r#"12:1: the argument of `ci.resources` must be a table, not nil (write it like (ci.resources {:memory "2g" :cpus 2}))"#,
            "13:16: the :memory of `ci.resources` must be a size, not the text `lots` (write it like \"512m\" or \"2g\")",
            "13:30: the :cpus of `ci.resources` must be a number of CPUs, not the text `two` (write it like 2 or 0.5)",
            "13:41: the :pids of `ci.resources` must be a whole number from 1 to 4194304, not the number 0",
            "13:49: `ci.resources` has an unknown option :disk (the options are :memory, :cpus and :pids)",
            "14:1: schedule `n`: the schedule is missing: write five fields (minute, hour, day of the month, month, day of the week), such as 0 3 * * *",
            r#"15:1: a schedule's name must be text, not nil (write it like (ci.cron :nightly "0 3 * * *"))"#,
            "16:29: the :env of job `j`: the variable A must be text, not table",
            "16:42: the :retry of job `j` must be a whole number from 0 to 10, not the number -1",
            "16:52: the :allow-failure of job `j` must be true or false, not the text `yes`",
            "16:72: the :timeout of job `j` must be a duration, not the number 5 (write it like \"10m\")",
            "18:18: job `k` has an unknown option :a (the options are :timeout, :allow-failure, :retry and :env)",
            "18:23: job `k` has an unknown option :b (the options are :timeout, :allow-failure, :retry and :env)",
        ]
    );
}

#[test]
fn all_errors_between_calls_are_reported_with_their_place() {
    let found = wrong(
        r#"(ci.cache :a "x")
(ci.cache :a "y")
(ci.cache :b "./x/")
(ci.cache :c "../up")
(ci.cache :d "/")
(ci.cache :e "/work/")
(ci.cache :f ".")
(ci.cache :g "~/.npm")
(ci.cache "a b" "z")
(ci.service :db {:image :x})
(ci.service :db {:image :y})
(ci.service :My_DB {:image "a b"})
(ci.group :g)
(ci.group :h)
(ci.group "-")
(ci.network true)
(ci.network false)
(ci.resources {:memory "1m"})
(ci.resources {:cpus 0.001})
(ci.timeout "1m")
(ci.timeout "2m")
(ci.cron :n "0 25 * * *")
(ci.cron :unused "0 3 * * *")
(ci.cron :m "0 3 * * *")
(ci.cron :m "0 4 * * *")
(ci.cron :x/y "0 4 30 2 *")
(ci.job :j [:quire/cron/n :quire/cron/m :quire/cron/nn :m :quire/cron/x/y :quire/hook] (fn [] nil))
(ci.job :k (fn [] nil))
(ci.job :l [:k] (fn [] nil))"#,
    );
    assert_eq!(
        found,
        [
            "3:1: cache `a` is registered twice: here and at line 2 (keep one of them)",
            "4:1: the path `./x/` of cache `b` is registered twice: here and at line 2 (keep one of them)",
            "5:1: cache `c` cannot be mounted at `../up`: it contains `..` (use an absolute path, or a path in the workspace such as \"target\")",
            "6:1: cache `d` cannot be mounted at `/`: it would hide the whole file system (use an absolute path, or a path in the workspace such as \"target\")",
            "7:1: cache `e` cannot be mounted at `/work/`: it would hide the workspace (use an absolute path, or a path in the workspace such as \"target\")",
            "8:1: cache `f` cannot be mounted at `.`: it would hide the workspace (use an absolute path, or a path in the workspace such as \"target\")",
            "9:1: cache `g` cannot be mounted at `~/.npm`: `~` and variables are not expanded (write the path out, such as \"/root/.cargo\")",
            "10:1: `a b` is not a valid name for a cache (use 1 to 64 letters, digits, `.`, `_` and `-`, not beginning with `.` or `-`)",
            "12:1: service `db` is registered twice: here and at line 11 (keep one of them)",
            "13:1: `My_DB` is not a valid name for a service, because it is not a valid host name (use 1 to 63 lower-case letters, digits and `-`, beginning and ending with a letter or digit)",
            "13:1: `a b` is not an image reference: its repository has a character that is not allowed there; lower-case letters, digits and single `.`, `_`, `-` between them are (write it like \"debian:trixie-slim\")",
            "15:1: `ci.group` is called twice: here and at line 14 (keep one of them)",
            "16:1: `-` is not a valid name for a group (use 1 to 64 letters, digits, `.`, `_` and `-`, not beginning with `.` or `-`)",
            "16:1: `ci.group` is called twice: here and at line 14 (keep one of them)",
            "18:1: `ci.network` is called twice: here and at line 17 (keep one of them)",
            "19:1: the :memory of `ci.resources` is below the minimum (use at least \"6m\")",
            "20:1: the :cpus of `ci.resources` are below the minimum (use at least 0.01)",
            "20:1: `ci.resources` is called twice: here and at line 19 (keep one of them)",
            "22:1: `ci.timeout` is called twice: here and at line 21 (keep one of them)",
            "23:1: schedule `n`: `0 25 * * *` is not a valid schedule: `25` is not a valid hour; write 0-23, *, a list (1,2), a range (1-5) or a step (*/10)",
            "24:1: schedule `unused` starts nothing: no job waits for it (add it to the inputs of a job, as in (ci.job … [:quire/cron/unused] …), or remove it)",
            "26:1: schedule `m` is registered twice: here and at line 25 (keep one of them)",
            "27:1: schedule `x/y`: `0 4 30 2 *` is never due: no date matches it",
            "27:1: `x/y` is not a valid name for a schedule (use 1 to 64 letters, digits, `.`, `_` and `-`, not beginning with `.` or `-`)",
            "28:41: job `j` waits for `quire/cron/nn`, which is not a source (did you mean :quire/cron/n?)",
            "28:56: job `j` waits for `m`, which is not a job (did you mean :quire/cron/m?)",
            "28:75: job `j` waits for `quire/hook`, which is not a source (the sources are :quire/push :quire/manual :quire/cron/n :quire/cron/unused :quire/cron/m :quire/cron/m :quire/cron/x/y)",
            "29:1: the inputs of job `k` must be a list, not a function (write a list of names, such as [:quire/push])",
        ]
    );
}

#[test]
fn there_may_be_many_but_not_endlessly_many() {
    for (each, expected) in [
        (
            r#"(ci.cache (.. :c i) (.. "/c" i))"#,
            "the pipeline has more than 50 caches",
        ),
        (
            "(ci.service (.. :s i) {:image :x})",
            "the pipeline has more than 20 services",
        ),
        (
            r#"(ci.cron (.. :c i) "0 3 * * *")"#,
            "the pipeline has more than 100 schedules",
        ),
    ] {
        let found = wrong(&format!(
            "(for [i 1 2000] {each})\n(ci.job :a [:quire/push] #nil)"
        ));
        assert!(
            found.iter().any(|problem| problem.contains(expected)),
            "{found:?}"
        );
        assert!(found.len() <= 100);
    }
}

#[test]
fn errors_in_helpers_and_macros_point_into_their_files() {
    const MAIN: &str = "(local ci (require :quire.ci))\n(import-macros {: twice : broken} :macros)\n(local h (require :helpers))\n";
    const MACROS: &str = "(fn twice [form] `(do ,form ,form))\n(fn broken [x]\n  (error (.. :no- x.y)))\n{: twice : broken}";
    const HELPERS: &str = r#"(local ci (require :quire.ci))
(fn add [id inputs]
  (ci.job id inputs
    {:retry 99} #nil))
(ci.job :own [:nope] #nil)
(fn fails [] (error "in a helper"))
{: add : fails}"#;
    let places = |main: &str, helpers: &str, macros: &str| {
        let text = format!("{MAIN}{main}");
        let files = [
            (".quire/ci.fnl", text.as_str()),
            (".quire/helpers.fnl", helpers),
            (".quire/macros.fnl", macros),
        ];
        let checked = check(&files, &["--format", "json"]);
        let found: Value = serde_json::from_str(&checked.stdout).unwrap();
        let shown = |error: &Value| {
            let (place, message) = (&error["place"], error["message"].as_str().unwrap());
            let line = error["source_line"].as_str().unwrap_or("-").to_owned();
            format!(
                "{}:{}:{}: {message} | {line}",
                place["file"].as_str().unwrap(),
                place["line"],
                place["column"]
            )
        };
        (
            found["errors"]
                .as_array()
                .unwrap()
                .iter()
                .map(shown)
                .collect::<Vec<_>>(),
            check(&files, &[]).stderr,
        )
    };
    let (found, shown) = places("(h.add :a [:quire/push])", HELPERS, MACROS);
    assert_eq!(
        found,
        [
            ".quire/helpers.fnl:4:6: the :retry of job `a` must be a whole number from 0 to 10, not the number 99 |     {:retry 99} #nil))",
            ".quire/helpers.fnl:5:15: job `own` waits for `nope`, which is not a job | (ci.job :own [:nope] #nil)",
        ]
    );
    assert!(
        shown.contains("╭─[.quire/helpers.fnl:4:6]")
            && shown.contains(" 5 │ (ci.job :own [:nope] #nil)"),
        "{shown}"
    );
    let (found, _) = places("(h.fails)", HELPERS, MACROS);
    // The graph is not looked at where the file broke off: it is not all there.
    assert_eq!(
        found,
        [".quire/helpers.fnl:6:1: in a helper | (fn fails [] (error \"in a helper\"))"]
    );
    let (found, _) = places("(twice (ci.jbo :a))", "{}", MACROS);
    assert_eq!(
        found,
        [".quire/ci.fnl:4:1: quire.ci has no `jbo`: did you mean `job`? | (twice (ci.jbo :a))"]
    );
    let (found, _) = places("\n(broken {})", "{}", MACROS);
    assert_eq!(
        found,
        [
            ".quire/macros.fnl:3:3: attempt to concatenate a nil value (field 'y') |   (error (.. :no- x.y)))"
        ]
    );
    let (found, _) = places("", "(local x 1)\n(fn f [] (undefined-thing))\n{}", MACROS);
    assert_eq!(
        found,
        [
            ".quire/helpers.fnl:2:11: the file does not compile: unknown identifier: undefined-thing | (fn f [] (undefined-thing))"
        ]
    );
    let (found, _) = places("", "{}", "(fn twice [f]\n  (list");
    assert_eq!(
        found,
        [
            ".quire/macros.fnl:2:8: the file cannot be parsed: expected closing delimiters )) |   (list"
        ]
    );
}
