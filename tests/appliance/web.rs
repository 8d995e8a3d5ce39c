//! The pages, as a stranger and as a user who signed in, without a browser.

use crate::appliance::Appliance;
use crate::pushes::{GREEN, push_pipeline};

#[test]
fn a_stranger_sees_health_and_no_repository() {
    let (appliance, client) = Appliance::with_client();
    push_pipeline(&client, "hidden-name", GREEN);
    let run = client.wait_runs("hidden-name", 1).remove(0);
    for path in [
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/runs",
        "/robots.txt",
    ] {
        let answer = appliance.get(path, &[]);
        assert!(
            !answer.body.contains("hidden-name"),
            "{path} tells a stranger: {}",
            answer.body
        );
    }
    let page = appliance.get(&format!("/runs/{}", run.id), &[]);
    assert!(
        page.status == 401 && !page.body.contains("hidden-name"),
        "{page:?}"
    );
}

#[test]
fn every_page_forbids_what_it_does_not_need() {
    let appliance = Appliance::prepare();
    appliance.up();
    for path in ["/", "/runs", "/login", "/no-such-page"] {
        let response = appliance.get(path, &[]);
        let policy = response
            .header("content-security-policy")
            .unwrap_or_else(|| panic!("{path}: {response:?}"));
        assert!(
            !policy.contains("unsafe-inline") && !policy.contains("unsafe-eval"),
            "{path}: {policy}"
        );
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(response.header("referrer-policy"), Some("same-origin"));
    }
}
