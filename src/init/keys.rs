//! The public keys that may connect, from all their sources, as the one file that sshd reads.
//!
//! Invariants: the file is replaced in one step; a bad line costs only itself; a source that
//! cannot be read for a while (unlike one that is gone) takes no key away; looking for changes
//! allocates nothing.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use nix::libc;

use super::accounts::Account;
use super::key_line::{self, unquoted};
use super::settings::Settings;
use super::volume::as_user;

/// A thousand keys and more.
const LONGEST: u64 = 1024 * 1024;

/// Where keys come from.
#[derive(Debug)]
enum Origin {
    File(PathBuf),
    /// The environment variable, which cannot change.
    Variable(String),
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    place: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Debug)]
struct Source {
    origin: Origin,
    mark: Option<Mark>,
    /// What it held when it could last be read.
    text: String,
}

/// All keys.
#[derive(Debug)]
pub(super) struct Keys {
    sources: Vec<Source>,
    target: PathBuf,
    account: Account,
    mode: u32,
    written: Option<String>,
    count: usize,
    problems: Vec<String>,
}

impl Keys {
    pub(super) fn new(settings: &Settings, account: &Account) -> Self {
        let files = [
            Some(settings.paths.authorized_keys()),
            settings.mounted_keys.clone(),
        ];
        let mut origins: Vec<_> = files.into_iter().flatten().map(Origin::File).collect();
        origins.push(Origin::Variable(settings.inline_keys.clone()));
        Self {
            sources: origins
                .into_iter()
                .map(|origin| Source {
                    origin,
                    mark: None,
                    text: String::new(),
                })
                .collect(),
            target: settings.paths.effective_keys(),
            account: account.clone(),
            mode: if settings.native { 0o600 } else { 0o644 },
            written: None,
            count: 0,
            problems: Vec::new(),
        }
    }

    /// How many keys may connect.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// What is wrong with which source or line; one sentence each.
    pub(super) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Whether a source is not as it was when it was last read.
    pub(super) fn changed(&self) -> bool {
        self.sources
            .iter()
            .any(|source| matches!(&source.origin, Origin::File(path) if mark(path) != source.mark))
    }

    /// Reads all sources, and writes the file when it is to be another one.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        self.problems.clear();
        let mut text = String::from(
            "# Written by `quire init` from all sources of keys; changes here are lost.\n",
        );
        let mut seen = HashSet::new();
        for source in &mut self.sources {
            let name = match &source.origin {
                Origin::Variable(value) => {
                    unquoted(value).clone_into(&mut source.text);
                    "QUIRE_AUTHORIZED_KEYS".to_owned()
                }
                Origin::File(path) => {
                    // The mark first: a change while it is read is a change.
                    source.mark = mark(path);
                    match read(path, &self.account) {
                        Ok(text) => source.text = text,
                        Err(error) if error.kind() == ErrorKind::NotFound => source.text.clear(),
                        Err(error) => self.problems.push(unreadable(path, &error)),
                    }
                    path.display().to_string()
                }
            };
            for (index, line) in source.text.lines().enumerate() {
                match key_line::parse(line) {
                    Ok(None) => {}
                    Ok(Some(key)) => {
                        if seen.insert((key.identity.0.to_owned(), key.identity.1.to_owned())) {
                            text.push_str(key.text);
                            text.push('\n');
                        }
                    }
                    Err(why) => self
                        .problems
                        .push(format!("{name}, line {}, is skipped: {why}", index + 1)),
                }
            }
        }
        self.count = seen.len();
        if self.written.as_ref() != Some(&text) || !self.target.exists() {
            self.write(&text)?;
            self.written = Some(text);
        }
        Ok(())
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let beside = self.target.with_extension("new");
        let _ = fs::remove_file(&beside);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(self.mode)
            .open(&beside)?;
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(self.mode))?;
        file.write_all(text.as_bytes())?;
        fs::rename(&beside, &self.target)
    }
}

