//! Patches as a client downloads them, and what of a difference a page shows.

use std::path::Path;
use std::process::Stdio;

use quire_testkit::hermetic_git;
use quire_web::SignInMethod;

use super::repository::{commit, furnish, git, install};
use super::site::Site;

async fn signed_in() -> Site {
    let mut site = Site::start(SignInMethod::Ssh).await;
    site.sign_in().await;
    site
}

/// Runs git in a folder with these bytes as its input.
fn feed(folder: &Path, arguments: &[&str], input: &[u8]) {
    let file = folder.join(".git/input.patch");
    std::fs::write(&file, input).unwrap();
    let mut command = hermetic_git(folder, folder, arguments);
    command.stdin(Stdio::from(std::fs::File::open(&file).unwrap()));
    let done = command.output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {done:?}");
}

#[tokio::test]
async fn git_applies_what_a_client_downloads() {
    let site = signed_in().await;
    let (first, second) = furnish(&site, "app");
    let repo = site.state.paths.repo(&"app".parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let from = repo.display().to_string();
    git(
        folder.path(),
        &["clone", "--quiet", "--no-checkout", &from, "work"],
    );
    let work = folder.path().join("work");
    let tree = git(&work, &["rev-parse", &format!("{second}^{{tree}}")]);
    for (path, is_mail) in [
        (format!("/app/-/commit/{second}.diff"), false),
        (format!("/app/-/commit/{second}.patch"), true),
        ("/app/-/commit/main.patch".to_owned(), true),
        ("/app/-/compare/v1.0...main.diff".to_owned(), false),
        (format!("/app/-/compare/{first}..{second}.patch"), true),
    ] {
        let answer = site.get(&path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        git(&work, &["update-ref", "--no-deref", "HEAD", &first]);
        git(&work, &["read-tree", &first]);
        if is_mail {
            // A worktree with such names is no place for `git am`; the mail is a patch as well.
            assert!(
                answer.body.contains("\nSubject: [PATCH] Say two\n"),
                "{path}"
            );
            assert!(
                answer.body.contains("\nBecause one was not enough.\n---\n"),
                "{path}"
            );
        }
        feed(&work, &["apply", "--cached"], &answer.bytes);
        assert_eq!(git(&work, &["write-tree"]), tree, "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("sandbox"), "{path}");
        let is_fixed = answer
            .header("cache-control")
            .unwrap()
            .contains("immutable");
        assert_eq!(is_fixed, path.contains(&second), "{path}");
        let tag = answer.header("etag").unwrap();
        let again = site.send("GET", &path, &[("If-None-Match", tag)]).await;
        assert_eq!(again.status, 304, "{path}");
    }
    let short = site
        .get(&format!("/app/-/commit/{}.diff?parent=1", &second[..8]))
        .await;
    let target = format!("/app/-/commit/{second}.diff?parent=1");
    assert_eq!(
        (short.status, short.header("location")),
        (307, Some(target.as_str()))
    );
    for missing in [
        "commit/none.patch",
        "commit/main/src.patch",
        "commit/main.patch?parent=2",
        "commit/main.patch?parent=0",
        "commit/.patch",
        "compare/main...none.diff",
        "compare/none..main.patch",
    ] {
        let answer = site.get(&format!("/app/-/{missing}")).await;
        assert_eq!(answer.status, 404, "{missing}");
    }
    for page in [
        format!("/app/-/commit/{second}"),
        "/app/-/compare/v1.0...main".to_owned(),
    ] {
        let body = site.get(&page).await.body;
        for end in [".patch", ".diff"] {
            assert!(
                body.contains(&format!("href=\"{page}{end}\"")),
                "{page}: {body}"
            );
        }
    }
}

#[tokio::test]
async fn a_ref_whose_name_ends_like_a_patch_has_its_page() {
    let site = signed_in().await;
    let (first, second) = furnish(&site, "app");
    let repo = site.state.paths.repo(&"app".parse().unwrap());
    git(&repo, &["update-ref", "refs/heads/fix.patch", &first]);
    let page = site.get("/app/-/commit/fix.patch").await;
    assert!(page.body.contains("<!doctype html>"));
    let patch = site.get("/app/-/commit/fix.patch.patch").await;
    assert!(patch.body.starts_with(&format!("From {first} ")));
    let compared = site.get("/app/-/compare/main...fix.patch").await;
    assert!(compared.body.contains("<!doctype html>"));
    let patch = site
        .get(&format!("/app/-/compare/fix.patch..{second}.patch"))
        .await;
    assert!(patch.body.starts_with(&format!("From {second} ")));
}

/// Fills `app` with a commit that changes lines, white space, and files that are rarely read.
fn furnish_changes(site: &Site) -> String {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path();
    let write = |name: &str, content: &str| {
        let file = work.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    };
    git(work, &["init", "--quiet", "--initial-branch=main"]);
    write(
        "main.rs",
        "fn main() {\n    let total = count(one);\n    say(total);\n}\n",
    );
    write("spaces.txt", "a b\nc\n");
    write("Cargo.lock", "one\n");
    write("vendor/x.c", "int x;\n");
    commit(work, "Begin");
    write(
        "main.rs",
        "fn main() {\n    let total = count(<two>);\n    say(total);\n}\n",
    );
    write("spaces.txt", "a  b\nc\n");
    write("Cargo.lock", "two\n");
    write("vendor/x.c", "int y;\n");
    let id = commit(work, "Change");
    install(site, "app", work);
    id
}

#[tokio::test]
async fn a_difference_is_shown_as_it_is_asked_for() {
    let site = signed_in().await;
    let id = furnish_changes(&site);
    let here = format!("/app/-/commit/{id}");
    let page = site.get(&here).await.body;
    for text in [
        "<span class=\"hf\">count</span>(<mark>one</mark>);",
        "<span class=\"hf\">count</span>(<mark>&lt;two&gt;</mark>);",
        "The changes of this lock file are folded.",
        "The changes of this vendored file are folded.",
        &format!("href=\"{here}?path=Cargo.lock\">Show them"),
        &format!("href=\"{here}?view=split\">Side by side"),
        &format!("href=\"{here}?ws=ignore\">Ignore white space"),
        "<span class=\"plus\">+1</span>",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(!page.contains("<mark>y</mark>") && !page.contains("class=\"dr\""));
    let alone = site
        .get(&format!("{here}?path=vendor/x.c&view=split"))
        .await
        .body;
    for text in [
        "<span class=\"hk\">int</span> <mark>y</mark>;",
        "class=\"dr\"",
        "<pre class=\"diff split\"",
        &format!("href=\"{here}?path=vendor/x.c\">Unified"),
        &format!("href=\"{here}?view=split\">The whole commit"),
    ] {
        assert!(alone.contains(text), "{text}: {alone}");
    }
    let ignored = site.get(&format!("{here}?ws=ignore")).await.body;
    assert!(
        ignored.contains("No line changed, or white space alone."),
        "{ignored}"
    );
    assert!(ignored.contains("Show changes of white space") && !ignored.contains("a  b"));
    let data = site.json(&here).await.json();
    assert_eq!(data["files"][0]["folded"], "lock file");
    assert_eq!(data["files"][0]["next"], format!("{here}?path=Cargo.lock"));
    assert_eq!(data["files"][1]["folded"], serde_json::Value::Null);
    let parent = data["parents"][0].as_str().unwrap();
    let compared = site
        .get(&format!(
            "/app/-/compare/{parent}...main?view=split&ws=ignore"
        ))
        .await;
    assert!(compared.body.contains("class=\"dr\"") && !compared.body.contains("a  b"));
}

#[tokio::test]
async fn pages_of_a_repository_name_its_feeds() {
    let site = signed_in().await;
    furnish(&site, "work/app");
    for path in ["/work/app", "/work/app/-/log/main", "/work/app/-/branches"] {
        let body = site.get(path).await.body;
        for feed in ["commits.atom", "runs.atom"] {
            let link = "type=\"application/atom+xml\"";
            assert!(
                body.contains(link) && body.contains(&format!("href=\"/work/app/-/{feed}\"")),
                "{path}"
            );
        }
    }
    let body = site.get("/work/app").await.body;
    assert!(body.contains("href=\"/work/app/-/badge.svg\""));
    assert!(!site.get("/").await.body.contains("application/atom+xml"));
}
