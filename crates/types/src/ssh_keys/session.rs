//! The keys that can connect now, and which of them authenticated a session.

use std::io;
use std::net::IpAddr;

use super::certificate::Certificate;
use super::limits::KeyLimits;
use super::line::{AuthorizedKey, PublicKey};
use super::options::KeyOptions;
use super::wire::fingerprint;
use crate::clock::Millis;
use crate::paths::Paths;

/// The text of the file with the keys that can connect now: the merged file that sshd reads, or the
/// volume's own file if no `quire init` runs. Empty if there is neither.
///
/// # Errors
/// A file exists but cannot be read.
pub fn read(paths: &Paths) -> io::Result<String> {
    for path in [paths.merged_authorized_keys(), paths.authorized_keys()] {
        match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => return read,
        }
    }
    Ok(String::new())
}

/// The keys of an `authorized_keys` file. Other lines are skipped, because `quire init` reports them.
#[must_use]
pub fn parse_all(text: &str) -> Vec<PublicKey> {
    text.lines()
        .filter_map(AuthorizedKey::parse_leniently)
        .map(|key| key.public_key())
        .collect()
}

/// The key that authenticated a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionKey {
    /// The key. Of a certificate it is named by the fingerprint of the certificate, and has the fingerprint of the authority
    /// that signed it, because that is the key that a user can remove.
    pub key: PublicKey,
    /// The certificate in base64, if the session was authenticated by one.
    pub certificate: Option<String>,
}

/// The key that authenticated a session, from the file that sshd writes with `ExposeAuthInfo` and
/// the keys that can connect; `None` if it was not a key.
///
/// A key that is not among them (any more) is named by its fingerprint.
#[must_use]
pub fn session_key(auth_info: &str, keys: &str) -> Option<SessionKey> {
    let line = auth_info
        .lines()
        .find_map(|line| line.strip_prefix("publickey "))?;
    let (key_type, blob) = line.trim().split_once(' ')?;
    let blob = blob.split(' ').next().unwrap_or(blob);
    let known = keys
        .lines()
        .filter(|line| line.contains(blob))
        .filter_map(AuthorizedKey::parse_leniently)
        .find(|key| key.blob() == blob);
    if let Some(key) = known {
        return Some(SessionKey {
            key: key.public_key(),
            certificate: None,
        });
    }
    let name = fingerprint(blob);
    let is_certificate = key_type.contains("-cert-v");
    let authority = is_certificate
        .then(|| Certificate::parse(blob))
        .flatten()
        .map(|certificate| certificate.authority);
    Some(SessionKey {
        key: PublicKey {
            fingerprint: authority.unwrap_or_else(|| name.clone()),
            name,
            key_type: key_type.to_owned(),
        },
        certificate: is_certificate.then(|| blob.to_owned()),
    })
}

/// Why a key may not connect, and so not use a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyDenied {
    /// No line has the key, or sshd would ignore the line.
    NotAuthorized,
    /// The time of `expiry-time=` has passed, or the certificate is not valid now.
    Expired,
    /// `from=` or the certificate does not admit the address.
    Address,
    /// The key may not do everything, and what it is used for needs that.
    Limited,
}

/// The keys that can connect, with the restrictions of their lines.
#[derive(Debug, Default)]
pub struct AuthorizedKeys(Vec<(String, KeyOptions)>);

impl AuthorizedKeys {
    /// The keys of an `authorized_keys` file. Lines that sshd would ignore are skipped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let keys = text
            .lines()
            .filter_map(|line| AuthorizedKey::parse(line).ok().flatten())
            .filter_map(|key| Some((fingerprint(key.blob()), key.options().ok()?)));
        Self(keys.collect())
    }

    /// Asks what sshd asks at a new connection: whether this key could connect now from this address. If several
    /// lines have the key, the first that admits it counts, as for sshd; its limits are returned.
    ///
    /// # Errors
    /// No line admits it; the reason is that of the line that comes closest.
    pub fn admit(
        &self,
        fingerprint: &str,
        certificate: Option<&str>,
        address: IpAddr,
        now: Millis,
    ) -> Result<&KeyLimits, KeyDenied> {
        let certificate = match certificate {
            Some(blob) => Some(Certificate::parse(blob).ok_or(KeyDenied::NotAuthorized)?),
            None => None,
        };
        let mut closest = KeyDenied::NotAuthorized;
        let lines = self.0.iter().filter(|(known, _)| known == fingerprint);
        for (_, options) in lines {
            match admit_by(options, certificate.as_ref(), address, now) {
                Ok(()) => return Ok(&options.limits),
                Err(KeyDenied::NotAuthorized) => {}
                Err(why) => closest = why,
            }
        }
        Err(closest)
    }

    /// Like [`AuthorizedKeys::admit`], for what only a key without limits may do.
    ///
    /// # Errors
    /// No line admits it, or that line has limits.
    pub fn admit_fully(
        &self,
        fingerprint: &str,
        certificate: Option<&str>,
        address: IpAddr,
        now: Millis,
    ) -> Result<(), KeyDenied> {
        match self.admit(fingerprint, certificate, address, now)? {
            limits if limits.is_full() => Ok(()),
            _ => Err(KeyDenied::Limited),
        }
    }

    /// Whether a line limits what its key may do.
    #[must_use]
    pub fn has_limited(&self) -> bool {
        self.0.iter().any(|(_, options)| !options.limits.is_full())
    }
}

/// Whether one line admits a key or a certificate.
fn admit_by(
    options: &KeyOptions,
    certificate: Option<&Certificate>,
    address: IpAddr,
    now: Millis,
) -> Result<(), KeyDenied> {
    let is_expired = options.valid_until.is_some_and(|until| {
        // sshd compares whole seconds, and the last one is still good.
        until.0.div_euclid(1000) < now.0.div_euclid(1000)
    });
    if options.is_authority != certificate.is_some()
        || certificate.is_some_and(|c| !c.has_principal_of(options.principals.as_deref()))
    {
        return Err(KeyDenied::NotAuthorized);
    }
    if is_expired || certificate.is_some_and(|c| !c.is_valid_at(now)) {
        return Err(KeyDenied::Expired);
    }
    let is_admitted = options
        .from
        .as_ref()
        .is_none_or(|from| from.admits(address))
        && certificate.is_none_or(|c| c.admits(address));
    if is_admitted {
        Ok(())
    } else {
        Err(KeyDenied::Address)
    }
}
