//! How pages are sent: compressed, from what was kept, and not at all if the client has them.

use std::io::Read as _;

use quire_testkit::Response;
use quire_web::SignInMethod;

use super::repository::{furnish, git};
use super::site::{NOW, Site};

const HTML: (&str, &str) = ("Accept", "text/html");
const JSON: (&str, &str) = ("Accept", "application/json");
const GZIP: (&str, &str) = ("Accept-Encoding", "br, gzip");

async fn signed_in() -> Site {
    let mut site = Site::start(SignInMethod::Ssh).await;
    site.sign_in().await;
    site
}

fn unpacked(answer: &Response) -> String {
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(answer.bytes.as_slice())
        .read_to_string(&mut text)
        .unwrap();
    text
}

/// Pages of a revision and their options.
fn pages(first: &str) -> Vec<String> {
    [
        "tree/main",
        "tree/main/src",
        "file/main/README.md",
        "file/main/src/main.rs",
        "blame/main/src/main.rs",
        "log/main",
        "log/main?q=two",
        "commit/main",
        "commit/main?view=split",
        "compare/v1.0...main",
    ]
    .into_iter()
    .map(|rest| format!("/app/-/{rest}"))
    .chain([format!("/app/-/commit/{first}")])
    .collect()
}

#[tokio::test]
async fn a_compressed_page_is_the_same_page() {
    let site = signed_in().await;
    let (first, _) = furnish(&site, "app");
    let run = site.seed.run("app", "main", NOW);
    let mut all = pages(&first);
    all.extend(
        [
            "/",
            "/app",
            "/runs",
            "/app/-/branches",
            "/app/-/commits.atom",
        ]
        .map(str::to_owned),
    );
    all.push(format!("/runs/{run}"));
    for path in &all {
        for accept in [HTML, JSON] {
            let plain = site.send("GET", path, &[accept]).await;
            assert_eq!(
                (plain.status, plain.header("content-encoding")),
                (200, None),
                "{path}"
            );
            let vary = plain.header("vary").unwrap();
            assert!(vary.contains("accept-encoding") && vary.contains("cookie"));
            let small = site.send("GET", path, &[accept, GZIP]).await;
            if plain.bytes.len() < 860 {
                assert_eq!(small.bytes, plain.bytes, "{path}");
                continue;
            }
            assert_eq!(unpacked(&small), plain.body, "{path}");
            assert!(small.bytes.len() < plain.bytes.len(), "{path}");
            // Other bytes have another tag, and both are known again.
            let tags = [plain.header("etag"), small.header("etag")];
            if let [Some(plain_tag), Some(small_tag)] = tags {
                assert_ne!(plain_tag, small_tag, "{path}");
                for tag in [plain_tag, small_tag] {
                    let again = site
                        .send("GET", path, &[accept, GZIP, ("If-None-Match", tag)])
                        .await;
                    assert_eq!(
                        (again.status, again.header("etag")),
                        (304, Some(tag)),
                        "{path}"
                    );
                }
            }
        }
    }
    // Errors as well; files, pictures of foreign origin and archives as they are.
    let missing = site.send("GET", "/none", &[HTML, GZIP]).await;
    assert!(missing.status == 404 && unpacked(&missing).contains("Not found"));
    for path in [
        "raw/main/src/main.rs",
        "raw/main/bin",
        "archive/main.zip",
        "archive/main.tar.gz",
        "commit/main.patch",
    ] {
        let answer = site.send("GET", &format!("/app/-/{path}"), &[GZIP]).await;
        assert_eq!(
            (answer.status, answer.header("content-encoding")),
            (200, None),
            "{path}"
        );
    }
    let page = site.get("/app").await.body;
    for suffix in [".css", ".js"] {
        let asset = page.split('"').find(|part| part.ends_with(suffix)).unwrap();
        let plain = site.send("GET", asset, &[]).await;
        let small = site.send("GET", asset, &[GZIP]).await;
        assert_eq!(unpacked(&small), plain.body);
    }
}

#[tokio::test]
async fn a_page_that_is_kept_is_sent_without_reading_it_again() {
    let site = signed_in().await;
    let (first, second) = furnish(&site, "app");
    let mut sent = Vec::new();
    for path in pages(&first) {
        for accept in [HTML, JSON] {
            let answer = site.send("GET", &path, &[accept]).await;
            sent.push((path.clone(), accept, answer));
        }
    }
    // From here on there are commits, but neither files nor folders.
    let folder = site.state.paths.repo(&"app".parse().unwrap());
    remove_objects_except(&folder, &[&first, &second, "v1.0"]);
    for (path, accept, answer) in &sent {
        let again = site.send("GET", path, &[*accept]).await;
        assert_eq!((again.status, &again.body), (200, &answer.body), "{path}");
        let tag = answer.header("etag").unwrap();
        let known = site
            .send("GET", path, &[*accept, ("If-None-Match", tag)])
            .await;
        assert_eq!(known.status, 304, "{path}");
    }
    let other = site.get("/app/-/tree/main/docs").await;
    assert_eq!(other.status, 500, "{}", other.body);
}

