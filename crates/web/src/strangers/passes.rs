//! Passes of strangers who pressed the button: signed, for one day and for one client.
//!
//! The key is made when the first pass is issued, and is kept in memory alone: after a restart the button is pressed again.

use std::net::IpAddr;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use quire_types::clock::Millis;
use quire_types::sync::lock;
use quire_types::token::{RandomError, random_bytes};
use sha2::Sha256;

use super::client_budgets::client_of;

/// How long a pass is valid, in seconds.
pub(crate) const PASS_SECONDS: i64 = 24 * 60 * 60;

/// What signs passes.
#[derive(Default)]
pub(crate) struct Passes {
    key: Mutex<Option<Hmac<Sha256>>>,
}

impl Passes {
    /// A pass for a client: the time of its end and a signature.
    pub(crate) fn issue(&self, address: IpAddr, now: Millis) -> Result<String, RandomError> {
        let key = {
            let mut known = lock(&self.key);
            match &*known {
                Some(key) => key.clone(),
                None => {
                    let key = Hmac::new(&random_bytes::<64>()?.into());
                    known.insert(key).clone()
                }
            }
        };
        let until = now.plus(PASS_SECONDS * 1000);
        let signature = signed(key, until, address).finalize().into_bytes();
        Ok(format!("{}.{}", until.0, URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Whether a text is a pass of this client that is still valid.
    pub(crate) fn admits(&self, text: &str, address: IpAddr, now: Millis) -> bool {
        let Some((until, signature)) = text.split_once('.') else {
            return false;
        };
        let (Ok(until), Ok(signature)) = (until.parse(), URL_SAFE_NO_PAD.decode(signature)) else {
            return false;
        };
        let (until, key) = (Millis(until), lock(&self.key).clone());
        let is_signed = key.is_some_and(|key| {
            // In a time that does not depend on where the signatures differ.
            signed(key, until, address).verify_slice(&signature).is_ok()
        });
        is_signed && now < until
    }
}

fn signed(mut key: Hmac<Sha256>, until: Millis, address: IpAddr) -> Hmac<Sha256> {
    key.update(format!("pass {} {}", until.0, client_of(address)).as_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_for_one_client_and_one_day() {
        let passes = Passes::default();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let here = address("2001:db8::1");
        assert!(!passes.admits("99999999999999.AAAA", here, Millis(0)));
        let pass = passes.issue(here, Millis(0)).unwrap();
        let end = Millis(PASS_SECONDS * 1000);
        assert!(passes.admits(&pass, here, Millis(0)));
        assert!(passes.admits(&pass, address("2001:db8::2"), end.plus(-1)));
        assert!(!passes.admits(&pass, here, end));
        assert!(!passes.admits(&pass, address("2001:db9::1"), Millis(0)));
        let longer = pass.replacen(&end.0.to_string(), &end.plus(1).0.to_string(), 1);
        let (until, signature) = pass.split_once('.').unwrap();
        for forged in [
            longer.as_str(),
            until,
            &format!("{until}."),
            &format!("{until}.{}", &signature[..40]),
            &format!("{until}.A{}", &signature[1..]),
            &format!(" {pass}"),
            "",
        ] {
            assert!(
                forged == pass || !passes.admits(forged, here, Millis(0)),
                "{forged}"
            );
        }
        let other = Passes::default();
        other.issue(here, Millis(0)).unwrap();
        assert!(!other.admits(&pass, here, Millis(0)));
    }
}
