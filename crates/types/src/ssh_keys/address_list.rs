//! Lists of addresses: the option `from` of a line, and `source-address` of a certificate.
//!
//! sshd knows addresses here and no names, because its `UseDNS` is off.

use std::net::IpAddr;

use super::error::KeyLineError;
use crate::network::Network;

/// A list of patterns, some of which may be negated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AddressList(Vec<AddressPattern>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct AddressPattern {
    negated: bool,
    matcher: AddressMatcher,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum AddressMatcher {
    Network(Network),
    /// With `*` and `?`, compared with the text of the address.
    Wildcard(String),
}

impl AddressList {
    /// Parses the value of `from`.
    ///
    /// # Errors
    /// sshd would reject every address because of one of the patterns.
    pub(super) fn parse(text: &str) -> Result<Self, KeyLineError> {
        text.split(',')
            .map(|part| {
                AddressPattern::parse(part)
                    .ok_or_else(|| KeyLineError::FromPattern(part.to_owned()))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether the list admits an address: at least one pattern matches it, and no negated one does.
    pub(super) fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let mut admitted = false;
        for pattern in &self.0 {
            if pattern.matcher.matches(address) {
                if pattern.negated {
                    return false;
                }
                admitted = true;
            }
        }
        admitted
    }
}

impl AddressPattern {
    fn parse(text: &str) -> Option<Self> {
        let (negated, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let matcher = match text.parse::<Network>() {
            Ok(network) => {
                // sshd rejects a network with bits after its prefix.
                if !network.is_exact() {
                    return None;
                }
                AddressMatcher::Network(network)
            }
            Err(_) if text.is_empty() || text.contains('/') => return None,
            Err(_) => AddressMatcher::Wildcard(text.to_ascii_lowercase()),
        };
        Some(Self { negated, matcher })
    }
}

impl AddressMatcher {
    fn matches(&self, address: IpAddr) -> bool {
        match self {
            Self::Network(network) => network.contains(address),
            Self::Wildcard(pattern) => {
                matches_wildcard(pattern.as_bytes(), address.to_string().as_bytes())
            }
        }
    }
}

/// Whether a pattern with `*` for any text and `?` for any one byte matches a whole text.
fn matches_wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last `*` stands, and the first byte of the text that it does not cover yet.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match (pattern.get(p), star) {
            (Some(b'*'), _) => {
                star = Some((p, t));
                p += 1;
            }
            (Some(&c), _) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            (_, Some((at, covered))) => {
                star = Some((at, covered + 1));
                p = at + 1;
                t = covered + 1;
            }
            (_, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(list: &str, address: &str) -> bool {
        AddressList::parse(list)
            .unwrap()
            .admits(address.parse().unwrap())
    }

    #[test]
    fn a_list_admits_what_sshd_admits() {
        for (list, address) in [
            ("10.0.0.0/8", "10.1.2.3"),
            ("10.0.0.0/8", "::ffff:10.1.2.3"),
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.*", "192.0.2.200"),
            ("192.0.2.?", "192.0.2.9"),
            ("*", "2001:db8::1"),
            ("2001:db8::/32,10.0.0.1", "2001:db8::7"),
            ("2001:DB8::*", "2001:db8::7"),
            ("!192.0.2.7,*", "192.0.2.8"),
        ] {
            assert!(admits(list, address), "{list} {address}");
        }
        for (list, address) in [
            ("10.0.0.0/8", "11.0.0.1"),
            ("192.0.2.?", "192.0.2.10"),
            ("*.example.org", "192.0.2.1"),
            ("localhost", "127.0.0.1"),
            ("!192.0.2.7", "192.0.2.8"),
            ("*,!192.0.2.0/24", "192.0.2.7"),
            ("0.0.0.0/0", "::1"),
        ] {
            assert!(!admits(list, address), "{list} {address}");
        }
        for list in ["", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8,", "!", "a/b"] {
            assert!(AddressList::parse(list).is_err(), "{list}");
        }
    }

    proptest::proptest! {
        #[test]
        fn wildcards_are_those_of_the_plainest_matcher(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            fn plain(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|at| plain(rest, &text[at..])),
                    Some((c, rest)) => text.split_first().is_some_and(|(first, after)| (*c == b'?' || c == first) && plain(rest, after)),
                }
            }
            proptest::prop_assert_eq!(matches_wildcard(pattern.as_bytes(), text.as_bytes()), plain(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
