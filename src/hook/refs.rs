//! What git writes to the hook: `OLD NEW REF`, one line for each ref.

use std::io::{self, Read};

use quire_types::names::ObjectId;
use quire_types::push_event::RefUpdate;
use quire_types::text::excerpt;

/// The refs that a push changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RefUpdates {
    /// In git's order.
    pub refs: Vec<RefUpdate>,
    /// Names that an event cannot hold, made printable.
    pub unsupported: Vec<String>,
}

/// Reads all lines.
///
/// # Errors
/// The input cannot be read, or a line is not `OLD NEW REF`.
pub fn read(mut input: impl Read) -> io::Result<RefUpdates> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    let mut updates = RefUpdates::default();
    for line in bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        let (old, new, name) = (id(parts.next()), id(parts.next()), parts.next());
        let (Some(old_sha), Some(new_sha), Some(name)) = (old, new, name) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "not a ref line: {}",
                    excerpt(&String::from_utf8_lossy(line), 200)
                ),
            ));
        };
        match std::str::from_utf8(name)
            .ok()
            .and_then(|name| name.parse().ok())
        {
            Some(ref_name) => updates.refs.push(RefUpdate {
                ref_name,
                old_sha,
                new_sha,
            }),
            None => updates
                .unsupported
                .push(excerpt(&String::from_utf8_lossy(name), 200)),
        }
    }
    Ok(updates)
}

fn id(text: Option<&[u8]>) -> Option<ObjectId> {
    std::str::from_utf8(text?).ok()?.parse().ok()
}
