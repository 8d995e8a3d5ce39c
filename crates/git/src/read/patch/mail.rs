//! A commit as a mail: who, when and why stand before the difference, as `git format-patch` writes them.

use std::io::{self, Write};

use gix::ObjectId as Id;
use gix::bstr::ByteSlice;
use gix::date::Time;
use gix::date::time::format;

use super::super::commit::{MAX_COMMIT_BYTES, decode};
use super::super::error::ReadError;
use super::super::reader::Reader;

/// The longest word of an encoded header.
const MAX_WORD: usize = 75;
const WORD_BEGIN: &str = "=?UTF-8?q?";
const WORD_END: &str = "?=";

/// A commit that is written as a mail.
pub(super) struct MailWriter {
    id: Id,
    name: String,
    email: String,
    date: String,
    subject: String,
    body: String,
}

impl MailWriter {
    pub(super) fn read(reader: &Reader, id: Id) -> Result<Self, ReadError> {
        let attempt = "read a commit";
        let data = reader.object(id, gix::object::Kind::Commit, MAX_COMMIT_BYTES)?;
        let commit = gix::objs::CommitRef::from_bytes(&data, id.kind())
            .map_err(ReadError::damaged(attempt))?;
        let encoding = commit.encoding.map(|label| label.as_bytes());
        let author = gix::actor::SignatureRef::from_bytes(commit.author).ok();
        let time = author.and_then(|author| author.time().ok());
        let date = time
            .unwrap_or(Time::new(0, 0))
            .format_or_unix(format::GIT_RFC2822);
        let part = |bytes: &[u8]| decode(bytes, encoding);
        let message = part(commit.message);
        let message = message.trim_start_matches('\n').trim_end();
        let (subject, body) = message.split_once("\n\n").unwrap_or((message, ""));
        let lines: Vec<&str> = subject.lines().map(str::trim).collect();
        Ok(Self {
            id,
            name: author.map_or_else(String::new, |author| part(author.name.trim())),
            email: author.map_or_else(String::new, |author| part(author.email.trim())),
            date,
            subject: lines.join(" "),
            body: body.trim_start_matches('\n').to_owned(),
        })
    }

    /// Writes everything that stands before the difference.
    pub(super) fn write_head(
        &self,
        number: usize,
        total: usize,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let prefix = match total {
            1 => "[PATCH]".to_owned(),
            _ => {
                let width = total.to_string().len();
                format!("[PATCH {number:0width$}/{total}]")
            }
        };
        // The time marks the line as one of git's, whatever the commit's own is.
        writeln!(out, "From {} Mon Sep 17 00:00:00 2001", self.id)?;
        writeln!(out, "From: {} <{}>", address_name(&self.name), self.email)?;
        writeln!(out, "Date: {}", self.date)?;
        let subject = encoded(&self.subject, |byte| {
            byte.is_ascii_graphic() && !b"=?_".contains(&byte)
        });
        writeln!(out, "Subject: {prefix} {subject}")?;
        if !self.subject.is_ascii() || !self.body.is_ascii() {
            writeln!(out, "MIME-Version: 1.0")?;
            writeln!(out, "Content-Type: text/plain; charset=UTF-8")?;
            writeln!(out, "Content-Transfer-Encoding: 8bit")?;
        }
        writeln!(out)?;
        if !self.body.is_empty() {
            writeln!(out, "{}", self.body)?;
        }
        writeln!(out, "---\n")
    }

    /// Writes what ends the mail.
    pub(super) fn write_end(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "-- \nquire {}\n", env!("CARGO_PKG_VERSION"))
    }
}

/// A name in front of an address: in quotes if it has characters that mean something there.
fn address_name(name: &str) -> String {
    if needs_encoding(name) {
        return encoded(name, |byte| {
            byte.is_ascii_alphanumeric() || b"!*+-/".contains(&byte)
        });
    }
    if !name.bytes().any(|byte| b"()<>[]:;@\\,.\"".contains(&byte)) {
        return name.to_owned();
    }
    let escaped = name.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

fn needs_encoding(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    text.contains("=?") || !text.bytes().all(is_plain)
}

/// Text of a header: as it is, or as encoded words (RFC 2047), none of which divides a character.
fn encoded(text: &str, is_plain: impl Fn(u8) -> bool) -> String {
    if !needs_encoding(text) {
        return text.to_owned();
    }
    let (mut words, mut word) = (Vec::new(), String::from(WORD_BEGIN));
    for c in text.chars() {
        let mut buffer = [0; 4];
        let mut part = String::new();
        for byte in c.encode_utf8(&mut buffer).bytes() {
            if is_plain(byte) {
                part.push(char::from(byte));
            } else {
                part.push_str(&format!("={byte:02X}"));
            }
        }
        if word.len() + part.len() + WORD_END.len() > MAX_WORD {
            words.push(std::mem::replace(&mut word, WORD_BEGIN.to_owned()) + WORD_END);
        }
        word.push_str(&part);
    }
    words.push(word + WORD_END);
    words.join("\n ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_encoded_where_they_have_to_be() {
        assert_eq!(address_name("A Person"), "A Person");
        assert_eq!(address_name("J. \"X\" <y>"), r#""J. \"X\" <y>""#);
        assert_eq!(address_name("Jürg Ä."), "=?UTF-8?q?J=C3=BCrg=20=C3=84=2E?=");
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"=?_".contains(&byte);
        assert_eq!(
            encoded("Say =?x?=", plain),
            "=?UTF-8?q?Say=20=3D=3Fx=3F=3D?="
        );
        let long = encoded(&"ü".repeat(40), plain);
        assert!(
            long.lines().all(|line| line.trim().len() <= MAX_WORD),
            "{long}"
        );
        assert_eq!(long.matches("=C3=BC").count(), 40);
    }
}
