//! The pages of a repository's files and commits: what they say, where they lead, and what they refuse.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use quire_testkit::hermetic_git;
use quire_web::SignInMethod;

use super::site::{NOW, Site};

/// Names that git allows and addresses must carry.
const ODD_NAMES: [&[u8]; 8] = [
    b"-dash",
    b"a b",
    b"#%?&+;",
    b"new\nline",
    b"\xff\xfe",
    b"\"<'>",
    b"back\\slash",
    "\u{202e}fdp.exe".as_bytes(),
];

/// Markdown of every kind, and what must not work in it.
const GUIDE: &str = "# Guide\n\nSee [the code](../src/main.rs) and [below](#tables), or <https://example.org>.\n\n\
    ![pixel](../pixel.svg) ![remote](https://example.org/p.png)\n\n## Tables\n\n| account | balance |\n| :-- | --: |\n| cash | 10 |\n\n\
    - [x] done\n- [ ] to do\n\n> [!NOTE]\n> Mind this.\n\n```rust\nfn main() {} // A line that is so long that it can be read on no phone without scrolling sideways.\n```\n\n<script>alert(1)</script>\n\n\
    <img src=\"https://example.org/x.png\" onerror=\"alert(1)\"> A footnote.[^1]\n\n[^1]: Here.\n";

pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = hermetic_git(folder, folder, arguments);
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_DATE"), "1784900000 +0200");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn commit(work: &Path, subject: &str) -> String {
    git(work, &["add", "--all"]);
    git(work, &["commit", "--quiet", "-m", subject]);
    git(work, &["rev-parse", "HEAD"]).trim().to_owned()
}

/// Fills `app` with two commits and returns their ids.
pub(crate) fn furnish(site: &Site, name: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path();
    let write = |name: &[u8], content: &[u8]| {
        let file = work.join(OsStr::from_bytes(name));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    };
    git(work, &["init", "--quiet", "--initial-branch=main"]);
    write(b"README.md", b"# Ledger\n\nKeeps accounts.\n");
    write(b"src/main.rs", b"fn main() {\n\tprintln!(\"one\");\n}\n");
    for (at, odd) in ODD_NAMES.into_iter().enumerate() {
        write(odd, format!("odd {at}\n").as_bytes());
        write(&[b"folder-", odd, b"/inner"].concat(), b"inner\n");
    }
    write(b"docs/guide.md", GUIDE.as_bytes());
    write(b"page.html", b"<script>alert(1)</script>\n");
    write(b"bin", &[0, 1, 2, 3]);
    write(b"empty", b"");
    write(b"hidden.txt", "if (a\u{202e} < b)\n".as_bytes());
    write(
        b"pixel.svg",
        b"<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(1)</script></svg>",
    );
    std::os::unix::fs::symlink("src/main.rs", work.join("link")).unwrap();
    let first = commit(work, "Begin <b>the</b> ledger");
    git(
        work,
        &[
            "update-index",
            "--add",
            "--cacheinfo",
            &format!("160000,{first},module"),
        ],
    );
    std::fs::create_dir(work.join("module")).unwrap();
    write(b"src/main.rs", b"fn main() {\n\tprintln!(\"two\");\n}\n");
    write(b"crlf.txt", b"one\r\ntwo");
    let second = commit(work, "Say two\n\nBecause one was not enough.");
    git(work, &["branch", "topic/#1"]);
    git(work, &["tag", "-a", "-m", "one", "v1.0", "HEAD~1"]);
    install(site, name, work);
    (first, second)
}

/// Makes the repository `name` a copy of the one in a folder.
pub(crate) fn install(site: &Site, name: &str, work: &Path) {
    let target = site.state.paths.repo(&site.seed.repo(name));
    std::fs::remove_dir_all(&target).unwrap();
    git(
        work,
        &[
            "clone",
            "--quiet",
            "--mirror",
            ".",
            &target.display().to_string(),
        ],
    );
}

