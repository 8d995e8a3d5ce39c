//! Pages that are kept: whatever happens to a repository shows at the next request.

use quire_testkit::{Response, TestForge, Tree};

use crate::QUIRE;

/// A repository with two commits, whose pages have been read twice.
struct ReadForge {
    forge: TestForge,
    tree: Tree,
    first: String,
    second: String,
}

impl ReadForge {
    fn start() -> Self {
        let forge = TestForge::start(QUIRE);
        let tree = forge.tree("work", "app");
        tree.write("notes.txt", "one\n");
        let first = tree.commit("First");
        tree.write("notes.txt", "two\n");
        let second = tree.commit("Second");
        tree.push(&["main"]);
        let read = Self {
            forge,
            tree,
            first: first.trim().to_owned(),
            second: second.trim().to_owned(),
        };
        for _ in 0..2 {
            for page in read.pages("app") {
                assert_eq!(read.forge.get(&page).status, 200, "{page}");
            }
        }
        read
    }

    fn pages(&self, repo: &str) -> [String; 6] {
        [
            format!("/{repo}"),
            format!("/{repo}/-/tree/main"),
            format!("/{repo}/-/file/main/notes.txt"),
            format!("/{repo}/-/log/main"),
            format!("/{repo}/-/commit/{}", self.second),
            format!("/{repo}/-/compare/{}...main", self.first),
        ]
    }

    fn assert_all(&self, repo: &str, status: u16) -> Vec<Response> {
        let pages = self.pages(repo);
        let answers = pages.iter().map(|page| {
            let answer = self.forge.get(page);
            assert_eq!(answer.status, status, "{page}: {}", answer.body);
            answer
        });
        answers.collect()
    }
}

#[test]
fn a_forced_push_shows_at_the_next_request() {
    let read = ReadForge::start();
    read.tree.git_ok(&["reset", "--hard", &read.first]);
    read.tree.write("notes.txt", "three\n");
    read.tree.commit("Third");
    read.tree.push(&["--force", "main"]);
    let [overview, tree, file, log, commit, compare] = read
        .assert_all("app", 200)
        .try_into()
        .unwrap_or_else(|_| panic!("six pages"));
    for page in [overview, tree, log, compare] {
        assert!(
            page.body.contains("Third") && !page.body.contains("Second"),
            "{}",
            page.body
        );
    }
    assert!(file.body.contains("three"));
    // It is still there, under its id.
    assert!(commit.body.contains("Second"));
}

#[test]
fn what_gc_removed_has_no_page_any_more() {
    let read = ReadForge::start();
    read.tree.git_ok(&["reset", "--hard", &read.first]);
    read.tree.push(&["--force", "main"]);
    let page = format!("/app/-/commit/{}", read.second);
    let answer = read.forge.get(&page);
    assert_eq!(answer.status, 200);
    let folder = read.forge.paths.repo(&"app".parse().unwrap());
    let git = |arguments: &[&str]| {
        let done = quire_testkit::hermetic_git(&folder, &folder, arguments).output();
        assert!(done.as_ref().unwrap().status.success(), "{done:?}");
    };
    remove_own_refs(&folder);
    git(&["reflog", "expire", "--expire=now", "--all"]);
    git(&["gc", "--quiet", "--prune=now"]);
    let vanished = read.forge.get(&page);
    assert_eq!(vanished.status, 404);
    // The records of the push still say what took its place.
    for text in [
        "A push moved",
        "is now at",
        &format!("/app/-/commit/{}", read.first),
    ] {
        assert!(vanished.body.contains(text), "{text}: {}", vanished.body);
    }
    let none = format!("/app/-/commit/{}", "0123456789".repeat(4));
    assert!(!read.forge.get(&none).body.contains("is now at"));
    assert_eq!(read.forge.get("/app/-/log/main").status, 200);
}

/// Deletes the refs that keep what was overwritten.
fn remove_own_refs(folder: &std::path::Path) {
    let listed =
        quire_testkit::hermetic_git(folder, folder, &["for-each-ref", "--format=%(refname)"]);
    let listed = quire_testkit::run_ok(&mut { listed });
    for name in listed
        .lines()
        .filter(|name| name.starts_with("refs/quire/"))
    {
        let arguments = ["update-ref", "-d", name];
        quire_testkit::run_ok(&mut quire_testkit::hermetic_git(folder, folder, &arguments));
    }
}

#[test]
fn a_renamed_repository_has_the_links_of_its_new_name() {
    let read = ReadForge::start();
    read.forge.ssh_ok("repo rename app work/shop");
    for page in read.pages("app") {
        let answer = read.forge.get(&page);
        assert_eq!(answer.status, 307, "{page}");
    }
    for answer in read.assert_all("work/shop", 200) {
        assert!(answer.body.contains("href=\"/work/shop"));
        assert!(!answer.body.contains("href=\"/app"), "{}", answer.body);
    }
}

#[test]
fn a_removed_repository_has_no_pages_until_it_is_restored() {
    let read = ReadForge::start();
    read.forge.ssh_ok("repo rm app --yes");
    read.assert_all("app", 404);
    // Another one of its name does not have its pages.
    let other = read.forge.tree("other", "app");
    other.write("notes.txt", "other\n");
    other.commit("Other");
    other.push(&["main"]);
    let file = read.forge.get("/app/-/file/main/notes.txt");
    assert!(
        file.body.contains("other") && !file.body.contains("two"),
        "{}",
        file.body
    );
    let commit = read.forge.get(&format!("/app/-/commit/{}", read.second));
    assert_eq!(commit.status, 404);
    read.forge.ssh_ok("repo rm app --yes --now");
    read.assert_all("app", 404);
    read.forge.ssh_ok("repo restore app");
    for answer in read.assert_all("app", 200) {
        assert!(!answer.body.contains("Other"));
    }
}
