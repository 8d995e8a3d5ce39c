//! Certificates, as far as they restrict when and from where a session may be used.
//!
//! sshd has verified the signature before quire sees a certificate.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::address_list::AddressList;
use super::wire::{field_count, fingerprint_of, split_field};
use crate::clock::Millis;

/// What a certificate says of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    /// The fingerprint of the key that signed it.
    pub(super) authority: String,
    principals: Vec<String>,
    /// Seconds since 1970.
    valid_after: u64,
    valid_before: u64,
    /// Each of them has to admit the address.
    source_addresses: Vec<AddressList>,
}

impl Certificate {
    /// Parses a certificate in base64; `None` if it is none, or has a restriction that cannot be read.
    pub(super) fn parse(blob: &str) -> Option<Self> {
        let raw = STANDARD.decode(blob).ok()?;
        let (certificate_type, rest) = split_field(&raw)?;
        let certificate_type = std::str::from_utf8(certificate_type).ok()?;
        let (plain, version) = certificate_type.split_once("-cert-v")?;
        let domain = version.split_once('@').map_or("", |(_, domain)| domain);
        // `ssh-ed25519-cert-v01@openssh.com` is of `ssh-ed25519`, and `sk-…-cert-v01@openssh.com` of `sk-…@openssh.com`.
        let fields = field_count(plain).or_else(|| field_count(&format!("{plain}@{domain}")))?;
        let (_nonce, mut rest) = split_field(rest)?;
        for _ in 0..fields {
            rest = split_field(rest)?.1;
        }
        // The serial number, and whether it is of a user or of a host.
        let rest = rest.get(8 + 4..)?;
        let (_key_id, rest) = split_field(rest)?;
        let (principals, rest) = split_field(rest)?;
        let (valid_after, rest) = split_u64(rest)?;
        let (valid_before, rest) = split_u64(rest)?;
        let (critical, rest) = split_field(rest)?;
        let (_extensions, rest) = split_field(rest)?;
        let (_reserved, rest) = split_field(rest)?;
        let (authority, _signature) = split_field(rest)?;
        Some(Self {
            authority: fingerprint_of(authority),
            principals: texts(principals)?,
            valid_after,
            valid_before,
            source_addresses: source_addresses(critical)?,
        })
    }

    /// Whether it holds at that time.
    pub(super) fn is_valid_at(&self, now: Millis) -> bool {
        let seconds = u64::try_from(now.0.div_euclid(1000)).unwrap_or(0);
        (self.valid_after..self.valid_before).contains(&seconds)
    }

    /// Whether it may be used from that address.
    pub(super) fn admits(&self, address: std::net::IpAddr) -> bool {
        self.source_addresses
            .iter()
            .all(|addresses| addresses.admits(address))
    }

    /// Whether it is made out to one of these names; a line without names leaves that to sshd, which compares them with
    /// the user.
    pub(super) fn has_principal_of(&self, names: Option<&[String]>) -> bool {
        names.is_none_or(|names| self.principals.iter().any(|name| names.contains(name)))
    }
}

fn split_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*number), rest))
}

/// A list of fields that are text.
fn texts(mut bytes: &[u8]) -> Option<Vec<String>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (text, rest) = split_field(bytes)?;
        all.push(String::from_utf8(text.to_vec()).ok()?);
        bytes = rest;
    }
    Some(all)
}

/// The values of `source-address` among pairs of a name and a value; `None` if they cannot be read.
fn source_addresses(mut pairs: &[u8]) -> Option<Vec<AddressList>> {
    let mut found = Vec::new();
    while !pairs.is_empty() {
        let (name, rest) = split_field(pairs)?;
        let (value, rest) = split_field(rest)?;
        if name == b"source-address" {
            let (list, _) = split_field(value)?;
            found.push(AddressList::parse(std::str::from_utf8(list).ok()?).ok()?);
        }
        pairs = rest;
    }
    Some(found)
}
