//! References to container images: a repository, with a registry, a tag and a digest if they are written.
//!
//! ```text
//! [HOST[:PORT]/]PART[/PART]…[:TAG][@ALGORITHM:HEX]     such as  registry.example.org:5000/team/app:1.2
//! ```
//! The grammar is that of Docker. A text that has this type holds no character with a meaning of its own in a URL and no
//! part `..`, so it is one name wherever it is sent.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// The longest repository with its registry, in bytes.
const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;
/// The fewest and the most hexadecimal digits of a digest: the longest is that of SHA-512.
const MIN_DIGEST: usize = 32;
const MAX_DIGEST: usize = 128;

/// A valid reference, as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageReference {
    text: String,
    /// Where the tag's or the digest's separator is: the end of the repository.
    repository_end: usize,
}

/// Why a text is not a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImageReferenceError {
    /// Nothing is written.
    #[error("it is empty")]
    Empty,
    /// The registry or the repository is longer than Docker allows.
    #[error("its repository is longer than 255 characters")]
    TooLong,
    /// The part before the first `/` cannot be a host.
    #[error("its registry is not a host such as `registry.example.org:5000`")]
    Registry,
    /// A part between slashes is not a name.
    #[error(
        "its repository has a character that is not allowed there; lower-case letters, digits and single `.`, `_`, `-` between them are"
    )]
    Repository,
    /// It names an object by its id.
    #[error("it is the id of an image, which is not a name")]
    Id,
    /// The part after `:` is not a tag.
    #[error("its tag is not one of at most 128 letters, digits, `_`, `.` and `-`")]
    Tag,
    /// The part after `@` is not a digest.
    #[error("its digest is not one such as `sha256:…`")]
    Digest,
}

impl ImageReference {
    /// The name that the engine is asked for: with the tag `latest` if neither tag nor digest is written, because old
    /// engines would pull every tag.
    #[must_use]
    pub fn full_name(&self) -> String {
        if self.repository_end == self.text.len() {
            format!("{}:latest", self.text)
        } else {
            self.text.clone()
        }
    }

    /// The name under which the engine keeps the image once it has pulled it: an image that was pulled by digest has no
    /// tag.
    #[must_use]
    pub fn pulled_name(&self) -> String {
        match self.text.split_once('@') {
            Some((_, digest)) => format!("{}@{digest}", self.repository()),
            None => self.full_name(),
        }
    }

    /// The full name without a digest.
    #[must_use]
    pub fn tagged_name(&self) -> String {
        let name = self.full_name();
        match name.split_once('@') {
            Some((tagged, _)) if tagged.len() > self.repository_end => tagged.to_owned(),
            _ => name,
        }
    }

    /// Whether it names an image by its digest.
    #[must_use]
    pub fn has_digest(&self) -> bool {
        self.text.contains('@')
    }

    /// The version of the image with this digest; `None` if it is not a digest.
    #[must_use]
    pub fn with_digest(&self, digest: &str) -> Option<Self> {
        format!("{}@{digest}", self.repository()).parse().ok()
    }

    /// The full name with the registry, also if it is Docker's own.
    #[must_use]
    pub fn qualified_name(&self) -> String {
        let name = self.full_name();
        format!(
            "{}{}",
            self.qualified_repository(),
            &name[self.repository_end..]
        )
    }

    /// The repository with the registry, also if it is Docker's own.
    #[must_use]
    pub fn qualified_repository(&self) -> String {
        let repository = self.repository();
        match split_registry(repository) {
            (Some(_), _) => repository.to_owned(),
            (None, path) if path.contains('/') => format!("docker.io/{path}"),
            (None, path) => format!("docker.io/library/{path}"),
        }
    }

    fn repository(&self) -> &str {
        &self.text[..self.repository_end]
    }

    /// The registry's host and port as they are written; `None` for Docker's own registry.
    #[must_use]
    pub fn registry(&self) -> Option<&str> {
        split_registry(self.repository()).0
    }

    /// Whether the registry is the engine's own machine or on its link: an address that only the engine's host reaches.
    #[must_use]
    pub fn has_local_registry(&self) -> bool {
        self.registry().is_some_and(is_local_host)
    }
}

impl Default for ImageReference {
    /// The image of pipelines that set none.
    fn default() -> Self {
        let text = "debian:trixie-slim".to_owned();
        Self {
            repository_end: "debian".len(),
            text,
        }
    }
}

