//! The data folder: there, ours, writable, laid out, and not held by another `init`.
//!
//! One user owns all of it. At each boot the owner of the folder itself and of two levels below
//! it is looked at, which is cheap; only an entry that belongs to somebody else is walked
//! through and given to the right user. Where that cannot be done (NAS, Windows) it is a
//! warning, and whether the user can write decides.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::statfs;
use nix::unistd::{Gid, Uid, setegid, seteuid};

use super::accounts::Account;
use super::boot::Report;
use super::error::BootError;
use super::settings::Settings;
use super::signals::Signals;

/// How deep owners are looked at although the folder above is right.
const LOOK: usize = 2;
/// File systems whose locks and shared memory SQLite's WAL cannot rely on.
const NETWORK: [(i64, &str); 11] = [
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x7375_7245, "Coda"),
    (0x564C, "NCP"),
    (0x786F_4256, "a VirtualBox share"),
];

/// A data folder that may be used.
#[derive(Debug)]
pub(super) struct Volume {
    /// SQLite must not use its WAL here.
    pub(super) on_network: bool,
    /// Held as long as `init` runs.
    _lock: Option<Flock<File>>,
}

/// Makes the data folder usable, or says why it is not.
pub(super) fn prepare(
    settings: &Settings,
    account: &Account,
    signals: &Signals,
    report: &mut Report,
) -> Result<Volume, BootError> {
    let data = settings.paths.data();
    if !settings.native {
        warn_unless_mounted(data, report);
    }
    make_data_folder(settings, account, report)?;
    let on_network = network(data, report);
    let fresh = !settings.paths.repos().exists();
    if !settings.native {
        give_to(data, account, signals, report)?;
    }
    let probed = as_user(account, || probe(data, account))??;
    if !probed {
        report.warn(format!(
            "the volume {} is full: fetching works, pushes will fail until there is room",
            data.display()
        ));
    }
    let lock = as_user(account, || lock(data))??;
    as_user(account, || layout(settings, fresh))??;
    Ok(Volume {
        on_network,
        _lock: lock,
    })
}

/// Does something with the rights of the account: on a file system where root is nobody, it is only
/// the account that can write.
pub(super) fn as_user<T>(account: &Account, act: impl FnOnce() -> T) -> Result<T, BootError> {
    if !Uid::effective().is_root() || account.uid == 0 {
        return Ok(act());
    }
    let refused = BootError::system::<Errno>;
    setegid(Gid::from_raw(account.gid)).map_err(refused("take on the user's group"))?;
    let taken = seteuid(Uid::from_raw(account.uid));
    let result = taken.map(|()| act());
    seteuid(Uid::from_raw(0)).map_err(refused("become root again"))?;
    setegid(Gid::from_raw(0)).map_err(refused("become root again"))?;
    result.map_err(refused("take on the user's id"))
}

fn warn_unless_mounted(data: &Path, report: &mut Report) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if !mounted(data, &mounts) {
        report.warn(format!(
            "no volume is mounted at {}: everything is lost with the container; mount one there",
            data.display()
        ));
    }
}

/// Whether the path lies on a mount of its own, not on the container's root.
fn mounted(path: &Path, mountinfo: &str) -> bool {
    let points = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| point.replace("\\040", " "));
    let nearest = points
        .filter(|point| path.starts_with(point))
        .max_by_key(String::len);
    nearest.is_some_and(|point| point != "/")
}

fn make_data_folder(
    settings: &Settings,
    account: &Account,
    report: &mut Report,
) -> Result<(), BootError> {
    let data = settings.paths.data();
    let folder = match fs::metadata(data) {
        Ok(folder) => folder,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            DirBuilder::new()
                .recursive(true)
                .mode(0o750)
                .create(data)
                .map_err(|error| unwritable(error, data, account))?;
            report.say(format_args!("made the data folder {}", data.display()));
            return Ok(());
        }
        Err(error) => return Err(BootError::io("look at", data)(error)),
    };
    if !folder.is_dir() {
        return Err(BootError::NotFolder {
            path: data.to_owned(),
        });
    }
    if settings.native && folder.uid() != account.uid {
        return Err(BootError::Owner {
            path: data.to_owned(),
            owner: folder.uid(),
            uid: account.uid,
        });
    }
    Ok(())
}

fn network(data: &Path, report: &mut Report) -> bool {
    let Ok(found) = statfs(data) else {
        return false;
    };
    let magic = found.filesystem_type().0;
    let Some((_, name)) = NETWORK
        .iter()
        .find(|(number, _)| *number == magic & 0xFFFF_FFFF)
    else {
        return false;
    };
    report.warn(format!(
        "{} lies on {name}, on which SQLite's write-ahead log is not safe: a rollback journal is used; a local disk is faster",
        data.display()
    ));
    true
}

/// A step of the walk through the volume.
enum Walk {
    /// Look at this entry; so many levels below it are looked at in any case, or all of them.
    Enter {
        path: PathBuf,
        look: usize,
        all: bool,
    },
    /// Give this entry away. A folder goes after what is in it, so a walk that is cut off is found unfinished at the next boot.
    Give(PathBuf),
}

