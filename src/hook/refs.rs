//! What git tells the hook: `OLD NEW REF`, a line for each ref.

use std::io::{self, Read};

use super::{Moved, printable};
use crate::names::ObjectId;
use crate::run::event::RefUpdate;

/// Reads all lines. Refs whose names cannot be recorded are set apart; anything else that is
/// not such a line is an error.
///
/// # Errors
/// The input cannot be read, or is not what git writes.
pub fn read(mut input: impl Read) -> io::Result<Moved> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    let mut moved = Moved::default();
    for line in bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        let (old, new, name) = (id(parts.next()), id(parts.next()), parts.next());
        let (Some(old_sha), Some(new_sha), Some(name)) = (old, new, name) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("not a ref line: {}", printable(line)),
            ));
        };
        match std::str::from_utf8(name)
            .ok()
            .and_then(|name| name.parse().ok())
        {
            Some(ref_name) => moved.refs.push(RefUpdate {
                ref_name,
                old_sha,
                new_sha,
            }),
            None => moved.unreadable.push(printable(name)),
        }
    }
    Ok(moved)
}

fn id(text: Option<&[u8]>) -> Option<ObjectId> {
    std::str::from_utf8(text?).ok()?.parse().ok()
}
