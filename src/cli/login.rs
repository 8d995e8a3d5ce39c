//! `quire login`: a one-time link that signs a browser in, and access tokens.
//!
//! Over SSH the link and its session, or the token, belong to the key of the caller, and end when the key is removed. On
//! the machine itself (`docker compose exec quire quire login`) there is no key, and none is needed: a
//! user who can do that can read the volume anyway.

use serde::Serialize;

use super::args::OutputArgs;
use super::context::{Caller, Context};
use super::error::CommandError;
use super::health;
use super::output::Output;
use quire_server::forge::{login, tokens};
use quire_store::{AccessToken, SessionOwner};
use quire_types::base_url::UrlHost;
use quire_types::clock::Millis;
use quire_types::token::{TokenName, TokenScope};

#[derive(clap::Args)]
pub(super) struct LoginCommand {
    /// Create an access token of this name, and print it
    #[arg(long, value_name = "NAME", conflicts_with_all = ["list", "revoke"])]
    token: Option<TokenName>,
    /// What the token allows: `read`, or `write` to start, cancel and retry runs too
    #[arg(long, requires = "token", default_value = "read")]
    scope: TokenScope,
    /// List the access tokens
    #[arg(long, conflicts_with = "revoke")]
    list: bool,
    /// End the access token of this name
    #[arg(long, value_name = "NAME")]
    revoke: Option<TokenName>,
    #[command(flatten)]
    format: OutputArgs,
}

impl LoginCommand {
    pub(super) fn format(&self) -> OutputArgs {
        self.format
    }
}

#[derive(Serialize)]
struct NewTokenJson<'a> {
    token: &'a str,
    name: &'a str,
    scope: &'a str,
    key_name: &'a str,
}

#[derive(Serialize)]
struct TokenJson<'a> {
    name: &'a str,
    scope: &'a str,
    key_name: &'a str,
    created_at_ms: Millis,
    used_at_ms: Option<Millis>,
}

#[derive(Serialize)]
struct RevokedJson<'a> {
    revoked: &'a str,
}

#[derive(Serialize)]
struct TokenList<'a> {
    tokens: Vec<TokenJson<'a>>,
}

#[derive(Serialize)]
struct LinkJson {
    url: String,
    key_name: String,
    expires_at_ms: Millis,
}

pub(super) fn login(
    context: &Context<'_>,
    command: LoginCommand,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    if command.list {
        return show_tokens(&tokens::list(&context.forge())?, out);
    }
    if let Some(name) = command.revoke {
        tokens::revoke(&context.forge(), &name)?;
        if out.json {
            return out.json(&RevokedJson {
                revoked: name.as_str(),
            });
        }
        return out.line(&format!("revoked {name}"));
    }
    match command.token {
        Some(name) => create_token(context, name, command.scope, out),
        None => create_link(context, out),
    }
}

/// Creates a token and prints it.
fn create_token(
    context: &Context<'_>,
    name: TokenName,
    scope: TokenScope,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let owner = session_owner(context.caller)?;
    let key_name = owner.key_name.clone();
    let has_key = owner.key_fingerprint.is_some();
    let token = tokens::create(&context.forge(), name.clone(), scope, owner)?;
    if out.json {
        return out.json(&NewTokenJson {
            token: &token,
            name: name.as_str(),
            scope: scope.as_str(),
            key_name: &key_name,
        });
    }
    out.line(&token)?;
    out.line("it is not shown again; git over HTTP takes it as the password, with any user name, and pages as `Authorization: Bearer`")?;
    let end = format!("`login --revoke {name}` ends it");
    out.line(&if has_key {
        format!("{end}, and so does the end of the key {key_name}")
    } else {
        end
    })
}

fn show_tokens(tokens: &[AccessToken], out: &mut Output<'_>) -> Result<(), CommandError> {
    if out.json {
        let tokens = tokens.iter().map(|token| TokenJson {
            name: token.name.as_str(),
            scope: token.scope.as_str(),
            key_name: &token.owner.key_name,
            created_at_ms: token.created_at,
            used_at_ms: token.used_at,
        });
        return out.json(&TokenList {
            tokens: tokens.collect(),
        });
    }
    if tokens.is_empty() {
        return out.line("no access tokens yet; `login --token NAME` creates one");
    }
    let rows: Vec<_> = tokens
        .iter()
        .map(|token| {
            [
                token.name.as_str().into(),
                token.scope.as_str().into(),
                token.owner.key_name.as_str().into(),
                out.time(Some(token.created_at)).into(),
                out.time(token.used_at).into(),
            ]
        })
        .collect();
    out.table(["NAME", "SCOPE", "KEY", "CREATED", "USED"], &rows)
}

/// Creates a link and prints it.
fn create_link(context: &Context<'_>, out: &mut Output<'_>) -> Result<(), CommandError> {
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

/// The owner of the session that the link starts, or of the token.
fn session_owner(caller: &Caller) -> Result<SessionOwner, CommandError> {
    if caller.remote && caller.key.is_none() {
        let failure = CommandError::refused(
            "sshd did not report the key of this connection, so removing the key could not end the session or the token",
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
