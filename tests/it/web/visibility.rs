//! Who sees what: every route of a repository and of its runs, for the owner, for a token, and for strangers.
//!
//! All repositories are private. So a stranger receives the same answer at every address, whether or not it stands for something.

use quire_web::SignInMethod;

use super::repository::furnish;
use super::site::{NOW, Site};

/// Routes with the status that the owner receives. `RUN` and `COMMIT` stand for ids.
const ROUTES: [(&str, u16); 49] = [
    ("/", 200),
    ("/runs", 200),
    ("/-/health", 200),
    ("/-/hook/deploy", 404),
    ("/runs/RUN", 200),
    ("/runs/RUN/log.txt", 200),
    ("/runs/RUN/artifacts/none", 404),
    ("/work/app", 200),
    ("/work/app/", 308),
    ("/work/app.git", 308),
    ("/work/app/badge.svg", 307),
    ("/work/app/-/badge.svg", 200),
    ("/work/app/-/commits.atom", 200),
    ("/work/app/-/runs.atom", 200),
    ("/work/app/-/runs", 200),
    ("/work/app/-/runs/1", 307),
    ("/work/app/-/branches", 200),
    ("/work/app/-/tags", 200),
    ("/work/app/-/tree/main", 200),
    ("/work/app/-/tree/none", 404),
    ("/work/app/-/file/main/README.md", 200),
    ("/work/app/-/raw/main/README.md", 200),
    ("/work/app/-/raw/COMMIT/README.md", 200),
    ("/work/app/-/log/main", 200),
    ("/work/app/-/log/main/README.md", 200),
    ("/work/app/-/commit/COMMIT", 200),
    ("/work/app/-/commit/COMMIT?view=split&ws=ignore", 200),
    ("/work/app/-/commit/COMMIT.patch", 200),
    ("/work/app/-/commit/main.diff", 200),
    ("/work/app/-/commit/none.patch", 404),
    ("/work/app/-/compare/v1.0...main", 200),
    ("/work/app/-/compare/v1.0...main.patch", 200),
    ("/work/app/-/compare/v1.0..main.diff", 200),
    ("/work/app/-/search", 200),
    ("/work/app/-/search?q=ledger", 200),
    ("/work/app/-/search?q=ledger&type=commits&rev=main", 200),
    ("/work/app/-/search?q=read&type=paths", 200),
    ("/work/app/-/search?q=(&regex=1", 400),
    ("/work/app/-/archive/main.tar.gz", 200),
    ("/work/app/-/archive/main.zip", 200),
    ("/work/app/-/archive/COMMIT.zip", 200),
    ("/work/none", 404),
    ("/work/none/-/tree/main", 404),
    ("/work/none/-/badge.svg", 404),
    ("/work/none/-/search?q=ledger", 404),
    ("/work/none/-/commits.atom", 404),
    ("/work/none/-/archive/main.zip", 404),
    ("/nothing/at/all", 404),
    ("/-/repo/work/app", 308),
];

/// Routes of git, with the status that the owner of a token receives.
const GIT_ROUTES: [(&str, u16); 4] = [
    ("/work/app.git/info/refs?service=git-upload-pack", 200),
    ("/work/app/info/refs?service=git-receive-pack", 403),
    ("/work/none.git/info/refs?service=git-upload-pack", 404),
    ("/work/none/info/refs?service=git-receive-pack", 404),
];

#[tokio::test]
async fn each_route_is_for_those_who_signed_in_alone() {
    let mut owner = Site::start(SignInMethod::Ssh).await;
    let (_, commit) = furnish(&owner, "work/app");
    let run = owner.seed.run("work/app", "main", NOW);
    let token = owner.seed.access_token("reader", "laptop", "read", NOW);
    let bearer = format!("Bearer {token}");
    let path_of = |route: &str| {
        route
            .replace("RUN", &run.to_string())
            .replace("COMMIT", &commit)
    };
    let stranger = owner.get("/").await;
    for accept in ["text/html", "application/json"] {
        let mut answers = Vec::new();
        for (route, status) in ROUTES {
            let path = path_of(route);
            owner.cookie = None;
            let token = [("Accept", accept), ("Authorization", bearer.as_str())];
            let by_token = owner.send("GET", &path, &token).await;
            assert_eq!(by_token.status, status, "{path} as {accept} with a token");
            let tag = by_token.header("etag").unwrap_or("\"x\"").to_owned();
            // Also with the tag of the copy that another client has, and for a part of the file.
            let asked = [
                ("Accept", accept),
                ("If-None-Match", tag.as_str()),
                ("Range", "bytes=0-1"),
            ];
            let nothing = owner.send("GET", &path, &asked).await;
            assert_eq!(nothing.status, 401, "{path} as {accept} by a stranger");
            for header in ["etag", "location", "content-disposition", "content-range"] {
                assert_eq!(nothing.header(header), None, "{path}: {header}");
            }
            answers.push(nothing.body);
            owner.sign_in().await;
            let by_owner = owner.send("GET", &path, &[("Accept", accept)]).await;
            assert_eq!(by_owner.status, status, "{path} as {accept} by the owner");
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0] == stranger.body, accept == "text/html");
    }
    // What an incoming webhook answers depends on its secret alone, not on who is signed in.
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
        let answer = owner.send("POST", &path, &headers).await;
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(
            answer.json()["error"],
            "there is no such webhook, or this is not its secret"
        );
    }
    owner.cookie = None;
    for (path, status) in GIT_ROUTES {
        let by_token = owner
            .send("GET", path, &[("Authorization", bearer.as_str())])
            .await;
        assert_eq!(by_token.status, status, "{path} with a token");
        let nothing = owner.send("GET", path, &[]).await;
        assert_eq!(nothing.status, 401, "{path} by a stranger");
        assert!(!nothing.body.contains("app"), "{path}: {}", nothing.body);
    }
}
