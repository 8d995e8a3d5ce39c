//! Access tokens: what they allow, and when they end.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quire_web::SignInMethod;

use super::site::{LAPTOP, NOW, Site};

async fn status(site: &Site, method: &str, path: &str, authorization: &str) -> u16 {
    let headers = [
        ("Accept", "application/json"),
        ("Authorization", authorization),
    ];
    site.send(method, path, &headers).await.status
}

#[tokio::test]
async fn a_token_reads_every_page_and_writes_if_it_may() {
    let site = Site::start(SignInMethod::Ssh).await;
    let run = site.seed.run("work/app", "main", NOW);
    let read = format!(
        "Bearer {}",
        site.seed.access_token("reader", "laptop", "read", NOW)
    );
    let write = format!(
        "Bearer {}",
        site.seed.access_token("writer", "laptop", "write", NOW)
    );
    let run_page = format!("/runs/{run}");
    for path in ["/", "/runs", "/work/app", "/-/health", &run_page] {
        assert_eq!(status(&site, "GET", path, &read).await, 200, "{path}");
        assert_eq!(status(&site, "GET", path, &write).await, 200, "{path}");
    }
    let cancel = format!("/runs/{run}/cancel");
    assert_eq!(status(&site, "POST", &cancel, &read).await, 403);
    assert_eq!(site.json(&run_page).await.status, 401);
    let ended = status(&site, "POST", &cancel, &write).await;
    assert!(ended < 400, "{ended}");
    // The use is recorded.
    let tokens = site.state.store.access_tokens().list().unwrap();
    assert!(tokens.iter().all(|token| token.used_at == Some(NOW)));
}

#[tokio::test]
async fn a_token_ends_when_it_is_revoked_and_with_its_key() {
    let mut site = Site::start(SignInMethod::Ssh).await;
    site.seed.run("app", "main", NOW);
    let token = site.seed.access_token("laptop", "laptop", "read", NOW);
    let here = site.seed.access_token("here", "no-such-key", "read", NOW);
    let (of_key, of_none) = (format!("Bearer {token}"), format!("Bearer {here}"));
    assert_eq!(status(&site, "GET", "/app", &of_key).await, 200);
    for wrong in ["Bearer 0", "Basic Og==", "Digest x", "Bearer"] {
        assert_eq!(status(&site, "GET", "/app", wrong).await, 401, "{wrong}");
    }
    site.seed.keys("");
    assert_eq!(status(&site, "GET", "/app", &of_key).await, 401);
    assert_eq!(status(&site, "GET", "/app", &of_none).await, 200);
    site.seed.keys(LAPTOP);
    assert_eq!(status(&site, "GET", "/app", &of_key).await, 200);
    site.seed.keys(&format!("from=\"10.0.0.0/8\" {LAPTOP}"));
    assert_eq!(status(&site, "GET", "/app", &of_key).await, 401);
    site.seed.keys(LAPTOP);
    let name = "laptop".parse().unwrap();
    assert!(site.state.store.access_tokens().revoke(&name).unwrap());
    assert_eq!(status(&site, "GET", "/app", &of_key).await, 401);
    // A token that is not valid is not replaced by a session, and a password proves nothing about the page that sent it.
    site.sign_in().await;
    assert_eq!(status(&site, "GET", "/app", &of_key).await, 401);
    site.cookie = None;
    let run = site.seed.run("app", "main", NOW);
    let write = site.seed.access_token("writer", "laptop", "write", NOW);
    let basic = format!("Basic {}", STANDARD.encode(format!("x:{write}")));
    assert_eq!(status(&site, "GET", "/app", &basic).await, 200);
    let cancel = format!("/runs/{run}/cancel");
    assert_eq!(status(&site, "POST", &cancel, &basic).await, 403);
}
