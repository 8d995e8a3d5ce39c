//! What the pages say, as text and as data.

use quire_web::SignInMethod;

use super::site::{NOW, Site};

async fn signed_in() -> Site {
    let mut site = Site::start(SignInMethod::Ssh).await;
    site.sign_in().await;
    site
}

#[tokio::test]
async fn an_empty_appliance_says_how_to_start() {
    let mut site = Site::start(SignInMethod::Ssh).await;
    site.sign_in_as("local").await;
    let home = site.get("/").await;
    for command in [
        "git remote add quire ssh://git@git.home.example:2222/my-project.git",
        "git push quire HEAD",
    ] {
        assert!(home.body.contains(command), "{}", home.body);
    }
    assert!(!home.body.contains("No SSH key is authorized yet"));
    std::fs::write(site.state.paths.merged_authorized_keys(), "# none\n").unwrap();
    assert!(
        site.get("/")
            .await
            .body
            .contains("No SSH key is authorized yet")
    );
    assert_eq!(
        site.json("/").await.json(),
        serde_json::json!({ "repos": [], "runs": [] })
    );
}

#[tokio::test]
async fn home_lists_repositories_and_runs() {
    let site = signed_in().await;
    let old = site.seed.run("work/app", "main", NOW.plus(-90_000));
    site.seed.start(old, NOW.plus(-80_000));
    site.seed.end(
        old,
        "job",
        Some("job `test` failed: `make` exited with 2"),
        NOW.plus(-70_000),
    );
    let new = site.seed.run("tools", "topic/<b>", NOW.plus(-1000));
    site.seed.repo("empty");
    let home = site.get("/").await;
    let body = &home.body;
    assert!(
        body.find("href=\"/work/app\"") < body.find("href=\"/tools\"")
            && body.find("href=\"/tools\"") < body.find("href=\"/empty\""),
        "failing repositories come first: {body}"
    );
    assert!(body.contains("1 min ago") && body.contains("no push yet") && body.contains("failed"));
    let data = site.json("/").await.json();
    assert_eq!(data["runs"][0]["id"], new.to_string());
    assert_eq!(data["repos"].as_array().unwrap().len(), 3);
    assert_eq!(data["runs"][1]["failure_kind"], "job");
}

#[tokio::test]
async fn home_shows_the_default_branch() {
    let site = signed_in().await;
    let mut on_main = Vec::new();
    for number in 1..=12 {
        let run = site.seed.run("app", "main", NOW.plus(number * 1000));
        site.seed.start(run, NOW.plus(number * 1000));
        site.seed
            .end(run, "complete", None, NOW.plus(number * 1000));
        on_main.push(run);
    }
    let other = site.seed.run("app", "topic", NOW.plus(60_000));
    site.seed.start(other, NOW.plus(60_000));
    site.seed
        .end(other, "job", Some("job `test` failed"), NOW.plus(60_000));
    let head = site.state.paths.repo(&"app".parse().unwrap()).join("HEAD");
    std::fs::write(head, "ref: refs/heads/main\n").unwrap();
    let body = site.get("/").await.body;
    assert!(
        body.contains("s-complete") && !body.contains("s-failed"),
        "{body}"
    );
    assert_eq!(body.matches("title=\"#").count(), 10, "{body}");
    let data = site.json("/").await.json();
    let repo = &data["repos"][0];
    assert_eq!(repo["newest_run"]["id"], other.to_string());
    assert_eq!(repo["default_branch_run"]["id"], on_main[11].to_string());
    assert_eq!(repo["default_branch_runs"].as_array().unwrap().len(), 10);
    assert_eq!(repo["default_branch_runs"][9]["id"], on_main[2].to_string());
}

#[tokio::test]
async fn a_repository_has_one_address() {
    let site = signed_in().await;
    site.seed.run("work/app", "main", NOW);
    let page = site.get("/work/app").await;
    assert!(
        page.body
            .contains("git clone ssh://git@git.home.example:2222/work/app.git")
    );
    for other in ["/work/app.git", "/work/app/"] {
        let answer = site.get(other).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (308, Some("/work/app")),
            "{other}"
        );
    }
    assert_eq!(
        site.json("/work/app").await.json()["clone_url"],
        "ssh://git@git.home.example:2222/work/app.git"
    );
    // A name that is taken by a page of ours has its page elsewhere.
    site.seed.run("runs/app", "main", NOW);
    assert_eq!(site.get("/-/repo/runs/app").await.status, 200);
    assert!(
        site.get("/")
            .await
            .body
            .contains("href=\"/-/repo/runs/app\"")
    );
}

