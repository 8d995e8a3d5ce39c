//! Management commands over SSH.

use super::support::{Forge, Kind, said, stderr, stdout};

#[test]
fn repositories_and_keys() {
    let forge = Forge::start(Kind::Quire);
    let json = |words: &[&str]| -> serde_json::Value {
        let output = forge.ssh(words);
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        serde_json::from_str(&stdout(&output)).unwrap()
    };
    assert_eq!(json(&["repo", "list", "--json"]), serde_json::json!({"repos": []}));
    let made = forge.ssh(&["repo", "new", "work/app"]);
    assert_eq!(stdout(&made), "created repository work/app", "{}", said(&made));
    assert_eq!(forge.ssh(&["repo", "new", "work/app"]).status.code(), Some(1));
    assert_eq!(forge.ssh(&["repo", "new", "../app"]).status.code(), Some(2));
    assert_eq!(json(&["repo", "list", "--json"])["repos"][0]["repo"], "work/app");
    let wrong = forge.ssh(&["repo", "rm", "app", "--yes"]);
    assert_eq!(wrong.status.code(), Some(3));
    assert!(stderr(&wrong).contains("did you mean `work/app`?"), "{}", said(&wrong));
    assert_eq!(forge.ssh(&["repo", "rm", "work/app"]).status.code(), Some(2), "only with --yes");
    assert!(forge.paths.repos().join("work/app.git").exists());
    assert!(forge.ssh(&["repo", "rm", "work/app", "--yes"]).status.success());
    assert!(!forge.paths.repos().join("work").exists());

    let keys = json(&["key", "list", "--json"]);
    assert_eq!(keys["keys"][0]["name"], "laptop, the new one");
    assert_eq!(keys["keys"][1]["type"], "ssh-ed25519");
    assert!(keys["keys"][0]["fingerprint"].as_str().unwrap().starts_with("SHA256:"));
}

#[test]
fn without_a_server_commands_say_what_to_do() {
    let forge = Forge::start(Kind::Quire);
    for words in [&["run", "list"][..], &["login"]] {
        let output = forge.ssh(words);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(stderr(&output).contains("there is no database") && stderr(&output).contains("quire serve"), "{}", said(&output));
    }
    // A port where surely nobody is: the answer must not depend on what else runs here.
    std::fs::write(forge.paths.endpoint(), r#"{"listen":"127.0.0.1:1","url":"http://localhost:1"}"#).unwrap();
    let status = forge.ssh(&["status"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(stderr(&status).contains("does not answer"), "{}", said(&status));
    let help = forge.ssh(&["help"]);
    assert!(help.status.success() && stdout(&help).contains("Repositories"), "{}", said(&help));
    assert_eq!(forge.ssh(&["run", "list", "--nonsense"]).status.code(), Some(2));
}
