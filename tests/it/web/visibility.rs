//! Who sees what: every route of a repository and of its runs, for the owner, for a token, and for strangers, by what the repository
//! shows.
//!
//! A stranger receives the same answer at every address of a private repository, whether or not it stands for something.

use std::path::Path;

use quire_testkit::hermetic_git;
use quire_web::SignInMethod;

use super::repository::{commit, furnish, git};
use super::site::{NOW, Site};

/// Routes with the status that the owner receives, and those that a stranger receives if the repository is private, public, and public
/// with its runs. `RUN` and `COMMIT` stand for ids.
const ROUTES: [(&str, u16, [u16; 3]); 51] = [
    ("/", 200, [401, 200, 200]),
    ("/runs", 200, [401, 401, 401]),
    ("/-/health", 200, [401, 401, 401]),
    ("/-/hook/deploy", 404, [401, 401, 401]),
    ("/runs/RUN", 200, [401, 401, 200]),
    ("/runs/RUN/log.txt", 200, [401, 401, 200]),
    ("/runs/RUN/artifacts/none", 404, [401, 401, 404]),
    ("/work/app", 200, [401, 200, 200]),
    ("/work/app/", 308, [401, 308, 308]),
    ("/work/app.git", 308, [401, 308, 308]),
    ("/work/app/badge.svg", 307, [401, 307, 307]),
    ("/work/app/-/badge.svg", 200, [401, 404, 200]),
    ("/work/app/-/commits.atom", 200, [401, 200, 200]),
    ("/work/app/-/runs.atom", 200, [401, 404, 200]),
    ("/work/app/-/runs", 200, [401, 404, 200]),
    ("/work/app/-/runs/1", 307, [401, 404, 307]),
    ("/work/app/-/branches", 200, [401, 200, 200]),
    ("/work/app/-/tags", 200, [401, 200, 200]),
    ("/work/app/-/tree/main", 200, [401, 200, 200]),
    ("/work/app/-/tree/none", 404, [401, 404, 404]),
    ("/work/app/-/file/main/README.md", 200, [401, 200, 200]),
    ("/work/app/-/raw/main/README.md", 200, [401, 200, 200]),
    ("/work/app/-/raw/COMMIT/README.md", 200, [401, 200, 200]),
    ("/work/app/-/blame/main/README.md", 200, [401, 200, 200]),
    ("/work/app/-/log/main", 200, [401, 200, 200]),
    ("/work/app/-/log/main/README.md", 200, [401, 200, 200]),
    ("/work/app/-/commit/COMMIT", 200, [401, 200, 200]),
    (
        "/work/app/-/commit/COMMIT?view=split&ws=ignore",
        200,
        [401, 200, 200],
    ),
    ("/work/app/-/commit/COMMIT.patch", 200, [401, 200, 200]),
    ("/work/app/-/commit/main.diff", 200, [401, 200, 200]),
    ("/work/app/-/commit/none.patch", 404, [401, 404, 404]),
    ("/work/app/-/compare/v1.0...main", 200, [401, 200, 200]),
    (
        "/work/app/-/compare/v1.0...main.patch",
        200,
        [401, 200, 200],
    ),
    ("/work/app/-/compare/v1.0..main.diff", 200, [401, 200, 200]),
    ("/work/app/-/change/none", 404, [401, 404, 404]),
    ("/work/app/-/search", 200, [401, 200, 200]),
    ("/work/app/-/search?q=ledger", 200, [401, 200, 200]),
    (
        "/work/app/-/search?q=ledger&type=commits&rev=main",
        200,
        [401, 200, 200],
    ),
    ("/work/app/-/search?q=read&type=paths", 200, [401, 200, 200]),
    ("/work/app/-/search?q=(&regex=1", 400, [401, 400, 400]),
    ("/work/app/-/archive/main.tar.gz", 200, [401, 200, 200]),
    ("/work/app/-/archive/main.zip", 200, [401, 200, 200]),
    ("/work/app/-/archive/COMMIT.zip", 200, [401, 200, 200]),
    ("/work/none", 404, [401, 401, 401]),
    ("/work/none/-/tree/main", 404, [401, 401, 401]),
    ("/work/none/-/badge.svg", 404, [401, 401, 401]),
    ("/work/none/-/search?q=ledger", 404, [401, 401, 401]),
    ("/work/none/-/commits.atom", 404, [401, 401, 401]),
    ("/work/none/-/archive/main.zip", 404, [401, 401, 401]),
    ("/nothing/at/all", 404, [401, 401, 401]),
    ("/-/repo/work/app", 308, [401, 308, 308]),
];

