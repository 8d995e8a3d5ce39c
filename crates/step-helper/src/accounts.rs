//! Users and groups by the passwd and group files of an image, as the engine understands them.

use alloc::vec::Vec;

use quire_step::{FailureReason, TaskIds};

use crate::report::TaskFailure;

/// The largest id that the engine accepts.
const MAX_ID: u32 = i32::MAX as u32;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ImageUser {
    pub(crate) ids: TaskIds,
    /// The home folder of the passwd file.
    pub(crate) home: Option<Vec<u8>>,
}

/// A line of the passwd file.
struct PasswdEntry<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

/// A line of the group file.
struct GroupEntry<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

/// Resolves `user`, `user:group` with names or numbers; without a user it is the uid 0.
pub(crate) fn resolve(text: &[u8], passwd: &[u8], group: &[u8]) -> Result<ImageUser, TaskFailure> {
    let mut parts = text.splitn(2, |byte| *byte == b':');
    let user = parts.next().unwrap_or_default();
    let group_name = parts.next().unwrap_or_default();
    let user = if user.is_empty() { b"0" } else { user };
    let number = parse_id(user);
    let entry =
        entries(passwd, passwd_entry).find(|entry| entry.name == user || Some(entry.uid) == number);
    let unknown = || TaskFailure::plain(FailureReason::UnknownUser, user);
    let uid = match &entry {
        Some(entry) => entry.uid,
        None => number.ok_or_else(unknown)?,
    };
    let mut ids = TaskIds {
        uid,
        gid: entry.as_ref().map_or(0, |entry| entry.gid),
        groups: Vec::new(),
    };
    if !group_name.is_empty() {
        ids.gid = resolve_group(group_name, group)?;
    } else if let Some(entry) = &entry {
        let memberships = entries(group, group_entry).filter(|group| {
            let mut members = group.members.split(|byte| *byte == b',');
            members.any(|member| member == entry.name)
        });
        ids.groups = memberships.map(|group| group.gid).collect();
    }
    if ids.uid > MAX_ID || ids.gid > MAX_ID {
        return Err(unknown());
    }
    let home = entry.map(|entry| entry.home.to_vec());
    Ok(ImageUser {
        ids,
        home: home.filter(|home| home.starts_with(b"/") && !home.contains(&0)),
    })
}

fn resolve_group(name: &[u8], group: &[u8]) -> Result<u32, TaskFailure> {
    let number = parse_id(name);
    entries(group, group_entry)
        .find(|entry| entry.name == name || Some(entry.gid) == number)
        .map(|entry| entry.gid)
        .or(number)
        .ok_or_else(|| TaskFailure::plain(FailureReason::UnknownGroup, name))
}

/// The lines of a file that are entries; others are passed over.
fn entries<'a, T>(
    file: &'a [u8],
    parse: impl Fn(&[&'a [u8]]) -> Option<T>,
) -> impl Iterator<Item = T> {
    file.split(|byte| *byte == b'\n').filter_map(move |line| {
        let fields: Vec<&[u8]> = line.trim_ascii().split(|byte| *byte == b':').collect();
        parse(&fields)
    })
}

fn passwd_entry<'a>(fields: &[&'a [u8]]) -> Option<PasswdEntry<'a>> {
    Some(PasswdEntry {
        name: fields.first().filter(|name| !name.is_empty())?,
        uid: parse_id(fields.get(2)?)?,
        gid: parse_id(fields.get(3)?)?,
        home: fields.get(5).copied().unwrap_or_default(),
    })
}

fn group_entry<'a>(fields: &[&'a [u8]]) -> Option<GroupEntry<'a>> {
    Some(GroupEntry {
        name: fields.first().filter(|name| !name.is_empty())?,
        gid: parse_id(fields.get(2)?)?,
        members: fields.get(3).copied().unwrap_or_default(),
    })
}

fn parse_id(text: &[u8]) -> Option<u32> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# comment\nbroken:x:1\n\
        dev:x:1000:100:Dev:/home/dev:/bin/sh\n1234:x:7:7::/seven:\n";
    const GROUP: &[u8] = b"root:x:0:\nusers:x:100:other\ndocker:x:999:other,dev\nsudo:x:27:dev\n";

    fn resolved(user: &str) -> (u32, u32, Vec<u32>, Option<Vec<u8>>) {
        let account = resolve(user.as_bytes(), PASSWD, GROUP).unwrap();
        let ids = account.ids;
        (ids.uid, ids.gid, ids.groups, account.home)
    }

    #[test]
    fn users_are_resolved_as_by_the_engine() {
        let home = |path: &str| Some(path.as_bytes().to_vec());
        assert_eq!(resolved(""), (0, 0, Vec::new(), home("/root")));
        let dev = (1000, 100, alloc::vec![999, 27], home("/home/dev"));
        assert_eq!(resolved("dev"), dev);
        assert_eq!(resolved("1000"), dev);
        assert_eq!(resolved("dev:docker"), (1000, 999, Vec::new(), dev.3));
        // A number without an entry is itself; a name of digits is a name.
        assert_eq!(resolved("4321"), (4321, 0, Vec::new(), None));
        assert_eq!(resolved("4321:77"), (4321, 77, Vec::new(), None));
        assert_eq!(resolved("1234"), (7, 7, Vec::new(), home("/seven")));
    }

    #[test]
    fn unknown_users_and_groups_are_errors() {
        let failure = |user: &str| {
            let failure = resolve(user.as_bytes(), PASSWD, GROUP).unwrap_err();
            (failure.reason, failure.detail)
        };
        let user = FailureReason::UnknownUser;
        assert_eq!(failure("nobody"), (user, b"nobody".to_vec()));
        assert_eq!(failure("broken"), (user, b"broken".to_vec()));
        assert_eq!(failure("4294967295"), (user, b"4294967295".to_vec()));
        let group = FailureReason::UnknownGroup;
        assert_eq!(failure("dev:nogroup"), (group, b"nogroup".to_vec()));
    }
}
