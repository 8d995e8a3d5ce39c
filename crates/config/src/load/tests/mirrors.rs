//! `:mirrors`: which mirrors are read, and what is said of those that are wrong.

use super::*;

/// Everything that a file says about the mirrors of `app`, a line each.
fn described(mirrors: &str, value: Value) -> String {
    let text = format!("{{:mirrors\n {{:repos\n  {{:app {{{mirrors}}}}}}}}}");
    let value = serde_json::json!({"mirrors": {"repos": {"app": value}}});
    let loaded = file(&text, value).unwrap();
    described_entries(loaded.config.mirrors.repos.values().flatten(), &loaded)
}

#[test]
fn mirrors_are_read() {
    let text = ":a {:url \"git@nas:app\"}\n:b {:url \"https://h/app\" :user \"me\" :token {:env \"T\"}\n\
                :refs [\"refs/heads/main\"] :delete false :force false}";
    let value = serde_json::json!({
        "a": {"url": "git@nas:app"},
        "b": {"url": "https://h/app", "user": "me", "token": {"env": "T"}, "refs": ["refs/heads/main"],
              "delete": false, "force": false},
    });
    insta::assert_snapshot!(described(text, value));
}

#[test]
fn a_mirror_that_is_wrong_has_a_problem_in_place_of_settings() {
    let text = ":a {:url \"http://h/app\"}\n:b {:user \"x\"}\n:c {:url \"https://h/app\"}\n:d {:url \"git@h:app\"\n :token {:env \"T\"}}\n\
                :e {:url \"git@h:app\"\n :refs [\"main\"]}\n:f 5\n\"g h\" {:url \"git@h:app\"}\n:i {:url \"git@h:app\"\n :user \"me\"}\n\
                :j {:url \"git@h:app\"\n :forse true}\n:k {:url \"https://h/app\"\n :token \"hunter2\"}\n:l {:url \"https://me:hunter2@h/app\"}";
    let value = serde_json::json!({
        "a": {"url": "http://h/app"},
        "b": {"user": "x"},
        "c": {"url": "https://h/app"},
        "d": {"url": "git@h:app", "token": {"env": "T"}},
        "e": {"url": "git@h:app", "refs": ["main"]},
        "f": 5,
        "g h": {"url": "git@h:app"},
        "i": {"url": "git@h:app", "user": "me"},
        "j": {"url": "git@h:app", "forse": true},
        "k": {"url": "https://h/app", "token": "hunter2"},
        "l": {"url": "https://me:hunter2@h/app"},
    });
    let described = described(text, value);
    assert!(!described.contains("hunter2"), "{described}");
    insta::assert_snapshot!(described);
}

#[test]
fn a_name_that_no_repository_can_have_is_an_error() {
    let text = "{:mirrors\n {:repos\n  {\"../x\" {}}}}";
    let value = serde_json::json!({"mirrors": {"repos": {"../x": {}}}});
    insta::assert_snapshot!(
        file(text, value)
            .unwrap_err()
            .to_string()
            .rsplit('/')
            .next()
            .unwrap()
    );
}
