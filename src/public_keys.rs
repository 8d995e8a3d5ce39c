//! Public keys: who may connect, and which of them is there now.
//!
//! A key is known by its fingerprint; its name, the comment, is for people and need not be unique.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::paths::Paths;

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

/// The text of the keys that may connect now: the copy that sshd reads, or the volume's own file
/// where nothing of ours supervises sshd. No file is no key.
///
/// # Errors
/// There is a file that cannot be read.
pub fn read(paths: &Paths) -> io::Result<String> {
    for path in [paths.effective_keys(), paths.authorized_keys()] {
        match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => return read,
        }
    }
    Ok(String::new())
}

/// The keys of an `authorized_keys` file. Lines that are none are passed over: init reports them.
#[must_use]
pub fn parse_all(text: &str) -> Vec<Key> {
    text.lines()
        .filter_map(Line::parse)
        .map(|line| line.key())
        .collect()
}

/// The key that the session used, out of the file that sshd's `ExposeAuthInfo` leaves and the
/// keys that may connect. One that is not among them (any more) goes by its fingerprint; a
/// certificate stands for the authority that signed it, which is what may be taken away here.
#[must_use]
pub fn of_session(auth_info: &str, keys: &str) -> Option<Key> {
    let line = auth_info
        .lines()
        .find_map(|line| line.strip_prefix("publickey "))?;
    let (kind, blob) = line.trim().split_once(' ')?;
    let blob = blob.split(' ').next().unwrap_or(blob);
    let known = keys
        .lines()
        .filter(|line| line.contains(blob))
        .filter_map(Line::parse)
        .find(|line| line.blob == blob);
    if let Some(line) = known {
        return Some(line.key());
    }
    let name = fingerprint(blob);
    let signer = kind
        .contains("-cert-v")
        .then(|| signer(blob, keys))
        .flatten();
    Some(Key {
        fingerprint: signer.unwrap_or_else(|| name.clone()),
        name,
        kind: kind.to_owned(),
    })
}

/// The fingerprint of the authority among `keys` that a certificate names. sshd has verified the signature.
fn signer(certificate: &str, keys: &str) -> Option<String> {
    let certificate = STANDARD.decode(certificate).ok()?;
    let holds = |raw: &[u8]| certificate.windows(raw.len()).any(|part| part == raw);
    let authority = keys
        .lines()
        .filter_map(Line::parse)
        .find(|line| STANDARD.decode(line.blob).is_ok_and(|raw| holds(&raw)))?;
    Some(fingerprint(authority.blob))
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
        let (kind, rest) = if is_key_type(first) {
            (first, rest)
        } else {
            word(rest)
        };
        let (blob, comment) = word(rest);
        let plausible = is_key_type(kind) && STANDARD.decode(blob).is_ok_and(|raw| raw.len() > 16);
        plausible.then_some(Self {
            kind,
            blob,
            comment,
        })
    }

    fn key(&self) -> Key {
        Key {
            name: self.name(),
            kind: self.kind.to_owned(),
            fingerprint: fingerprint(self.blob),
        }
    }

    fn name(&self) -> String {
        let name: String = self
            .comment
            .chars()
            .filter(|c| !c.is_control())
            .take(100)
            .collect();
        if name.is_empty() {
            fingerprint(self.blob)
        } else {
            name
        }
    }
}

fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"]
        .iter()
        .any(|prefix| word.starts_with(prefix))
        && !word.contains(['=', '"', ','])
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
    STANDARD.decode(blob).map_or_else(
        |_| "unknown key".to_owned(),
        |raw| format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(raw))),
    )
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
        assert!(
            names[2].starts_with("SHA256:") && names[2].len() == 50,
            "{}",
            names[2]
        );
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
        let keys = format!(
            "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ== other\nssh-ed25519 {BLOB} laptop\r\n"
        );
        let info = format!("publickey ssh-ed25519 {BLOB}\n");
        let key = of_session(&info, &keys).unwrap();
        assert_eq!((key.name.as_str(), &key), ("laptop", &parse_all(&keys)[1]));
        let gone = of_session(&info, "").unwrap();
        assert_eq!(
            (gone.name.as_str(), gone.fingerprint.as_str()),
            (key.fingerprint.as_str(), key.fingerprint.as_str())
        );
        assert_eq!(of_session("password\n", &keys), None);
        assert_eq!(of_session("", &keys), None);
        assert_eq!(
            of_session("publickey x ???\n", &keys).unwrap().name,
            "unknown key"
        );
    }

    #[test]
    fn a_certificate_stands_for_its_authority() {
        let raw = [
            b"\0\0\0\x20ssh-ed25519-cert-v01@openssh.com...\0\0\0\x33".as_slice(),
            &STANDARD.decode(BLOB).unwrap(),
            b"signature",
        ]
        .concat();
        let info = format!(
            "publickey ssh-ed25519-cert-v01@openssh.com {}\n",
            STANDARD.encode(raw)
        );
        let keys = format!(
            "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ== other\ncert-authority ssh-ed25519 {BLOB} our authority\n"
        );
        let key = of_session(&info, &keys).unwrap();
        assert_eq!(key.fingerprint, parse_all(&keys)[1].fingerprint);
        assert!(key.name.starts_with("SHA256:") && key.name != key.fingerprint);
        assert_eq!(of_session(&info, "").unwrap().fingerprint, key.name);
    }

    #[test]
    fn the_copy_that_sshd_reads_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path().join("data"), folder.path().join("run"));
        assert_eq!(read(&paths).unwrap(), "");
        for path in [paths.authorized_keys(), paths.effective_keys()] {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, path.display().to_string()).unwrap();
            assert_eq!(read(&paths).unwrap(), path.display().to_string());
        }
        std::fs::remove_file(paths.effective_keys()).unwrap();
        std::fs::create_dir(paths.effective_keys()).unwrap();
        assert!(read(&paths).is_err());
    }
}
