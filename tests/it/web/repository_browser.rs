//! Chromium on the pages of a repository: they fit, have contrast, load nothing foreign, and work without scripts.

use quire_testkit::{Browser, skipped};

use super::browser::open_site;
use super::repository::furnish;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_reads_a_repository() {
    if skipped("browser") {
        return;
    }
    let site = open_site().await;
    let (_, second) = furnish(&site, "work/ledger");
    let now = site.state.clock.now();
    let run = site.seed.run("work/ledger", "main", now);
    site.seed.start(run, now);
    site.seed.end(run, "complete", None, now);
    let base = format!("http://{}/work/ledger", site.address);
    let browser = Browser::start().await;
    let page = &browser.client;
    for (name, path) in [
        ("repo", String::new()),
        ("tree", "/-/tree/main/src".to_owned()),
        ("file", "/-/file/main/src/main.rs".to_owned()),
        ("file-hidden", "/-/file/main/hidden.txt".to_owned()),
        ("file-binary", "/-/file/main/bin".to_owned()),
        ("file-picture", "/-/file/main/pixel.svg".to_owned()),
        ("file-markdown", "/-/file/main/docs/guide.md".to_owned()),
        ("blame", "/-/blame/main/src/main.rs".to_owned()),
        ("branches", "/-/branches".to_owned()),
        ("tags", "/-/tags".to_owned()),
        ("log", "/-/log/main".to_owned()),
        ("log-path", "/-/log/main/src/main.rs".to_owned()),
        ("compare", "/-/compare/v1.0...main".to_owned()),
        ("search", "/-/search".to_owned()),
        ("search-code", "/-/search?q=o&rev=main".to_owned()),
        ("search-regex", "/-/search?q=(one&regex=1".to_owned()),
        ("search-paths", "/-/search?q=in&type=paths".to_owned()),
        ("search-commits", "/-/search?q=one&type=commits".to_owned()),
        ("commit", format!("/-/commit/{second}")),
        ("commit-split", format!("/-/commit/{second}?view=split")),
        ("runs", "/-/runs".to_owned()),
        ("commit-first", "/-/commit/v1.0".to_owned()),
    ] {
        browser.look(1280, 900, false).await;
        page.goto(&format!("{base}{path}")).await.unwrap();
        browser.look_at_all(name).await;
        browser.assert_contrast(name).await;
        // The browser itself complains of the status.
        let complaints = browser.complaints().await;
        let expected = usize::from(name == "search-regex");
        assert_eq!(complaints.len(), expected, "{name}: {complaints:?}");
    }
    // The list of revisions opens without a script, and a line can be linked to.
    page.goto(&base).await.unwrap();
    browser
        .script("document.querySelector('.refs summary').click()")
        .await;
    browser
        .until("return document.querySelector('.ref-list').checkVisibility()")
        .await;
    browser.look_at_all("refs").await;
    page.goto(&format!("{base}/-/file/main/src/main.rs#L2"))
        .await
        .unwrap();
    browser
        .until("return document.querySelector('.l:has(:target)').textContent.includes('two')")
        .await;
    // Numbers are no text, so they are not copied.
    let text = "return document.querySelector('.code').innerText";
    let code = browser.script(text).await;
    assert_eq!(
        code.as_str().unwrap().trim_end(),
        "fn main() {\n\tprintln!(\"two\");\n}"
    );
    // A file with a script in it is a text.
    page.goto(&format!("{base}/-/raw/main/page.html"))
        .await
        .unwrap();
    browser.until_visible("<script>alert(1)</script>").await;
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_do_what_links_do() {
    if skipped("browser") {
        return;
    }
    let site = open_site().await;
    let (_, second) = furnish(&site, "work/ledger");
    let base = format!("http://{}/work/ledger", site.address);
    let browser = Browser::start().await;
    let page = &browser.client;
    page.goto(&format!("{base}/-/file/main/src/main.rs"))
        .await
        .unwrap();
    let press = async |key: &str| {
        let code = format!(
            "(document.activeElement || document.body).dispatchEvent(new KeyboardEvent('keydown', \
             {{ key: '{key}', bubbles: true, cancelable: true }}))"
        );
        browser.script(&code).await;
    };
    let is = async |condition: &str| browser.until(&format!("return {condition}")).await;
    press("?").await;
    is("document.querySelector('dialog.keys').open").await;
    browser.look_at_all("keys").await;
    press("?").await;
    is("!document.querySelector('dialog.keys').open").await;
    press("/").await;
    is("document.activeElement.name === 'q'").await;
    // In a field, keys are text.
    press("y").await;
    press("t").await;
    is("location.pathname.endsWith('/-/file/main/src/main.rs')").await;
    browser.script("document.activeElement.blur()").await;
    press("y").await;
    is(&format!(
        "location.pathname.endsWith('/-/file/{second}/src/main.rs')"
    ))
    .await;
    press("t").await;
    is("location.search.includes('type=paths')").await;
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.close().await;
}
