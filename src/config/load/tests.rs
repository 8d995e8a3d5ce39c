use std::time::Duration;

use super::*;
use crate::config::{Auth, Network, SecretError};
use crate::pipeline::Place;
use crate::run::ExecutorKind;

/// An appliance's folder with these files, read with JSON in the place of Fennel.
struct Fixture(tempfile::TempDir);

impl Fixture {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self(folder)
    }

    fn paths(&self) -> Paths {
        Paths::new(self.0.path(), self.0.path())
    }

    fn load(&self, value: Value, environment: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
        load(&self.paths(), &lookup(environment), &move |_, _, _| {
            Ok(value.clone())
        })
    }
}

fn lookup(environment: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
    let environment: BTreeMap<String, String> = environment
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    move |name| environment.get(name).cloned()
}

/// Loads this text, which evaluates to this value.
fn file(text: &str, value: Value) -> Result<Loaded, ConfigError> {
    Fixture::new(&[("config.fnl", text)]).load(value, &[])
}

fn message(result: Result<Loaded, ConfigError>) -> String {
    result.map(|loaded| loaded.config).unwrap_err().to_string()
}

#[test]
fn no_file_is_all_defaults_and_evaluates_nothing() {
    let never =
        |_: &str, _: &str, _: Language| -> Result<Value, Diagnostic> { panic!("evaluated") };
    let loaded = load(&Fixture::new(&[]).paths(), &lookup(&[]), &never).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.warnings.is_empty() && loaded.file.is_none());
    assert!(
        loaded
            .settings()
            .iter()
            .all(|setting| setting.origin == Origin::Default)
    );
}

#[test]
fn the_example_of_the_documentation() {
    let value = serde_json::json!({
        "http": {"port": 3001, "url": "https://git.example.org/", "auth": "proxy", "trusted-proxies": ["172.16.0.0/12", "::1"]},
        "ssh": {"host": "git.example.org", "port": 22},
        "git": {"push-to-create": false, "max-push": "1g"},
        "ci": {"executor": "host", "engine": "tcp://10.0.0.1:2375", "concurrent-runs": 3, "image": "alpine:3", "timeout": "1h30m",
               "memory": "512m", "cpus": 0.5, "pids": 100, "network": false, "max-log": "1m", "max-artifacts": "2m", "retry-orphaned": false,
               "keep-failed": "2h"},
        "keep": {"runs": 5, "days": 9, "logs": 1024, "artifacts": "1k", "caches": "2k", "min-free": "0"},
        "secrets": {"github-token": {"file": "/run/secrets/github_token"}, "npm-token": {"env": "NPM_TOKEN"},
                    "deploy-key": {"file": "/k", "repos": ["app"], "refs": ["refs/heads/main", "refs/tags/*"]}},
    });
    let loaded = file("{", value).unwrap();
    let Config {
        http,
        ssh,
        git,
        ci,
        keep,
        secrets,
    } = loaded.config.clone();
    assert_eq!(
        (http.port, http.url.as_deref(), http.auth),
        (3001, Some("https://git.example.org"), Auth::Proxy)
    );
    assert_eq!(
        http.trusted_proxies,
        ["172.16.0.0/12", "::1"].map(|text| text.parse::<Network>().unwrap())
    );
    assert_eq!(
        (ssh.host.as_deref(), ssh.port),
        (Some("git.example.org"), 22)
    );
    assert_eq!((git.push_to_create, git.max_push), (false, 1 << 30));
    assert_eq!(
        (ci.executor, ci.engine.as_str(), ci.concurrent_runs),
        (Some(ExecutorKind::Host), "tcp://10.0.0.1:2375", 3)
    );
    assert_eq!(
        (ci.image.as_str(), ci.timeout, ci.memory, ci.cpus),
        ("alpine:3", Duration::from_secs(5400), 512 << 20, 500)
    );
    assert_eq!(
        (
            ci.pids,
            ci.network,
            ci.max_log,
            ci.max_artifacts,
            ci.retry_orphaned
        ),
        (100, false, 1 << 20, 2 << 20, false)
    );
    assert_eq!(ci.keep_failed, Duration::from_secs(7200));
    assert_eq!(
        (
            keep.runs,
            keep.days,
            keep.logs,
            keep.artifacts,
            keep.caches,
            keep.min_free
        ),
        (5, 9, 1024, 1024, 2048, 0)
    );
    assert_eq!(
        secrets["npm-token"],
        SecretSource::Environment("NPM_TOKEN".to_owned()).into()
    );
    let limited = SecretGrant {
        repos: Some(vec!["app".to_owned()]),
        refs: Some(vec!["refs/heads/main".to_owned(), "refs/tags/*".to_owned()]),
        ..SecretSource::File("/k".into()).into()
    };
    assert_eq!(secrets["deploy-key"], limited);
    assert!(loaded.warnings.is_empty());
    assert!(
        loaded
            .settings()
            .iter()
            .all(|setting| setting.origin == Origin::File),
        "{:?}",
        loaded.settings()
    );
}

