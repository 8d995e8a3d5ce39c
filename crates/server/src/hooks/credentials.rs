//! Whether a request knows the secret of a webhook: as a bearer token, or by a signature of its body.

use sha2::{Digest, Sha256};

use crate::webhook_signature::{hub_signature, is_signed};
use quire_types::clock::Millis;
use quire_types::secret::Secret;

/// How far the time of a signature may be from now. An older request may be one that was recorded and is sent again.
const MAX_AGE_MS: u64 = 5 * 60 * 1000;

/// What a request shows. One of them has to be right.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookCredentials {
    /// `Authorization: Bearer SECRET`.
    pub bearer: Option<String>,
    /// `X-Hub-Signature-256`.
    pub hub_signature: Option<String>,
    /// `webhook-id`, `webhook-timestamp` and `webhook-signature` of Standard Webhooks.
    pub standard: Option<[String; 3]>,
}

impl HookCredentials {
    /// Whether they are right for this secret. All are looked at, each in the same time whether it is right or wrong.
    pub(super) fn prove(&self, secret: &Secret, body: &[u8], now: Millis) -> bool {
        let bearer = self.bearer.as_deref().unwrap_or_default();
        // What is not shown proves nothing, not even an empty secret.
        let is_bearer = self.bearer.is_some() & same(bearer.as_bytes(), secret.expose().as_bytes());
        let hub = self.hub_signature.as_deref().unwrap_or_default();
        let is_hub = same(hub.as_bytes(), hub_signature(secret, body).as_bytes());
        let is_standard = self
            .standard
            .as_ref()
            .is_some_and(|[id, time, signatures]| {
                let Ok(seconds) = time.parse::<i64>() else {
                    return false;
                };
                let at = Millis(seconds.saturating_mul(1000));
                let age = now.since(at).max(at.since(now));
                is_signed(secret, (id, seconds), body, signatures) & (age <= MAX_AGE_MS)
            });
        is_bearer | is_hub | is_standard
    }
}

/// Whether two texts are the same, in a time that depends on neither: what is compared are their hashes, and all bytes of them.
fn same(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (Sha256::digest(a), Sha256::digest(b));
    let differing = a
        .iter()
        .zip(b.iter())
        .fold(0, |bits, (a, b)| bits | (a ^ b));
    std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook_signature::signature;

    #[test]
    fn each_way_to_show_the_secret() {
        let secret = Secret::new("It's a Secret to Everybody".to_owned());
        let body = b"Hello, World!";
        let now = Millis(1_700_000_000_000);
        let proves = |credentials: &HookCredentials| credentials.prove(&secret, body, now);
        let bearer = |text: &str| HookCredentials {
            bearer: Some(text.to_owned()),
            ..HookCredentials::default()
        };
        assert!(proves(&bearer("It's a Secret to Everybody")));
        assert!(!proves(&bearer("It's a Secret to Everybod")));
        assert!(!proves(&HookCredentials::default()));
        let empty = Secret::new(String::new());
        assert!(!HookCredentials::default().prove(&empty, body, now));
        // The example of GitHub's documentation.
        let hub = |text: &str| HookCredentials {
            hub_signature: Some(text.to_owned()),
            ..HookCredentials::default()
        };
        let right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert!(proves(&hub(right)));
        assert!(!proves(&hub(&right.replace('7', "8"))));
        assert!(!proves(&hub("sha256=")));
        let standard = |at: i64| {
            let signed = signature(&secret, "m1", at, body).unwrap();
            HookCredentials {
                standard: Some(["m1".to_owned(), at.to_string(), signed]),
                ..HookCredentials::default()
            }
        };
        assert!(proves(&standard(1_700_000_000)));
        assert!(proves(&standard(1_700_000_299)) && proves(&standard(1_699_999_701)));
        assert!(!proves(&standard(1_700_000_301)) && !proves(&standard(1_699_999_699)));
    }
}
