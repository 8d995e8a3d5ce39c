//! Signatures of webhooks as Standard Webhooks defines them (<https://www.standardwebhooks.com>): the HMAC-SHA-256 of
//! `id.timestamp.body`; and as GitHub does: that of the body. Those that are sent and those that are received have the same.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use quire_types::secret::Secret;
use quire_types::token::hex;

/// Begins a key that is base64 text, as Standard Webhooks writes keys.
const BASE64_KEY_PREFIX: &str = "whsec_";

/// `v1,` and the signature in base64.
pub(crate) fn signature(
    key: &Secret,
    id: &str,
    timestamp: i64,
    body: &[u8],
) -> Result<String, String> {
    let code = mac(key, id, timestamp, body)?.finalize().into_bytes();
    Ok(format!("v1,{}", STANDARD.encode(code)))
}

/// `sha256=` and the HMAC of the body in hexadecimal, as GitHub sends it in `X-Hub-Signature-256`.
pub(crate) fn hub_signature(secret: &Secret, body: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) else {
        return "sha256=".to_owned();
    };
    mac.update(body);
    format!("sha256={}", hex(&mac.finalize().into_bytes()))
}

/// Whether one of the signatures in a header is right. Takes the same time for each signature that is not.
pub(crate) fn is_signed(
    key: &Secret,
    (id, timestamp): (&str, i64),
    body: &[u8],
    signatures: &str,
) -> bool {
    let Ok(mac) = mac(key, id, timestamp, body) else {
        return false;
    };
    let given = signatures
        .split(' ')
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok());
    given.fold(false, |found, code| {
        mac.clone().verify_slice(&code).is_ok() | found
    })
}

fn mac(key: &Secret, id: &str, timestamp: i64, body: &[u8]) -> Result<Hmac<Sha256>, String> {
    let bytes = match key.expose().strip_prefix(BASE64_KEY_PREFIX) {
        Some(text) => Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| {
            format!("the secret `key` begins with {BASE64_KEY_PREFIX} and is no base64 after that")
        })?),
        None => Zeroizing::new(key.expose().as_bytes().to_vec()),
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(&bytes).map_err(|error| error.to_string())?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification of Standard Webhooks.
    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        let (id, time, body) = (
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            b"{\"test\": 2432232314}",
        );
        let key = |text: &str| Secret::new(text.to_owned());
        let sign = |text: &str| signature(&key(text), id, time, body);
        let right = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let known = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        assert_eq!(sign(known).unwrap(), right);
        assert_ne!(sign("a plain key"), sign("another key"));
        insta::assert_snapshot!(sign("whsec_?").unwrap_err(), @"the secret `key` begins with whsec_ and is no base64 after that");
        let is_right = |given: &str| is_signed(&key(known), (id, time), body, given);
        assert!(is_right(right) && is_right(&format!("v1,AAAA v2,x {right}")));
        assert!(!is_right("") && !is_right("v1,AAAA") && !is_right(&right[3..]));
        assert!(!is_signed(&key(known), (id, time + 1), body, right));
        assert!(!is_signed(&key("whsec_?"), (id, time), body, right));
    }
}
