//! Adds a key to the volume.

use super::error::KeyError;
use super::list::{KeyEntry, find, list};
use super::stored::{StoredKeys, wait_until_merged};
use crate::forge::access::Forge;
use crate::forge::error::ForgeError;
use crate::forge::operation_log::recorded;
use crate::forge::repos;
use quire_types::clock::Millis;
use quire_types::operation::Operation;
use quire_types::ssh_keys::{AuthorizedKey, FileKey, KeyLimits, expiry_option};

/// A public key has less than 3 KiB, and its options and comment have their place too.
pub const MAX_KEY_INPUT: usize = 16 * 1024;

/// A key and what it may do.
#[derive(Debug, Clone)]
pub struct AddRequest {
    /// One line of an `authorized_keys` file.
    pub text: String,
    pub limits: KeyLimits,
    /// The last moment at which it may connect.
    pub expires_at: Option<Millis>,
    pub now: Millis,
}

/// A key that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedKey {
    pub entry: KeyEntry,
    /// Whether sshd accepts it already.
    pub is_in_force: bool,
}

/// Adds a key. It can connect when this returns, if quire is running.
pub fn add(forge: &Forge, mut request: AddRequest) -> Result<AddedKey, ForgeError> {
    if request.text.len() > MAX_KEY_INPUT {
        return Err(KeyError::TooLarge(MAX_KEY_INPUT).into());
    }
    if request.expires_at.is_some_and(|end| end <= request.now) {
        return Err(KeyError::ExpiresInPast.into());
    }
    for repo in &mut request.limits.repos {
        *repo = repos::existing(forge, repo)?;
    }
    request.limits.repos.sort();
    request.limits.repos.dedup();
    let line = limited_line(&request)?;
    let key = FileKey::parse(&line).ok_or(KeyError::NoKey)?;
    if key.is_expired_at(request.now) {
        return Err(KeyError::ExpiresInPast.into());
    }
    write(forge, &key, &[line])
}

/// Adds the lines that a key had before it was removed; `None` if one of them is not a line of this key that would be accepted
/// now.
pub fn add_lines(
    forge: &Forge,
    lines: &[String],
    now: Millis,
) -> Result<Option<AddedKey>, ForgeError> {
    let keys: Option<Vec<FileKey>> = lines.iter().map(|line| FileKey::parse(line)).collect();
    let Some([key, others @ ..]) = keys.as_deref() else {
        return Ok(None);
    };
    let is_same = |other: &FileKey| other.key.fingerprint == key.key.fingerprint;
    if !others.iter().all(is_same) || key.is_expired_at(now) {
        return Ok(None);
    }
    write(forge, key, lines).map(Some)
}

/// Adds the lines of a key that is not there yet.
fn write(forge: &Forge, key: &FileKey, lines: &[String]) -> Result<AddedKey, ForgeError> {
    let fingerprint = key.key.fingerprint.clone();
    let mut stored = StoredKeys::lock(&forge.paths)?;
    let known = list(forge)?;
    if let Some(known) = known.iter().find(|e| e.key.key.fingerprint == fingerprint) {
        return Err(KeyError::Exists {
            name: known.key.key.name.clone(),
            source_name: known.source_name().to_owned(),
        }
        .into());
    }
    for line in lines {
        stored.file.push(line);
    }
    let operation = Operation::KeyAdd {
        name: key.key.name.clone(),
        fingerprint: fingerprint.clone(),
        may: key.limits.to_string(),
    };
    recorded(forge, operation, |_| Ok(stored.write()?))?;
    let is_in_force = wait_until_merged(&forge.paths, |keys| {
        keys.iter().any(|key| key.key.fingerprint == fingerprint)
    });
    Ok(AddedKey {
        entry: find(forge, &fingerprint)?,
        is_in_force,
    })
}

/// The one key of the request as a line with its limits, in the options that sshd knows.
fn limited_line(request: &AddRequest) -> Result<String, KeyError> {
    let mut lines = Vec::new();
    for line in request.text.lines() {
        lines.extend(AuthorizedKey::parse(line)?);
    }
    let key = match lines.as_slice() {
        [] => return Err(KeyError::NoKey),
        [key] => key,
        _ => return Err(KeyError::SeveralKeys),
    };
    let mut options = Vec::new();
    if let Some(command) = request.limits.command() {
        options.push("restrict".to_owned());
        options.push(format!("command=\"{command}\""));
    }
    options.extend(request.expires_at.and_then(expiry_option));
    let (own, _) = key.identity();
    let line = match (options.is_empty(), own.is_empty()) {
        (true, _) => key.line.to_owned(),
        (false, true) => format!("{} {}", options.join(","), key.line),
        (false, false) => format!("{},{}", options.join(","), key.line),
    };
    // The options of the line and those of the request have to go together.
    AuthorizedKey::parse(&line)?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGq1N0L0J9vq4S8n3lF2bJtY1o6x7mYV0b2Qy7zq8kXw ci";

    fn line(text: &str, read_only: bool, expires_at: Option<i64>) -> Result<String, String> {
        let request = AddRequest {
            text: text.to_owned(),
            limits: KeyLimits {
                read_only,
                repos: Vec::new(),
            },
            expires_at: expires_at.map(Millis),
            now: Millis(0),
        };
        limited_line(&request).map_err(|error| quire_types::error_chain::chain(&error))
    }

    #[test]
    fn limits_are_options_before_those_of_the_line() {
        assert_eq!(line(KEY, false, None).as_deref(), Ok(KEY));
        assert_eq!(
            line(&format!("# mine\n\n{KEY}\r\n"), true, None).unwrap(),
            format!("restrict,command=\"quire exec --read\" {KEY}")
        );
        assert_eq!(
            line(&format!("from=\"10.0.0.0/8\" {KEY}"), true, Some(0)).unwrap(),
            format!(
                "restrict,command=\"quire exec --read\",expiry-time=\"19700101000000Z\",from=\"10.0.0.0/8\" {KEY}"
            )
        );
    }

    #[test]
    fn what_is_no_line_of_a_key_is_rejected_with_a_sentence() {
        let limited = format!("command=\"quire exec --repo app\" {KEY}");
        let texts = [
            "",
            "# nothing",
            "ssh-ed25519 AAAA typo",
            "ssh-ed25519",
            "laptop",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH PRIVATE KEY-----",
            &format!("{KEY}\n{KEY}"),
            &format!("command=\"id\" {KEY}"),
            &format!("pty {KEY}"),
            &limited,
        ];
        let sentences: Vec<_> = texts
            .iter()
            .map(|text| line(text, true, None).unwrap_err())
            .collect();
        insta::assert_snapshot!(sentences.join("\n"));
    }
}