async fn signed_in() -> Site {
    let mut site = Site::start(SignInMethod::Ssh).await;
    site.sign_in().await;
    site
}

/// The addresses on this site that a page links to.
fn links(body: &str) -> BTreeSet<String> {
    let attributes = ["href=\"", "src=\""];
    attributes
        .iter()
        .flat_map(|attribute| body.split(attribute).skip(1))
        .filter_map(|rest| rest.split('"').next())
        .map(|link| {
            link.split('#')
                .next()
                .unwrap()
                .replace("&amp;", "&")
                .replace("&#38;", "&")
        })
        .filter(|link| link.starts_with('/'))
        .collect()
}

#[tokio::test]
async fn every_link_of_a_repository_leads_somewhere() {
    let site = signed_in().await;
    furnish(&site, "work/app");
    let mut todo = vec!["/work/app".to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(path) = todo.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        if path.contains("/-/archive/") {
            // Its body is no text.
            let head = site.send("HEAD", &path, &[]).await;
            assert_eq!(head.status, 200, "{path}");
            continue;
        }
        let page = site.get(&path).await;
        assert!(
            matches!(page.status, 200 | 307 | 308),
            "{path}: {}",
            page.status
        );
        let ends = [".patch", ".diff", ".atom", ".svg"];
        if path.contains("/-/raw/") || ends.iter().any(|end| path.ends_with(end)) {
            continue;
        }
        let of_revision = path.contains("/-/") && !path.contains("/-/runs");
        if of_revision || path == "/work/app" {
            let data = site.json(&path).await;
            assert_eq!(data.status, 200, "{path}");
            assert_eq!(data.json()["repo"], "work/app", "{path}");
        }
        todo.extend(
            links(&page.body)
                .into_iter()
                .filter(|link| link.starts_with("/work/app")),
        );
    }
    for odd in ODD_NAMES {
        let encoded: String = odd.iter().map(|b| format!("%{b:02x}")).collect();
        for page in ["file", "raw", "log"] {
            let path = format!("/work/app/-/{page}/main/{encoded}");
            assert_eq!(site.get(&path).await.status, 200, "{path}");
        }
        assert!(
            seen.iter()
                .any(|path| path.contains("/-/raw/") && percent_decoded(path).ends_with(odd))
        );
    }
    assert!(seen.len() > 60, "{seen:?}");
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes().iter();
    while let Some(byte) = rest.next() {
        if *byte == b'%' {
            let digits: String = rest.by_ref().take(2).map(|b| char::from(*b)).collect();
            bytes.push(u8::from_str_radix(&digits, 16).unwrap());
        } else {
            bytes.push(*byte);
        }
    }
    bytes
}

#[tokio::test]
async fn a_repository_shows_its_files_and_its_newest_commit() {
    let site = signed_in().await;
    let (_, second) = furnish(&site, "app");
    let run = site.seed.run("app", "main", NOW);
    let page = site.get("/app").await;
    for text in [
        "git clone ssh://git@git.home.example:2222/app.git",
        "Say two",
        "Keeps accounts.",
        "topic/#1",
        "v1.0",
        &format!("href=\"/app/-/commit/{second}\""),
    ] {
        assert!(page.body.contains(text), "{text}: {}", page.body);
    }
    assert!(page.body.contains(&format!("/runs/{run}")));
    let data = site.json("/app").await.json();
    assert_eq!(data["head"]["ref"], "refs/heads/main");
    assert_eq!(data["head"]["commit"]["id"], second);
    assert_eq!(data["head"]["readme"]["name"], "README.md");
    assert_eq!(data["runs"][0]["id"], run.to_string());
    let entries = data["head"]["entries"].as_array().unwrap();
    let entry = |name: &str| entries.iter().find(|entry| entry["name"] == name).unwrap();
    assert_eq!(entry("link")["target"], "src/main.rs");
    assert_eq!(entry("module")["kind"], "submodule");
    assert_eq!(entry("src")["href"], "/app/-/tree/HEAD/src");
    // A repository without commits, and one that is no repository, have a page.
    site.seed.repo("bare");
    assert!(site.get("/bare").await.body.contains("No commits yet"));
    assert_eq!(site.get("/bare/-/runs").await.status, 200);
}