impl FromStr for ImageReference {
    type Err = ImageReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(ImageReferenceError::Empty);
        }
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (text, None),
        };
        let last = named.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match named[last..].split_once(':') {
            Some((part, tag)) => (&named[..last + part.len()], Some(tag)),
            None => (named, None),
        };
        check_repository(repository)?;
        // Also without a tag: its full name is `sha256:latest`, and `sha256:…` is looked up as an id.
        if repository == "sha256" {
            return Err(ImageReferenceError::Id);
        }
        if tag.is_some_and(|tag| is_tag(tag).is_none()) {
            return Err(ImageReferenceError::Tag);
        }
        if digest.is_some_and(|digest| is_digest(digest).is_none()) {
            return Err(ImageReferenceError::Digest);
        }
        Ok(Self {
            text: text.to_owned(),
            repository_end: repository.len(),
        })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for ImageReference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Splits a registry from a repository: the first part is one if it cannot be a part of a repository.
fn split_registry(repository: &str) -> (Option<&str>, &str) {
    let is_registry = |part: &str| {
        part == "localhost"
            || part.contains(['.', ':'])
            || part.bytes().any(|byte| byte.is_ascii_uppercase())
    };
    match repository.split_once('/') {
        Some((first, rest)) if is_registry(first) => (Some(first), rest),
        _ => (None, repository),
    }
}

fn check_repository(repository: &str) -> Result<(), ImageReferenceError> {
    if repository.len() > MAX_REPOSITORY {
        return Err(ImageReferenceError::TooLong);
    }
    let (registry, path) = split_registry(repository);
    if registry.is_some_and(|registry| !is_registry(registry)) {
        return Err(ImageReferenceError::Registry);
    }
    if !path.split('/').all(is_path_part) {
        return Err(ImageReferenceError::Repository);
    }
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if registry.is_none() && path.len() == 64 && path.bytes().all(is_hex) {
        return Err(ImageReferenceError::Id);
    }
    Ok(())
}

/// Letters and digits with a `.`, one or two `_`, or any number of `-` between them.
fn is_path_part(part: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_separator =
        |text: &str| matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    let mut rest = part;
    loop {
        let word = rest.bytes().take_while(|byte| is_word(*byte)).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        if rest.is_empty() {
            return true;
        }
        // What is neither a word nor a separator is not followed by a word, or makes no separator.
        let between = rest
            .bytes()
            .take_while(|byte| matches!(byte, b'.' | b'_' | b'-'))
            .count();
        if between == 0 || !is_separator(&rest[..between]) {
            return false;
        }
        rest = &rest[between..];
    }
}

/// Whether a text is a registry: `HOST` or `HOST:PORT`.
#[must_use]
pub fn is_registry(registry: &str) -> bool {
    let (host, port) = split_port(registry);
    let is_port = |port: &str| {
        (1..=5).contains(&port.len())
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok()
    };
    port.is_none_or(is_port) && is_host(host)
}

/// Splits `HOST:PORT` and `[IPV6]:PORT`.
fn split_port(registry: &str) -> (&str, Option<&str>) {
    let host_end = registry.rfind(']').map_or(0, |bracket| bracket + 1);
    match registry[host_end..].split_once(':') {
        Some((host, port)) => (&registry[..host_end + host.len()], Some(port)),
        None => (registry, None),
    }
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    host.split('.').all(|label| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty()
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

fn is_local_host(registry: &str) -> bool {
    let (host, _) = split_port(registry);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return match address.to_canonical() {
            IpAddr::V4(address) => is_local_v4(address),
            IpAddr::V6(address) => {
                address.is_loopback()
                    || address.is_unspecified()
                    || address.is_unicast_link_local()
                    || address.to_ipv4().is_some_and(is_local_v4)
            }
        };
    }
    let last = bare.rsplit('.').next().unwrap_or(bare);
    // A resolver may read `127.1` and `0x7f000001` as addresses.
    let is_number = last.starts_with(|first: char| first.is_ascii_digit());
    is_number || last.eq_ignore_ascii_case("localhost") || last.eq_ignore_ascii_case("localdomain")
}

fn is_local_v4(address: Ipv4Addr) -> bool {
    address.is_loopback() || address.is_link_local() || address.octets()[0] == 0
}

fn is_tag(tag: &str) -> Option<()> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_inner = |byte: u8| is_word(byte) || matches!(byte, b'.' | b'-');
    let first = tag.bytes().next()?;
    (tag.len() <= MAX_TAG && is_word(first) && tag.bytes().all(is_inner)).then_some(())
}