fn mark(path: &std::path::Path) -> Option<Mark> {
    let found = fs::metadata(path).ok()?;
    Some(Mark {
        place: (found.dev(), found.ino()),
        size: found.len(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

fn read(path: &std::path::Path, account: &Account) -> io::Result<String> {
    let read = || {
        // A pipe of that name must not hold up the boot.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        read_file(&file)
    };
    match read() {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            as_user(account, read).map_err(|_| error)?
        }
        other => other,
    }
}

fn read_file(file: &File) -> io::Result<String> {
    let found = file.metadata()?;
    if found.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if !found.is_file() || found.len() > LONGEST {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn unreadable(path: &std::path::Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        ErrorKind::IsADirectory => {
            format!(
                "{path} is a folder (Docker makes one where the file to mount does not exist): no key is read from it"
            )
        }
        ErrorKind::InvalidData => format!(
            "{path} is no file of public keys (not an ordinary file, or larger than 1 MiB): it is not read"
        ),
        _ => format!("{path} cannot be read ({error}): no change of its keys is seen"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::Options;
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    const A: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGq1N0L0J9vq4S8n3lF2bJtY1o6x7mYV0b2Qy7zq8kXw";
    const B: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHq1N0L0J9vq4S8n3lF2bJtY1o6x7mYV0b2Qy7zq8kXw";
    const C: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIq1N0L0J9vq4S8n3lF2bJtY1o6x7mYV0b2Qy7zq8kXw";

    fn keys(folder: &Path, inline: &str) -> Keys {
        fs::create_dir_all(folder.join("runtime")).unwrap();
        let options = Options {
            native: true,
            data: Some(folder.to_owned()),
            keys: Some(folder.join("mounted")),
            ..Options::default()
        };
        let settings = Settings::new(options, |name| {
            (name == "QUIRE_AUTHORIZED_KEYS").then(|| inline.into())
        })
        .unwrap();
        let id = nix::unistd::Uid::effective().as_raw();
        Keys::new(
            &settings,
            &Account {
                name: "git".into(),
                uid: id,
                gid: id,
                home: "/".into(),
            },
        )
    }

    fn effective(keys: &Keys) -> Vec<String> {
        fs::read_to_string(&keys.target)
            .unwrap()
            .lines()
            .skip(1)
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn three_sources_make_one_list_without_doubles() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("authorized_keys"),
            format!("# mine\n{A} first\n\n{B} second\n"),
        )
        .unwrap();
        fs::write(
            folder.path().join("mounted"),
            format!("\"{A} again\"\nnonsense\n"),
        )
        .unwrap();
        let mut keys = keys(folder.path(), &format!("'{C} third\n{B}'"));
        keys.renew().unwrap();
        assert_eq!(
            effective(&keys),
            [
                format!("{A} first"),
                format!("{B} second"),
                format!("{C} third")
            ]
        );
        assert_eq!(keys.count(), 3);
        let [problem] = keys.problems() else {
            panic!("{:?}", keys.problems())
        };
        assert!(
            problem.contains("mounted, line 2,") && !problem.contains("nonsense"),
            "{problem}"
        );
        assert_eq!(
            fs::metadata(&keys.target).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn a_change_is_seen_and_a_removed_source_takes_its_keys_along() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authorized_keys");
        let mut keys = keys(folder.path(), "");
        assert!(!keys.changed());
        keys.renew().unwrap();
        assert_eq!((keys.count(), effective(&keys).len()), (0, 0));
        fs::write(&path, A).unwrap();
        assert!(keys.changed());
        keys.renew().unwrap();
        assert!(!keys.changed());
        assert_eq!(keys.count(), 1);
        fs::remove_file(&path).unwrap();
        assert!(keys.changed());
        keys.renew().unwrap();
        assert_eq!(keys.count(), 0);
    }

    #[test]
    fn a_source_that_cannot_be_read_takes_no_key_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authorized_keys");
        fs::write(&path, A).unwrap();
        let mut keys = keys(folder.path(), B);
        keys.renew().unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        keys.renew().unwrap();
        assert_eq!((keys.count(), keys.problems().len()), (2, 1));
        assert!(keys.problems()[0].contains("is a folder"));
        fs::remove_dir(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        keys.renew().unwrap();
        assert!(
            keys.problems()[0].contains("not an ordinary file"),
            "{:?}",
            keys.problems()
        );
    }
}
