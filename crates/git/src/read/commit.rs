//! Commits: who, when and why.

use gix::ObjectId as Id;
use gix::bstr::ByteSlice;
use quire_types::names::ObjectId;

use super::error::ReadError;
use super::reader::{Reader, gix_id, public_id};

/// The longest message that is shown.
const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// The longest subject that is shown, in characters.
const MAX_SUBJECT_CHARS: usize = 500;
/// The largest commit object that is read.
pub(super) const MAX_COMMIT_BYTES: u64 = 4 << 20;
/// The longest change id.
const MAX_CHANGE_ID: usize = 64;

/// Who made something, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The name as it was written.
    pub name: String,
    /// The address as it was written.
    pub email: String,
    /// Seconds since 1970.
    pub seconds: i64,
}

/// A commit in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitSummary {
    /// Its id.
    pub id: ObjectId,
    /// Its parents.
    pub parents: Vec<ObjectId>,
    /// Who wrote it.
    pub author: Person,
    /// Who committed it.
    pub committer: Person,
    /// The first line of the message.
    pub subject: String,
    /// The id of the change that it is a version of, as jj or Gerrit wrote it.
    pub change_id: Option<String>,
}

/// A commit on its own page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitDetails {
    /// What a list shows.
    pub summary: CommitSummary,
    /// Its tree.
    pub tree: ObjectId,
    /// The message without its first line.
    pub body: String,
    /// Whether it carries a signature. Nothing verifies it.
    pub is_signed: bool,
}

impl Reader {
    /// A commit with its whole message.
    pub fn commit(&self, id: &ObjectId) -> Result<CommitDetails, ReadError> {
        self.commit_details(gix_id(id)?)
    }

    pub(super) fn commit_details(&self, id: Id) -> Result<CommitDetails, ReadError> {
        let data = self.object(id, gix::object::Kind::Commit, MAX_COMMIT_BYTES)?;
        let commit = gix::objs::CommitRef::from_bytes(&data, id.kind())
            .map_err(ReadError::damaged("read a commit"))?;
        let message = &commit.message[..commit.message.len().min(MAX_MESSAGE_BYTES)];
        let encoding = commit.encoding.map(|label| label.as_bytes());
        let message = decode(message, encoding);
        let (subject, body) = split_message(&message);
        let headers = commit.extra_headers();
        let is_signed = commit
            .extra_headers
            .iter()
            .any(|(name, _)| name.starts_with(b"gpgsig"));
        let of_jj = headers.find("change-id").and_then(change_id);
        let change_id = of_jj.or_else(|| trailer(&body));
        let person = |raw: &[u8]| person(raw, encoding);
        let parents: Result<_, ReadError> = commit.parents().map(public_id).collect();
        Ok(CommitDetails {
            tree: public_id(commit.tree())?,
            summary: CommitSummary {
                id: public_id(id)?,
                parents: parents?,
                author: person(commit.author),
                committer: person(commit.committer),
                subject,
                change_id,
            },
            body,
            is_signed,
        })
    }
}

/// A name, an address and a time, as far as they can be read: a bad line is no reason to show nothing.
pub(super) fn person(raw: &[u8], encoding: Option<&[u8]>) -> Person {
    match gix::actor::SignatureRef::from_bytes(raw) {
        Ok(signature) => Person {
            name: decode(signature.name.trim(), encoding),
            email: decode(signature.email.trim(), encoding),
            seconds: signature.seconds(),
        },
        Err(_) => Person {
            name: decode(raw, encoding),
            email: String::new(),
            seconds: 0,
        },
    }
}

/// Text in the encoding that the commit names, UTF-8 if it names none that is known.
pub(super) fn decode(bytes: &[u8], encoding: Option<&[u8]>) -> String {
    let known = encoding.and_then(encoding_rs::Encoding::for_label);
    match known {
        Some(encoding) => encoding.decode_without_bom_handling(bytes).0.into_owned(),
        None => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Subject and body as git divides them: the lines up to the first empty one are the subject.
fn split_message(message: &str) -> (String, String) {
    let message = message.trim_start_matches(['\n', '\r']);
    let (subject, body) = match message.find("\n\n") {
        Some(at) => (&message[..at], &message[at..]),
        None => (message, ""),
    };
    let subject: Vec<&str> = subject.lines().map(str::trim_end).collect();
    let subject: String = subject.join(" ").chars().take(MAX_SUBJECT_CHARS).collect();
    let body = body.trim_start_matches('\n').trim_end();
    (subject.trim_end().to_owned(), body.to_owned())
}

fn change_id(value: &gix::bstr::BStr) -> Option<String> {
    let text = value.to_str().ok()?.trim();
    let is_id = !text.is_empty()
        && text.len() <= MAX_CHANGE_ID
        && text.bytes().all(|b| b.is_ascii_alphanumeric());
    is_id.then(|| text.to_owned())
}

/// The change id that Gerrit's hook writes below a message: `Change-Id: I` and forty digits.
fn trailer(body: &str) -> Option<String> {
    let last = body.rsplit("\n\n").next()?;
    let mut ids = last
        .lines()
        .rev()
        .filter_map(|line| line.strip_prefix("Change-Id: "));
    let id = ids.next()?.trim_end();
    let digits = id.strip_prefix('I')?;
    let is_id = digits.len() == 40 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_id.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_subject_and_a_body() {
        let split = |text| split_message(text);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            split("\nOne\n\nTwo\n\nThree\n"),
            pair("One", "Two\n\nThree")
        );
        assert_eq!(split("One\ntwo\n"), pair("One two", ""));
        assert_eq!(split(""), pair("", ""));
    }

    #[test]
    fn a_damaged_author_line_is_shown_as_it_is() {
        assert_eq!(person(b"nothing", None).name, "nothing");
        let latin = person(b"J\xfcrg <j@example.org> 12 +0100", Some(b"ISO-8859-1"));
        assert_eq!((latin.name.as_str(), latin.seconds), ("Jürg", 12));
    }

    #[test]
    fn a_change_id_may_stand_below_the_message() {
        let id = format!("I{}", "0a".repeat(20));
        let body = format!("Why.\n\nSigned-off-by: A\nChange-Id: {id}");
        assert_eq!(trailer(&body), Some(id.clone()));
        assert_eq!(trailer(&format!("Change-Id: {id}")), Some(id.clone()));
        for other in [
            format!("Change-Id: {id}\n\nNot the last paragraph."),
            "Change-Id: I12".to_owned(),
            format!("Change-Id: J{}", "0a".repeat(20)),
            String::new(),
        ] {
            assert_eq!(trailer(&other), None, "{other:?}");
        }
    }
}
