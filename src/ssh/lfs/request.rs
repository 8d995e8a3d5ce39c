//! The requests of git-lfs: from packets to one of a closed set. What is read of a request is bounded; the content of an
//! object is not read here.

use std::io::BufRead;
use std::str::FromStr;

use quire_git::lfs::{LfsOid, LfsOidError};

use quire_git::lfs::packets::{Packet, PacketError, PacketReader};

/// How many bytes the head of a request has at most: the command and its arguments.
const MAX_HEAD: usize = 128 << 10;
/// How many objects one `batch` may ask about. git-lfs asks about 100 by default.
pub const MAX_BATCH: usize = 10_000;
/// How long the path of a lock may be, in bytes.
const MAX_LOCK_PATH: usize = 4096;

/// A request, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LfsRequest {
    Version(String),
    Batch { hash: Option<String> },
    PutObject(ObjectSpec),
    VerifyObject(ObjectSpec),
    GetObject(LfsOid),
    Lock { path: String },
    ListLocks(LockQuery),
    Unlock { id: String },
    Quit,
}

/// An object as the client describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectSpec {
    pub oid: LfsOid,
    pub size: u64,
}

/// Which locks are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockQuery {
    pub path: Option<String>,
    pub id: Option<String>,
    /// The position of the first.
    pub cursor: usize,
    pub limit: Option<usize>,
}

/// Why a request is not understood. The connection is still in order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("the request is not text in UTF-8")]
    NotText,
    #[error("`{0}` is not a command of this server")]
    UnknownCommand(String),
    #[error("the request is too long")]
    TooLong,
    #[error("{0} needs a valid {1}")]
    Argument(&'static str, &'static str),
    #[error("at most {MAX_BATCH} objects fit into one batch")]
    TooManyObjects,
    #[error(transparent)]
    Oid(#[from] LfsOidError),
}

/// The head of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestHead {
    pub request: Result<LfsRequest, RequestError>,
    /// Whether packets follow until a flush.
    pub has_body: bool,
}

/// Reads the head of the next request. Returns `None` if the client has closed the connection.
///
/// # Errors
/// The connection cannot be used further.
pub fn read_head(
    packets: &mut PacketReader<impl BufRead>,
) -> Result<Option<RequestHead>, PacketError> {
    if packets.has_ended()? {
        return Ok(None);
    }
    let mut lines: Vec<String> = Vec::new();
    let (mut length, mut error) = (0, None);
    let has_body = loop {
        match packets.read()? {
            Packet::Data(data) => {
                length += data.len() + 1;
                if length > MAX_HEAD {
                    error = Some(RequestError::TooLong);
                } else {
                    match text(data) {
                        Ok(line) => lines.push(line.to_owned()),
                        Err(not_text) => error = Some(not_text),
                    }
                }
            }
            Packet::Delimiter => break true,
            Packet::Flush => break false,
        }
    };
    let request = match error {
        Some(error) => Err(error),
        None => parse(&lines),
    };
    Ok(Some(RequestHead { request, has_body }))
}

/// A packet as a line of text.
fn text(data: &[u8]) -> Result<&str, RequestError> {
    let line = data.strip_suffix(b"\n").unwrap_or(data);
    let line = std::str::from_utf8(line).map_err(|_| RequestError::NotText)?;
    if line.contains(char::is_control) {
        return Err(RequestError::NotText);
    }
    Ok(line)
}

/// Parses a command and its arguments.
fn parse(lines: &[String]) -> Result<LfsRequest, RequestError> {
    let (command, arguments) = match lines {
        [command, arguments @ ..] => (command.as_str(), Arguments(arguments)),
        [] => ("", Arguments(&[])),
    };
    let (name, operand) = command.split_once(' ').unwrap_or((command, ""));
    Ok(match (name, operand) {
        ("version", version) => LfsRequest::Version(version.to_owned()),
        ("quit", "") => LfsRequest::Quit,
        ("batch", "") => LfsRequest::Batch {
            hash: arguments.get("hash-algo").map(str::to_owned),
        },
        ("put-object", oid) => LfsRequest::PutObject(arguments.object("put-object", oid)?),
        ("verify-object", oid) => LfsRequest::VerifyObject(arguments.object("verify-object", oid)?),
        ("get-object", oid) => LfsRequest::GetObject(oid.parse()?),
        ("lock", "") => LfsRequest::Lock {
            path: arguments
                .get("path")
                .filter(|path| !path.is_empty() && path.len() <= MAX_LOCK_PATH)
                .ok_or(RequestError::Argument("lock", "path"))?
                .to_owned(),
        },
        // git-lfs before version 3.4 asks with the plural before a push.
        ("list-lock" | "list-locks", "") => LfsRequest::ListLocks(LockQuery {
            path: arguments.get("path").map(str::to_owned),
            id: arguments.get("id").map(str::to_owned),
            cursor: arguments.number("list-lock", "cursor")?.unwrap_or(0),
            limit: arguments.number("list-lock", "limit")?,
        }),
        ("unlock", id) if !id.is_empty() => LfsRequest::Unlock { id: id.to_owned() },
        (name, _) => {
            let shown = quire_types::text::excerpt(name, 60);
            return Err(RequestError::UnknownCommand(shown));
        }
    })
}

