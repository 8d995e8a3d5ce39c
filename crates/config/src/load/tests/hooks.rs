//! `:hooks`: which webhooks are read, and what is said of those that are wrong.

use super::*;

#[test]
fn webhooks_are_read_and_wrong_ones_have_a_problem() {
    let text = "{:hooks\n {:deploy {:repo \"app\" :secret {:env \"S\"}}\n  :tag {:repo \"app\" :ref \"refs/tags/v1\" :secret {:file \"/s\"} :per-minute 5}\n\
                  :none {}\n  :plain {:repo \"app\" :secret \"hunter2\"}\n  :ref {:repo \"app\" :ref \"a..b\" :secret {:env \"S\"}}\n\
                  \"a b\" {:repo \"app\" :secret {:env \"S\"}}\n  :often {:repo \"app\" :secret {:env \"S\"} :per-minute 0}\n\
                  :key {:repo \"app\" :secret {:env \"S\"} :branhc \"main\"}}}";
    let value = serde_json::json!({"hooks": {
        "deploy": {"repo": "app", "secret": {"env": "S"}},
        "tag": {"repo": "app", "ref": "refs/tags/v1", "secret": {"file": "/s"}, "per-minute": 5},
        "none": {},
        "plain": {"repo": "app", "secret": "hunter2"},
        "ref": {"repo": "app", "ref": "a..b", "secret": {"env": "S"}},
        "a b": {"repo": "app", "secret": {"env": "S"}},
        "often": {"repo": "app", "secret": {"env": "S"}, "per-minute": 0},
        "key": {"repo": "app", "secret": {"env": "S"}, "branhc": "main"},
    }});
    let loaded = file(text, value).unwrap();
    let lines = described_entries(loaded.config.hooks.iter(), &loaded);
    assert!(!lines.contains("hunter2"), "{lines}");
    insta::assert_snapshot!(lines);
}
