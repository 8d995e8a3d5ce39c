//! Feeds, badges and parts of files.

use quire_web::SignInMethod;

use super::repository::furnish;
use super::site::{NOW, Site};

async fn signed_in() -> Site {
    let mut site = Site::start(SignInMethod::Ssh).await;
    site.sign_in().await;
    site
}

#[tokio::test]
async fn feeds_have_the_newest_commits_and_runs() {
    let site = signed_in().await;
    let (first, second) = furnish(&site, "work/app");
    let run = site.seed.run("work/app", "main", NOW);
    site.seed.start(run, NOW);
    site.seed
        .end(run, "job", Some("exit code 1 & <more>"), NOW.plus(5000));
    let feed = site.get("/work/app/-/commits.atom").await;
    assert_eq!(feed.status, 200);
    let kind = feed.header("content-type").unwrap();
    assert_eq!(kind, "application/atom+xml; charset=utf-8");
    insta::assert_snapshot!(
        feed.body
            .replace(&first, "FIRST")
            .replace(&second, "SECOND")
    );
    let tagged = site.get("/work/app/-/commits.atom?ref=v1.0").await.body;
    assert!(tagged.contains(&first) && !tagged.contains(&second));
    let runs = site.get("/work/app/-/runs.atom").await;
    insta::assert_snapshot!(runs.body.replace(&run.to_string(), "RUN"));
    let tag = runs.header("etag").unwrap();
    let headers = [("If-None-Match", tag)];
    let again = site.send("GET", "/work/app/-/runs.atom", &headers).await;
    assert_eq!(again.status, 304);
    // A repository without commits has an empty feed.
    site.seed.repo("bare");
    assert_eq!(site.get("/app/-/runs.atom").await.status, 404);
    assert_eq!(site.get("/bare/-/runs.atom").await.status, 200);
    let missing = site.get("/work/app/-/commits.atom?ref=none").await;
    assert_eq!(missing.status, 404);
}

#[tokio::test]
async fn a_badge_shows_a_branch_or_a_job() {
    let site = signed_in().await;
    furnish(&site, "work/app");
    let word = async |query: &str| {
        let path = format!("/work/app/-/badge.svg{query}");
        let data = site.json(&path).await.json();
        let picture = site.get(&path).await;
        assert_eq!(picture.header("content-type"), Some("image/svg+xml"));
        let word = data["state"].as_str().unwrap().to_owned();
        assert!(picture.body.contains(&word), "{}", picture.body);
        word
    };
    assert_eq!(word("").await, "no runs");
    let run = site.seed.run("work/app", "main", NOW);
    site.seed.start(run, NOW);
    site.seed.job(run, "test", 0, &[]);
    site.seed.job_state(run, "test", "active", NOW);
    assert_eq!(word("").await, "active");
    assert_eq!(word("?branch=topic/%231").await, "no runs");
    assert_eq!(word("?job=test").await, "active");
    assert_eq!(word("?job=none").await, "no such job");
    assert_eq!(word("?branch=main&job=test").await, "active");
    let bad = site.get("/work/app/-/badge.svg?branch=a..b").await;
    assert_eq!(bad.status, 404);
    // The short address, unless a repository has that name.
    let short = site.get("/work/app/badge.svg").await;
    assert_eq!(short.header("location"), Some("/work/app/-/badge.svg"));
    furnish(&site, "top");
    let short = site.get("/top/badge.svg?job=x").await;
    assert_eq!(short.header("location"), Some("/top/-/badge.svg?job=x"));
    furnish(&site, "top/badge.svg");
    assert_eq!(site.get("/top/badge.svg").await.status, 200);
}

#[tokio::test]
async fn a_part_of_a_file_is_sent_on_request() {
    let site = signed_in().await;
    furnish(&site, "app");
    let path = "/app/-/raw/main/README.md";
    let whole = site.get(path).await;
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let tag = whole.header("etag").unwrap().to_owned();
    let part = site.send("GET", path, &[("Range", "bytes=2-7")]).await;
    assert_eq!((part.status, part.body.as_str()), (206, "Ledger"));
    let range = format!("bytes 2-7/{}", whole.body.len());
    assert_eq!(part.header("content-range"), Some(range.as_str()));
    let headers = [("Range", "bytes=2-7"), ("If-Range", tag.as_str())];
    assert_eq!(site.send("GET", path, &headers).await.status, 206);
    let headers = [("Range", "bytes=2-7"), ("If-Range", "\"other\"")];
    let answer = site.send("GET", path, &headers).await;
    assert_eq!((answer.status, answer.body), (200, whole.body.clone()));
    let outside = site.send("GET", path, &[("Range", "bytes=999-")]).await;
    assert_eq!((outside.status, outside.body.as_str()), (416, ""));
}