/// Routes of git, with the same columns.
const GIT_ROUTES: [(&str, u16, [u16; 3]); 4] = [
    (
        "/work/app.git/info/refs?service=git-upload-pack",
        200,
        [401, 200, 200],
    ),
    (
        "/work/app/info/refs?service=git-receive-pack",
        403,
        [401, 403, 403],
    ),
    (
        "/work/none.git/info/refs?service=git-upload-pack",
        404,
        [401, 401, 401],
    ),
    (
        "/work/none/info/refs?service=git-receive-pack",
        404,
        [401, 401, 401],
    ),
];

/// What the settings of the repository say, in the order of the columns.
const SETTINGS: [&str; 3] = [
    "{:public false :public-runs true}",
    "{:public true}",
    "{:public true :public-runs true}",
];

/// The name of a repository that is private in each case.
const SECRET: &str = "work/secret-name";

/// Pushes settings to the default branch of a repository.
pub(crate) fn configure(site: &Site, name: &str, settings: &str) {
    push_file(site, name, ".quire/config.fnl", settings);
}

fn push_file(site: &Site, name: &str, file: &str, content: &str) {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path();
    let repo = site.state.paths.repo(&name.parse().unwrap());
    let repo = repo.display().to_string();
    git(work, &["clone", "--quiet", &repo, "."]);
    std::fs::create_dir_all(work.join(".quire")).unwrap();
    std::fs::write(work.join(file), content).unwrap();
    commit(work, "Change the settings");
    git(work, &["push", "--quiet", "origin", "HEAD:main"]);
}

#[tokio::test]
async fn each_route_by_who_asks_and_what_is_shown() {
    for (column, settings) in SETTINGS.into_iter().enumerate() {
        let mut site = Site::without_stranger_limits().await;
        let (_, commit) = furnish(&site, "work/app");
        furnish(&site, SECRET);
        configure(&site, "work/app", settings);
        let run = site.seed.run("work/app", "main", NOW);
        let hidden = site.seed.run(SECRET, "main", NOW);
        let token = site.seed.access_token("reader", "laptop", "read", NOW);
        let bearer = format!("Bearer {token}");
        site.sign_in().await;
        let cookie = site.cookie.take();
        let path_of = |route: &str| {
            let route = route.replace("RUN", &run.to_string());
            route.replace("COMMIT", &commit)
        };
        let nothing = site.get("/nothing/at/all").await;
        for accept in ["text/html", "application/json"] {
            let mut unknown = Vec::new();
            for (route, status, shown) in ROUTES {
                let (path, shown) = (path_of(route), shown[column]);
                let as_token = [("Accept", accept), ("Authorization", bearer.as_str())];
                let by_token = site.send("GET", &path, &as_token).await;
                assert_eq!(by_token.status, status, "{path} as {accept} with a token");
                site.cookie.clone_from(&cookie);
                let by_owner = site.send("GET", &path, &[("Accept", accept)]).await;
                assert_eq!(by_owner.status, status, "{path} as {accept} by the owner");
                site.cookie = None;
                let answer = site.send("GET", &path, &[("Accept", accept)]).await;
                let case = format!("{settings}: {path} as {accept} by a stranger");
                assert_eq!(answer.status, shown, "{case}");
                assert!(!answer.body.contains("secret-name"), "{case}");
                // With the tag of the copy that another client has, and with that of its own copy.
                for tag in [by_token.header("etag"), answer.header("etag")] {
                    let tag = tag.unwrap_or("\"x\"");
                    let asked = [("Accept", accept), ("If-None-Match", tag)];
                    let again = site.send("GET", &path, &asked).await;
                    let is_own = answer.header("etag") == Some(tag);
                    let expected = if is_own { 304 } else { shown };
                    assert_eq!(again.status, expected, "{case} with {tag}");
                }
                if shown == 401 {
                    let asked = [("Accept", accept), ("Range", "bytes=0-1")];
                    let part = site.send("GET", &path, &asked).await;
                    for header in ["etag", "location", "content-disposition", "content-range"] {
                        assert_eq!(part.header(header), None, "{case}: {header}");
                    }
                    unknown.push(part.body);
                }
            }
            unknown.dedup();
            assert_eq!(unknown.len(), 1, "{unknown:?}");
            assert_eq!(unknown[0] == nothing.body, accept == "text/html");
        }
        for (path, status, shown) in GIT_ROUTES {
            let as_token = [("Authorization", bearer.as_str())];
            let by_token = site.send("GET", path, &as_token).await;
            assert_eq!(by_token.status, status, "{path} with a token");
            let answer = site.send("GET", path, &[]).await;
            assert_eq!(answer.status, shown[column], "{settings}: {path}");
        }
        hidden_runs_stay_hidden(&site, &hidden.to_string()).await;
    }
}