/// Lines `KEY=VALUE`. Unknown keys are ignored, as the protocol says.
struct Arguments<'a>(&'a [String]);

impl Arguments<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let mut lines = self.0.iter();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }

    /// A number, or `None` if the argument is missing or empty.
    fn number<T: FromStr>(
        &self,
        command: &'static str,
        key: &'static str,
    ) -> Result<Option<T>, RequestError> {
        match self.get(key) {
            None | Some("") => Ok(None),
            Some(value) => match value.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(RequestError::Argument(command, key)),
            },
        }
    }

    fn object(&self, command: &'static str, oid: &str) -> Result<ObjectSpec, RequestError> {
        let size = self.number(command, "size")?;
        Ok(ObjectSpec {
            oid: oid.parse()?,
            size: size.ok_or(RequestError::Argument(command, "size"))?,
        })
    }
}

/// Reads the objects of a `batch` to the end of the request.
///
/// # Errors
/// The connection cannot be used further.
pub fn read_objects(
    packets: &mut PacketReader<impl BufRead>,
) -> Result<Result<Vec<ObjectSpec>, RequestError>, PacketError> {
    let mut objects = Ok(Vec::new());
    loop {
        match packets.read()? {
            Packet::Flush => return Ok(objects),
            Packet::Delimiter => {}
            Packet::Data(data) => {
                if let Ok(found) = &mut objects {
                    match object(data) {
                        Ok(_) if found.len() >= MAX_BATCH => {
                            objects = Err(RequestError::TooManyObjects);
                        }
                        Ok(object) => found.push(object),
                        Err(error) => objects = Err(error),
                    }
                }
            }
        }
    }
}

/// Parses `OID SIZE`, and ignores what follows.
fn object(data: &[u8]) -> Result<ObjectSpec, RequestError> {
    let mut words = text(data)?.split(' ');
    let oid = words.next().unwrap_or_default().parse()?;
    let size = words.next().and_then(|size| size.parse().ok());
    Ok(ObjectSpec {
        oid,
        size: size.ok_or(RequestError::Argument("batch", "size"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_git::lfs::packets::PacketWriter;

    const OID: &str = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";

    fn request(lines: &[&str]) -> Result<LfsRequest, RequestError> {
        let mut bytes = Vec::new();
        let mut writer = PacketWriter::new(&mut bytes);
        lines.iter().for_each(|line| writer.line(line).unwrap());
        writer.flush().unwrap();
        let mut reader = PacketReader::new(&bytes[..]);
        let head = read_head(&mut reader).unwrap().unwrap();
        assert!(!head.has_body && read_head(&mut reader).unwrap().is_none());
        head.request
    }

    #[test]
    fn requests() {
        let object = ObjectSpec {
            oid: OID.parse().unwrap(),
            size: 12,
        };
        let put = format!("put-object {OID}");
        for (lines, expected) in [
            (vec!["version 1"], LfsRequest::Version("1".to_owned())),
            (vec!["quit"], LfsRequest::Quit),
            (
                vec![&put, "token=x", "size=12"],
                LfsRequest::PutObject(object.clone()),
            ),
            (
                vec!["lock", "path=a=b c", "refname=refs/heads/main"],
                LfsRequest::Lock {
                    path: "a=b c".to_owned(),
                },
            ),
            (
                vec!["list-lock", "cursor=", "limit=7"],
                LfsRequest::ListLocks(LockQuery {
                    limit: Some(7),
                    ..LockQuery::default()
                }),
            ),
            (
                vec!["list-locks", "path=a b"],
                LfsRequest::ListLocks(LockQuery {
                    path: Some("a b".to_owned()),
                    ..LockQuery::default()
                }),
            ),
            (
                vec!["unlock 1-2"],
                LfsRequest::Unlock {
                    id: "1-2".to_owned(),
                },
            ),
        ] {
            assert_eq!(request(&lines), Ok(expected));
        }
    }

    #[test]
    fn what_is_not_understood() {
        let put = format!("put-object {OID}");
        let long = vec!["x".repeat(60_000); 3];
        let long: Vec<&str> = long.iter().map(String::as_str).collect();
        for (lines, expected) in [
            (vec![], "`` is not a command of this server"),
            (vec!["rm -rf"], "`rm` is not a command of this server"),
            (vec!["quit now"], "`quit` is not a command of this server"),
            (vec![&put], "put-object needs a valid size"),
            (vec![&put, "size=-1"], "put-object needs a valid size"),
            (
                vec!["get-object ../../x"],
                "the id of an object is its SHA-256: 64 hexadecimal digits in lower case",
            ),
            (vec!["lock"], "lock needs a valid path"),
            (vec!["quit\u{1b}"], "the request is not text in UTF-8"),
            (long, "the request is too long"),
        ] {
            assert_eq!(request(&lines).unwrap_err().to_string(), expected);
        }
    }
}
