//! `quire login`: a one-time link that signs a browser in.

use std::fs::File;
use std::io::Read;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::health;
use super::manage::Context;
use super::output::Out;
use super::report::Failure;
use crate::clock::Millis;

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
    let token = token()?;
    let expires_at_ms = context.clock.now().plus(GOOD_FOR);
    let key_name = context.caller.name().to_owned();
    context.store()?.create_login_link(&hex(&Sha256::digest(token.as_bytes())), &key_name, expires_at_ms)?;
    let url = format!("{}/login/{token}", health::endpoint(context.paths).url.trim_end_matches('/'));
    if out.json {
        return out.json(&Link { url, key_name, expires_at_ms });
    }
    out.line(&url)?;
    out.line("good once, for five minutes")
}

/// 32 random bytes in hexadecimal.
fn token() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    let read = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes));
    read.map(|()| hex(&bytes)).map_err(|error| Failure::failed(format!("the system gives no random bytes: {error}")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
