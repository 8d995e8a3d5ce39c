//! What repositories are, in one line: by a command, and by the settings on the default branch.

use quire_testkit::{TestForge, transcript};
use serde_json::Value;

use super::GREEN;
use crate::QUIRE;

/// What `repo show` says, which `repo list`, the page and the feed have to say as well.
#[track_caller]
fn shown(forge: &TestForge) -> Option<String> {
    let shown = forge.ssh_ok("repo show app --json");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let description = shown["description"].as_str().map(str::to_owned);
    let page = forge.get("/app").body;
    if let Some(text) = &description {
        let text = text
            .replace('&', "&#38;")
            .replace('<', "&#60;")
            .replace('>', "&#62;");
        assert!(page.contains(&format!("<p>{text}</p>")), "{page}");
        let feed = forge.get("/app/-/commits.atom").body;
        let line = format!("<subtitle>{text}</subtitle>");
        assert!(feed.contains(&line), "{feed}");
    }
    let list: Value = serde_json::from_str(&forge.ssh_ok("repo list --json")).unwrap();
    let repos = list["repos"].as_array().unwrap();
    let found = repos.iter().find(|repo| repo["repo"] == "app").unwrap();
    assert_eq!(found["description"].as_str(), description.as_deref());
    description
}

#[test]
fn a_repository_is_described_by_a_command_or_by_its_settings() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["-o", "ci.skip", "main"]);
    assert_eq!(shown(&forge), None);
    assert_eq!(
        forge.ssh_ok("repo description app"),
        "app has no description\n"
    );
    assert_eq!(
        forge.ssh_ok("repo description app 'Tools of\tmine <&>'"),
        "app: Tools of mine <&>\n"
    );
    assert_eq!(shown(&forge).as_deref(), Some("Tools of mine <&>"));
    let page = forge.get("/app").body;
    assert!(
        page.contains("<p>Tools of mine &#60;&#38;&#62;</p>"),
        "{page}"
    );
    // Git's own file, for programs that read it.
    let file = forge
        .paths
        .repo(&"app".parse().unwrap())
        .join("description");
    assert_eq!(
        std::fs::read_to_string(file).unwrap(),
        "Tools of mine <&>\n"
    );

    // It goes with the repository, and is undone like everything else.
    forge.ssh_ok("repo rename app shop");
    forge.ssh_ok("repo rename shop app");
    forge.ssh_ok("repo description app Other");
    let log: Value = serde_json::from_str(&forge.ssh_ok("log --limit 1 --json")).unwrap();
    forge.ssh_ok(&format!("undo {}", log["operations"][0]["id"]));
    assert_eq!(shown(&forge).as_deref(), Some("Tools of mine <&>"));
    let long = format!("repo description app {}", "x".repeat(301));
    let output = forge.ssh(&long);
    assert_eq!(output.status.code(), Some(2), "{}", transcript(&output));

    // The settings say it for everyone who has the repository, and are changed by a push alone.
    tree.write(".quire/config.fnl", "{:description \"By the file\"}");
    tree.push_new("Say what it is");
    assert_eq!(shown(&forge).as_deref(), Some("By the file"));
    assert_eq!(forge.ssh_ok("repo description app"), "By the file\n");
    let output = forge.ssh("repo description app Mine");
    assert_eq!(output.status.code(), Some(1), "{}", transcript(&output));
    assert!(
        transcript(&output).contains("change `.quire/config.fnl`"),
        "{}",
        transcript(&output)
    );
    tree.git_ok(&["rm", "-q", ".quire/config.fnl"]);
    tree.push_new("Say it no more");
    assert_eq!(shown(&forge).as_deref(), Some("Tools of mine <&>"));
    assert_eq!(
        forge.ssh_ok("repo description app ''"),
        "app has no description any more\n"
    );
    assert_eq!(shown(&forge), None);
    forge.wait_for_quiet();
    forge.check_whole();
}
