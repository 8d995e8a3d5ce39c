//! `quire login`: a one-time link that signs a browser in.
//!
//! Over SSH the link and its session are of the caller's key, and end with it. At the machine
//! itself (`docker compose exec quire quire login`) there is no key, and none is needed: whoever
//! is there may read the volume anyway.

use serde::Serialize;

use super::health;
use super::manage::{Caller, Context};
use super::output::Out;
use super::report::Failure;
use crate::clock::Millis;
use crate::store::SignIn;
use crate::token::new_token;

/// How long a link is good, in milliseconds.
const GOOD_FOR: i64 = 5 * 60 * 1000;

#[derive(Serialize)]
struct Link {
    url: String,
    key_name: String,
    expires_at_ms: Millis,
}

/// Makes a link and prints it. The database keeps only the token's hash.
pub(super) fn login(context: &Context<'_>, out: &mut Out<'_>) -> Result<(), Failure> {
    let who = signing_in(context.caller)?;
    let (token, hash) = new_token().map_err(|error| {
        let cause = std::error::Error::source(&error)
            .map(ToString::to_string)
            .unwrap_or_default();
        Failure::failed(format!("no link can be made: {error}: {cause}"))
    })?;
    let expires_at_ms = context.clock.now().plus(GOOD_FOR);
    context
        .store()?
        .create_login_link(&hash, &who, expires_at_ms)?;
    let url = format!(
        "{}/login/{token}",
        health::endpoint(context.paths).url.trim_end_matches('/')
    );
    if out.json {
        return out.json(&Link {
            url,
            key_name: who.key_name,
            expires_at_ms,
        });
    }
    out.line(&url)?;
    out.line("good once, for five minutes")?;
    match who.key_fingerprint {
        Some(_) => Ok(()),
        None => out.line("needs no key: its session lasts 30 days, or until it signs out"),
    }
}

/// Whose session it will be.
fn signing_in(caller: &Caller) -> Result<SignIn, Failure> {
    if caller.remote && caller.key.is_none() {
        let failure = Failure::refused(
            "sshd does not tell which key this is, so nothing could end a session of it",
        );
        return Err(
            failure.hint("set `ExposeAuthInfo yes` in sshd's configuration; quire's own has it")
        );
    }
    let key_fingerprint = caller.key.as_ref().map(|key| key.fingerprint.clone());
    Ok(SignIn {
        key_name: caller.name().to_owned(),
        key_fingerprint,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::public_keys::Key;

    #[test]
    fn a_session_over_ssh_has_a_key_and_one_made_here_has_none() {
        let here = signing_in(&Caller::default()).unwrap();
        assert_eq!(
            (here.key_name.as_str(), here.key_fingerprint),
            ("local", None)
        );
        let key = Key {
            name: "laptop".into(),
            kind: "ssh-ed25519".into(),
            fingerprint: "SHA256:x".into(),
        };
        let there = signing_in(&Caller {
            key: Some(key),
            remote: true,
        })
        .unwrap();
        assert_eq!(
            (there.key_name.as_str(), there.key_fingerprint.as_deref()),
            ("laptop", Some("SHA256:x"))
        );
        assert!(
            signing_in(&Caller {
                key: None,
                remote: true
            })
            .is_err()
        );
    }
}
