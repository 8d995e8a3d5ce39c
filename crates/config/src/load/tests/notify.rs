//! `:notify`: which targets are read, and what is said of those that are wrong.

use super::*;

/// Everything that a file says about targets, a line each.
fn described(targets: &str, value: Value) -> String {
    let text = format!("{{:notify\n {{:targets\n  {{{targets}}}}}}}");
    let loaded = file(&text, serde_json::json!({"notify": {"targets": value}})).unwrap();
    described_entries(loaded.config.notify.targets.iter(), &loaded)
}

#[test]
fn targets_are_read() {
    let text = ":all {:type :webhook :url {:env \"URL\"} :key {:file \"/k\"} :on [:every] :runs [\"app@refs/heads/main\"]\n\
                :triggers [:push :cron] :cron-failures 3}\n :few {:type :webhook :url \"https://h/x\" :on :never}";
    let value = serde_json::json!({
        "all": {"type": "webhook", "url": {"env": "URL"}, "key": {"file": "/k"}, "on": ["every"],
                "runs": ["app@refs/heads/main"], "triggers": ["push", "cron"], "cron-failures": 3},
        "few": {"type": "webhook", "url": "https://h/x", "on": "never"},
    });
    insta::assert_snapshot!(described(text, value));
}

/// A target that is wrong does not keep the others, or the rest of the file, from loading.
#[test]
fn a_target_that_is_wrong_has_a_problem_in_place_of_settings() {
    let text = ":a {:type :pigeon :url \"https://h\"}\n:b {:type :webhook}\n:c {:type :webhook\n :url \"htp:/h\"}\n:d 5\n\
                :e {:url \"https://h\"}\n:f {:type :webhook :url \"https://h/x\"\n :key \"hunter2\"}\n:g {:type :webhook :url \"https://h/x\"\n :on [:green]}\n\
                :h {:type :webhook :url \"https://h/x\"\n :cron-failures 0}\n:i {:type :webhook :url \"https://h/x\"\n :runs [\"../x\"]}\n\
                :j {:type :webhook :url \"https://h/x\"\n :ky {:env \"K\"}}\n:k {:type :webhook :url \"https://h/x\"\n :triggers [:retry]}\n\
                \"l m\" {:type :webhook :url \"https://h/x\"}";
    let hook = |key: &str, value: Value| serde_json::json!({"type": "webhook", "url": "https://h/x", key: value});
    let value = serde_json::json!({
        "a": {"type": "pigeon", "url": "https://h"},
        "b": {"type": "webhook"},
        "c": {"type": "webhook", "url": "htp:/h"},
        "d": 5,
        "e": {"url": "https://h"},
        "f": hook("key", "hunter2".into()),
        "g": hook("on", serde_json::json!(["green"])),
        "h": hook("cron-failures", 0.into()),
        "i": hook("runs", serde_json::json!(["../x"])),
        "j": hook("ky", serde_json::json!({"env": "K"})),
        "k": hook("triggers", serde_json::json!(["retry"])),
        "l m": hook("on", "failed".into()),
    });
    let described = described(text, value);
    assert!(!described.contains("hunter2"), "{described}");
    insta::assert_snapshot!(described);
}

#[test]
fn targets_of_each_kind_are_read() {
    let text = ":a {:type :ntfy :url \"https://h/topic\" :token {:env \"T\"}}\n:b {:type :gotify :url \"https://h\" :token {:env \"T\"}}\n\
                :c {:type :slack :url {:env \"U\"}}\n:d {:type :matrix :url \"https://h\" :room \"!id:h\" :token {:env \"T\"}}\n\
                :e {:type :ntfy :url \"https://h/\"}\n:f {:type :gotify :url \"https://h\"}\n:g {:type :slack :key {:env \"K\"}}\n\
                :h {:type :matrix :url \"https://h\" :token {:env \"T\"}\n :room \"#alias:h\"}\n:i {:type :gotify :token {:env \"T\"} :url {:env \"U\"}}";
    let token = serde_json::json!({"env": "T"});
    let value = serde_json::json!({
        "a": {"type": "ntfy", "url": "https://h/topic", "token": token},
        "b": {"type": "gotify", "url": "https://h", "token": token},
        "c": {"type": "slack", "url": {"env": "U"}},
        "d": {"type": "matrix", "url": "https://h", "room": "!id:h", "token": token},
        "e": {"type": "ntfy", "url": "https://h/"},
        "f": {"type": "gotify", "url": "https://h"},
        "g": {"type": "slack", "key": {"env": "K"}},
        "h": {"type": "matrix", "url": "https://h", "room": "#alias:h", "token": token},
        "i": {"type": "gotify", "url": {"env": "U"}, "token": token},
    });
    insta::assert_snapshot!(described(text, value));
}

