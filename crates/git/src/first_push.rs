//! What a client is told that pushes to a repository that does not exist yet, and what its first line says.
//!
//! The format of the new repository is the client's, which says it only in its first command. A server may support several
//! formats (git's protocol-capabilities, `object-format`), so both are advertised, and the repository is created when the
//! first line is here:
//!
//! ```text
//! advertisement: no refs, object-format=sha1 object-format=sha256 ──►
//!                                  ◄── first line: a command with object-format=F, or `shallow ID`
//! repository of format F is created, git receive-pack --stateless-rpc goes on from there
//! ```

use std::io::{self, ErrorKind, Read};

use super::command::checked;
use super::error::GitError;
use super::git::Git;
use super::object_format::ObjectFormat;

/// The longest first line that is read. A pipe holds as much without a reader.
const MAX_FIRST_LINE: usize = 4096;
/// The length of a packet is four digits, which count themselves.
const LENGTH_DIGITS: usize = 4;

const VERB: &str = "receive-pack";

/// The first line of a client that pushes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstLine {
    /// The format of the client's repository.
    pub format: ObjectFormat,
    /// The packet as it was sent.
    pub packet: Vec<u8>,
}

impl Git {
    /// The advertisement of a repository that has no refs and may have objects of either format.
    pub fn advertise_new_repository(&self) -> Result<Vec<u8>, GitError> {
        let empty = self.ensure_empty_repo(ObjectFormat::Sha1)?;
        let mut command = self.command();
        command.args([VERB, "--advertise-refs"]).arg(&empty);
        let output = command.output();
        let output = output.map_err(|source| GitError::Start { verb: VERB, source })?;
        let advertised = checked(VERB, output)?;
        with_both_formats(&advertised).ok_or_else(|| GitError::Unexpected {
            verb: VERB,
            output: String::from_utf8_lossy(&advertised).into_owned(),
        })
    }
}

/// Adds SHA-256 to the formats of an advertisement. The first one stays the format of the ids in it.
fn with_both_formats(advertised: &[u8]) -> Option<Vec<u8>> {
    let (packet, rest) = split_packet(advertised)?;
    let line = packet.strip_suffix(b"\n").unwrap_or(packet);
    let capability = format!(" object-format={}", ObjectFormat::Sha256.as_str());
    let length = LENGTH_DIGITS + line.len() + capability.len() + 1;
    let mut changed = format!("{length:04x}").into_bytes();
    for part in [line, capability.as_bytes(), b"\n", rest] {
        changed.extend_from_slice(part);
    }
    Some(changed)
}

/// The content of the first packet, and what comes after it.
fn split_packet(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = packet_length(bytes.get(..LENGTH_DIGITS)?)?;
    let packet = bytes.get(LENGTH_DIGITS..length)?;
    Some((packet, &bytes[length..]))
}

fn packet_length(digits: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(digits).ok()?;
    usize::from_str_radix(text, 16).ok()
}

impl FirstLine {
    /// Reads one packet and not a byte more. Returns `None` if the client has nothing to push.
    pub fn read(client: &mut impl Read) -> io::Result<Option<Self>> {
        let mut packet = vec![0; LENGTH_DIGITS];
        match client.read_exact(&mut packet) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let length = match packet_length(&packet) {
            Some(0) => return Ok(None),
            Some(length @ LENGTH_DIGITS..=MAX_FIRST_LINE) => length,
            _ => return Err(invalid("the first line of the push is invalid or too long")),
        };
        packet.resize(length, 0);
        client.read_exact(&mut packet[LENGTH_DIGITS..])?;
        let format = format_of(&packet[LENGTH_DIGITS..])?;
        Ok(Some(Self { format, packet }))
    }
}

/// The format of a line: what it says, or that of its id if it says nothing.
fn format_of(line: &[u8]) -> io::Result<ObjectFormat> {
    let text = String::from_utf8_lossy(line);
    let (command, capabilities) = text.split_once('\0').unwrap_or((&text, ""));
    let named = capabilities
        .split_ascii_whitespace()
        .find_map(|capability| capability.strip_prefix("object-format="));
    if let Some(name) = named {
        return [ObjectFormat::Sha1, ObjectFormat::Sha256]
            .into_iter()
            .find(|format| format.as_str() == name)
            .ok_or_else(|| invalid("the object format of the push is not known"));
    }
    let words = command.strip_prefix("shallow ").unwrap_or(command);
    let id = words.split_ascii_whitespace().next().unwrap_or_default();
    Ok(match id.len() {
        64 => ObjectFormat::Sha256,
        _ => ObjectFormat::Sha1,
    })
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(line: &str) -> Vec<u8> {
        format!("{:04x}{line}", line.len() + LENGTH_DIGITS).into_bytes()
    }

    #[test]
    fn the_format_is_what_the_first_line_says() {
        let (short, long) = ("1".repeat(40), "2".repeat(64));
        for (line, format) in [
            (
                format!("{short} {short} refs/heads/a\0 report-status"),
                "sha1",
            ),
            (
                format!("{long} {long} refs/heads/a\0report-status object-format=sha256 agent=x"),
                "sha256",
            ),
            (
                format!("{short} {short} refs/heads/a\0object-format=sha1"),
                "sha1",
            ),
            (format!("shallow {short}\n"), "sha1"),
            (format!("shallow {long}\n"), "sha256"),
            ("push-cert\0object-format=sha256\n".to_owned(), "sha256"),
        ] {
            let mut sent = packet(&line);
            let first = sent.clone();
            sent.extend_from_slice(b"0000PACK");
            let mut client = sent.as_slice();
            let read = FirstLine::read(&mut client).unwrap().unwrap();
            assert_eq!(
                (read.format.as_str(), &read.packet),
                (format, &first),
                "{line:?}"
            );
            assert_eq!(client, b"0000PACK");
        }
    }

    #[test]
    fn a_client_may_have_nothing_to_push_or_break_the_protocol() {
        for nothing in ["", "00", "0000"] {
            assert_eq!(FirstLine::read(&mut nothing.as_bytes()).unwrap(), None);
        }
        for broken in ["0001", "0003", "zzzz", "ffff", "0020short"] {
            assert!(FirstLine::read(&mut broken.as_bytes()).is_err(), "{broken}");
        }
        let unknown = packet("x\0object-format=sha512");
        assert!(FirstLine::read(&mut unknown.as_slice()).is_err());
    }

    #[test]
    fn both_formats_are_advertised() {
        let folder = tempfile::tempdir().unwrap();
        let paths = quire_types::paths::Paths::new(folder.path().join("data"), folder.path());
        std::fs::create_dir_all(paths.repos()).unwrap();
        std::fs::write(paths.git_config(), "").unwrap();
        let advertised = Git::new(&paths).advertise_new_repository().unwrap();
        let (packet, rest) = split_packet(&advertised).unwrap();
        let text = String::from_utf8_lossy(packet);
        assert!(
            text.starts_with(&format!("{} capabilities^{{}}\0", "0".repeat(40))),
            "{text}"
        );
        let formats: Vec<_> = text
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("object-format="))
            .collect();
        assert_eq!(formats, ["sha1", "sha256"]);
        assert_eq!(rest, b"0000");
    }
}
