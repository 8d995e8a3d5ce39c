//! Changes of jj and of Gerrit: their pages, and what pushes record of them.

use quire_testkit::{TestForge, Tree, hermetic_git, run_ok};

use crate::QUIRE;

const CHANGE: &str = "kkmpptxzrspxrzommnulwmwkkqwworpl";

/// Gives the newest commit the change id that jj writes into its head, and makes it the branch.
fn mark(tree: &Tree, change: &str) -> String {
    let raw = tree.git_ok(&["cat-file", "commit", "HEAD"]);
    let (head, message) = raw.split_once("\n\n").unwrap();
    let raw = format!("{head}\nchange-id {change}\n\n{message}\n");
    let id = tree.git_with(
        &["hash-object", "-t", "commit", "-w", "--stdin"],
        raw.as_bytes(),
    );
    tree.git_ok(&["reset", "-q", "--hard", id.trim()]);
    id.trim().to_owned()
}

fn page(forge: &TestForge, path: &str, texts: &[&str]) -> String {
    let answer = forge.get(path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    for text in texts {
        assert!(answer.body.contains(text), "{text}: {}", answer.body);
    }
    answer.body
}

#[test]
fn a_change_has_its_present_commit_and_all_versions() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree("work", "app");
    tree.write("notes.txt", "zero\n");
    let base = tree.commit("Base").trim().to_owned();
    tree.push(&["main"]);
    tree.write("notes.txt", "one\n");
    tree.commit("Say one");
    let first = mark(&tree, CHANGE);
    tree.push(&["main"]);
    tree.git_ok(&["reset", "-q", "--hard", &base]);
    tree.write("notes.txt", "two\n");
    tree.commit("Say two");
    let second = mark(&tree, CHANGE);
    tree.push(&["--force", "main"]);
    forge.wait_for_empty_spool();

    let address = format!("/app/-/change/{CHANGE}");
    let compare = format!("/app/-/compare/{first}..{second}");
    let body = page(
        &forge,
        &address,
        &[
            "Say two",
            "Say one",
            "2 versions",
            &format!("href=\"{compare}\""),
        ],
    );
    assert_eq!(body.matches("class=\"badge\">present<").count(), 1);
    assert!(!body.contains("divergent"));
    page(
        &forge,
        &compare,
        &[
            "Both are versions of the change",
            "<h3>Message</h3>",
            "<b>+</b>Say two",
        ],
    );
    let form = forge.get(&format!("/app/-/compare?a={first}&b={second}&range=.."));
    assert_eq!(form.header("location"), Some(compare.as_str()));
    page(
        &forge,
        &format!("/app/-/commit/{second}"),
        &[&format!("href=\"{address}\"")],
    );
    let short = forge.get("/app/-/change/kkmpp");
    assert_eq!(short.header("location"), Some(address.as_str()));
    assert_eq!(forge.get("/app/-/change/zzzzz").status, 404);

    // Both are on branches now.
    tree.push(&[&format!("{first}:refs/heads/other")]);
    page(&forge, &address, &["divergent"]);
    tree.push(&[":other"]);

    // What git has removed names what the change has now.
    let folder = forge.paths.repo(&"app".parse().unwrap());
    let git = |arguments: &[&str]| run_ok(&mut hermetic_git(&folder, &folder, arguments));
    for name in git(&["for-each-ref", "--format=%(refname)", "refs/quire"]).lines() {
        git(&["update-ref", "-d", name]);
    }
    git(&["reflog", "expire", "--expire=now", "--all"]);
    git(&["gc", "--quiet", "--prune=now"]);
    let gone = forge.get(&format!("/app/-/commit/{first}"));
    assert_eq!(gone.status, 404);
    let now = format!("which is now <a href=\"/app/-/commit/{second}\">Say two</a>");
    assert!(gone.body.contains(&now), "{}", gone.body);
    page(
        &forge,
        &address,
        &["not in the repository any more", "2 versions"],
    );
    // The versions move with the repository.
    forge.ssh_ok("repo rename app moved");
    page(
        &forge,
        &format!("/moved/-/change/{CHANGE}"),
        &["2 versions"],
    );
}

#[test]
fn gerrits_changes_are_found_without_records() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree("work", "app");
    let id = format!("I{}", "0a1b".repeat(10));
    tree.commit(&format!("Old\n\nWhy.\n\nChange-Id: {id}"));
    tree.commit("Without one");
    tree.push(&["main"]);
    // The newest commit of the push has no id, so nothing was recorded.
    let body = page(&forge, &format!("/app/-/change/{id}"), &["Old"]);
    assert!(!body.contains("version"));
    tree.commit(&format!("New\n\nChange-Id: {id}"));
    tree.push(&["main"]);
    forge.wait_for_empty_spool();
    page(
        &forge,
        &format!("/app/-/change/{id}"),
        &["New", "1 version"],
    );
}
