//! Archives of a revision, as a client downloads them.

use std::path::Path;

use quire_testkit::hermetic_git;
use quire_web::SignInMethod;

use super::client::try_send;
use super::repository::furnish;
use super::site::Site;

/// The names in an archive, sorted.
#[expect(clippy::disallowed_methods, reason = "unpacks what a client downloads")]
fn names(folder: &Path, file: &str, bytes: &[u8]) -> Vec<String> {
    std::fs::write(folder.join(file), bytes).unwrap();
    let mut command = if file.ends_with(".zip") {
        let mut unzip = std::process::Command::new("unzip");
        unzip.args(["-Z", "-1", file]);
        unzip
    } else {
        let mut tar = std::process::Command::new("tar");
        tar.args(["--quoting-style=literal", "-tzf", file]);
        tar
    };
    let listed = command.current_dir(folder).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let text = String::from_utf8_lossy(&listed.stdout);
    let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_archive_has_the_files_of_its_revision() {
    let mut site = Site::start(SignInMethod::Ssh).await;
    site.sign_in().await;
    let (first, second) = furnish(&site, "work/app");
    let folder = tempfile::tempdir().unwrap();
    for (rev, top) in [
        ("v1.0", "app-v1.0".to_owned()),
        ("main", "app-main".to_owned()),
        ("HEAD", "app-main".to_owned()),
        ("topic%2F%231", "app-topic-#1".to_owned()),
        (&first, format!("app-{first}")),
    ] {
        for extension in ["tar.gz", "zip"] {
            let path = format!("/work/app/-/archive/{rev}.{extension}");
            let answer = site.get(&path).await;
            assert_eq!(answer.status, 200, "{path}");
            let names = names(folder.path(), &format!("x.{extension}"), &answer.bytes);
            for name in ["", "README.md", "src/main.rs", "link"] {
                let name = format!("{top}/{name}");
                assert!(names.contains(&name), "{path}: {name} in {names:?}");
            }
            let has_newest = names.contains(&format!("{top}/crlf.txt"));
            assert_eq!(has_newest, rev != "v1.0" && rev != first, "{path}");
            let saved_as = answer.header("content-disposition").unwrap();
            let expected = format!("''{}.{extension}", top.replace('#', "%23"));
            assert!(saved_as.ends_with(&expected), "{saved_as}");
            let tag = answer.header("etag").unwrap();
            let again = site.send("GET", &path, &[("If-None-Match", tag)]).await;
            assert_eq!(again.status, 304, "{path}");
            let is_fixed = answer
                .header("cache-control")
                .unwrap()
                .contains("immutable");
            assert_eq!(is_fixed, rev == first, "{path}");
        }
    }
    let short = format!("/work/app/-/archive/{}.zip", &second[..9]);
    let answer = site.get(&short).await;
    assert_eq!(answer.status, 307);
    let target = format!("/work/app/-/archive/{second}.zip");
    assert_eq!(answer.header("location"), Some(target.as_str()));
    for missing in ["none.zip", "main/src.zip", "main.tar", "main"] {
        let path = format!("/work/app/-/archive/{missing}");
        assert_eq!(site.get(&path).await.status, 404, "{path}");
    }
    for page in ["/work/app", "/work/app/-/branches", "/work/app/-/tags"] {
        let body = site.get(page).await.body;
        assert!(body.contains("/-/archive/"), "{page}");
    }
}

#[tokio::test]
async fn an_archive_that_cannot_be_complete_is_broken_off() {
    let mut site = Site::start(SignInMethod::Ssh).await;
    site.sign_in().await;
    let (_, second) = furnish(&site, "app");
    let repo = site.state.paths.repo(&"app".parse().unwrap());
    // Loose objects, of which one is then removed.
    let pack = std::fs::read_dir(repo.join("objects/pack")).unwrap();
    let pack = pack
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "pack"));
    if let Some(pack) = pack {
        let aside = repo.join("aside.pack");
        std::fs::rename(&pack, &aside).unwrap();
        let mut unpack = hermetic_git(&repo, &repo, &["unpack-objects", "-q"]);
        unpack.stdin(std::fs::File::open(&aside).unwrap());
        assert!(unpack.status().unwrap().success());
    }
    let blob = hermetic_git(&repo, &repo, &["rev-parse", "main:src/main.rs"])
        .output()
        .unwrap();
    let blob = String::from_utf8(blob.stdout).unwrap();
    let (folder, file) = blob.trim().split_at(2);
    std::fs::remove_file(repo.join("objects").join(folder).join(file)).unwrap();
    let path = format!("/app/-/archive/{second}.tar.gz");
    let cookie = site.cookie.clone().unwrap();
    let answer = try_send(site.address, "GET", &path, &[("Cookie", &cookie)]).await;
    // The connection may be closed before the head of the answer has been sent.
    assert!(answer.is_none_or(|answer| !answer.is_complete));
}
