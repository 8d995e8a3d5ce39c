//! Addresses of e-mail.

use std::fmt;
use std::str::FromStr;

/// The longest part before the `@`, and the longest domain, in bytes (RFC 5321).
const MAX_LOCAL_PART: usize = 64;
const MAX_DOMAIN: usize = 253;

/// An address in ASCII, with or without a name: `ci@example.org`, `Größe <ci@example.org>`. Quoted local parts and address
/// literals are not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailAddress {
    name: Option<String>,
    local_part: String,
    domain: String,
}

/// Text that is no such address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an address such as `ci@example.org` or `quire <ci@example.org>`")]
pub struct InvalidMailAddress;

impl FromStr for MailAddress {
    type Err = InvalidMailAddress;

    fn from_str(text: &str) -> Result<Self, InvalidMailAddress> {
        let text = text.trim();
        let (name, address) = match text.strip_suffix('>') {
            Some(rest) => {
                let (name, address) = rest.rsplit_once('<').ok_or(InvalidMailAddress)?;
                (Some(name.trim()).filter(|name| !name.is_empty()), address)
            }
            None => (None, text),
        };
        let (local_part, domain) = address.rsplit_once('@').ok_or(InvalidMailAddress)?;
        let is_name = |name: &str| !name.contains(|c: char| c.is_control() || "<>\"".contains(c));
        if !name.is_none_or(is_name) || !is_local_part(local_part) || !is_domain(domain) {
            return Err(InvalidMailAddress);
        }
        Ok(Self {
            name: name.map(str::to_owned),
            local_part: local_part.to_owned(),
            domain: domain.to_owned(),
        })
    }
}

fn is_local_part(text: &str) -> bool {
    let is_atom_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
    let is_atom = |atom: &str| !atom.is_empty() && atom.bytes().all(is_atom_byte);
    text.len() <= MAX_LOCAL_PART && text.split('.').all(is_atom)
}

fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= MAX_DOMAIN && text.split('.').all(is_label)
}

impl MailAddress {
    /// The name that precedes the address.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What precedes the `@`.
    #[must_use]
    pub fn local_part(&self) -> &str {
        &self.local_part
    }

    /// What follows the `@`.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }
}

/// The address without its name.
impl fmt::Display for MailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local_part, self.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_mail() {
        let lines: Vec<String> = [
            "ci@example.org",
            " a.b+c@localhost ",
            "Größe & Maß <ci@example.org>",
            "<ci@example.org>",
            "ci",
            "@example.org",
            "ci@",
            "a@b@example.org",
            "a..b@example.org",
            "größe@example.org",
            "ci@-example.org",
            "ci@[127.0.0.1]",
            "ci@example.org\r\nBcc: x@example.org",
            "na\nme <ci@example.org>",
            "a@example.org, b@example.org",
            "",
        ]
        .iter()
        .map(|text| {
            let parsed = text.parse::<MailAddress>();
            let shown = parsed.map(|address| format!("{:?} {address}", address.name()));
            format!("{text:?} -> {}", shown.unwrap_or_else(|_| "-".to_owned()))
        })
        .collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        "ci@example.org" -> None ci@example.org
        " a.b+c@localhost " -> None a.b+c@localhost
        "Größe & Maß <ci@example.org>" -> Some("Größe & Maß") ci@example.org
        "<ci@example.org>" -> None ci@example.org
        "ci" -> -
        "@example.org" -> -
        "ci@" -> -
        "a@b@example.org" -> -
        "a..b@example.org" -> -
        "größe@example.org" -> -
        "ci@-example.org" -> -
        "ci@[127.0.0.1]" -> -
        "ci@example.org\r\nBcc: x@example.org" -> -
        "na\nme <ci@example.org>" -> -
        "a@example.org, b@example.org" -> -
        "" -> -
        "#);
    }
}
