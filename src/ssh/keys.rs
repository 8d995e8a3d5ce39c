//! Public keys: who may connect, and which of them is there now.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// One key of an `authorized_keys` file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Key {
    /// The comment, or the fingerprint where there is none.
    pub name: String,
    /// Such as `ssh-ed25519`.
    #[serde(rename = "type")]
    pub kind: String,
    /// As `ssh-keygen -l` shows it.
    pub fingerprint: String,
}

/// The keys of an `authorized_keys` file. Lines that are none are passed over: init reports them.
#[must_use]
pub fn parse_all(text: &str) -> Vec<Key> {
    let keys = text.lines().filter_map(Line::parse);
    keys.map(|line| Key { name: line.name(), kind: line.kind.to_owned(), fingerprint: fingerprint(line.blob) }).collect()
}

/// The name of the key that the session used, out of the file that sshd's `ExposeAuthInfo`
/// leaves and the keys that may connect. A key that is not among them (any more) goes by its
/// fingerprint.
#[must_use]
pub fn name_of_session(auth_info: &str, keys: &str) -> Option<String> {
    let line = auth_info.lines().find_map(|line| line.strip_prefix("publickey "))?;
    let (_, blob) = line.trim().split_once(' ')?;
    let blob = blob.split(' ').next().unwrap_or(blob);
    let known = keys.lines().filter(|line| line.contains(blob)).filter_map(Line::parse).find(|line| line.blob == blob);
    Some(known.map_or_else(|| fingerprint(blob), |line| line.name()))
}

struct Line<'a> {
    kind: &'a str,
    blob: &'a str,
    comment: &'a str,
}

impl<'a> Line<'a> {
    /// `[options] type base64 [comment]`
    fn parse(line: &'a str) -> Option<Self> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (first, rest) = word(line);
        let (kind, rest) = if is_key_type(first) { (first, rest) } else { word(rest) };
        let (blob, comment) = word(rest);
        let plausible = is_key_type(kind) && STANDARD.decode(blob).is_ok_and(|raw| raw.len() > 16);
        plausible.then_some(Self { kind, blob, comment })
    }

    fn name(&self) -> String {
        let name: String = self.comment.chars().filter(|c| !c.is_control()).take(100).collect();
        if name.is_empty() { fingerprint(self.blob) } else { name }
    }
}

fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"].iter().any(|prefix| word.starts_with(prefix)) && !word.contains(['=', '"', ','])
}

/// The first word, up to white space outside of double quotes, and the rest.
fn word(text: &str) -> (&str, &str) {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => return (&text[..at], text[at..].trim_start()),
            _ => {}
        }
    }
    (text, "")
}

/// `SHA256:…`, as ssh-keygen prints it.
fn fingerprint(blob: &str) -> String {
    STANDARD.decode(blob).map_or_else(|_| "unknown key".to_owned(), |raw| format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(raw))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOB: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIGVzdGVzdGVzdGVzdGVzdGVzdGVzdGVzdGVzdGVzdGVzdGVz";

    #[test]
    fn keys_with_and_without_options_and_comments() {
        let text = format!(
            "# a comment\n\nssh-ed25519 {BLOB} me@laptop, the new one\nrestrict,command=\"a b \\\" c\" ssh-ed25519 {BLOB} two\n ssh-ed25519 {BLOB}\nssh-ed25519 ???? x\nnonsense\nssh-ed25519\n"
        );
        let keys = parse_all(&text);
        let names: Vec<_> = keys.iter().map(|key| key.name.as_str()).collect();
        assert_eq!(names[..2], ["me@laptop, the new one", "two"]);
        assert!(names[2].starts_with("SHA256:") && names[2].len() == 50, "{}", names[2]);
        assert_eq!(keys.len(), 3);
    }

    proptest::proptest! {
        #[test]
        fn whatever_stands_in_the_file(text in ".{0,300}") {
            for key in parse_all(&format!("{text}\nssh-ed25519 {BLOB} {text}")) {
                proptest::prop_assert!(!key.name.is_empty() && !key.name.contains(char::is_control));
            }
        }
    }

    #[test]
    fn the_key_of_the_session() {
        let keys = format!("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ== other\nssh-ed25519 {BLOB} laptop\r\n");
        let info = format!("publickey ssh-ed25519 {BLOB}\n");
        assert_eq!(name_of_session(&info, &keys).as_deref(), Some("laptop"));
        assert!(name_of_session(&info, "").unwrap().starts_with("SHA256:"));
        assert_eq!(name_of_session("password\n", &keys), None);
        assert_eq!(name_of_session("", &keys), None);
        assert_eq!(name_of_session("publickey x ???\n", &keys).as_deref(), Some("unknown key"));
    }
}
