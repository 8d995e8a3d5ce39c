//! The page that searches a repository.

use quire_web::SignInMethod;
use serde_json::Value;

use super::repository::{commit, furnish, git, install};
use super::site::Site;

async fn signed_in() -> Site {
    let mut site = Site::start(SignInMethod::Ssh).await;
    site.sign_in().await;
    site
}

#[tokio::test]
async fn lines_of_files_are_found_and_linked() {
    let site = signed_in().await;
    let (first, second) = furnish(&site, "app");
    let page = site.get("/app/-/search?q=println!").await;
    assert_eq!(page.status, 200);
    for text in [
        &format!("<a href=\"/app/-/file/{second}/src/main.rs#L2\" data-n=\"2\""),
        "<mark>println!</mark>(&quot;two&quot;);",
        "1 line in 1 file matches.",
        "Not searched: 1 binary file.",
        "aria-current=\"page\">Search</a>",
    ] {
        assert!(page.body.contains(text), "{text}: {}", page.body);
    }
    let old = site.get("/app/-/search?q=println&rev=v1.0").await;
    let link = format!("/app/-/file/{first}/src/main.rs#L2");
    assert!(old.body.contains(&link) && old.body.contains("name=\"rev\" value=\"v1.0\""));
    // Text of files is foreign, and hidden characters are shown.
    let odd = site.get("/app/-/search?q=if+(a").await;
    let shown = "<mark>if (a</mark><i class=\"hidden-char\">U+202E</i> &lt; b)";
    assert!(odd.body.contains(shown), "{}", odd.body);
    let script = site.get("/app/-/search?q=%3Cscript%3E").await;
    assert!(script.body.contains("<mark>&lt;script&gt;</mark>alert(1)"));
    assert!(!script.body.contains("<script>"));
    // A line of Markdown is one of its source.
    let readme = site.get("/app/-/search?q=keeps&path=*.md+!docs").await;
    let link = format!("/app/-/file/{second}/README.md?source=1&from=1#L3");
    assert!(readme.body.contains(&link), "{}", readme.body);
    assert!(readme.body.contains("value=\"*.md !docs\""));
    let nothing = site.get("/app/-/search?q=Keeps+nothing").await;
    assert!(nothing.body.contains("No line matches."));

    let data = site
        .json("/app/-/search?q=PRINT.N&regex=1&type=code")
        .await
        .json();
    assert_eq!(data["files"], Value::Array(Vec::new()));
    let data = site.json("/app/-/search?q=print.n&regex=1").await.json();
    let line = &data["files"][0]["lines"][0];
    assert_eq!(
        (&line["line"], &line["text"]),
        (&2.into(), &"\tprintln!(\"two\");".into())
    );
    assert_eq!(
        line["parts"],
        serde_json::json!(["\t", "println", "!(\"two\");"])
    );
    assert_eq!(line["href"], format!("/app/-/file/{second}/src/main.rs#L2"));
    let shown = serde_json::to_string_pretty(&data).unwrap();
    insta::assert_snapshot!(shown.replace(&second, "COMMIT"));
}

#[tokio::test]
async fn paths_and_commits_are_found() {
    let site = signed_in().await;
    let (first, second) = furnish(&site, "app");
    let page = site.get("/app/-/search?q=srcmain&type=paths").await;
    let link = format!(
        "<a href=\"/app/-/file/{second}/src/main.rs\"><mark>src</mark>/<mark>main</mark>.rs</a>"
    );
    assert!(page.body.contains(&link), "{}", page.body);
    assert!(page.body.contains("1 path matches."));
    let odd = site.get("/app/-/search?q=newline&type=paths").await;
    assert!(
        odd.body
            .contains("<mark>new</mark><i class=\"hidden-char\">U+000A</i><mark>line</mark>")
    );
    let data = site.json("/app/-/search?q=main&type=paths").await.json();
    assert_eq!(
        data["paths"][0]["parts"],
        serde_json::json!(["src/", "main", ".rs"])
    );
    assert_eq!(
        (&data["total"], &data["is_whole"]),
        (&1.into(), &true.into())
    );

    let page = site.get("/app/-/search?q=enough&type=commits").await;
    for text in [
        &format!("<a href=\"/app/-/commit/{second}\">Say two</a>"),
        "Because one was not <mark>enough</mark>.",
        "1 commit matches.",
    ] {
        assert!(page.body.contains(text), "{text}: {}", page.body);
    }
    let subject = site.get("/app/-/search?q=%3Cb%3Ethe&type=commits").await;
    assert!(
        subject
            .body
            .contains("Begin <mark>&lt;b&gt;the</mark>&lt;/b&gt; ledger")
    );
    let data = site
        .json("/app/-/search?q=^(say|begin)&regex=1&type=commits")
        .await
        .json();
    let ids = [0, 1].map(|at| data["commits"][at]["id"].as_str().unwrap().to_owned());
    assert_eq!(ids, [second, first]);
}

