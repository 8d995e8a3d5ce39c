use super::*;

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
                "config.fnl:1:12: `secrets.token` must be {:file \"/path\"} or {:env \"NAME\"} (where the value is, never the value itself), optionally with :repos [\"app\"], :refs [\"refs/heads/main\" \"refs/tags/*\"] and :trim false"
            ),
            "{error}"
        );
    }
}

#[test]
fn secrets_are_read_on_use() {
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
    assert_eq!(read("token").unwrap().expose(), "one\ntwo\r\n");
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
            "the file {}/missing of the secret `missing` cannot be read",
            fixture.0.path().display()
        )
    );
    assert_eq!(
        text("npm-tokn"),
        "there is no secret `npm-tokn`; did you mean `npm-token`?"
    );
    assert_eq!(
        text("zzz"),
        "there is no secret `zzz`; the secrets for this run are binary, empty, large, missing, npm-token, token"
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
fn a_secret_keeps_its_final_newlines_on_request() {
    let fixture = Fixture::new(&[("token", "one\n\n"), ("key", "-----BEGIN KEY-----\nabc")]);
    let path = |name: &str| fixture.0.path().join(name);
    let secrets = serde_json::json!({"secrets": {
        "trimmed": {"file": path("token"), "trim": true},
        "kept": {"file": path("token"), "trim": false},
        "key": {"file": path("key"), "trim": false},
        "text": {"env": "TEXT", "trim": false},
    }});
    let config = file("{", secrets).unwrap().config;
    let (repo, ref_name) = ("app".parse().unwrap(), "refs/heads/main".parse().unwrap());
    for (name, value) in [
        ("trimmed", "one"),
        ("kept", "one\n\n"),
        ("key", "-----BEGIN KEY-----\nabc\n"),
        ("text", "two\n"),
    ] {
        let secret = config.secret(name, (&repo, &ref_name), lookup(&[("TEXT", "two\n")]));
        assert_eq!(secret.unwrap().expose(), value, "{name}");
    }
    let wrong = serde_json::json!({"secrets": {"x": {"env": "A", "trim": "no"}}});
    let error = file("{", wrong).unwrap_err();
    assert!(error.to_string().contains("`secrets.x` must be"), "{error}");
}

#[test]
fn a_secret_is_limited_to_repositories_and_refs() {
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
        let error = ask("deploy", repo, ref_name).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "the secret `deploy` is not available to runs of {repo} at {ref_name}: the configuration limits it by :repos or :refs"
            )
        );
        assert_eq!(ask("anyone", repo, ref_name).unwrap(), "value");
        // The message does not name secrets that are not available to the run.
        assert_eq!(
            ask("deploi", repo, ref_name).unwrap_err().to_string(),
            "there is no secret `deploi`; the secrets for this run are anyone"
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