#[tokio::test]
async fn a_commit_shows_what_it_changed() {
    let site = signed_in().await;
    let (first, second) = furnish(&site, "app");
    let page = site.get(&format!("/app/-/commit/{second}")).await;
    for text in [
        "Because one was not enough.",
        "3 files changed",
        "Subproject commit",
        "No newline at the end of the file.",
        "U+000D",
        &format!("/app/-/commit/{first}"),
        "data-o=\"2\" data-n=\"\"><b>-</b>\t<span class=\"hf\">println!</span>(",
    ] {
        assert!(page.body.contains(text), "{text}: {}", page.body);
    }
    let data = site.json(&format!("/app/-/commit/{second}")).await.json();
    assert_eq!(data["total_files"], 3);
    assert_eq!(data["files"][2]["path"], "src/main.rs");
    assert_eq!(
        (&data["files"][2]["added"], &data["files"][2]["removed"]),
        (&1.into(), &1.into())
    );
    let alone = site
        .get(&format!("/app/-/commit/{second}?path=src/main.rs"))
        .await;
    assert!(alone.body.contains("The whole commit") && !alone.body.contains("crlf.txt"));
    let markup = site.get(&format!("/app/-/commit/{first}")).await;
    assert!(!markup.body.contains("<b>the</b>") && !markup.body.contains("<script>alert"));
    let log = site.json("/app/-/log/main/src/main.rs").await.json();
    assert_eq!(
        (&log["commits"][0]["id"], &log["commits"][1]["id"]),
        (&second.into(), &first.into())
    );
}