#[test]
fn every_setting_reads_what_it_shows() {
    let defaults = Config::default();
    for key in KEYS {
        let mut config = Config::default();
        let shown = key.show(&defaults);
        assert!(
            shown.is_empty() || (key.read_text)(&mut config, &shown),
            "{}: {shown}",
            key.path()
        );
        assert_eq!(config, defaults, "{}", key.path());
        for hostile in ["\n", "-1", "{", "a b", "\0"] {
            assert!(
                !(key.read_text)(&mut config, hostile),
                "{} takes {hostile:?}",
                key.path()
            );
        }
        assert!(
            !(key.read_data)(&mut config, &Value::Null)
                && !(key.read_data)(&mut config, &serde_json::json!({"a": 1})),
            "{}",
            key.path()
        );
        assert_eq!(config, defaults, "a value that is refused changes nothing");
    }
}

#[test]
fn a_wrong_type_names_file_line_and_what_was_expected() {
    let text = "{:http {:port \"3000\"}\n :ci {:timeout 60\n      :executor :podman}\n :keep 5}";
    let value = serde_json::json!({"http": {"port": "3000"}, "ci": {"timeout": 60, "executor": "podman"}, "keep": 5});
    let error = file(text, value).unwrap_err();
    let found: Vec<(u32, &str, &str)> = error
        .diagnostics()
        .iter()
        .map(|d| {
            (
                d.place.as_ref().unwrap().line,
                d.message.as_str(),
                d.source_line.as_deref().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (
                1,
                "`http.port` must be a port number from 1 to 65535, and is \"3000\"",
                "{:http {:port \"3000\"}"
            ),
            (
                2,
                "`ci.timeout` must be a duration such as \"90s\" or \"1h30m\", and is 60",
                " :ci {:timeout 60"
            ),
            (
                3,
                "`ci.executor` must be one of :docker, :host and :auto, and is \"podman\"",
                "      :executor :podman}"
            ),
            (4, "`keep` must be a table, and is 5", " :keep 5}"),
        ]
    );
    assert!(
        error
            .to_string()
            .contains("config.fnl:1:9: `http.port` must be"),
        "{error}"
    );
}

#[test]
fn a_value_whose_place_is_not_found_still_names_the_file() {
    let message = message(file(
        "(make-config)",
        serde_json::json!({"http": {"port": true}}),
    ));
    assert!(
        message.ends_with(
            "config.fnl: `http.port` must be a port number from 1 to 65535, and is true"
        ),
        "{message}"
    );
}

#[test]
fn real_files() {
    let load = |name: &str, text: &str| {
        super::load(
            &Fixture::new(&[(name, text)]).paths(),
            &lookup(&[]),
            &crate::fennel::eval_data,
        )
    };
    let fennel = load(
        "config.fnl",
        "(local gigabyte 1073741824)\n{:ci {:memory (* 3 gigabyte) :cpus 0.5 :executor :host}}",
    )
    .unwrap();
    assert_eq!(
        (
            fennel.config.ci.memory,
            fennel.config.ci.cpus,
            fennel.config.ci.executor
        ),
        (3 << 30, 500, Some(ExecutorKind::Host))
    );
    let lua = load("config.lua", "return { http = { port = 80, [\"trusted-proxies\"] = {} }, secrets = { t = { env = \"T\" } } }").unwrap();
    assert_eq!((lua.config.http.port, lua.config.secrets.len()), (80, 1));
    assert!(
        message(load("config.fnl", "{:ci\n {:timeout 5}}"))
            .contains("config.fnl:2:3: `ci.timeout` must be a duration")
    );
    assert!(message(load("config.fnl", "{:ci")).contains("config.fnl:1:"));
    let commented = load("config.fnl", "; {:ci {}}\n").unwrap();
    assert!(commented.config == Config::default() && commented.file.is_some());
}

#[test]
fn what_is_no_table() {
    assert!(
        message(file("{", Value::Null))
            .ends_with("config.fnl: the configuration must be one table, and is nil")
    );
    assert!(file("{", serde_json::json!([])).is_ok());
    assert!(file("{", serde_json::json!({"http": [], "ci": {}})).is_ok());
}

#[test]
fn unknown_keys_are_warnings_with_the_nearest_known_one() {
    let text = "{:htp {}\n :ci {:timout \"1h\"}\n :zebra 1\n :notify {:mail {}}\n :backup {}}";
    let value = serde_json::json!({"htp": {}, "ci": {"timout": "1h", "retry_orphaned": true}, "zebra": 1, "notify": {"mail": {}}, "backup": {}});
    let mut warnings: Vec<(Option<u32>, String, Option<String>)> = file(text, value)
        .unwrap()
        .warnings
        .into_iter()
        .map(|w| (w.place.map(|p| p.line), w.message, w.hint))
        .collect();
    warnings.sort();
    let expected = [
        (
            Some(1),
            "`htp` is not a setting and is left out",
            Some("did you mean `http`?"),
        ),
        (
            Some(2),
            "`ci.retry_orphaned` is not a setting and is left out",
            Some("did you mean `retry-orphaned`?"),
        ),
        (
            Some(2),
            "`ci.timout` is not a setting and is left out",
            Some("did you mean `timeout`?"),
        ),
        (Some(3), "`zebra` is not a setting and is left out", None),
        (Some(4), "`notify` has no effect yet", None),
        (Some(5), "`backup` has no effect yet", None),
    ];
    assert_eq!(
        warnings,
        expected.map(|(line, message, hint)| (line, message.to_owned(), hint.map(str::to_owned)))
    );
}

#[test]
fn the_environment_overrides_single_values() {
    let fixture = Fixture::new(&[("config.lua", "return")]);
    let environment = [
        ("QUIRE_HTTP_PORT", "8080"),
        ("QUIRE_HTTP_TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
        ("QUIRE_CI_CONCURRENT_RUNS", " 4 "),
        ("QUIRE_CI_NETWORK", "no"),
        ("QUIRE_CI_CPUS", "1.5"),
        ("QUIRE_CI_EXECUTOR", "auto"),
        ("QUIRE_CI_IMAGE", ""),
    ];
    let loaded = fixture
        .load(
            serde_json::json!({"http": {"port": 1}, "ci": {"executor": "host", "memory": "1g"}}),
            &environment,
        )
        .unwrap();
    assert_eq!(
        (
            loaded.config.http.port,
            loaded.config.http.trusted_proxies.len()
        ),
        (8080, 2)
    );
    let ci = &loaded.config.ci;
    assert_eq!(
        (
            ci.concurrent_runs,
            ci.network,
            ci.cpus,
            ci.executor,
            ci.memory
        ),
        (4, false, 1500, None, 1 << 30)
    );
    assert_eq!(
        loaded.origin("http.port"),
        Origin::Environment("QUIRE_HTTP_PORT".to_owned())
    );
    assert_eq!(
        (loaded.origin("ci.memory"), loaded.origin("ci.image")),
        (Origin::File, Origin::Default)
    );
    assert_eq!(loaded.file, Some(fixture.0.path().join("config.lua")));
    let error = message(fixture.load(serde_json::json!({}), &[("QUIRE_SSH_PORT", "ssh")]));
    assert_eq!(
        error,
        "the environment variable QUIRE_SSH_PORT must be a port number from 1 to 65535, and is \"ssh\""
    );
}

#[test]
fn files_that_cannot_be_used() {
    let both = Fixture::new(&[("config.fnl", ""), ("config.lua", "")]);
    assert!(message(both.load(Value::Null, &[])).starts_with("there are two configurations, "));
    let broken = Fixture::new(&[]);
    std::fs::write(broken.0.path().join("config.fnl"), [0xff, 0xfe]).unwrap();
    assert!(message(broken.load(Value::Null, &[])).ends_with("config.fnl cannot be read"));
    let large = Fixture::new(&[("config.fnl", &" ".repeat(2 << 20))]);
    assert!(message(large.load(Value::Null, &[])).ends_with("config.fnl cannot be read"));
    let diagnostic = |_: &str, file: &str, _: Language| -> Result<Value, Diagnostic> {
        let place = Some(Place {
            file: file.to_owned(),
            line: 2,
            column: 3,
        });
        Err(Diagnostic {
            message: "expected }".to_owned(),
            place,
            source_line: None,
            hint: None,
        })
    };
    let text = message(load(
        &Fixture::new(&[("config.fnl", "{")]).paths(),
        &lookup(&[]),
        &diagnostic,
    ));
    assert!(text.ends_with("config.fnl:2:3: expected }"), "{text}");
}

#[test]
fn a_secret_written_into_the_configuration_is_not_repeated() {
    for wrong in [
        serde_json::json!("hunter2-hunter2"),
        serde_json::json!({"file": "hunter2-hunter2"}),
        serde_json::json!({"value": "hunter2-hunter2"}),
        serde_json::json!({"file": "/hunter2-hunter2", "env": "X"}),
        serde_json::json!({}),
    ] {
        let error = file(
            "{:secrets {:token \"hunter2-hunter2\"}}",
            serde_json::json!({"secrets": {"token": wrong}}),
        )
        .unwrap_err();
        assert!(
            !format!("{error} {error:?}").contains("hunter2"),
            "{error:?}"
        );
        assert!(
            error.to_string().contains(
                "config.fnl:1:12: `secrets.token` must be {:file \"/path\"} or {:env \"NAME\"}"
            ),
            "{error}"
        );
    }
}

#[test]
fn secrets_are_read_when_they_are_asked_for() {
    let fixture = Fixture::new(&[
        ("token", "one\ntwo\r\n\n"),
        ("empty", "\n"),
        ("large", &"x".repeat(70_000)),
    ]);
    std::fs::write(fixture.0.path().join("binary"), [0xff]).unwrap();
    let source = |name: &str| SecretSource::File(fixture.0.path().join(name));
    let mut config = Config::default();
    for name in ["token", "empty", "large", "binary", "missing"] {
        config.secrets.insert(name.to_owned(), source(name).into());
    }
    config.secrets.insert(
        "npm-token".to_owned(),
        SecretSource::Environment("NPM_TOKEN".to_owned()).into(),
    );
    let (repo, ref_name) = ("app".parse().unwrap(), "refs/heads/main".parse().unwrap());
    let main = (&repo, &ref_name);
    let read = |name: &str| config.secret(name, main, lookup(&[("NPM_TOKEN", "abc\n")]));
    assert_eq!(read("token").unwrap().expose(), "one\ntwo");
    assert_eq!(read("npm-token").unwrap().expose(), "abc");
    let text = |name: &str| read(name).unwrap_err().to_string();
    assert_eq!(text("empty"), "the value of the secret `empty` is empty");
    assert_eq!(
        text("large"),
        "the value of the secret `large` is larger than 64 KiB"
    );
    assert_eq!(
        text("binary"),
        "the value of the secret `binary` is not UTF-8 text"
    );
    assert_eq!(
        text("missing"),
        format!(
            "the file of the secret `missing`, {}/missing, cannot be read",
            fixture.0.path().display()
        )
    );
    assert_eq!(
        text("npm-tokn"),
        "there is no secret `npm-tokn`; did you mean `npm-token`?"
    );
    assert_eq!(
        text("zzz"),
        "there is no secret `zzz`; the configuration has binary, empty, large, missing, npm-token, token"
    );
    let unset = config.secret("npm-token", main, lookup(&[]));
    assert_eq!(
        unset.unwrap_err().to_string(),
        "the environment variable NPM_TOKEN of the secret `npm-token` is not set"
    );
    assert!(matches!(
        Config::default().secret("x", main, lookup(&[])),
        Err(SecretError::Unknown { .. })
    ));
}

#[test]
fn a_secret_is_for_the_runs_that_the_owner_names() {
    let secrets = serde_json::json!({"secrets": {
        "deploy": {"env": "KEY", "repos": ["app", "work/*"], "refs": ["refs/heads/main", "refs/tags/*"]},
        "anyone": {"env": "KEY"},
    }});
    let config = file("{", secrets).unwrap().config;
    let ask = |name: &str, repo: &str, ref_name: &str| {
        let (repo, ref_name) = (repo.parse().unwrap(), ref_name.parse().unwrap());
        config
            .secret(name, (&repo, &ref_name), lookup(&[("KEY", "value")]))
            .map(|secret| secret.expose().to_owned())
    };
    for (repo, ref_name) in [("app", "refs/heads/main"), ("work/x", "refs/tags/v1")] {
        assert_eq!(
            ask("deploy", repo, ref_name).unwrap(),
            "value",
            "{repo} {ref_name}"
        );
    }
    for (repo, ref_name) in [
        ("app", "refs/heads/dev"),
        ("app", "refs/heads/main2"),
        ("other", "refs/heads/main"),
    ] {
        let refused = ask("deploy", repo, ref_name).unwrap_err().to_string();
        assert_eq!(
            refused,
            format!(
                "the secret `deploy` is not for runs of {repo} at {ref_name}: the configuration says for which it is"
            )
        );
        assert_eq!(ask("anyone", repo, ref_name).unwrap(), "value");
        // Of what it may not have, it is told no name either.
        assert_eq!(
            ask("deploi", repo, ref_name).unwrap_err().to_string(),
            "there is no secret `deploi`; the configuration has anyone"
        );
    }
    for wrong in [
        serde_json::json!([]),
        serde_json::json!("app"),
        serde_json::json!([1]),
        serde_json::json!([""]),
    ] {
        let error = file(
            "{",
            serde_json::json!({"secrets": {"x": {"env": "A", "refs": wrong}}}),
        )
        .unwrap_err();
        assert!(error.to_string().contains("`secrets.x` must be"), "{error}");
    }
}

#[test]
fn the_documentation_lists_every_setting_with_its_default() {
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md"),
    )
    .unwrap();
    let cell = |cell: &str| cell.trim().trim_matches('`').to_owned();
    let rows: Vec<[String; 3]> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| {
            line.split('|')
                .take(3)
                .map(cell)
                .collect::<Vec<_>>()
                .try_into()
                .ok()
        })
        .filter(|row: &[String; 3]| row[2].starts_with("QUIRE_"))
        .collect();
    let defaults = Config::default();
    let expected: Vec<[String; 3]> = KEYS
        .iter()
        .map(|key| {
            let default = match key.show(&defaults) {
                _ if key.name == "concurrent-runs" => "half the CPUs, at least 1".to_owned(),
                shown if shown.is_empty() => "none".to_owned(),
                shown => shown,
            };
            [key.path(), default, key.variable()]
        })
        .collect();
    assert_eq!(rows, expected);
    for section in sections() {
        assert!(
            text.contains(&format!("`{section}")) || text.contains(&format!("`:{section}`")),
            "{section}"
        );
    }
}
