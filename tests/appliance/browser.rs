//! The pages of the appliance in a real browser.

use fantoccini::Locator;
use quire_testkit::{Browser, skipped};
use serde_json::Value;

use crate::appliance::Appliance;
use crate::pushes::push_pipeline;

/// Its last line comes after the test has created a file in its container.
const WAITS_FOR_A_FILE: &str = r#"(local ci (require :quire.ci))
(ci.image "debian:trixie-slim")
(ci.job :tick [:quire/push]
  (fn [{: sh}]
    (sh "echo tick 1; echo tick 2; until [ -e /tmp/continue ]; do sleep 0.1; done; echo tick $((20 * 2))")))
"#;

#[test]
fn a_person_signs_in_and_watches_a_run_grow() {
    if skipped("browser") {
        return;
    }
    let (appliance, client) = Appliance::with_client();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let browser = Browser::start().await;
        let page = &browser.client;

        page.goto(&appliance.url()).await.unwrap();
        browser.look_at_all("home-stranger").await;
        // That a stranger gets a 401 is a complaint of the browser's own, and the only one.
        browser.until_complaint("401").await;
        assert_eq!(browser.complaints().await, [""; 0]);

        let link = client
            .ssh_ok(&["login"])
            .lines()
            .find(|line| line.starts_with("http"))
            .expect("a link")
            .to_owned();
        page.goto(&link).await.unwrap();
        browser.look_at_all("login").await;
        page.find(Locator::Css("form button"))
            .await
            .unwrap()
            .click()
            .await
            .unwrap();
        // The click may return before the browser has sent the form.
        browser.until_visible("Sign out").await;

        push_pipeline(&client, "watched", WAITS_FOR_A_FILE);
        let run = client.runs("watched").remove(0);
        browser.until_visible("watched").await;
        browser.look_at_all("home").await;

        page.goto(&format!("{}/runs/{}", appliance.url(), run.id))
            .await
            .unwrap();
        browser.script("window.loadedOnce = true").await;
        browser.until_visible("tick 2").await;
        assert_eq!(
            browser
                .script("return document.body.innerText.includes('tick 40')")
                .await,
            Value::Bool(false),
            "the page is there before the run ends"
        );
        browser.look_at_all("run-active").await;
        client.ssh_ok(&["run", "attach", &run.id, "touch", "/tmp/continue"]);
        browser.until_visible("tick 40").await;
        browser.until_visible("complete").await;
        let same = browser.script("return window.loadedOnce === true").await;
        assert_eq!(
            same,
            Value::Bool(true),
            "the page moved by itself, without being loaded again"
        );
        browser.look_at_all("run-complete").await;

        page.goto(&format!("{}/runs", appliance.url()))
            .await
            .unwrap();
        browser.look_at_all("runs").await;
        assert_eq!(browser.complaints().await, [""; 0]);
        browser.close().await;
    });
}
