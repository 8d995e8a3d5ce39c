//! Login links and sessions.

use super::*;

#[test]
fn login_links_work_once_and_until_they_expire() {
    let f = fixture();
    let now = Millis(f.clock.load(Ordering::SeqCst));
    let laptop = SessionOwner {
        key_name: "laptop".into(),
        key_fingerprint: Some("SHA256:x".into()),
        certificate: Some("AAAA".into()),
    };
    let local = SessionOwner {
        key_name: "local".into(),
        key_fingerprint: None,
        certificate: None,
    };
    f.store
        .sessions()
        .create_login_link("h1", &laptop, now.plus(1000))
        .unwrap();
    f.store
        .sessions()
        .create_login_link("h2", &laptop, now.plus(1000))
        .unwrap();
    assert_eq!(
        f.store.sessions().consume_login_link("h1", now).unwrap(),
        Some(laptop.clone())
    );
    assert_eq!(
        f.store.sessions().consume_login_link("h1", now).unwrap(),
        None
    );
    assert_eq!(
        f.store
            .sessions()
            .consume_login_link("h2", now.plus(1001))
            .unwrap(),
        None
    );
    f.store
        .sessions()
        .create("s", &laptop, now, now.plus(10))
        .unwrap();
    f.store
        .sessions()
        .create("l", &local, now, now.plus(10))
        .unwrap();
    assert_eq!(f.store.sessions().get("s", now).unwrap(), Some(laptop));
    assert_eq!(
        f.store.sessions().get("l", now).unwrap(),
        Some(local.clone())
    );
    assert_eq!(f.store.sessions().get("s", now.plus(11)).unwrap(), None);
    f.store.sessions().delete("s").unwrap();
    assert_eq!(f.store.sessions().get("s", now).unwrap(), None);
    // Made while the clock was a year ahead: good for no longer than any other once it is right again.
    const YEAR: i64 = 365 * 24 * 3_600_000;
    f.store
        .sessions()
        .create_login_link("h3", &local, now.plus(YEAR + 1000))
        .unwrap();
    assert_eq!(
        f.store.sessions().consume_login_link("h3", now).unwrap(),
        None
    );
    f.store
        .sessions()
        .create("y", &local, now.plus(YEAR), now.plus(YEAR + 10))
        .unwrap();
    assert_eq!(f.store.sessions().get("y", now).unwrap(), None);
    assert_eq!(
        f.store.sessions().get("y", now.plus(YEAR)).unwrap(),
        Some(local)
    );
}