#[tokio::test]
async fn a_search_that_cannot_be_made_says_why() {
    let site = signed_in().await;
    furnish(&site, "app");
    let bad = site.get("/app/-/search?q=main(&regex=1").await;
    assert_eq!(bad.status, 400);
    let sentence = "The regular expression is not valid at character 5: unclosed group.";
    assert!(bad.body.contains(sentence), "{}", bad.body);
    assert!(bad.body.contains("value=\"main(\""), "{}", bad.body);
    let data = site.json("/app/-/search?q=main(&regex=1").await;
    assert_eq!(
        (data.status, &data.json()["error"]),
        (400, &sentence.into())
    );
    let empty = site.get("/app/-/search?q=").await;
    assert_eq!(empty.status, 200);
    assert!(empty.body.contains("Finds lines of files.") && empty.body.contains("name=\"regex\""));
    assert_eq!(site.json("/app/-/search").await.json()["is_whole"], true);
    for (missing, status) in [
        ("q=x&rev=nothing", 404),
        ("q=x&rev=main/src", 404),
        ("q=x&type=all", 404),
        ("q=x&after=x", 404),
        (
            "q=x&type=commits&after=0123456789012345678901234567890123456789",
            404,
        ),
        ("q=%ff", 400),
        ("q=x&after=3:no/such", 200),
    ] {
        let path = format!("/app/-/search?{missing}");
        assert_eq!(site.get(&path).await.status, status, "{missing}");
    }
    // A repository without a commit has the form.
    let target = site.state.paths.repo(&site.seed.repo("new"));
    git(&target, &["init", "--quiet", "--bare"]);
    let new = site.get("/new/-/search?q=main").await;
    assert_eq!(new.status, 200);
    assert!(new.body.contains("No commits yet."));
}

#[tokio::test]
async fn pages_of_a_search_go_on_until_its_end() {
    let site = signed_in().await;
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path();
    git(work, &["init", "--quiet", "--initial-branch=main"]);
    for number in 0..30 {
        let lines: String = (0..25)
            .map(|line| format!("{line} needle {number}\n"))
            .collect();
        std::fs::write(work.join(format!("a b[{number}].txt")), lines).unwrap();
    }
    commit(work, "Needles");
    install(&site, "app", work);
    let mut todo = vec!["/app/-/search?q=needle".to_owned()];
    let mut found = Vec::new();
    let mut pages = 0;
    while let Some(path) = todo.pop() {
        let data = site.json(&path).await.json();
        let page = site.get(&path).await;
        pages += 1;
        for file in data["files"].as_array().unwrap() {
            let lines = file["lines"].as_array().unwrap();
            assert!(lines.len() <= 20);
            found.extend(lines.iter().map(|line| line["href"].to_string()));
            todo.extend(file["next"].as_str().map(str::to_owned));
        }
        let next = data["next"].as_str();
        assert_eq!(page.body.contains("More results"), next.is_some());
        assert_eq!(
            data["is_whole"] == true,
            next.is_none() && !page.body.contains("More lines of this file")
        );
        todo.extend(next.map(str::to_owned));
    }
    let all = found.len();
    found.sort();
    found.dedup();
    assert_eq!((all, found.len(), pages), (750, 750, 33));
}

#[tokio::test]
async fn a_history_is_narrowed_by_author_and_message() {
    let site = signed_in().await;
    let (first, second) = furnish(&site, "app");
    let has = |body: &str, id: &str| body.contains(&format!("href=\"/app/-/commit/{id}\""));
    let page = site.get("/app/-/log/main?author=&q=because+one").await;
    assert!(has(&page.body, &second) && !has(&page.body, &first));
    assert!(page.body.contains("value=\"because one\""));
    let all = site.get("/app/-/log/main?author=&q=").await;
    assert!(has(&all.body, &second) && has(&all.body, &first));
    for query in ["author=nobody", "q=Because+One"] {
        let none = site.get(&format!("/app/-/log/main?{query}")).await;
        assert_eq!(none.status, 200);
        assert!(none.body.contains("No commit matches."), "{query}");
    }
    let bad = site.get("/app/-/log/main?q=a%0Ab").await;
    assert_eq!(bad.status, 400);
    // Also of one path.
    let path = site.json("/app/-/log/main/crlf.txt?q=begin").await.json();
    assert_eq!(path["commits"], Value::Array(Vec::new()));
}
