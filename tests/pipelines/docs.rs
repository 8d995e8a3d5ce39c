//! The examples of docs/pipelines.md are pipelines that the binary accepts.

use crate::support::check;

#[test]
fn every_example_of_the_manual_is_accepted() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/pipelines.md")).unwrap();
    let mut examples = Vec::new();
    let mut current: Option<(&str, String)> = None;
    for line in text.lines() {
        current = match (current.take(), line.strip_prefix("```")) {
            (None, Some(language)) => Some((language, String::new())),
            (Some((language, code)), Some(_)) => {
                examples.push((language, code));
                None
            }
            (Some((language, code)), None) => Some((language, code + line + "\n")),
            (None, None) => None,
        };
    }
    let mut checked = 0;
    for (language, code) in &examples {
        let (file, code) = match *language {
            "fennel" if code.contains("(require :quire.ci)") => (".quire/ci.fnl", code.clone()),
            // A job, or the body of one.
            "fennel" if code.trim_start().starts_with("(ci.") => {
                (".quire/ci.fnl", format!("(local ci (require :quire.ci))\n{code}(ci.job :the-end [:quire/push] #nil)"))
            }
            "fennel" => (
                ".quire/ci.fnl",
                format!("(local ci (require :quire.ci))\n(ci.job :a [:quire/push] (fn [{{: sh : jobs : secret : log : read-file : read-json : write-file : artifact}}]\n{code}))"),
            ),
            "lua" => (".quire/ci.lua", code.clone()),
            _ => continue,
        };
        let helpers = (".quire/helpers.fnl", "{:cargo (fn [sh ...] (sh [:cargo ...]))}");
        let found = check(&[(file, &code), helpers], &[]);
        assert_eq!(found.code, 0, "{code}\n{}", found.stderr);
        checked += 1;
    }
    assert!(checked >= 10, "only {checked} examples were found");
}
