use std::path::Path;
use std::time::Duration;

use super::*;
use crate::secrets::SecretSource;
use crate::{Auth, RunGrant, SecretError, StrangerAccess};
use quire_pipeline::Location;
use quire_types::landing::LandingMethod;
use quire_types::network::Network;
use quire_types::pull_policy::PullPolicy;
use quire_types::run::ExecutorName;
use quire_types::secret::{FinalNewline, SecretScope};

mod hooks;
mod mirrors;
mod notify;
mod secrets;

/// Entries and the warnings of their file, a line each, with the places of both but without folders.
fn described_entries<'a, T: std::fmt::Debug + 'a>(
    entries: impl Iterator<Item = (&'a String, &'a ConfigEntry<T>)>,
    loaded: &LoadedConfig,
) -> String {
    let file_name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let mut lines: Vec<String> = entries
        .map(|(name, entry)| {
            let location = file_name(entry.location.as_deref().unwrap_or("-"));
            match &entry.settings {
                Ok(settings) => format!("{location} {name}: {settings:?}"),
                Err(problem) => format!("{location} {name}: {problem}"),
            }
        })
        .collect();
    let warnings = loaded.warnings.iter().map(ToString::to_string);
    lines.extend(warnings.map(|text| file_name(&text)));
    lines.join("\n")
}

/// An appliance's folder with these files. Tests pass the value that a file evaluates to.
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

    fn load(
        &self,
        value: Value,
        environment: &[(&str, &str)],
    ) -> Result<LoadedConfig, ConfigError> {
        load(
            read(&self.paths())?,
            &lookup(environment),
            &move |_, _, _| Ok(value.clone()),
        )
    }
}

fn lookup(environment: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
    let environment: BTreeMap<String, String> = environment
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    move |name| environment.get(name).cloned()
}

/// Loads a file with this text, which evaluates to this value.
fn file(text: &str, value: Value) -> Result<LoadedConfig, ConfigError> {
    Fixture::new(&[("config.fnl", text)]).load(value, &[])
}

fn message(result: Result<LoadedConfig, ConfigError>) -> String {
    result.map(|loaded| loaded.config).unwrap_err().to_string()
}

