//! Access tokens in requests: `Authorization: Bearer TOKEN`, or the password of `Basic`, as git sends it.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The longest credentials that are looked at.
const MAX_BYTES: usize = 1024;

/// What the header `Authorization` of a request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequestCredentials {
    /// No such header.
    Absent,
    /// A token that a program sent.
    Bearer(String),
    /// A password. Browsers send one by themselves, so it proves nothing about which page made the request.
    Basic(String),
    /// Another scheme, or not readable.
    Unknown,
}

impl RequestCredentials {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Self::Absent;
        };
        let known = value
            .to_str()
            .ok()
            .filter(|text| text.len() <= MAX_BYTES)
            .and_then(|text| text.split_once(' '));
        match known {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Self::Bearer(token.trim().to_owned())
            }
            Some((scheme, encoded)) if scheme.eq_ignore_ascii_case("basic") => {
                password(encoded).map_or(Self::Unknown, Self::Basic)
            }
            _ => Self::Unknown,
        }
    }

    /// The token, however it was sent.
    pub(super) fn token(&self) -> Option<&str> {
        match self {
            Self::Bearer(token) | Self::Basic(token) => Some(token),
            Self::Absent | Self::Unknown => None,
        }
    }
}

fn password(encoded: &str) -> Option<String> {
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (_, password) = text.split_once(':')?;
    Some(password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_in_two_ways() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            RequestCredentials::of(&headers)
        };
        assert_eq!(
            RequestCredentials::of(&HeaderMap::new()),
            RequestCredentials::Absent
        );
        assert_eq!(
            of("Bearer abc"),
            RequestCredentials::Bearer("abc".to_owned())
        );
        assert_eq!(
            of("bearer  abc"),
            RequestCredentials::Bearer("abc".to_owned())
        );
        // "me:a:b", since a password may have colons.
        assert_eq!(
            of("Basic bWU6YTpi"),
            RequestCredentials::Basic("a:b".to_owned())
        );
        for bad in [
            "",
            "Bearer",
            "Basic",
            "Basic !",
            "Basic bWU=",
            "Digest x=y",
            &"a ".repeat(600),
        ] {
            assert_eq!(of(bad), RequestCredentials::Unknown, "{bad:?}");
        }
    }
}
