//! The data folder: it exists, belongs to the right user, is writable, has its subfolders, and is
//! not used by another `init`.
//!
//! One user owns all of it. Each start checks the owner of the folder itself and of two levels
//! below, which is cheap; only an entry with another owner is walked through and changed. If the
//! owner cannot be changed (NAS, Windows) that is a warning, and what counts is whether the user
//! can write.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::statfs;

use super::accounts::Account;
use super::error::InitError;
use super::privileges::as_user;
use super::report::PreflightReport;
use super::settings::InitSettings;
use super::signals::Signals;

/// How many levels of folders are checked even if the folder above has the right owner.
const CHECK_DEPTH: usize = 2;
/// File systems on which SQLite's write-ahead log is unsafe: it needs reliable locks and shared memory.
const NETWORK_FILE_SYSTEMS: [(i64, &str); 11] = [
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

/// A data folder that is ready to be used.
#[derive(Debug)]
pub(super) struct DataVolume {
    /// SQLite must not use its write-ahead log here.
    pub(super) on_network: bool,
    /// Held while `init` runs, so that no other `init` uses the folder.
    _lock: Option<Flock<File>>,
}

/// Makes the data folder usable, or fails with the reason why it is not.
pub(super) fn prepare(
    settings: &InitSettings,
    account: &Account,
    signals: &Signals,
    report: &mut PreflightReport,
) -> Result<DataVolume, InitError> {
    let data = settings.paths.data();
    if !settings.native {
        warn_unless_mounted(data, report);
    }
    create_data_dir(settings, account, report)?;
    let restore = settings.paths.restore();
    if restore.exists() {
        return Err(InitError::InterruptedRestore { path: restore });
    }
    let on_network = is_on_network(data, report);
    let is_new = !settings.paths.repos().exists();
    if !settings.native {
        chown_tree(data, account, signals, report)?;
    }
    let has_space = as_user(account, || probe_write(data, account))??;
    if !has_space {
        report.warn(format!(
            "the volume {} is full; fetches work, but pushes fail until there is free space",
            data.display()
        ));
    }
    let lock = as_user(account, || lock(data))??;
    as_user(account, || create_dirs(settings, is_new))??;
    Ok(DataVolume {
        on_network,
        _lock: lock,
    })
}

fn warn_unless_mounted(data: &Path, report: &mut PreflightReport) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if !is_on_mount(data, &mounts) {
        report.warn(format!(
            "no volume is mounted at {}; all data is lost when the container is removed; mount a volume there",
            data.display()
        ));
    }
}

/// Whether the path is on a mounted file system other than the root of the container.
fn is_on_mount(path: &Path, mountinfo: &str) -> bool {
    let points = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| point.replace("\\040", " "));
    let nearest = points
        .filter(|point| path.starts_with(point))
        .max_by_key(String::len);
    nearest.is_some_and(|point| point != "/")
}

fn create_data_dir(
    settings: &InitSettings,
    account: &Account,
    report: &mut PreflightReport,
) -> Result<(), InitError> {
    let data = settings.paths.data();
    let folder = match fs::metadata(data) {
        Ok(folder) => folder,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            DirBuilder::new()
                .recursive(true)
                .mode(0o750)
                .create(data)
                .map_err(|error| unwritable(error, data, account))?;
            report.info(format_args!("created the data folder {}", data.display()));
            return Ok(());
        }
        Err(error) => return Err(InitError::io("read", data)(error)),
    };
    if !folder.is_dir() {
        return Err(InitError::NotFolder {
            path: data.to_owned(),
        });
    }
    if settings.native && folder.uid() != account.uid {
        return Err(InitError::Owner {
            path: data.to_owned(),
            owner: folder.uid(),
            uid: account.uid,
        });
    }
    Ok(())
}

fn is_on_network(data: &Path, report: &mut PreflightReport) -> bool {
    let Ok(found) = statfs(data) else {
        return false;
    };
    let magic = found.filesystem_type().0;
    let Some((_, name)) = NETWORK_FILE_SYSTEMS
        .iter()
        .find(|(number, _)| *number == magic & 0xFFFF_FFFF)
    else {
        return false;
    };
    report.warn(format!(
        "{} is on {name}, where SQLite's write-ahead log is not safe; a slower rollback journal is used; a local disk avoids this",
        data.display()
    ));
    true
}

/// A step of the walk over the volume.
enum WalkStep {
    /// Check the owner of this entry, and of `depth` levels below it, or of all.
    Check {
        path: PathBuf,
        depth: usize,
        all: bool,
    },
    /// Change the owner of this entry. A folder is changed after its content, so that the next start
    /// notices a walk that was interrupted.
    Chown(PathBuf),
}