#[test]
fn without_a_file_all_settings_are_defaults() {
    let never =
        |_: &str, _: &str, _: Language| -> Result<Value, Diagnostic> { panic!("evaluated") };
    let loaded = load(None, &lookup(&[]), &never).unwrap();
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
fn a_swarm_needs_a_callback_and_a_network() {
    let read = |ci: serde_json::Value| {
        let loaded = file("{", serde_json::json!({ "ci": ci }));
        loaded.map(drop).map_err(|error| error.to_string())
    };
    let problem = |ci| read(ci).err().unwrap_or_default();
    let address = "forge.lan:7474";
    let complete = serde_json::json!({"executor": "swarm", "callback": address});
    assert_eq!(problem(complete), "");
    let elsewhere = serde_json::json!({"executor": "docker", "network": false});
    assert_eq!(problem(elsewhere), "");
    insta::assert_snapshot!(problem(serde_json::json!({"executor": "swarm"})), @"runs on a swarm (`ci.executor`) need `ci.callback`, the address and port at which its nodes reach the appliance, such as :ci {:executor :swarm :callback \"forge.lan:7474\"}");
    let offline = serde_json::json!({"executor": "swarm", "callback": address, "network": false});
    insta::assert_snapshot!(problem(offline), @"runs on a swarm (`ci.executor`) need a network, since the appliance reaches them through it; set :ci {:network true} or :executor :docker");
    // What is wrongly written may be a secret.
    let registry = serde_json::json!({"registry": {"address": "registry.lan", "user": "ci", "password": "hunter2"}});
    let told = problem(registry);
    assert!(
        told.contains("`ci.registry` must be") && !told.contains("hunter2"),
        "{told}"
    );
}

#[test]
fn the_example_of_the_documentation() {
    let value = serde_json::json!({
        "http": {"port": 3001, "url": "https://git.example.org/", "auth": "proxy", "trusted-proxies": ["172.16.0.0/12", "::1"], "strangers": "signed-in"},
        "ssh": {"host": "git.example.org", "port": 22},
        "git": {"push-to-create": false, "max-push": "1g"},
        "ci": {"executor": "host", "engine": "unix:///run/other.sock", "callback": "forge.lan:7474", "registry": "registry.lan:5000/ci/", "concurrent-runs": 3, "image": "alpine:3", "registries": ["127.0.0.1:5000", "localhost"], "pull": "always", "timeout": "1h30m",
               "memory": "512m", "cpus": 0.5, "pids": 100, "network": false, "max-log": "1m", "max-artifacts": "2m", "retry-orphaned": false,
               "max-runs-per-push": 7, "land": "merge", "keep-failed": "2h", "warm": 1, "docker-socket": ["app@refs/heads/main", "team/*"], "privileges": ["app"]},
        "keep": {"runs": 5, "days": 9, "logs": 1024, "artifacts": "1k", "caches": "2k", "min-free": "0", "trash": "12h", "undo": "3d", "operations": "2d"},
        "backup": {"to": "/backups", "every": "12h", "keep": 3},
        "notify": {"give-up-after": "2h", "health-after": "1h", "allowed-networks": ["127.0.0.1"], "targets": {}},
        "mirrors": {"compare-every": "2h", "allowed-networks": ["127.0.0.1"], "repos": {}},
        "hooks": {},
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
        backup,
        notify,
        mirrors,
        hooks,
        secrets,
    } = loaded.config.clone();
    assert_eq!(
        (http.port, http.url.as_deref(), http.auth),
        (3001, Some("https://git.example.org"), Auth::Proxy)
    );
    assert_eq!(http.strangers, StrangerAccess::SignedIn);
    assert_eq!(
        http.trusted_proxies,
        ["172.16.0.0/12", "::1"].map(|text| text.parse::<Network>().unwrap())
    );
    assert_eq!(
        (ssh.host.as_deref(), ssh.port),
        (Some("git.example.org"), 22)
    );
    assert_eq!(
        (backup.to.as_deref(), backup.every, backup.keep),
        (
            Some(Path::new("/backups")),
            Duration::from_secs(12 * 3600),
            3
        )
    );
    assert_eq!((git.push_to_create, git.max_push), (false, 1 << 30));
    assert_eq!(
        (
            notify.give_up_after,
            notify.health_after,
            notify.allowed_networks,
        ),
        (
            Duration::from_secs(7200),
            Duration::from_secs(3600),
            vec!["127.0.0.1".parse().unwrap()]
        )
    );
    assert!(hooks.is_empty());
    assert_eq!(
        (mirrors.compare_every, mirrors.allowed_networks),
        (
            Duration::from_secs(7200),
            vec!["127.0.0.1".parse().unwrap()]
        )
    );
    assert_eq!(
        (ci.executor, ci.engine.as_str(), ci.concurrent_runs),
        (Some(ExecutorName::HOST), "unix:///run/other.sock", 3)
    );
    assert_eq!(
        (ci.image.to_string(), ci.timeout, ci.memory, ci.cpus),
        (
            "alpine:3".to_owned(),
            Duration::from_secs(5400),
            512 << 20,
            500
        )
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
    assert_eq!(
        (ci.keep_failed, ci.warm, ci.max_runs_per_push),
        (Duration::from_secs(7200), 1, 7)
    );
    let grants = |grants: &[&str]| -> Vec<_> {
        let parsed = grants.iter().map(|grant| RunGrant::parse(grant).unwrap());
        parsed.collect()
    };
    assert_eq!(ci.docker_socket, grants(&["app@refs/heads/main", "team/*"]));
    assert_eq!(ci.privileges, grants(&["app"]));
    assert_eq!(ci.registries, ["127.0.0.1:5000", "localhost"]);
    assert_eq!(ci.pull, PullPolicy::Always);
    assert_eq!(ci.land, LandingMethod::Merge);
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
        (keep.trash, keep.undo),
        (
            Duration::from_secs(12 * 3600),
            Duration::from_secs(3 * 24 * 3600)
        )
    );
    assert_eq!(
        secrets["npm-token"],
        SecretSource::Environment("NPM_TOKEN".to_owned()).into()
    );
    let limited = SecretGrant {
        source: SecretSource::File("/k".into()),
        scope: SecretScope {
            repos: Some(vec!["app".to_owned()]),
            refs: Some(vec!["refs/heads/main".to_owned(), "refs/tags/*".to_owned()]),
        },
        newline: FinalNewline::Trim,
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
    for key in SETTINGS {
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
        assert_eq!(config, defaults, "a value that is error changes nothing");
    }
}

#[test]
fn a_wrong_type_is_an_error_at_its_key() {
    let text = "{:http {:port \"3000\"}\n :ci {:timeout 60\n      :executor :podman}\n :keep 5}";
    let value = serde_json::json!({"http": {"port": "3000"}, "ci": {"timeout": 60, "executor": "podman"}, "keep": 5});
    let error = file(text, value).unwrap_err();
    let found: Vec<(u32, &str, &str)> = error
        .diagnostics()
        .iter()
        .map(|d| {
            (
                d.location.as_ref().unwrap().line,
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
                "`http.port` must be a port number from 1 to 65535, not \"3000\"",
                "{:http {:port \"3000\"}"
            ),
            (
                2,
                "`ci.timeout` must be a duration such as \"90s\" or \"1h30m\", not 60",
                " :ci {:timeout 60"
            ),
            (
                3,
                "`ci.executor` must be one of :docker, :host, :swarm and :auto, not \"podman\"",
                "      :executor :podman}"
            ),
            (4, "`keep` must be a table, not 5", " :keep 5}"),
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
fn an_error_without_a_location_names_the_file() {
    let message = message(file(
        "(make-config)",
        serde_json::json!({"http": {"port": true}}),
    ));
    assert!(
        message
            .ends_with("config.fnl: `http.port` must be a port number from 1 to 65535, not true"),
        "{message}"
    );
}

#[test]
fn files_are_evaluated() {
    let load = |name: &str, text: &str| {
        super::load(
            read(&Fixture::new(&[(name, text)]).paths())?,
            &lookup(&[]),
            &quire_pipeline::fennel::eval_data,
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
        (3 << 30, 500, Some(ExecutorName::HOST))
    );
    let lua = load("config.lua", "return { http = { port = 80, [\"trusted-proxies\"] = {} }, secrets = { t = { env = \"T\" } } }").unwrap();
    assert_eq!((lua.config.http.port, lua.config.secrets.len()), (80, 1));
    assert!(
        message(load("config.fnl", "{:ci\n {:timeout 5}}"))
            .contains("config.fnl:2:3: `ci.timeout` must be a duration")
    );
    assert!(message(load("config.fnl", "{:ci")).contains("config.fnl:1:"));
    let windows = load("config.fnl", "\u{feff}{:ci\r\n {:timeout \"5m\"}}\r\n").unwrap();
    assert_eq!(windows.config.ci.timeout, Duration::from_secs(300));
    let commented = load("config.fnl", "; {:ci {}}\n").unwrap();
    assert!(commented.config == Config::default() && commented.file.is_some());
}

#[test]
fn a_configuration_is_a_table() {
    assert!(
        message(file("{", Value::Null))
            .ends_with("config.fnl: the configuration must be one table, not nil")
    );
    assert!(file("{", serde_json::json!([])).is_ok());
    assert!(file("{", serde_json::json!({"http": [], "ci": {}})).is_ok());
}

#[test]
fn unknown_settings_are_warnings_with_suggestions() {
    let text = "{:htp {}\n :ci {:timout \"1h\"}\n :zebra 1\n :notify {:mail {}}\n :backup {}}";
    let value = serde_json::json!({"htp": {}, "ci": {"timout": "1h", "retry_orphaned": true}, "zebra": 1, "notify": {"mail": {}}, "backup": {}});
    let mut warnings: Vec<(Option<u32>, String, Option<String>)> = file(text, value)
        .unwrap()
        .warnings
        .into_iter()
        .map(|w| (w.location.map(|p| p.line), w.message, w.hint))
        .collect();
    warnings.sort();
    let expected = [
        (
            Some(1),
            "`htp` is not a setting and is ignored",
            Some("did you mean `http`?"),
        ),
        (
            Some(2),
            "`ci.retry_orphaned` is not a setting and is ignored",
            Some("did you mean `retry-orphaned`?"),
        ),
        (
            Some(2),
            "`ci.timout` is not a setting and is ignored",
            Some("did you mean `timeout`?"),
        ),
        (Some(3), "`zebra` is not a setting and is ignored", None),
        (
            Some(4),
            "`notify.mail` is not a setting and is ignored",
            None,
        ),
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
            ci.executor.clone(),
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
        "the environment variable QUIRE_SSH_PORT must be a port number from 1 to 65535, not \"ssh\""
    );
}

#[test]
fn unusable_files_are_errors() {
    let both = Fixture::new(&[("config.fnl", ""), ("config.lua", "")]);
    assert!(
        message(both.load(Value::Null, &[])).starts_with("there are two configuration files, ")
    );
    let broken = Fixture::new(&[]);
    std::fs::write(broken.0.path().join("config.fnl"), [0xff, 0xfe]).unwrap();
    assert!(message(broken.load(Value::Null, &[])).ends_with("config.fnl cannot be read"));
    let large = Fixture::new(&[("config.fnl", &" ".repeat(2 << 20))]);
    assert!(message(large.load(Value::Null, &[])).ends_with("config.fnl cannot be read"));
    let diagnostic = |_: &str, file: &str, _: Language| -> Result<Value, Diagnostic> {
        let location = Some(Location {
            file: file.to_owned(),
            line: 2,
            column: 3,
        });
        Err(Diagnostic {
            message: "expected }".to_owned(),
            location,
            source_line: None,
            hint: None,
        })
    };
    let text = message(load(
        read(&Fixture::new(&[("config.fnl", "{")]).paths()).unwrap(),
        &lookup(&[]),
        &diagnostic,
    ));
    assert!(text.ends_with("config.fnl:2:3: expected }"), "{text}");
}

#[test]
fn the_documentation_lists_every_setting_with_its_default() {
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md"),
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
    let expected: Vec<[String; 3]> = SETTINGS
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

#[test]
fn docker_host_names_the_engine_unless_the_setting_does() {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::new(folder.path(), folder.path());
    let engine = |variables: &[(&str, &str)]| {
        let find = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Config::load(&paths, find).map(|loaded| loaded.config.ci.engine)
    };
    assert_eq!(engine(&[]).unwrap(), "unix:///var/run/docker.sock");
    assert_eq!(
        engine(&[("DOCKER_HOST", "")]).unwrap(),
        "unix:///var/run/docker.sock"
    );
    assert_eq!(
        engine(&[("DOCKER_HOST", "unix:///x.sock")]).unwrap(),
        "unix:///x.sock"
    );
    assert_eq!(
        engine(&[("DOCKER_HOST", "/x.sock")]).unwrap(),
        "unix:///x.sock"
    );
    let both = [
        ("DOCKER_HOST", "tcp://a:1"),
        ("QUIRE_CI_ENGINE", "unix:///y.sock"),
    ];
    assert_eq!(engine(&both).unwrap(), "unix:///y.sock");
    let error = engine(&[("DOCKER_HOST", "ssh://host")])
        .unwrap_err()
        .to_string();
    assert!(error.contains("DOCKER_HOST"), "{error}");
}

#[test]
fn addresses_and_hosts_are_checked() {
    let value = |variable: &str, text: &str| {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path().join("data"), folder.path().join("run"));
        let loaded = Config::load(&paths, |name| (name == variable).then(|| text.to_owned()));
        loaded.ok().map(|loaded| loaded.config)
    };
    for (text, kept) in [
        ("https://git.example.org", Some("https://git.example.org")),
        ("https://git.example.org/", Some("https://git.example.org")),
        ("http://nas:3000", Some("http://nas:3000")),
        ("http://[fd00::1]:3000", Some("http://[fd00::1]:3000")),
        ("https://git.example.org/quire", None),
        ("https://git.example.org//", Some("https://git.example.org")),
        ("http://fd00::1", None),
        ("http://[fd00::1", None),
        ("http://nas:0", None),
        ("http://nas:65536", None),
        ("http://nas:", None),
        ("http://user@nas", None),
        ("ftp://nas", None),
    ] {
        let config = value("QUIRE_HTTP_URL", text);
        let url = config.and_then(|config| config.http.url);
        assert_eq!(url.as_deref(), kept, "{text}");
    }
    for (text, kept) in [
        ("git.example.org", Some("git.example.org")),
        ("192.168.1.4", Some("192.168.1.4")),
        ("fd00::1", Some("fd00::1")),
        ("[fd00::1]", Some("fd00::1")),
        ("nas:2222", None),
        ("[fd00::1]:2222", None),
        ("[nas]", None),
        ("fd00::1::", None),
        ("-oProxyCommand", None),
        ("a/b", None),
    ] {
        let config = value("QUIRE_SSH_HOST", text);
        let host = config.and_then(|config| config.ssh.host);
        assert_eq!(host.as_deref(), kept, "{text}");
    }
}
