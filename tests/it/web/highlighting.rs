//! The colours of code on the pages of a repository.

use quire_web::SignInMethod;

use super::repository::{commit, furnish, git, install};
use super::site::Site;

#[tokio::test]
async fn code_has_colours_and_a_page_says_where_they_end() {
    let mut site = Site::start(SignInMethod::Ssh).await;
    site.sign_in().await;
    furnish(&site, "app");
    let keyword = "<span class=\"hk\">fn</span> <span class=\"hf\">main</span>";
    for view in ["file", "blame"] {
        let page = site.get(&format!("/app/-/{view}/main/src/main.rs")).await;
        assert!(page.body.contains(keyword), "{view}: {}", page.body);
        assert!(!page.body.contains("ighlight"), "{view}");
    }
    for (view, path) in [
        ("file", "docs/guide.md"),
        ("blame", "bin"),
        ("file", "link"),
    ] {
        let page = site.get(&format!("/app/-/{view}/main/{path}")).await;
        assert!(!page.body.contains("class=\"hk\""), "{path}");
    }
    let source = site.get("/app/-/file/main/docs/guide.md?source=1").await;
    assert!(source.body.contains("<span class=\"hf\"># Guide</span>"));

    let folder = tempfile::tempdir().unwrap();
    let work = folder.path();
    git(work, &["init", "--quiet", "--initial-branch=main"]);
    let wide = format!("let a = 1;\n// {}\nlet b = 2;\n", "x".repeat(3000));
    std::fs::write(work.join("wide.rs"), wide).unwrap();
    std::fs::write(work.join("large.rs"), "let a = 1;\n".repeat(50_000)).unwrap();
    std::fs::write(work.join("plain.txt"), "x".repeat(3000)).unwrap();
    std::fs::write(work.join("run"), "#!/bin/sh\nif true; then exit; fi\n").unwrap();
    commit(work, "Limits");
    install(&site, "limits", work);
    for (path, note, keywords) in [
        (
            "wide.rs",
            "Highlighting ends before line 2, which has more than 2,000 bytes.",
            1,
        ),
        (
            "large.rs",
            "This file is larger than 512 KiB and is not highlighted.",
            0,
        ),
        ("plain.txt", "", 0),
        ("run", "", 3),
    ] {
        let page = site.get(&format!("/limits/-/file/main/{path}")).await;
        assert_eq!(
            page.body.matches("class=\"hk\"").count(),
            keywords,
            "{path}"
        );
        assert!(page.body.contains(note), "{path}");
        assert_eq!(page.body.contains("ighlight"), !note.is_empty(), "{path}");
    }
}
