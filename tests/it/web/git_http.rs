//! Real git over HTTP: it clones and fetches with a token, and cannot push.

use std::path::Path;
use std::process::Output;

use quire_testkit::{hermetic_git, wait_for_async};
use quire_web::SignInMethod;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::repository::furnish;
use super::site::{NOW, Site};

async fn git(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = hermetic_git(folder, folder, arguments);
    command.env("GIT_TERMINAL_PROMPT", "0");
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

async fn git_ok(folder: &Path, arguments: &[&str]) -> String {
    let output = git(folder, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn git_clones_and_fetches_with_a_token() {
    let site = Site::start(SignInMethod::Ssh).await;
    let (_, second) = furnish(&site, "work/app");
    let repo = site.state.paths.repo(&"work/app".parse().unwrap());
    git_ok(&repo, &["update-ref", "refs/quire/hidden", &second]).await;
    let token = site.seed.access_token("laptop", "laptop", "read", NOW);
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let url = |repo: &str| format!("http://git:{token}@{}/{repo}", site.address);
    for (version, name) in [("2", "work/app.git"), ("0", "work/app"), ("1", "work/app")] {
        let version = format!("protocol.version={version}");
        let into = format!("clone-{}", version.len() + name.len());
        let clone = ["-c", &version, "clone", "--quiet", &url(name), &into];
        git_ok(root, &clone).await;
        let head = git_ok(&root.join(&into), &["rev-parse", "HEAD"]).await;
        assert_eq!(head, second, "{version} {name}");
        let refs = git_ok(root, &["-c", &version, "ls-remote", &url(name)]).await;
        assert!(refs.contains("refs/tags/v1.0"), "{refs}");
        assert!(!refs.contains("refs/quire"), "{refs}");
        std::fs::remove_dir_all(root.join(&into)).unwrap();
    }
    // A request with many commits of the client's own is compressed.
    let work = root.join("work");
    git_ok(root, &["clone", "--quiet", &url("work/app"), "work"]).await;
    for at in 0..60 {
        let message = format!("own {at}");
        git_ok(
            &work,
            &["commit", "--quiet", "--allow-empty", "-m", &message],
        )
        .await;
    }
    let tree = git_ok(&repo, &["rev-parse", "main^{tree}"]).await;
    let commit = ["commit-tree", &tree, "-p", "main", "-m", "Say three"];
    let third = git_ok(&repo, &commit).await;
    git_ok(&repo, &["update-ref", "refs/heads/main", &third]).await;
    git_ok(&work, &["fetch", "--quiet"]).await;
    let fetched = git_ok(&work, &["rev-parse", "origin/main"]).await;
    assert_eq!(fetched, third);
    // Partial and shallow clones.
    let shallow = ["clone", "--quiet", "--depth=1", &url("work/app"), "shallow"];
    git_ok(root, &shallow).await;
    let count = git_ok(&root.join("shallow"), &["rev-list", "--count", "HEAD"]).await;
    assert_eq!(count, "1");
    let push = git(
        &work,
        &["push", "--quiet", "origin", "HEAD:refs/heads/other"],
    )
    .await;
    assert!(!push.status.success());
    let why = String::from_utf8_lossy(&push.stderr).into_owned();
    let expected = "Push over SSH: git push ssh://git@git.home.example:2222/work/app.git";
    assert!(why.contains(expected), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn git_without_a_valid_token_learns_nothing() {
    let site = Site::start(SignInMethod::Ssh).await;
    furnish(&site, "app");
    let paths = ["/app.git", "/app", "/nothing.git"];
    let mut answers = Vec::new();
    for path in paths {
        for service in ["git-upload-pack", "git-receive-pack"] {
            let path = format!("{path}/info/refs?service={service}");
            let answer = site.send("GET", &path, &[("Accept", "*/*")]).await;
            assert_eq!(answer.status, 401, "{path}");
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(challenge.starts_with("Basic "), "{challenge}");
            assert_eq!(answer.cookies(), [""; 0]);
            answers.push(answer.body);
        }
        let path = format!("{path}/git-upload-pack");
        let answer = site.send("POST", &path, &[]).await;
        assert_eq!(answer.status, 401, "{path}");
        answers.push(answer.body);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    insta::assert_snapshot!(answers[0], @"This needs an access token, as the password or as `Authorization: Bearer`; `login --token NAME` over SSH creates one.\n");
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://git:{}@{}/app", "0".repeat(64), site.address);
    let clone = git(folder.path(), &["clone", &url, "x"]).await;
    let why = String::from_utf8_lossy(&clone.stderr).into_owned();
    assert!(why.contains("login --token NAME"), "{why}");
    // With a token, what does not exist is said.
    let token = site.seed.access_token("laptop", "laptop", "read", NOW);
    let bearer = format!("Bearer {token}");
    let path = "/nothing.git/info/refs?service=git-upload-pack";
    let headers = [("Authorization", bearer.as_str())];
    assert_eq!(site.send("GET", path, &headers).await.status, 404);
}

/// A fetch whose request does not end, by the owner of a token or by a stranger.
pub(crate) async fn hold(site: &Site, token: Option<&str>) -> TcpStream {
    let credentials = token.map_or_else(String::new, |token| {
        format!("Authorization: Bearer {token}\r\n")
    });
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    let head = format!(
        "POST /app/git-upload-pack HTTP/1.1\r\nHost: quire.test\r\n{credentials}\
         Content-Type: application/x-git-upload-pack-request\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0014\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// How many processes of git serve fetches of this repository.
pub(crate) fn processes(repo: &Path) -> usize {
    let repo = repo.to_str().unwrap();
    let all = std::fs::read_dir("/proc").unwrap();
    all.filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .filter(|line| {
            let line = String::from_utf8_lossy(line);
            line.contains("upload-pack") && line.contains(repo)
        })
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetches_wait_for_their_turn_and_end_with_their_clients() {
    let site = Site::start(SignInMethod::Ssh).await;
    furnish(&site, "app");
    let repo = site.state.paths.repo(&"app".parse().unwrap());
    let token = site.seed.access_token("laptop", "laptop", "read", NOW);
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(hold(&site, Some(&token)).await);
    }
    wait_for_async("four processes", async || {
        (processes(&repo) == 4).then_some(())
    })
    .await;
    let path = "/app/info/refs?service=git-upload-pack";
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    let busy = site.send("GET", path, &headers).await;
    assert_eq!(busy.status, 503, "{}", busy.body);
    assert!(busy.header("retry-after").is_some());
    drop(held);
    wait_for_async("their end", async || (processes(&repo) == 0).then_some(())).await;
    assert_eq!(site.send("GET", path, &headers).await.status, 200);
}