#[tokio::test]
async fn a_large_commit_is_shown_in_parts() {
    let site = signed_in().await;
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path();
    git(work, &["init", "--quiet", "--initial-branch=main"]);
    let long: String = (0..1200).map(|n| format!("{n}\n")).collect();
    for number in 0..250 {
        std::fs::write(work.join(format!("{number:03}")), &long).unwrap();
    }
    commit(work, "Many");
    let target = site.state.paths.repo(&site.seed.repo("app"));
    std::fs::remove_dir_all(&target).unwrap();
    git(
        work,
        &[
            "clone",
            "--quiet",
            "--mirror",
            ".",
            &target.display().to_string(),
        ],
    );
    let mut path = Some("/app/-/commit/main".to_owned());
    let (mut files, mut pages) = (0, 0);
    while let Some(at) = path {
        let page = site.get(&at).await;
        assert!(
            page.body.matches("<span class=\"dl ").count() <= 3000,
            "{at}"
        );
        let data = site.json(&at).await.json();
        let listed = data["files"].as_array().unwrap();
        assert!(listed.len() <= 100);
        assert!(
            listed
                .iter()
                .all(|file| file["lines"].as_array().unwrap().len() <= 500)
        );
        (files, pages) = (files + listed.len(), pages + 1);
        path = data["next"].as_str().map(str::to_owned);
    }
    assert_eq!((files, pages), (250, 3));
    // A file that is cut goes on alone.
    let first = site.json("/app/-/commit/main").await.json()["files"][0].clone();
    let rest = first["next"].as_str().unwrap().to_owned();
    let rest = site.json(&rest).await.json();
    let lines = rest["files"][0]["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 1201 - 500);
    assert_eq!(lines.last().unwrap()["text"], "1199");
}

#[tokio::test]
async fn a_large_folder_is_listed_in_parts() {
    let site = signed_in().await;
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path();
    git(work, &["init", "--quiet", "--initial-branch=main"]);
    for number in 0..2300 {
        std::fs::write(work.join(format!("f{number}")), "x").unwrap();
    }
    commit(work, "Many");
    let target = site.state.paths.repo(&site.seed.repo("app"));
    std::fs::remove_dir_all(&target).unwrap();
    git(
        work,
        &[
            "clone",
            "--quiet",
            "--mirror",
            ".",
            &target.display().to_string(),
        ],
    );
    let mut path = Some("/app/-/tree/main".to_owned());
    let mut names = BTreeSet::new();
    while let Some(at) = path {
        let data = site.json(&at).await.json();
        let entries = data["entries"].as_array().unwrap();
        assert!(entries.len() <= 1000);
        names.extend(entries.iter().map(|entry| entry["name"].to_string()));
        path = data["next"].as_str().map(str::to_owned);
    }
    assert_eq!(names.len(), 2300);
}

#[tokio::test]
async fn addresses_of_the_wrong_kind_are_redirected() {
    let site = signed_in().await;
    let (_, second) = furnish(&site, "app");
    for (path, target) in [
        (
            "/app/-/tree/main/src/main.rs",
            "/app/-/file/main/src/main.rs".to_owned(),
        ),
        ("/app/-/file/main/src", "/app/-/tree/main/src".to_owned()),
        ("/app/-/raw/v1.0/src", "/app/-/tree/v1.0/src".to_owned()),
        (
            &format!("/app/-/tree/{}/src", &second[..8]),
            format!("/app/-/tree/{second}/src"),
        ),
        (
            &format!("/app/-/commit/{}?path=x", &second[..7]),
            format!("/app/-/commit/{second}?path=x"),
        ),
        ("/app.git/-/log/main?x=1", "/app/-/log/main?x=1".to_owned()),
    ] {
        let answer = site.get(path).await;
        assert!(
            matches!(answer.status, 307 | 308),
            "{path}: {}",
            answer.status
        );
        assert_eq!(answer.header("location"), Some(target.as_str()), "{path}");
    }
    for path in [
        "/app/-/log/topic/%231",
        "/app/-/tree/topic%2F%231/src",
        "/app/-/file/refs/heads/topic/%231/empty",
    ] {
        assert_eq!(site.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let site = signed_in().await;
    let (_, second) = furnish(&site, "app");
    for rest in [
        "tree/nothing",
        "tree/main/nothing",
        "tree/main/src/main.rs/x",
        "tree/HEAD/module/x",
        "file/main",
        "file/main/module",
        "file/main/src//main.rs",
        "file/main/empty?from=2",
        "file/main/src/main.rs?from=4",
        "file/main/src/main.rs?from=x",
        "file/main/src/main.rs?from=0",
        "raw/main/%00",
        "raw/main/module",
        "log/main/nothing",
        "log/main?from=zzz",
        "log/main?from=",
        "log/main?from=0123456789012345678901234567890123456789",
        "commit/main/src",
        "commit/0123456",
        "commit/main?path=nothing",
        "commit/main?files=x",
        "tree/main?after=nothing",
        "tree/refs/quire/x",
        "tree/main^{tree}",
        "tree/main~1",
        "tree/@%7B0%7D",
        "log/--all",
        "commit/-1",
        "blame/main/x",
        "tree",
        "",
        "log/..",
        "log/%ff",
        "raw/HEAD/..%2f..%2fconfig",
        "commit/v1.0%00",
    ] {
        let path = format!("/app/-/{rest}");
        for answer in [site.get(&path).await, site.json(&path).await] {
            // A folder opens as a folder; everything else does not exist.
            let expected = if rest == "file/main" { 307 } else { 404 };
            assert_eq!(answer.status, expected, "{path}");
        }
    }
    for rest in [format!("tree/{second}"), "tree/main".to_owned()] {
        assert_eq!(site.get(&format!("/none/-/{rest}")).await.status, 404);
    }
}

#[tokio::test]
async fn a_short_id_of_several_commits_offers_them() {
    use std::io::Write as _;
    let site = signed_in().await;
    furnish(&site, "app");
    let folder = site.state.paths.repo(&"app".parse().unwrap());
    // Of so many commits, some ids begin with the same seven digits.
    let stream: String = (0..60_000)
        .map(|n| {
            format!("commit refs/heads/many\ncommitter A <a@example.org> {n} +0000\ndata 0\n\n")
        })
        .collect();
    let mut import = hermetic_git(&folder, &folder, &["fast-import", "--quiet"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    import
        .stdin
        .take()
        .unwrap()
        .write_all(stream.as_bytes())
        .unwrap();
    assert!(import.wait().unwrap().success());
    let ids = git(&folder, &["rev-list", "many"]);
    let mut ids: Vec<&str> = ids.lines().collect();
    ids.sort_unstable();
    let pair = ids
        .windows(2)
        .find(|pair| pair[0][..7] == pair[1][..7])
        .unwrap();
    let path = format!("/app/-/commit/{}", &pair[0][..7]);
    let page = site.get(&path).await;
    assert_eq!(page.status, 300);
    for id in pair {
        assert!(
            page.body.contains(&format!("href=\"/app/-/commit/{id}\"")),
            "{}",
            page.body
        );
    }
    let data = site.json(&path).await;
    assert_eq!(
        (
            data.status,
            data.json()["commits"].as_array().unwrap().len()
        ),
        (300, 2)
    );
}

#[tokio::test]
async fn a_path_that_was_removed_is_offered_as_it_was() {
    let site = signed_in().await;
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path();
    git(work, &["init", "--quiet", "--initial-branch=main"]);
    std::fs::create_dir(work.join("old")).unwrap();
    std::fs::write(work.join("old/a b"), "x").unwrap();
    std::fs::write(work.join("new"), "x").unwrap();
    let first = commit(work, "First");
    git(work, &["rm", "--quiet", "-r", "old"]);
    commit(work, "Remove <old>");
    let target = site.state.paths.repo(&site.seed.repo("app"));
    std::fs::remove_dir_all(&target).unwrap();
    git(
        work,
        &[
            "clone",
            "--quiet",
            "--mirror",
            ".",
            &target.display().to_string(),
        ],
    );
    for (path, last) in [
        (
            "file/main/old/a%20b",
            format!("/app/-/file/{first}/old/a%20b"),
        ),
        (
            "raw/main/old/a%20b",
            format!("/app/-/file/{first}/old/a%20b"),
        ),
        ("tree/HEAD/old", format!("/app/-/tree/{first}/old")),
    ] {
        let page = site.get(&format!("/app/-/{path}")).await;
        assert_eq!(page.status, 404, "{path}");
        assert!(
            page.body.contains(&format!("href=\"{last}\"")),
            "{}",
            page.body
        );
        assert!(
            page.body.contains("Remove &lt;old&gt;") || page.body.contains("Remove &#60;old&#62;")
        );
        let data = site.json(&format!("/app/-/{path}")).await;
        assert_eq!(
            (data.status, &data.json()["last"]),
            (404, &last.as_str().into())
        );
        assert_eq!(site.get(&last).await.status, 200);
    }
    assert!(
        !site
            .get("/app/-/file/main/never")
            .await
            .body
            .contains("as it was last")
    );
}

#[tokio::test]
async fn raw_files_can_do_nothing_in_a_browser() {
    let site = signed_in().await;
    let (_, second) = furnish(&site, "app");
    for (name, kind, body) in [
        (
            "page.html",
            "text/plain; charset=utf-8",
            "<script>alert(1)</script>\n",
        ),
        (
            "src/main.rs",
            "text/plain; charset=utf-8",
            "fn main() {\n\tprintln!(\"two\");\n}\n",
        ),
        ("bin", "application/octet-stream", "\0\u{1}\u{2}\u{3}"),
        ("link", "text/plain; charset=utf-8", "src/main.rs"),
    ] {
        let raw = site.get(&format!("/app/-/raw/main/{name}")).await;
        assert_eq!(
            (raw.status, raw.header("content-type"), raw.body.as_str()),
            (200, Some(kind), body)
        );
        assert_eq!(raw.header("x-content-type-options"), Some("nosniff"));
        let policy = raw.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("sandbox; default-src 'none'"),
            "{policy}"
        );
        assert_eq!(raw.header("cache-control"), Some("private, no-cache"));
    }
    let fixed = site.get(&format!("/app/-/raw/{second}/pixel.svg")).await;
    assert_eq!(fixed.header("content-type"), Some("image/svg+xml"));
    assert!(
        fixed
            .header("content-security-policy")
            .unwrap()
            .starts_with("sandbox")
    );
    assert_eq!(
        fixed.header("cache-control"),
        Some("private, max-age=86400, immutable")
    );
    let file = site.get("/app/-/file/main/hidden.txt").await;
    assert!(file.body.contains("U+202E") && file.body.contains("shown by their code points"));
    let picture = site.get("/app/-/file/main/pixel.svg").await;
    assert!(
        picture
            .body
            .contains("<img src=\"/app/-/raw/main/pixel.svg\"")
            && !picture.body.contains("<script>alert")
    );
    let binary = site.get("/app/-/file/main/bin").await;
    assert!(binary.body.contains("00 01 02 03"));
}

#[tokio::test]
async fn signed_out_no_page_of_a_repository_tells_anything() {
    let mut site = Site::start(SignInMethod::Ssh).await;
    let (_, second) = furnish(&site, "secret");
    let home = site.get("/").await;
    assert_eq!(home.status, 401);
    for rest in [
        "tree/main",
        "tree/HEAD/src",
        "file/main/src/main.rs",
        "raw/main/README.md",
        "log/main",
        "log/main/src",
        "branches",
        "tags",
        "commit/main",
        "runs",
        "tree/nothing",
        "raw/main/src",
        "nothing",
        &format!("commit/{second}"),
        &format!("commit/{}", &second[..8]),
        &format!("raw/{second}/README.md"),
    ] {
        for repo in ["secret", "secret.git", "no-such"] {
            let path = format!("/{repo}/-/{rest}");
            let answer = site.get(&path).await;
            assert_eq!((answer.status, &answer.body), (401, &home.body), "{path}");
            assert!(answer.header("location").is_none());
            let data = site.json(&path).await;
            assert_eq!(data.status, 401, "{path}");
            assert!(!data.body.contains("secret"), "{path}");
        }
    }
    site.sign_in().await;
    assert_eq!(
        site.get(&format!("/secret/-/commit/{second}")).await.status,
        200
    );
}

#[tokio::test]
async fn a_page_that_did_not_change_is_not_sent_again() {
    let mut site = signed_in().await;
    let (first, second) = furnish(&site, "app");
    let folder = site.state.paths.repo(&"app".parse().unwrap());
    let html = ("Accept", "text/html");
    for rest in [
        "tree/main/src",
        "file/main/README.md",
        "raw/main/bin",
        "log/main",
        "commit/main",
    ] {
        let path = format!("/app/-/{rest}");
        let sent = site.send("GET", &path, &[html]).await;
        let tag = sent
            .header("etag")
            .unwrap_or_else(|| panic!("{path}"))
            .to_owned();
        assert_eq!((sent.status, sent.body.is_empty()), (200, false));
        let again = async |site: &Site| {
            let known = format!("\"other\", {tag}");
            site.send("GET", &path, &[html, ("If-None-Match", &known)])
                .await
        };
        let same = again(&site).await;
        assert_eq!((same.status, same.body.as_str()), (304, ""), "{path}");
        assert_eq!(same.header("etag"), Some(tag.as_str()));
        assert!(same.header("content-security-policy").is_some());
        // Data is another document, and so is what another commit has.
        let data = site
            .send(
                "GET",
                &path,
                &[("Accept", "application/json"), ("If-None-Match", &tag)],
            )
            .await;
        assert_eq!(
            data.status,
            if rest.starts_with("raw") { 304 } else { 200 },
            "{path}"
        );
        git(&folder, &["update-ref", "refs/heads/main", &first]);
        assert_eq!(again(&site).await.status, 200, "{path}");
        git(&folder, &["update-ref", "refs/heads/main", &second]);
        assert_eq!(again(&site).await.status, 304, "{path}");
        let cookie = site.cookie.take();
        assert_eq!(again(&site).await.status, 401, "{path}");
        site.cookie = cookie;
    }
    assert_eq!(site.get("/app").await.header("etag"), None);
}

#[tokio::test]
async fn markdown_is_rendered_and_its_source_is_a_link_away() {
    let site = signed_in().await;
    furnish(&site, "app");
    let page = site.get("/app").await;
    assert!(
        page.body.contains("<h1 id=\"user-ledger\">Ledger</h1>"),
        "{}",
        page.body
    );
    let file = site.get("/app/-/file/main/README.md").await;
    assert!(file.body.contains("<h1 id=\"user-ledger\">Ledger</h1>"));
    assert!(
        file.body
            .contains("href=\"/app/-/file/main/README.md?source=1\"")
    );
    let source = site.get("/app/-/file/main/README.md?source=1").await;
    assert!(source.body.contains("# Ledger") && !source.body.contains("<h1 id=\"user-ledger\""));
}

#[tokio::test]
async fn branches_and_tags_are_listed() {
    let site = signed_in().await;
    let (first, second) = furnish(&site, "app");
    let branches = site.json("/app/-/branches").await.json();
    assert_eq!(
        (&branches["total"], &branches["next"]),
        (&2.into(), &serde_json::Value::Null)
    );
    assert_eq!(branches["branches"][0]["commit"]["id"], second);
    let tags = site.json("/app/-/tags").await.json();
    assert_eq!(tags["tags"][0]["annotation"]["subject"], "one");
    assert_eq!(tags["tags"][0]["commit"]["id"], first);
    let page = site.get("/app/-/branches").await;
    assert!(
        page.body.contains("topic/#1") && page.body.contains("default"),
        "{}",
        page.body
    );
    assert_eq!(site.get("/app/-/branches?after=nothing").await.status, 404);
    site.seed.repo("bare");
    let tree = site.json("/app/-/tree/main").await.json();
    let entry = |name: &str| {
        let entries = tree["entries"].as_array().unwrap();
        entries
            .iter()
            .find(|entry| entry["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(entry("src")["last_change"]["id"], second);
    assert_eq!(entry("empty")["last_change"]["id"], first);
}

#[tokio::test]
async fn a_push_a_forced_push_and_a_removal_show_at_once() {
    let site = signed_in().await;
    let (first, second) = furnish(&site, "app");
    let folder = site.state.paths.repo(&"app".parse().unwrap());
    let tip = async || site.json("/app").await.json()["head"]["commit"]["id"].clone();
    assert_eq!(tip().await, second);
    git(&folder, &["update-ref", "refs/heads/main", &first]);
    assert_eq!(tip().await, first);
    git(&folder, &["pack-refs", "--all"]);
    git(&folder, &["gc", "--quiet"]);
    assert_eq!(tip().await, first);
    git(&folder, &["symbolic-ref", "HEAD", "refs/heads/topic/#1"]);
    assert_eq!(tip().await, second);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(site.get("/app").await.status, 404);
    assert_eq!(site.get("/app/-/tree/main").await.status, 404);
    furnish(&site, "app");
    assert_eq!(site.get("/app/-/tree/main").await.status, 200);
}