#[tokio::test]
async fn lists_are_filtered_and_paged_by_key() {
    let site = signed_in().await;
    let runs: Vec<_> = (0..60)
        .map(|n| {
            site.seed
                .run("app", if n % 2 == 0 { "main" } else { "topic" }, NOW)
        })
        .collect();
    let first = site.json("/runs").await.json();
    let ids = |page: &serde_json::Value| -> Vec<String> {
        page["runs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(&first).len(), 50);
    let second = site.json(first["next"].as_str().unwrap()).await.json();
    assert_eq!(
        (ids(&second).len(), &second["next"]),
        (10, &serde_json::Value::Null)
    );
    let mut all = [ids(&first), ids(&second)].concat();
    all.reverse();
    assert_eq!(
        all,
        runs.iter().map(ToString::to_string).collect::<Vec<_>>()
    );
    assert_eq!(
        ids(&site.json("/app/-/runs?ref=topic").await.json()).len(),
        30
    );
    assert_eq!(ids(&site.json("/runs?state=failed").await.json()).len(), 0);
    assert!(
        site.get("/runs?ref=topic&state=pending")
            .await
            .body
            .contains("value=\"topic\"")
    );
}

#[tokio::test]
async fn a_run_page_shows_jobs_steps_and_log() {
    let site = signed_in().await;
    let run = site.seed.run("app", "main", NOW.plus(-60_000));
    site.seed.start(run, NOW.plus(-59_000));
    site.seed.log("app", run, None, &["pulling rust:1.95"], NOW);
    site.seed.job(run, "test", 0, &["quire/push"]);
    site.seed
        .job_state(run, "test", "active", NOW.plus(-58_000));
    site.seed
        .step(run, 1, "test", "cargo build", NOW.plus(-58_000));
    site.seed.log(
        "app",
        run,
        Some(("test", 1)),
        &["\u{1b}[32mCompiling\u{1b}[0m <app>"],
        NOW,
    );
    site.seed.step_end(run, 1, 0, NOW.plus(-46_000));
    site.seed
        .step(run, 2, "test", "cargo test\necho done", NOW.plus(-45_000));
    site.seed.log(
        "app",
        run,
        Some(("test", 2)),
        &["10%\\", "\r100%\\", " ok", "!warning: x"],
        NOW,
    );
    let page = site.get(&format!("/runs/{run}")).await.body;
    for part in [
        "pulling rust:1.95",
        "<span class=\"l\" id=\"test-1-1\"><a href=\"#test-1-1\" tabindex=\"-1\">1</a><span class=\"f2\">Compiling</span> &lt;app&gt;</span>",
        "</a>100% ok</span>",
        "<span class=\"l e\" id=\"test-2-2\">",
        "<span>exit 0</span><span class=\"took\">12 s</span>",
        "<pre class=\"long\" tabindex=\"0\">cargo test\necho done</pre>",
        "action=\"/runs/",
        "data-events=",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    assert!(
        page.contains("id=\"step-2\" open") && page.contains("id=\"step-1\">"),
        "the running step is open, the good one is not"
    );
    let data = site.json(&format!("/runs/{run}")).await.json();
    assert_eq!(data["run"]["state"], "active");
    assert_eq!(data["jobs"][0]["job_id"], "test");
    assert_eq!(data["steps"][0]["exit_code"], 0);
    let text = site.get(&format!("/runs/{run}/log.txt")).await;
    assert_eq!(
        text.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert!(
        text.body
            .contains("\n[test $ cargo build]\nCompiling <app>\n"),
        "{}",
        text.body
    );
    assert_eq!(
        site.get(&format!("/runs/{run}/log.txt?step=1")).await.body,
        "Compiling <app>\n"
    );
    assert_eq!(
        site.get(&format!("/runs/{run}/log.txt?step=9"))
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn a_huge_log_makes_a_bounded_page() {
    let site = signed_in().await;
    let run = site.seed.run("app", "main", NOW);
    site.seed.start(run, NOW);
    site.seed.job(run, "test", 0, &["quire/push"]);
    site.seed.job_state(run, "test", "active", NOW);
    let line = "x".repeat(1000);
    let lines = vec![line.as_str(); 2000];
    for seq in 1..=10 {
        site.seed.step(run, seq, "test", "yes", NOW);
        site.seed.log("app", run, Some(("test", seq)), &lines, NOW);
    }
    let page = site.get(&format!("/runs/{run}")).await.body;
    assert!(page.len() < 800_000, "{}", page.len());
    assert!(page.contains("id=\"test-10-2000\"") && page.contains("earlier lines are in the"));
    let text = site.get(&format!("/runs/{run}/log.txt")).await.body;
    assert_eq!(text.lines().filter(|l| l.len() == 1000).count(), 20_000);
}

#[tokio::test]
async fn short_ids_lead_to_the_run() {
    let site = signed_in().await;
    let run = site.seed.run("app", "main", NOW).to_string();
    let short = site.get(&format!("/runs/{}", &run[..30])).await;
    assert_eq!(
        (short.status, short.header("location")),
        (307, Some(format!("/runs/{run}").as_str()))
    );
    assert_eq!(site.get(&format!("/runs/{}", "zzz")).await.status, 404);
}

#[tokio::test]
async fn cancel_and_retry() {
    let site = signed_in().await;
    let here = [("Origin", "http://quire.test")];
    let run = site.seed.run("app", "main", NOW);
    site.seed.start(run, NOW);
    let cancel = site
        .send("POST", &format!("/runs/{run}/cancel"), &here)
        .await;
    assert_eq!(
        (cancel.status, cancel.header("location")),
        (303, Some(format!("/runs/{run}").as_str()))
    );
    assert!(
        site.get(&format!("/runs/{run}"))
            .await
            .body
            .contains("stopping…")
    );
    for retry in ["retry", "retry-failed"] {
        let early = site
            .send("POST", &format!("/runs/{run}/{retry}"), &here)
            .await;
        assert_eq!(early.status, 409);
        assert!(early.body.contains("has not ended yet"), "{}", early.body);
    }
    site.seed.end(run, "canceled", None, NOW);
    assert_eq!(
        site.send("POST", &format!("/runs/{run}/cancel"), &here)
            .await
            .status,
        409
    );
    let retry = site
        .send("POST", &format!("/runs/{run}/retry"), &here)
        .await;
    let new = retry.header("location").unwrap().to_owned();
    assert!(site.get(&new).await.body.contains("retry of"));
    assert!(
        site.get(&format!("/runs/{run}"))
            .await
            .body
            .contains("retried as")
    );
    assert_eq!(
        site.send("POST", &format!("/runs/{run}/retry"), &[])
            .await
            .status,
        403
    );
    let wrong = site
        .send("DELETE", &format!("/runs/{run}/retry"), &here)
        .await;
    assert_eq!(wrong.status, 405);
}

#[tokio::test]
async fn bad_addresses_are_not_found_or_refused() {
    let site = signed_in().await;
    site.seed.run("app", "main", NOW);
    for (path, status) in [
        ("/nope", 404),
        ("/../etc/passwd", 404),
        ("/..%2f..%2fetc/passwd", 404),
        ("/a/b/c", 404),
        ("/%ff%00", 404),
        ("/app/-/nothing", 404),
        ("/runs/xyz", 404),
        ("/runs/%ff", 400),
        ("/runs/0197a1b2-0000-7000-8000-000000000001", 404),
        ("/runs/0197a1b2-0000-7000-8000-000000000001/events", 404),
        ("/runs?state=done", 400),
        ("/runs?ref=a..b", 400),
        ("/app/-/runs?before=zzz", 400),
        ("/runs?limit=%zz", 200),
        ("/assets/nope.css", 404),
    ] {
        let answer = site.get(path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        let data = site.json(path).await;
        assert!(
            status == 200 || data.json()["error"].is_string(),
            "{path}: {}",
            data.body
        );
    }
}

#[tokio::test]
async fn every_answer_carries_the_safety_headers() {
    let site = signed_in().await;
    let home = site.get("/").await;
    let style = home
        .body
        .split("href=\"/assets/")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    let asset = site.get(&format!("/assets/{style}")).await;
    assert_eq!(
        asset.header("cache-control"),
        Some("public, max-age=31536000, immutable")
    );
    for answer in [
        home,
        asset,
        site.get("/nope/x").await,
        site.get("/healthz").await,
    ] {
        assert!(
            answer
                .header("content-security-policy")
                .unwrap()
                .starts_with("default-src 'none'; style-src 'self'")
        );
        assert!(
            !answer
                .header("content-security-policy")
                .unwrap()
                .contains("unsafe")
        );
        assert_eq!(
            (
                answer.header("x-content-type-options"),
                answer.header("referrer-policy")
            ),
            (Some("nosniff"), Some("same-origin"))
        );
        assert!(!answer.body.contains("style=\"") && !answer.body.contains(" onclick"));
    }
    let head = site.send("HEAD", "/", &[]).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn the_footer_says_which_quire_it_is() {
    let site = signed_in().await;
    let footer = site
        .get("/")
        .await
        .body
        .split("<footer>")
        .nth(1)
        .unwrap()
        .to_owned();
    let commit = env!("QUIRE_COMMIT");
    assert!(footer.contains(env!("CARGO_PKG_VERSION")), "{footer}");
    assert_eq!(
        footer.contains(&format!(
            "<code>{}</code>",
            commit.get(..12).unwrap_or(commit)
        )),
        commit != "unknown",
        "{footer}"
    );
}

#[tokio::test]
async fn artifacts_are_listed_and_are_only_ever_downloads() {
    let mut site = Site::start(SignInMethod::Ssh).await;
    let run = site.seed.run("work/app", "main", NOW.plus(-9000));
    site.seed.start(run, NOW.plus(-8000));
    site.seed.job(run, "build", 0, &["quire/push"]);
    let folder = site
        .state
        .paths
        .run_artifacts(&"work/app".parse().unwrap(), run);
    std::fs::create_dir_all(folder.join("docs")).unwrap();
    std::fs::write(folder.join("docs/index.html"), "<script>bad()</script>").unwrap();
    std::fs::write(folder.join("out%2Fa <b>.html"), "<script>bad()</script>").unwrap();
    for (name, is_folder) in [("docs", true), ("out/a <b>.html", false)] {
        let row = quire_types::run::RunArtifact {
            run_id: run,
            name: name.into(),
            job_id: "build".parse().unwrap(),
            is_folder,
            files: 1,
            bytes: 22,
            created_at_ms: NOW,
        };
        site.state.store.artifacts().record(&row).unwrap();
    }
    let href = format!("/runs/{run}/artifacts/out/a%20%3Cb%3E.html");
    let stranger = site.get(&href).await;
    assert!(
        stranger.status != 200 && !stranger.body.contains("bad()"),
        "{}",
        stranger.status
    );
    site.sign_in().await;
    let page = site.get(&format!("/runs/{run}")).await;
    assert!(
        page.body.contains(&format!("href=\"{href}\"")) && page.body.contains("a &#60;b&#62;.html"),
        "{}",
        page.body
    );
    assert!(
        page.body.contains("folder of 1, 22 B, as tar"),
        "{}",
        page.body
    );
    assert_eq!(
        site.json(&format!("/runs/{run}")).await.json()["artifacts"][0]["name"],
        "docs"
    );
    let file = site.get(&href).await;
    assert_eq!(
        (file.status, file.body.as_str()),
        (200, "<script>bad()</script>")
    );
    assert_eq!(
        file.header("content-type"),
        Some("application/octet-stream")
    );
    assert_eq!(
        file.header("content-disposition"),
        Some("attachment; filename*=UTF-8''a%20%3Cb%3E.html")
    );
    assert_eq!(file.header("x-content-type-options"), Some("nosniff"));
    let packed = site.get(&format!("/runs/{run}/artifacts/docs")).await;
    assert_eq!(
        (packed.status, packed.header("content-disposition")),
        (200, Some("attachment; filename*=UTF-8''docs.tar"))
    );
    assert!(
        packed.body.contains("docs/index.html") && packed.body.contains("ustar"),
        "{}",
        packed.body
    );
    for wrong in [
        "none",
        "docs/index.html",
        "..%2F..%2Fquire.db",
        "out%2F..%2Fdocs",
    ] {
        assert_eq!(
            site.get(&format!("/runs/{run}/artifacts/{wrong}"))
                .await
                .status,
            404,
            "{wrong}"
        );
    }
}
