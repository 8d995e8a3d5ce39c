//! Access tokens.

use super::*;
use quire_types::token::{TokenName, TokenScope};

#[test]
fn a_token_is_found_by_its_hash_until_it_is_revoked() {
    let f = fixture();
    let now = Millis(f.clock.load(Ordering::SeqCst));
    let name = |text: &str| text.parse::<TokenName>().unwrap();
    let token = AccessToken {
        name: name("laptop"),
        scope: TokenScope::Write,
        owner: SessionOwner {
            key_name: "laptop".into(),
            key_fingerprint: Some("SHA256:x".into()),
            certificate: Some("AAAA".into()),
        },
        created_at: now,
        used_at: None,
    };
    let tokens = f.store.access_tokens();
    assert!(tokens.create("h1", &token).unwrap());
    assert!(!tokens.create("h2", &token).unwrap());
    assert_eq!(tokens.find("h2").unwrap(), None);
    assert_eq!(tokens.find("h1").unwrap(), Some(token.clone()));
    assert!(token.needs_record(now));
    tokens.record_use("h1", now).unwrap();
    let used = tokens.list().unwrap().remove(0);
    assert_eq!(used.used_at, Some(now));
    assert!(!used.needs_record(now.plus(59_999)) && used.needs_record(now.plus(60_000)));
    // The clock was set back by a day.
    assert!(used.needs_record(now.plus(-86_400_000)));
    assert!(!tokens.revoke(&name("other")).unwrap());
    assert!(tokens.revoke(&name("laptop")).unwrap());
    assert_eq!(tokens.find("h1").unwrap(), None);
}