/// Whatever names the run of a private repository is answered as what does not exist.
async fn hidden_runs_stay_hidden(site: &Site, run: &str) {
    let nothing = site.get("/nothing/at/all").await.body;
    let by_number = format!("/{SECRET}/-/runs/1");
    for path in [
        format!("/runs/{run}"),
        format!("/runs/{}", &run[..13]),
        "/runs/latest".to_owned(),
        format!("/runs/{run}/events"),
        by_number,
    ] {
        let answer = site.get(&path).await;
        assert_eq!((answer.status, &answer.body), (401, &nothing), "{path}");
    }
    for path in [format!("/runs/{run}/cancel"), format!("/runs/{run}/retry")] {
        let here = [("Origin", "http://quire.test")];
        assert_eq!(site.send("POST", &path, &here).await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn webhooks_answer_by_their_secret_alone() {
    let site = Site::start(SignInMethod::Ssh).await;
    let token = site.seed.access_token("reader", "laptop", "read", NOW);
    let bearer = format!("Bearer {token}");
    for (name, token) in [
        ("deploy", None),
        ("deploy", Some(bearer.as_str())),
        ("none", None),
    ] {
        let path = format!("/-/hook/{name}");
        let headers: Vec<_> = token
            .map(|token| ("Authorization", token))
            .into_iter()
            .collect();
        let answer = site.send("POST", &path, &headers).await;
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(
            answer.json()["error"],
            "there is no such webhook, or this is not its secret"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_settings_shows_at_the_next_request() {
    let site = Site::start(SignInMethod::Ssh).await;
    let (_, head) = furnish(&site, "app");
    let file = format!("/app/-/file/{head}/README.md");
    assert_eq!(site.get(&file).await.status, 401);
    configure(&site, "app", "{:public true}");
    let page = site.get(&file).await;
    assert_eq!(page.status, 200);
    let tag = page.header("etag").unwrap().to_owned();
    assert!(clones(&site, "app").await);
    for settings in [
        "{:public false}",
        "{:public true",
        "{:public \"true\"}",
        "{:publik true}",
        "{:public (os.getenv \"HOME\")}",
    ] {
        configure(&site, "app", settings);
        let again = site.send("GET", &file, &[("If-None-Match", &tag)]).await;
        assert_eq!(again.status, 401, "{settings}");
        assert!(!clones(&site, "app").await, "{settings}");
        configure(&site, "app", "{:public true}");
        let again = site.send("GET", &file, &[("If-None-Match", &tag)]).await;
        assert_eq!(again.status, 304, "{settings}");
    }
    // Two files contradict each other, whatever they say.
    push_file(&site, "app", ".quire/config.lua", "return {public = true}");
    assert_eq!(site.get(&file).await.status, 401);
    let repo = site.state.paths.repo(&"app".parse().unwrap());
    std::fs::rename(&repo, repo.with_file_name("other.git")).unwrap();
    assert_eq!(site.get("/other").await.status, 401);
    // The default branch decides, not the branch that is looked at.
    git(&repo.with_file_name("other.git"), &["branch", "old", &head]);
    git(
        &repo.with_file_name("other.git"),
        &["symbolic-ref", "HEAD", "refs/heads/old"],
    );
    assert_eq!(site.get("/other/-/tree/main").await.status, 401);
    git(
        &repo.with_file_name("other.git"),
        &["branch", "--force", "old", "main~1"],
    );
    assert_eq!(site.get("/other/-/tree/main").await.status, 200);
}

pub(crate) async fn clones(site: &Site, repo: &str) -> bool {
    let url = format!("http://{}/{repo}.git", site.address);
    let clone = move || {
        let folder = tempfile::tempdir().unwrap();
        let root: &Path = folder.path();
        let mut command = hermetic_git(root, root, &["clone", "--quiet", &url, "into"]);
        command.env("GIT_TERMINAL_PROMPT", "0");
        command.output().unwrap().status.success()
    };
    tokio::task::spawn_blocking(clone).await.unwrap()
}

#[tokio::test]
async fn the_owner_sees_what_is_wrong_with_the_settings() {
    let mut site = Site::start(SignInMethod::Ssh).await;
    furnish(&site, "app");
    configure(&site, "app", "{:public 1}");
    assert_eq!(site.get("/app").await.status, 401);
    site.sign_in().await;
    let page = site.get("/app").await;
    let problem =
        ".quire/config.fnl:1:2: `public` must be true or false, not 1. The repository is private.";
    assert!(page.body.contains(problem), "{}", page.body);
    assert!(page.body.contains("<span class=\"badge\">private</span>"));
    configure(&site, "app", "{:public true :publik-runs true}");
    let data = site.json("/app").await.json();
    assert_eq!(
        (&data["public"], &data["public_runs"]),
        (&true.into(), &false.into())
    );
    assert!(
        data["problems"][0]
            .as_str()
            .unwrap()
            .ends_with("did you mean `public-runs`?"),
        "{data}"
    );
    site.cookie = None;
    let page = site.get("/app").await;
    assert!(page.body.contains("<span class=\"badge\">public</span>"));
    assert!(!page.body.contains("publik") && page.body.contains("href=\"/login\""));
    assert_eq!(
        site.json("/app").await.json()["problems"],
        serde_json::json!([])
    );
}

#[tokio::test]
async fn a_stranger_sees_a_public_run_without_private_fields() {
    let site = Site::start(SignInMethod::Ssh).await;
    furnish(&site, "app");
    configure(&site, "app", SETTINGS[2]);
    let run = site.seed.run("app", "main", NOW);
    site.seed.start(run, NOW);
    let path = format!("/runs/{run}");
    for page in [
        &path,
        "/",
        "/app",
        "/app/-/runs",
        "/app/-/runs.atom",
        "/app/-/log/main",
    ] {
        let (html, data) = (site.get(page).await, site.json(page).await);
        assert_eq!((html.status, data.status), (200, 200), "{page}");
        for private in ["laptop", "/cancel", "data-live"] {
            assert!(!html.body.contains(private), "{page}: {private}");
            assert!(!data.body.contains(private), "{page}: {private}");
        }
    }
    assert!(site.get("/app").await.body.contains("<h2>Newest runs</h2>"));
    // A follower is cut off when the runs are no longer shown.
    let mut events = site.events(&format!("{path}/events"), &[]).await;
    let state = events.named("state").await.data;
    assert!(!state["head"].as_str().unwrap().contains("laptop"));
    configure(&site, "app", SETTINGS[1]);
    site.state.live.notify_log(run);
    assert!(events.next().await.is_none());
    assert_eq!(site.get(&path).await.status, 401);
    let page = site.get("/app").await.body;
    assert!(
        !page.contains("runs.atom") && !page.contains("/-/runs"),
        "{page}"
    );
}
