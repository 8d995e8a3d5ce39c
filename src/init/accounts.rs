//! The user that owns the data: which ids it gets, and the entries of `/etc/passwd` and
//! `/etc/group` that say so.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::unistd::{Gid, Uid, User};

use super::error::BootError;
use super::settings::Settings;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// The ids of the `git` user unless something says otherwise.
const DEFAULT_ID: u32 = 1000;

/// The user that owns the data and that sessions and `serve` run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: String,
}

/// Decides who owns the data. In the appliance: `PUID`/`PGID`, else the owner of the data folder, else 1000.
pub(super) fn decide(settings: &Settings) -> Result<Account, BootError> {
    if settings.native {
        return present_user();
    }
    if !Uid::effective().is_root() {
        return Err(BootError::NotRoot);
    }
    let passwd = fs::read_to_string(PASSWD).map_err(BootError::io("read", PASSWD))?;
    let home = field(&passwd, "git", 5).ok_or(BootError::NoGitUser {
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

fn present_user() -> Result<Account, BootError> {
    let (uid, gid) = (Uid::effective().as_raw(), Gid::effective().as_raw());
    let passwd = fs::read_to_string(PASSWD).unwrap_or_default();
    let id = uid.to_string();
    let by_id = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&id.as_str()));
    let (name, home) = match by_id.as_deref() {
        Some([name, _, _, _, _, home, ..]) => ((*name).to_owned(), (*home).to_owned()),
        // A user of a directory service: the C library has to be asked.
        _ => match User::from_uid(Uid::effective()) {
            Ok(Some(user)) => (user.name, user.dir.to_string_lossy().into_owned()),
            _ => return Err(BootError::NoName { uid }),
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

/// Gives the `git` user of the image these ids.
pub(super) fn write(account: &Account) -> Result<(), BootError> {
    for (path, set) in [
        (
            PASSWD,
            [(2, account.uid.to_string()), (3, account.gid.to_string())].as_slice(),
        ),
        (GROUP, [(2, account.gid.to_string())].as_slice()),
    ] {
        let text = fs::read_to_string(path).map_err(BootError::io("read", path))?;
        let changed = with_fields(&text, &account.name, set)
            .ok_or(BootError::NoGitUser { path: path.into() })?;
        if changed != text {
            replace(Path::new(path), &changed)
                .map_err(BootError::io("change the ids of user git in", path))?;
        }
    }
    Ok(())
}

/// A field of the named entry.
fn field<'a>(text: &'a str, name: &str, index: usize) -> Option<&'a str> {
    text.lines()
        .find(|line| line.split(':').next() == Some(name))?
        .split(':')
        .nth(index)
}

/// The text with some fields of the named entry set; nothing where there is no such entry.
fn with_fields(text: &str, name: &str, set: &[(usize, String)]) -> Option<String> {
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

/// Replaces the file in one step; where it is a mount of its own, which cannot be, by writing into it.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("quire-new");
    let mut file = fs::File::create(&beside)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path).or_else(|_| {
        let _ = fs::remove_file(&beside);
        fs::write(path, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "root:x:0:0:root:/root:/bin/bash\ngit:*:1000:1000:,,,:/var/quire:/bin/sh\ngithub:x:7:7::/:/x\nlast:x:9:9::/:/x";

    #[test]
    fn only_the_named_entry_changes() {
        let changed = with_fields(TEXT, "git", &[(2, "33".into()), (3, "44".into())]).unwrap();
        assert_eq!(changed, TEXT.replace("git:*:1000:1000:", "git:*:33:44:"));
        assert_eq!(
            with_fields(TEXT, "git", &[(2, "1000".into())]).unwrap(),
            TEXT
        );
        assert_eq!(field(TEXT, "git", 5), Some("/var/quire"));
    }

    #[test]
    fn a_missing_or_torn_entry_is_not_invented() {
        assert_eq!(with_fields(TEXT, "gi", &[(2, "1".into())]), None);
        assert_eq!(with_fields("git:x\n", "git", &[(2, "1".into())]), None);
        assert_eq!(with_fields("", "git", &[(2, "1".into())]), None);
    }

    #[test]
    fn a_file_is_replaced_with_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwd");
        fs::write(&path, "old").unwrap();
        replace(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