#[test]
fn targets_for_the_state_of_commits_are_read() {
    let text = ":a {:type :github-status :repo \"you/app\" :token {:env \"T\"}}\n:b {:type :gitlab-status :url \"https://h\" :repo \"a/b/c\" :token {:env \"T\"} :on :failed}\n\
                :c {:type :forgejo-status :url \"https://h\" :repo \"you/app\" :token {:env \"T\"}}\n\
                :d {:type :forgejo-status :repo \"you/app\" :token {:env \"T\"}}\n:e {:type :github-status :token {:env \"T\"}\n :repo \"app\"}\n\
                :f {:type :github-status :repo \"you/app\"}";
    let token = serde_json::json!({"env": "T"});
    let value = serde_json::json!({
        "a": {"type": "github-status", "repo": "you/app", "token": token},
        "b": {"type": "gitlab-status", "url": "https://h", "repo": "a/b/c", "token": token, "on": "failed"},
        "c": {"type": "forgejo-status", "url": "https://h", "repo": "you/app", "token": token},
        "d": {"type": "forgejo-status", "repo": "you/app", "token": token},
        "e": {"type": "github-status", "repo": "app", "token": token},
        "f": {"type": "github-status", "repo": "you/app"},
    });
    insta::assert_snapshot!(described(text, value));
}

/// By default those that are told of all runs look after the appliance as well.
#[test]
fn targets_are_told_of_health_unless_they_are_told_of_some_runs_only() {
    let hook = |keys: Value| {
        let mut target = serde_json::json!({"type": "webhook", "url": "https://h/x"});
        let keys = keys.as_object().unwrap().clone();
        target.as_object_mut().unwrap().extend(keys);
        target
    };
    let value = serde_json::json!({
        "a-usual": hook(serde_json::json!({})),
        "b-every": hook(serde_json::json!({"on": "every"})),
        "c-never": hook(serde_json::json!({"on": "never"})),
        "d-runs": hook(serde_json::json!({"runs": ["app"]})),
        "e-triggers": hook(serde_json::json!({"triggers": ["cron"]})),
        "f-off": hook(serde_json::json!({"health": false})),
        "g-only": hook(serde_json::json!({"on": "never", "health": true})),
        "h-runs": hook(serde_json::json!({"runs": ["app"], "health": true})),
        "i-wrong": hook(serde_json::json!({"health": "yes"})),
        "j-notes": {"type": "git-notes"},
        "k-notes": {"type": "git-notes", "health": false},
        "l-pushes": {"type": "github-push", "url": "https://h/x", "health": true},
    });
    let loaded = file("{", serde_json::json!({"notify": {"targets": value}})).unwrap();
    let targets = loaded.config.notify.targets.iter();
    let lines: Vec<String> = targets
        .map(|(name, target)| match &target.settings {
            Ok(settings) => format!("{name}: {}", settings.health),
            Err(problem) => format!("{name}: {problem}"),
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn targets_for_pushes_and_notes_are_read() {
    let text = ":a {:type :github-push :url \"https://h/x\" :key {:env \"K\"} :runs [\"app\"]}\n:b {:type :github-push}\n\
                :c {:type :github-push :url \"https://h/x\"\n :on :failed\n :cron-changes 5}\n\
                :d {:type :git-notes :runs [\"app\"]}\n:e {:type :git-notes\n :url \"https://h/x\"}\n\
                :f {:type :git-notes\n :cron-changes 1}";
    let value = serde_json::json!({
        "a": {"type": "github-push", "url": "https://h/x", "key": {"env": "K"}, "runs": ["app"]},
        "b": {"type": "github-push"},
        "c": {"type": "github-push", "url": "https://h/x", "on": "failed", "cron-changes": 5},
        "d": {"type": "git-notes", "runs": ["app"]},
        "e": {"type": "git-notes", "url": "https://h/x"},
        "f": {"type": "git-notes", "cron-changes": 1},
    });
    insta::assert_snapshot!(described(text, value));
}

#[test]
fn targets_of_mail_are_read() {
    let cases: &[(&str, Value)] = &[
        ("", serde_json::json!({})),
        (
            ":to [\"a@h\" \"B <b@h>\"]",
            serde_json::json!({"to": ["a@h", "B <b@h>"]}),
        ),
        (
            ":smtp \"smtps://h\" :user \"u\" :password {:env \"P\"}",
            serde_json::json!({"smtp": "smtps://h", "user": "u", "password": {"env": "P"}}),
        ),
        (":starttls false", serde_json::json!({"starttls": false})),
        (":to []", serde_json::json!({"to": []})),
        (":to \"a@h, b@h\"", serde_json::json!({"to": "a@h, b@h"})),
        (":from \"ci\"", serde_json::json!({"from": "ci"})),
        (
            ":smtp \"https://h\"",
            serde_json::json!({"smtp": "https://h"}),
        ),
        (":user \"u\"", serde_json::json!({"user": "u"})),
        (
            ":password \"hunter2\"",
            serde_json::json!({"password": "hunter2"}),
        ),
        (
            ":smtp \"smtps://h\" :starttls true",
            serde_json::json!({"smtp": "smtps://h", "starttls": true}),
        ),
        (
            ":starttls false :user \"u\" :password {:env \"P\"}",
            serde_json::json!({"starttls": false, "user": "u", "password": {"env": "P"}}),
        ),
        (":starttls :maybe", serde_json::json!({"starttls": "maybe"})),
    ];
    let mut text = String::new();
    let mut value = serde_json::Map::new();
    for (number, (keys, fields)) in cases.iter().enumerate() {
        let name = format!("m{number:02}");
        text += &format!(":{name} {{:type :email\n {keys}}}\n");
        let mut target =
            serde_json::json!({"type": "email", "to": "you@h", "from": "ci@h", "smtp": "smtp://h"});
        target
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        value.insert(name, target);
    }
    let described = described(&text, value.into());
    assert!(!described.contains("hunter2"), "{described}");
    insta::assert_snapshot!(described);
}