/// Changes the owner of every entry that belongs to another user.
fn chown_tree(
    data: &Path,
    account: &Account,
    signals: &Signals,
    report: &mut PreflightReport,
) -> Result<(), InitError> {
    let mut changed = 0u64;
    let mut failed: u64 = 0;
    let mut first_failure: Option<(PathBuf, io::Error)> = None;
    let mut stack = vec![WalkStep::Check {
        path: data.to_owned(),
        depth: CHECK_DEPTH,
        all: false,
    }];
    while let Some(step) = stack.pop() {
        if signals.stop_requested() {
            return Err(InitError::Stopped);
        }
        match step {
            WalkStep::Chown(path) => match lchown(&path, Some(account.uid), Some(account.gid)) {
                Ok(()) => changed += 1,
                Err(error) => {
                    failed += 1;
                    first_failure.get_or_insert((path, error));
                }
            },
            WalkStep::Check { path, depth, all } => {
                let Ok(found) = fs::symlink_metadata(&path) else {
                    continue;
                };
                let wrong = found.uid() != account.uid || found.gid() != account.gid;
                // A wrong owner of the volume's own folder says nothing about its content.
                let all = all || (wrong && depth < CHECK_DEPTH);
                let entries = (found.is_dir() && (depth > 0 || all)).then(|| fs::read_dir(&path));
                if wrong {
                    stack.push(WalkStep::Chown(path));
                }
                for entry in entries.into_iter().flatten().flatten().flatten() {
                    stack.push(WalkStep::Check {
                        path: entry.path(),
                        depth: depth.saturating_sub(1),
                        all,
                    });
                }
            }
        }
    }
    if changed > 0 {
        report.info(format_args!(
            "changed the owner of {changed} entries in {} to {}:{}",
            data.display(),
            account.uid,
            account.gid
        ));
    }
    if let Some((path, error)) = first_failure {
        report.warn(format!(
            "cannot change the owner of {failed} entries to {}:{} (the first is {}: {error}); if pushes fail, set PUID and PGID to the owner of these files",
            account.uid,
            account.gid,
            path.display()
        ));
    }
    Ok(())
}

/// Whether the volume has space for a file. Fails if the account cannot write at all.
fn probe_write(data: &Path, account: &Account) -> Result<bool, InitError> {
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

fn unwritable(error: io::Error, data: &Path, account: &Account) -> InitError {
    match error.kind() {
        ErrorKind::ReadOnlyFilesystem => InitError::ReadOnly {
            path: data.to_owned(),
        },
        ErrorKind::PermissionDenied => {
            let nearest = data
                .ancestors()
                .find_map(|path| Some((path, fs::metadata(path).ok()?)));
            let (path, owner, mode) = nearest.map_or((data, 0, 0), |(path, found)| {
                (path, found.uid(), found.mode() & 0o7777)
            });
            InitError::NotWritable {
                path: path.to_owned(),
                uid: account.uid,
                gid: account.gid,
                owner,
                mode,
            }
        }
        _ => InitError::io("write to", data)(error),
    }
}

/// Locks the folder against another `init`. Returns `None` if the file system has no locks or no
/// space for the lock file.
fn lock(data: &Path) -> Result<Option<Flock<File>>, InitError> {
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
        Err(error) => return Err(InitError::io("open", path)(error)),
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Err(InitError::Locked {
            path: data.to_owned(),
        }),
        Err(_) => Ok(None),
    }
}

/// Creates the subfolders that the rest of quire expects.
fn create_dirs(settings: &InitSettings, is_new: bool) -> Result<(), InitError> {
    let paths = &settings.paths;
    if is_new {
        // This fails for a folder of another user, who then decides on its mode.
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
                    return Err(InitError::NotFolder { path });
                }
            }
            Err(error) => return Err(InitError::io("create the folder", path)(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_differs_from_the_root_of_the_container() {
        let table = "1 0 0:1 / / rw - overlay overlay rw\n2 1 0:2 / /proc rw - proc proc rw\n3 1 8:1 /v /var/quire rw - ext4 /dev/x rw\n";
        assert!(is_on_mount(Path::new("/var/quire"), table));
        assert!(is_on_mount(Path::new("/var/quire/deeper"), table));
        assert!(!is_on_mount(Path::new("/var/quirex"), table));
        assert!(!is_on_mount(Path::new("/srv"), table));
        assert!(is_on_mount(
            Path::new("/a b/c"),
            "3 1 8:1 /v /a\\040b rw - ext4 /dev/x rw\n"
        ));
        assert!(!is_on_mount(Path::new("/srv"), ""));
    }

    #[test]
    fn the_subfolders_are_created_once() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("a/data");
        let options = super::super::settings::InitOptions {
            native: true,
            data: Some(data.clone()),
            ..Default::default()
        };
        let settings = InitSettings::new(options, |_| None).unwrap();
        fs::create_dir_all(&data).unwrap();
        create_dirs(&settings, true).unwrap();
        create_dirs(&settings, false).unwrap();
        let mode = |name: &str| fs::metadata(data.join(name)).unwrap().mode() & 0o777;
        assert_eq!(
            (mode(""), mode("repos") & 0o707, mode("ssh"), mode("spool")),
            (0o750, 0o700, 0o700, 0o700)
        );
        fs::remove_dir(data.join("spool")).unwrap();
        fs::write(data.join("spool"), "").unwrap();
        assert!(matches!(
            create_dirs(&settings, false),
            Err(InitError::NotFolder { .. })
        ));
    }

    #[test]
    fn two_inits_cannot_lock_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = lock(folder.path()).unwrap();
        assert!(first.is_some());
        assert!(matches!(lock(folder.path()), Err(InitError::Locked { .. })));
        drop(first);
        assert!(lock(folder.path()).unwrap().is_some());
    }
}