/// Gives what belongs to somebody else to the account.
fn give_to(
    data: &Path,
    account: &Account,
    signals: &Signals,
    report: &mut Report,
) -> Result<(), BootError> {
    let mut changed = 0u64;
    let mut refused: Option<(PathBuf, io::Error, u64)> = None;
    let mut stack = vec![Walk::Enter {
        path: data.to_owned(),
        look: LOOK,
        all: false,
    }];
    while let Some(step) = stack.pop() {
        if signals.stop_asked() {
            return Err(BootError::Stopped);
        }
        match step {
            Walk::Give(path) => match lchown(&path, Some(account.uid), Some(account.gid)) {
                Ok(()) => changed += 1,
                Err(error) => refused.get_or_insert((path, error, 0)).2 += 1,
            },
            Walk::Enter { path, look, all } => {
                let Ok(found) = fs::symlink_metadata(&path) else {
                    continue;
                };
                let wrong = found.uid() != account.uid || found.gid() != account.gid;
                // The volume's own folder being wrong says nothing about what is in it.
                let all = all || (wrong && look < LOOK);
                let entries = (found.is_dir() && (look > 0 || all)).then(|| fs::read_dir(&path));
                if wrong {
                    stack.push(Walk::Give(path));
                }
                for entry in entries.into_iter().flatten().flatten().flatten() {
                    stack.push(Walk::Enter {
                        path: entry.path(),
                        look: look.saturating_sub(1),
                        all,
                    });
                }
            }
        }
    }
    if changed > 0 {
        report.say(format_args!(
            "gave {changed} entries of {} to {}:{}",
            data.display(),
            account.uid,
            account.gid
        ));
    }
    if let Some((path, error, count)) = refused {
        report.warn(format!(
            "{count} entries cannot be given to {}:{} (first: {}: {error}); if pushes fail, set PUID and PGID to their owner",
            account.uid,
            account.gid,
            path.display()
        ));
    }
    Ok(())
}

/// Whether there is room; an error where the account cannot write at all.
fn probe(data: &Path, account: &Account) -> Result<bool, BootError> {
    let path = data.join(format!(".probe-{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| file.write_all(b"quire"));
    let removed = fs::remove_file(&path);
    match written.and(removed) {
        Ok(()) => Ok(true),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(unwritable(error, data, account)),
    }
}

fn unwritable(error: io::Error, data: &Path, account: &Account) -> BootError {
    match error.kind() {
        ErrorKind::ReadOnlyFilesystem => BootError::ReadOnly {
            path: data.to_owned(),
        },
        ErrorKind::PermissionDenied => {
            let nearest = data
                .ancestors()
                .find_map(|path| Some((path, fs::metadata(path).ok()?)));
            let (path, owner, mode) = nearest.map_or((data, 0, 0), |(path, found)| {
                (path, found.uid(), found.mode() & 0o7777)
            });
            BootError::NotWritable {
                path: path.to_owned(),
                uid: account.uid,
                gid: account.gid,
                owner,
                mode,
            }
        }
        _ => BootError::io("write to", data)(error),
    }
}

/// One `init` at a time. Where the file system knows no locks, there is none.
fn lock(data: &Path) -> Result<Option<Flock<File>>, BootError> {
    let path = data.join("init.lock");
    let file = match OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
    {
        Ok(file) => file,
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(BootError::io("open", path)(error)),
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Err(BootError::Locked {
            path: data.to_owned(),
        }),
        Err(_) => Ok(None),
    }
}

/// The folders that everything else expects.
fn layout(settings: &Settings, fresh: bool) -> Result<(), BootError> {
    let paths = &settings.paths;
    if fresh {
        // A folder that somebody else made may refuse; its modes are theirs then.
        let _ = fs::set_permissions(paths.data(), Permissions::from_mode(0o750));
    }
    let folders = [
        (paths.repos(), 0o750),
        (paths.data().join("runs"), 0o750),
        (paths.data().join("artifacts"), 0o750),
        (paths.spool(), 0o700),
        (paths.backups(), 0o700),
        (paths.host_keys(), 0o700),
    ];
    for (path, mode) in folders {
        match DirBuilder::new().mode(mode).create(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if !path.is_dir() {
                    return Err(BootError::NotFolder { path });
                }
            }
            Err(error) => return Err(BootError::io("make the folder", path)(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_told_from_the_containers_root() {
        let table = "1 0 0:1 / / rw - overlay overlay rw\n2 1 0:2 / /proc rw - proc proc rw\n3 1 8:1 /v /var/quire rw - ext4 /dev/x rw\n";
        assert!(mounted(Path::new("/var/quire"), table));
        assert!(mounted(Path::new("/var/quire/deeper"), table));
        assert!(!mounted(Path::new("/var/quirex"), table));
        assert!(!mounted(Path::new("/srv"), table));
        assert!(mounted(
            Path::new("/a b/c"),
            "3 1 8:1 /v /a\\040b rw - ext4 /dev/x rw\n"
        ));
        assert!(!mounted(Path::new("/srv"), ""));
    }

    #[test]
    fn the_layout_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("a/data");
        let options = super::super::settings::Options {
            native: true,
            data: Some(data.clone()),
            ..Default::default()
        };
        let settings = Settings::new(options, |_| None).unwrap();
        fs::create_dir_all(&data).unwrap();
        layout(&settings, true).unwrap();
        layout(&settings, false).unwrap();
        let mode = |name: &str| fs::metadata(data.join(name)).unwrap().mode() & 0o777;
        assert_eq!(
            (mode(""), mode("repos") & 0o707, mode("ssh"), mode("spool")),
            (0o750, 0o700, 0o700, 0o700)
        );
        fs::remove_dir(data.join("spool")).unwrap();
        fs::write(data.join("spool"), "").unwrap();
        assert!(matches!(
            layout(&settings, false),
            Err(BootError::NotFolder { .. })
        ));
    }

    #[test]
    fn two_cannot_hold_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = lock(folder.path()).unwrap();
        assert!(first.is_some());
        assert!(matches!(lock(folder.path()), Err(BootError::Locked { .. })));
        drop(first);
        assert!(lock(folder.path()).unwrap().is_some());
    }
}