/// Leaves only these objects.
fn remove_objects_except(folder: &std::path::Path, kept: &[&str]) {
    let kept: Vec<(String, Vec<u8>)> = kept
        .iter()
        .map(|name| {
            let id = git(folder, &["rev-parse", name]).trim().to_owned();
            let loose = folder.join("objects").join(&id[..2]).join(&id[2..]);
            unpack(folder);
            (id, std::fs::read(loose).unwrap())
        })
        .collect();
    let objects = folder.join("objects");
    std::fs::remove_dir_all(&objects).unwrap();
    std::fs::create_dir_all(objects.join("pack")).unwrap();
    std::fs::create_dir_all(objects.join("info")).unwrap();
    for (id, bytes) in kept {
        std::fs::create_dir_all(objects.join(&id[..2])).unwrap();
        std::fs::write(objects.join(&id[..2]).join(&id[2..]), bytes).unwrap();
    }
}

/// Makes loose objects of all packs.
fn unpack(folder: &std::path::Path) {
    let packs = std::fs::read_dir(folder.join("objects/pack")).unwrap();
    let packs: Vec<_> = packs
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "pack"))
        .collect();
    for pack in packs {
        let aside = folder.join("aside.pack");
        std::fs::rename(&pack, &aside).unwrap();
        let mut command = quire_testkit::hermetic_git(folder, folder, &["unpack-objects", "-q"]);
        command.stdin(std::fs::File::open(&aside).unwrap());
        assert!(command.status().unwrap().success());
    }
}

#[tokio::test]
async fn each_viewer_has_a_frame_of_their_own() {
    let mut site = Site::start(SignInMethod::Ssh).await;
    let other_key = super::site::LAPTOP.replace("8kXw laptop", "8kXx desk");
    site.seed
        .keys(&format!("{}{other_key}", super::site::LAPTOP));
    let (first, _) = furnish(&site, "app");
    site.sign_in_as("laptop").await;
    let mut tags = Vec::new();
    for path in pages(&first) {
        let answer = site.send("GET", &path, &[HTML, GZIP]).await;
        assert!(
            unpacked(&answer).contains("<span class=\"who\">laptop</span>"),
            "{path}"
        );
        tags.push(answer.header("etag").unwrap().to_owned());
    }
    let laptop = site.cookie.clone();
    site.sign_in_as("desk").await;
    for (path, tag) in pages(&first).iter().zip(&tags) {
        let answer = site
            .send("GET", path, &[HTML, GZIP, ("If-None-Match", tag)])
            .await;
        assert_eq!(answer.status, 200, "{path}");
        let text = unpacked(&answer);
        assert!(
            text.contains("<span class=\"who\">desk</span>") && !text.contains("laptop"),
            "{path}"
        );
    }
    // A key that may connect no longer sees neither what is kept nor that it is.
    site.seed.keys(&other_key);
    site.cookie = laptop;
    for (path, tag) in pages(&first).iter().zip(&tags) {
        for headers in [&[HTML, GZIP][..], &[HTML, ("If-None-Match", tag)]] {
            let answer = site.send("GET", path, headers).await;
            assert_eq!(
                (answer.status, answer.header("etag")),
                (401, None),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn a_blame_follows_the_list_of_the_default_branch() {
    let site = signed_in().await;
    let (_, second) = furnish(&site, "app");
    let path = "/app/-/blame/topic%2F%231/src/main.rs";
    let before = site.get(path).await;
    let folder = site.state.paths.repo(&"app".parse().unwrap());
    let blob = {
        let file = folder.join("ignored");
        std::fs::write(&file, format!("{second}\n")).unwrap();
        git(&folder, &["hash-object", "-w", &file.display().to_string()])
    };
    let index = folder.join("list-index").display().to_string();
    let with_index = |arguments: &[&str]| {
        let mut command = quire_testkit::hermetic_git(&folder, &folder, arguments);
        command.env("GIT_INDEX_FILE", &index);
        quire_testkit::run_ok(&mut command)
    };
    with_index(&["read-tree", "main"]);
    let entry = format!("100644,{},.git-blame-ignore-revs", blob.trim());
    with_index(&["update-index", "--add", "--cacheinfo", &entry]);
    let tree = with_index(&["write-tree"]);
    let commit = git(
        &folder,
        &["commit-tree", "-p", "main", "-m", "List", tree.trim()],
    );
    git(&folder, &["update-ref", "refs/heads/main", commit.trim()]);
    let tag = before.header("etag").unwrap();
    let after = site
        .send("GET", path, &[HTML, ("If-None-Match", tag)])
        .await;
    assert_eq!(after.status, 200);
    assert_ne!(after.body, before.body);
}