fn is_digest(digest: &str) -> Option<()> {
    let (algorithm, hex) = digest.split_once(':')?;
    let is_part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let is_hex = (MIN_DIGEST..=MAX_DIGEST).contains(&hex.len())
        && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_hex && algorithm.split(['+', '.', '-', '_']).all(is_part)).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ImageReference, ImageReferenceError> {
        text.parse()
    }

    #[test]
    fn references_have_a_full_and_a_pulled_name() {
        let digest = format!("sha256:{}", "0f".repeat(32));
        let of = |text: &str| text.replace("DIGEST", &digest);
        for (text, full, pulled) in [
            ("debian", "debian:latest", "debian:latest"),
            ("debian:12", "debian:12", "debian:12"),
            ("h:5000/a/b", "h:5000/a/b:latest", "h:5000/a/b:latest"),
            (
                "h.x:5000/a__b:1-2.3",
                "h.x:5000/a__b:1-2.3",
                "h.x:5000/a__b:1-2.3",
            ),
            ("[::1]:5000/a:1", "[::1]:5000/a:1", "[::1]:5000/a:1"),
            ("a@DIGEST", "a@DIGEST", "a@DIGEST"),
            ("h:1/a:13@DIGEST", "h:1/a:13@DIGEST", "h:1/a@DIGEST"),
            ("Host/a", "Host/a:latest", "Host/a:latest"),
        ] {
            let reference = parse(&of(text)).unwrap();
            assert_eq!(reference.to_string(), of(text));
            assert_eq!(reference.full_name(), of(full));
            assert_eq!(reference.pulled_name(), of(pulled));
        }
        assert_eq!(parse(&of("a:1@DIGEST")).unwrap().tagged_name(), "a:1");
        assert_eq!(
            parse(&of("a@DIGEST")).unwrap().tagged_name(),
            of("a@DIGEST")
        );
        assert!(parse(&of("a@DIGEST")).unwrap().has_digest());
        for (text, qualified) in [
            ("debian", "docker.io/library/debian:latest"),
            ("a/b:1", "docker.io/a/b:1"),
            ("h:5000/a", "h:5000/a:latest"),
        ] {
            assert_eq!(parse(text).unwrap().qualified_name(), qualified);
        }
        assert_eq!(
            parse(&ImageReference::default().to_string()),
            Ok(ImageReference::default())
        );
    }

    #[test]
    fn other_texts_are_refused() {
        use ImageReferenceError::{Digest, Empty, Id, Registry, Repository, Tag, TooLong};
        let (long_tag, long, id) = ("t".repeat(129), "a".repeat(256), "ab".repeat(32));
        for (text, why) in [
            ("", Empty),
            ("A b", Repository),
            ("Debian", Repository),
            ("../containers/x/export#:y", Registry),
            ("x/../y", Repository),
            ("get?names=a#", Repository),
            ("a#b", Repository),
            ("a%2fb", Repository),
            ("a//b", Repository),
            ("/a", Repository),
            ("a/", Repository),
            ("a..b", Repository),
            ("a___b", Repository),
            ("a-", Repository),
            ("-a.b/c", Registry),
            ("h:/a", Registry),
            ("h:65536/a", Registry),
            ("h:1:2/a", Registry),
            ("[::g]/a", Registry),
            ("user@h/a", Digest),
            ("a:", Tag),
            ("a:-b", Tag),
            ("a:b/c", Registry),
            ("a:b:c", Tag),
            ("a:\u{e4}", Tag),
            (&format!("a:{long_tag}"), Tag),
            (&long, TooLong),
            (&id, Id),
            (&format!("sha256:{id}"), Id),
            ("sha256", Id),
            ("a@sha256:00", Digest),
            ("a@b@c", Digest),
        ] {
            assert_eq!(parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn registries_of_the_engines_own_machine_are_known() {
        for (registry, local) in [
            ("127.0.0.1:5000", true),
            ("127.8.9.1", true),
            ("127.1:5000", true),
            ("0x7f.1", true),
            ("0.0.0.0:80", true),
            ("169.254.169.254", true),
            ("localhost", true),
            ("LOCALHOST:5000", true),
            ("a.localhost:1", true),
            ("[::1]:5000", true),
            ("[::]:5000", true),
            ("[fe80::1]:5000", true),
            ("[::ffff:127.0.0.1]:5000", true),
            ("[::127.0.0.1]:5000", true),
            ("10.0.0.1:5000", false),
            ("registry.example.org", false),
            ("h:5000", false),
            ("[2001:db8::1]:5000", false),
        ] {
            let reference = parse(&format!("{registry}/a:1")).unwrap();
            assert_eq!(reference.registry(), Some(registry));
            assert_eq!(reference.has_local_registry(), local, "{registry}");
        }
        for text in ["debian", "library/debian:12"] {
            let reference = parse(text).unwrap();
            assert_eq!(reference.registry(), None);
            assert!(!reference.has_local_registry());
        }
    }
}
