//! The pages of where lines come from.

use quire_web::SignInMethod;

use super::repository::{commit, furnish, git, install};
use super::site::Site;

async fn signed_in() -> Site {
    let mut site = Site::start(SignInMethod::Ssh).await;
    site.sign_in().await;
    site
}

#[tokio::test]
async fn blame_names_the_commit_of_each_line() {
    let site = signed_in().await;
    let (first, second) = furnish(&site, "app");
    let page = site.get("/app/-/blame/main/src/main.rs").await;
    assert_eq!(page.status, 200);
    let commit = |id: &str| format!("<a href=\"/app/-/commit/{id}\">");
    assert_eq!(page.body.matches(&commit(&first)).count(), 2);
    assert_eq!(page.body.matches(&commit(&second)).count(), 1);
    assert_eq!(page.body.matches("class=\"blame-block\"").count(), 3);
    let before = format!("href=\"/app/-/blame/{first}/src/main.rs#L2\"");
    assert_eq!(page.body.matches(&before).count(), 1);
    assert!(page.body.contains("id=\"L2\""));
    let file = site.get("/app/-/file/main/src/main.rs").await;
    assert!(file.body.contains("href=\"/app/-/blame/main/src/main.rs\""));
    assert!(page.body.contains("href=\"/app/-/file/main/src/main.rs\""));

    let data = site.json("/app/-/blame/main/src/main.rs").await.json();
    let block = &data["blocks"][1];
    assert_eq!(
        (&block["line"], &block["count"], &block["commit"]["id"]),
        (&2.into(), &1.into(), &second.into())
    );
    assert_eq!(block["lines"][0], "\tprintln!(\"two\");");
    assert_eq!(
        (&data["is_whole"], &data["next"]),
        (&true.into(), &().into())
    );
    for (path, text) in [
        ("bin", "This is a binary file."),
        ("empty", "This file is empty."),
    ] {
        let page = site.get(&format!("/app/-/blame/main/{path}")).await;
        assert!(page.body.contains(text), "{path}");
    }
    let folder = site.get("/app/-/blame/main/src").await;
    assert_eq!(folder.status, 307);
    for missing in [
        "main/nothing",
        "main/src/main.rs?from=9",
        "main/src/main.rs?from=0",
        "main/module",
    ] {
        assert_eq!(
            site.get(&format!("/app/-/blame/{missing}")).await.status,
            404,
            "{missing}"
        );
    }
}

#[tokio::test]
async fn two_revisions_are_compared() {
    let site = signed_in().await;
    let (first, second) = furnish(&site, "app");
    let page = site.get("/app/-/compare/v1.0...main").await;
    assert_eq!(page.status, 200);
    for text in [
        "1 commit is only in main",
        "3 files changed",
        &format!("common ancestor <a href=\"/app/-/commit/{first}\">"),
        &format!("href=\"/app/-/commit/{second}\""),
        "href=\"/app/-/compare/main...v1.0\"",
        "href=\"/app/-/compare/v1.0..main\"",
        "data-o=\"2\" data-n=\"\"><b>-</b>\t<span class=\"hf\">println!</span>(",
    ] {
        assert!(page.body.contains(text), "{text}: {}", page.body);
    }
    let back = site.get("/app/-/compare/main...v1.0").await;
    assert!(back.body.contains("No commit is only in v1.0"));
    assert!(back.body.contains("0 files changed"));
    let all = site.json("/app/-/compare/main..v1.0").await.json();
    assert_eq!(
        (&all["total_commits"], &all["total_files"]),
        (&0.into(), &3.into())
    );
    let data = site.json("/app/-/compare/v1.0...topic/%231").await.json();
    assert_eq!(data["commits"][0]["id"], second.as_str());
    assert_eq!(
        (&data["base"], &data["files"][2]["path"]),
        (&first.clone().into(), &"src/main.rs".into())
    );
    let alone = site
        .get("/app/-/compare/v1.0...main?path=src/main.rs")
        .await;
    assert!(alone.body.contains("The whole difference") && !alone.body.contains("crlf.txt"));

    let branches = site.get("/app/-/branches").await;
    assert!(
        branches
            .body
            .contains("href=\"/app/-/compare/HEAD...topic/%231\"")
    );
    let form = site.get("/app/-/compare?a=v1.0&b=topic%2F%231").await;
    assert_eq!(form.status, 303);
    assert_eq!(
        form.header("location"),
        Some("/app/-/compare/v1.0...topic/%231")
    );
    for missing in [
        "main...nothing",
        "main/src...main",
        "main...main/src",
        "main",
        "...main",
    ] {
        let path = format!("/app/-/compare/{missing}");
        assert_eq!(site.get(&path).await.status, 404, "{missing}");
    }
    for parent in ["0", "2", "x"] {
        let path = format!("/app/-/commit/{second}?parent={parent}");
        assert_eq!(site.get(&path).await.status, 404, "{parent}");
    }
}

#[tokio::test]
async fn a_history_names_the_file_before_it_was_renamed() {
    let site = signed_in().await;
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path();
    git(work, &["init", "--quiet", "--initial-branch=main"]);
    std::fs::write(work.join("old name"), "a line\nand another\n").unwrap();
    let first = commit(work, "Add");
    git(work, &["mv", "old name", "new"]);
    let second = commit(work, "Rename");
    install(&site, "app", work);
    let plain = site.get("/app/-/log/main/new").await.body;
    assert!(plain.contains("href=\"/app/-/log/main/new?follow=1\">Follow renames"));
    assert!(!plain.contains("was called"));
    let followed = site.get("/app/-/log/main/new?follow=1").await.body;
    let former = format!("/app/-/log/{first}/old%20name?follow=1");
    let sentence = format!("the file was called <a href=\"{former}\">old name</a>");
    assert!(followed.contains(&sentence), "{followed}");
    let data = site.json("/app/-/log/main/new?follow=1").await.json();
    assert_eq!(data["renamed_from"]["href"], former.as_str());
    assert_eq!(data["commits"][0]["id"], second.as_str());
    let before = site.json(&former).await.json();
    assert_eq!(before["commits"][0]["id"], first.as_str());
    assert_eq!(before["renamed_from"], serde_json::Value::Null);
}

#[tokio::test]
async fn the_runs_of_a_repository_have_its_head() {
    let site = signed_in().await;
    furnish(&site, "work/app");
    let body = site.get("/work/app/-/runs").await.body;
    for text in [
        "<h1><a href=\"/work/app\">work/app</a></h1>",
        "<a href=\"/work/app/-/runs\" aria-current=\"page\">Runs</a>",
        "role=\"search\"",
        "href=\"/work/app/-/runs.atom\"",
    ] {
        assert!(body.contains(text), "{text}: {body}");
    }
    assert!(site.get("/runs").await.body.contains("<h1>Runs</h1>"));
}
