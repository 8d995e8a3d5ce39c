//! Secrets and their uses.

use super::*;
use quire_types::secret::SecretScope;

fn sealed(name: &str, version: u32) -> SealedSecret {
    SealedSecret {
        name: name.parse().unwrap(),
        scope: SecretScope {
            repos: Some(vec!["app".to_owned(), "work/*".to_owned()]),
            refs: None,
        },
        version,
        value: SealedValue {
            key_id: "k".to_owned(),
            nonce: [7; 12],
            ciphertext: vec![1; 17],
        },
        created_at: Millis(1000),
        updated_at: Millis(2000),
        updated_by: "laptop".to_owned(),
        used_at: None,
    }
}

#[test]
fn a_secret_is_what_was_written_last_and_keeps_its_uses() {
    let f = fixture();
    let secrets = f.store.secrets();
    assert_eq!(secrets.find("token").unwrap(), None);
    let first = sealed("token", 1);
    secrets.put(&first).unwrap();
    assert_eq!(secrets.find("token").unwrap(), Some(first));
    let run: RunId = "0197a1b2-0000-7000-8000-000000000001".parse().unwrap();
    secrets.record_use("token", run, Millis(3000)).unwrap();
    secrets.record_use("gone", run, Millis(3000)).unwrap();
    let second = SealedSecret {
        used_at: Some(Millis(3000)),
        scope: SecretScope::default(),
        ..sealed("token", 2)
    };
    secrets
        .replace_values(std::slice::from_ref(&second))
        .unwrap();
    assert_eq!(secrets.list().unwrap(), [second]);
    let uses = secrets.uses("token").unwrap();
    assert_eq!(
        uses,
        [SecretUse {
            run,
            used_at: Millis(3000),
            of: None
        }]
    );
    assert!(secrets.remove("token").unwrap());
    assert!(!secrets.remove("token").unwrap());
    assert_eq!(secrets.uses("token").unwrap(), []);
}
