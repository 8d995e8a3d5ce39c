//! `quire login`: a one-time link that signs a browser in.
//!
//! Over SSH the link and its session belong to the key of the caller, and end when the key is removed. On
//! the machine itself (`docker compose exec quire quire login`) there is no key, and none is needed: a
//! user who can do that can read the volume anyway.

use serde::Serialize;

use super::context::{Caller, Context};
use super::error::CommandError;
use super::health;
use super::output::Output;
use quire_server::forge::login;
use quire_store::SessionOwner;
use quire_types::base_url::UrlHost;
use quire_types::clock::Millis;

#[derive(Serialize)]
struct LinkJson {
    url: String,
    key_name: String,
    expires_at_ms: Millis,
}

/// Creates a link and prints it.
pub(super) fn login(context: &Context<'_>, out: &mut Output<'_>) -> Result<(), CommandError> {
    let owner = session_owner(context.caller)?;
    let link = login::create_link(&context.forge(), &owner)?;
    let base = health::server_address(context.paths).base;
    let url = base.for_reader(context.caller.reached);
    let url = format!("{}/login/{}", url.trim_end_matches('/'), link.token);
    if out.json {
        return out.json(&LinkJson {
            url,
            key_name: owner.key_name,
            expires_at_ms: link.expires_at,
        });
    }
    out.line(&url)?;
    out.line("it works once, within five minutes")?;
    if context.caller.remote && base.host == UrlHost::Unknown {
        out.line(
            "on another machine, put the name of the server in place of localhost; `scripts/up --host NAME` (QUIRE_HOST) sets it for all links",
        )?;
    }
    match owner.key_fingerprint {
        Some(_) => Ok(()),
        None => out.line(
            "the session belongs to no key: it lasts 30 days, or until the browser signs out",
        ),
    }
}

/// The owner of the session that the link starts.
fn session_owner(caller: &Caller) -> Result<SessionOwner, CommandError> {
    if caller.remote && caller.key.is_none() {
        let failure = CommandError::refused(
            "sshd did not report the key of this connection, so removing the key could not end the session",
        );
        return Err(
            failure.hint("set `ExposeAuthInfo yes` in the configuration of sshd, as the configuration that quire generates does")
        );
    }
    let session = caller.key.as_ref();
    Ok(SessionOwner {
        key_name: caller.name().to_owned(),
        key_fingerprint: session.map(|session| session.key.fingerprint.clone()),
        certificate: session.and_then(|session| session.certificate.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_types::ssh_keys::{PublicKey, SessionKey};

    #[test]
    fn a_session_over_ssh_has_a_key_and_one_made_here_has_none() {
        let here = session_owner(&Caller::default()).unwrap();
        assert_eq!(
            (here.key_name.as_str(), here.key_fingerprint),
            ("local", None)
        );
        let key = PublicKey {
            name: "laptop".into(),
            key_type: "ssh-ed25519".into(),
            fingerprint: "SHA256:x".into(),
        };
        let there = session_owner(&Caller {
            key: Some(SessionKey {
                key,
                certificate: None,
            }),
            remote: true,
            reached: None,
        })
        .unwrap();
        assert_eq!(
            (there.key_name.as_str(), there.key_fingerprint.as_deref()),
            ("laptop", Some("SHA256:x"))
        );
        assert!(
            session_owner(&Caller {
                key: None,
                remote: true,
                reached: None,
            })
            .is_err()
        );
    }
}
