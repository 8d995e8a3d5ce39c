//! The user that owns the data: which ids it has, and its entries in `/etc/passwd` and
//! `/etc/group`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Uid, User};

use super::error::InitError;
use super::settings::InitSettings;
use quire_types::fsutil;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// The uid and the gid of the `git` user if neither `PUID` and `PGID` nor the data folder decide.
const DEFAULT_ID: u32 = 1000;

/// The user that owns the data, and that SSH sessions and `serve` run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: String,
}

/// Decides which user owns the data. In the container: `PUID` and `PGID`, else the owner of the
/// data folder, else 1000.
pub(super) fn choose(settings: &InitSettings) -> Result<Account, InitError> {
    if settings.native {
        return current_user();
    }
    if !Uid::effective().is_root() {
        return Err(InitError::NotRoot);
    }
    let passwd = fs::read_to_string(PASSWD).map_err(InitError::io("read", PASSWD))?;
    let home = passwd_field(&passwd, "git", 5).ok_or(InitError::NoGitUser {
        path: PASSWD.into(),
    })?;
    let folder = fs::metadata(settings.paths.data()).ok();
    let owner = folder
        .as_ref()
        .map(MetadataExt::uid)
        .filter(|uid| *uid != 0);
    let group = folder
        .as_ref()
        .map(MetadataExt::gid)
        .filter(|gid| *gid != 0);
    Ok(Account {
        name: "git".into(),
        uid: settings.user_id.or(owner).unwrap_or(DEFAULT_ID),
        gid: settings.group_id.or(group).unwrap_or(DEFAULT_ID),
        home: home.to_owned(),
    })
}

fn current_user() -> Result<Account, InitError> {
    let (uid, gid) = (Uid::effective().as_raw(), Gid::effective().as_raw());
    let passwd = fs::read_to_string(PASSWD).unwrap_or_default();
    let id = uid.to_string();
    let by_id = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&id.as_str()));
    let (name, home) = match by_id.as_deref() {
        Some([name, _, _, _, _, home, ..]) => ((*name).to_owned(), (*home).to_owned()),
        // A user of a directory service (LDAP, …) is known to the C library alone.
        _ => match User::from_uid(Uid::effective()) {
            Ok(Some(user)) => (user.name, user.dir.to_string_lossy().into_owned()),
            _ => return Err(InitError::NoName { uid }),
        },
    };
    Ok(Account {
        name,
        uid,
        gid,
        home: std::env::var("HOME")
            .ok()
            .filter(|home| !home.is_empty())
            .unwrap_or(home),
    })
}

/// Sets the ids of the image's `git` user in `/etc/passwd` and `/etc/group`.
pub(super) fn write_ids(account: &Account) -> Result<(), InitError> {
    for (path, fields) in [
        (
            PASSWD,
            [(2, account.uid.to_string()), (3, account.gid.to_string())].as_slice(),
        ),
        (GROUP, [(2, account.gid.to_string())].as_slice()),
    ] {
        let text = fs::read_to_string(path).map_err(InitError::io("read", path))?;
        let changed = set_fields(&text, &account.name, fields)
            .ok_or(InitError::NoGitUser { path: path.into() })?;
        if changed != text {
            replace_or_overwrite(Path::new(path), &changed)
                .map_err(InitError::io("change the ids of user git in", path))?;
        }
    }
    Ok(())
}

/// A field of the entry with this name.
fn passwd_field<'a>(text: &'a str, name: &str, index: usize) -> Option<&'a str> {
    text.lines()
        .find(|line| line.split(':').next() == Some(name))?
        .split(':')
        .nth(index)
}

/// The text with some fields of the entry with this name changed; `None` if there is no such entry.
fn set_fields(text: &str, name: &str, set: &[(usize, String)]) -> Option<String> {
    let mut found = false;
    let mut changed = String::with_capacity(text.len() + 16);
    for line in text.split_inclusive('\n') {
        let (entry, end) = line
            .strip_suffix('\n')
            .map_or((line, ""), |entry| (entry, "\n"));
        let mut fields: Vec<&str> = entry.split(':').collect();
        if fields[0] == name && set.iter().all(|(index, _)| *index < fields.len()) {
            found = true;
            for (index, value) in set {
                fields[*index] = value;
            }
        }
        changed.push_str(&fields.join(":"));
        changed.push_str(end);
    }
    found.then_some(changed)
}

/// Replaces a file, or writes into it if it is a mount point: such a file cannot be renamed over.
fn replace_or_overwrite(path: &Path, text: &str) -> io::Result<()> {
    fsutil::replace_file_durably(path, text.as_bytes(), 0o644).or_else(|_| fs::write(path, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "root:x:0:0:root:/root:/bin/bash\ngit:*:1000:1000:,,,:/var/quire:/bin/sh\ngithub:x:7:7::/:/x\nlast:x:9:9::/:/x";

    #[test]
    fn only_the_named_entry_changes() {
        let changed = set_fields(TEXT, "git", &[(2, "33".into()), (3, "44".into())]).unwrap();
        assert_eq!(changed, TEXT.replace("git:*:1000:1000:", "git:*:33:44:"));
        assert_eq!(
            set_fields(TEXT, "git", &[(2, "1000".into())]).unwrap(),
            TEXT
        );
        assert_eq!(passwd_field(TEXT, "git", 5), Some("/var/quire"));
    }

    #[test]
    fn a_missing_or_torn_entry_is_not_invented() {
        assert_eq!(set_fields(TEXT, "gi", &[(2, "1".into())]), None);
        assert_eq!(set_fields("git:x\n", "git", &[(2, "1".into())]), None);
        assert_eq!(set_fields("", "git", &[(2, "1".into())]), None);
    }
}
