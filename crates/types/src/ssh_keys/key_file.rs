//! A file of keys as a list that can be changed: every other line of it stays as it is.

use super::limits::KeyLimits;
use super::line::{AuthorizedKey, PublicKey};
use crate::clock::Millis;

/// Begins the comment in the merged file that names the source of the keys below it.
const SOURCE: &str = "# from ";

/// A key of a file that sshd accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileKey {
    /// The key without its options.
    pub key: PublicKey,
    /// The options as they are in the line.
    pub options: String,
    /// What it may do.
    pub limits: KeyLimits,
    /// The last moment at which it can connect.
    pub valid_until: Option<Millis>,
    /// It signs certificates, and cannot connect itself.
    pub is_authority: bool,
    /// Where it comes from, if the file says so, as the merged file does.
    pub source: Option<String>,
}

impl FileKey {
    /// Whether it may do everything now.
    #[must_use]
    pub fn is_full_at(&self, now: Millis) -> bool {
        self.limits.is_full() && !self.is_expired_at(now)
    }

    /// Whether its time is over. The last second is still good, as for sshd.
    #[must_use]
    pub fn is_expired_at(&self, now: Millis) -> bool {
        self.valid_until
            .is_some_and(|until| until.0.div_euclid(1000) < now.0.div_euclid(1000))
    }

    /// The key of a line that [`AuthorizedKey::parse`] accepts; `None` for any other line.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let key = AuthorizedKey::parse(line).ok()??;
        let restrictions = key.options().ok()?;
        Some(Self {
            key: key.public_key(),
            options: key.identity().0.to_owned(),
            limits: restrictions.limits,
            valid_until: restrictions.valid_until,
            is_authority: restrictions.is_authority,
            source: None,
        })
    }
}

/// The comment in the merged file before the keys of a source.
#[must_use]
pub fn merged_source(name: &str) -> String {
    format!("{SOURCE}{}\n", crate::text::single_line(name))
}

/// The text of a file of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFile {
    text: String,
}

impl KeyFile {
    /// A file with this text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self { text }
    }

    /// The text, with all changes.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The keys that sshd accepts, in their order.
    #[must_use]
    pub fn keys(&self) -> Vec<FileKey> {
        let mut source = None;
        let mut keys = Vec::new();
        for line in self.text.lines() {
            if let Some(name) = line.strip_prefix(SOURCE) {
                source = Some(name.to_owned());
            } else if let Some(key) = FileKey::parse(line) {
                keys.push(FileKey {
                    source: source.clone(),
                    ..key
                });
            }
        }
        keys
    }

    /// Adds a line at the end.
    pub fn push(&mut self, line: &str) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Removes all lines that have this key, with whatever options. Returns them.
    pub fn remove(&mut self, fingerprint: &str) -> Vec<String> {
        let has_key = |line: &str| {
            AuthorizedKey::parse_leniently(line)
                .is_some_and(|key| key.public_key().fingerprint == fingerprint)
        };
        let lines = self.text.split_inclusive('\n');
        let (removed, kept): (Vec<&str>, Vec<&str>) = lines.partition(|line| has_key(line));
        let removed = removed.iter().map(|line| line.trim().to_owned()).collect();
        self.text = kept.concat();
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGq1N0L0J9vq4S8n3lF2bJtY1o6x7mYV0b2Qy7zq8kXw";
    const B: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHq1N0L0J9vq4S8n3lF2bJtY1o6x7mYV0b2Qy7zq8kXw";

    #[test]
    fn everything_but_the_removed_key_stays_as_it_is() {
        let text = format!(
            "# mine\r\n{A} laptop\r\n\n  # off: {B}\nnonsense\nfrom=\"10.0.0.0/8\" {A} again\n{B} desktop"
        );
        let mut file = KeyFile::new(text);
        let fingerprint = file.keys()[0].key.fingerprint.clone();
        let removed = file.remove(&fingerprint);
        assert_eq!(
            removed,
            [
                format!("{A} laptop"),
                format!("from=\"10.0.0.0/8\" {A} again")
            ]
        );
        let left = format!("# mine\r\n\n  # off: {B}\nnonsense\n{B} desktop");
        assert_eq!(file.text(), left);
        file.push(&format!("restrict {A}"));
        assert_eq!(file.text(), format!("{left}\nrestrict {A}\n"));
        let names: Vec<_> = file.keys().into_iter().map(|key| key.key.name).collect();
        assert_eq!(names, ["desktop".to_owned(), fingerprint]);
    }

    #[test]
    fn a_key_has_what_its_options_say_and_its_source() {
        let text = format!(
            "# Written by init\n{}restrict,command=\"quire exec --read --repo app\",expiry-time=\"20270101Z\" {A} ci\n{}cert-authority {B}\ncommand=\"id\" {A}\n",
            merged_source("/var/quire/authorized_keys"),
            merged_source("VARIABLE\n# from elsewhere"),
        );
        let keys = KeyFile::new(text).keys();
        let [limited, authority] = keys.as_slice() else {
            panic!("{keys:?}")
        };
        assert_eq!(limited.limits.to_string(), "fetch from app only");
        assert_eq!(
            limited.source.as_deref(),
            Some("/var/quire/authorized_keys")
        );
        let end = limited.valid_until.unwrap();
        assert!(!limited.is_expired_at(end) && limited.is_expired_at(end.plus(1000)));
        assert!(!limited.is_full_at(Millis(0)));
        assert!(authority.is_authority && authority.is_full_at(Millis(0)));
        assert_eq!(
            authority.source.as_deref(),
            Some("VARIABLE # from elsewhere")
        );
    }
}
