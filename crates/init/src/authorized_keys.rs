//! The public keys that can connect, merged from all sources into the one file that sshd reads.
//!
//! Invariants: the file is replaced atomically; an invalid line affects no other line; a source that
//! cannot be read keeps its keys, and one that was removed does not; a check for changes allocates
//! nothing.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc;
use quire_types::file_stamp::FileStamp;
use quire_types::fsutil;
use quire_types::ssh_keys::{AuthorizedKey, merged_source, unquote};

use super::accounts::Account;
use super::privileges::as_user;
use super::settings::InitSettings;

/// Enough for more than a thousand keys.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

#[derive(Debug)]
enum KeyOrigin {
    File(PathBuf),
    /// The value of the environment variable, which cannot change.
    Variable(String),
}

#[derive(Debug)]
struct KeySource {
    origin: KeyOrigin,
    stamp: Option<FileStamp>,
    /// The content when it could last be read.
    text: String,
}

#[derive(Debug)]
pub(super) struct MergedKeys {
    sources: Vec<KeySource>,
    target: PathBuf,
    account: Account,
    mode: u32,
    written: Option<String>,
    count: usize,
    problems: Vec<String>,
}

impl MergedKeys {
    pub(super) fn new(settings: &InitSettings, account: &Account) -> Self {
        let files = [
            Some(settings.paths.authorized_keys()),
            settings.mounted_keys.clone(),
        ];
        let mut origins: Vec<_> = files.into_iter().flatten().map(KeyOrigin::File).collect();
        origins.push(KeyOrigin::Variable(settings.inline_keys.clone()));
        Self {
            sources: origins
                .into_iter()
                .map(|origin| KeySource {
                    origin,
                    stamp: None,
                    text: String::new(),
                })
                .collect(),
            target: settings.paths.merged_authorized_keys(),
            account: account.clone(),
            mode: if settings.native { 0o600 } else { 0o644 },
            written: None,
            count: 0,
            problems: Vec::new(),
        }
    }

    /// How many keys can connect.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Which source or line has which problem, one sentence each.
    pub(super) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Whether a source has changed since it was last read.
    pub(super) fn changed(&self) -> bool {
        self.sources.iter().any(
            |source| matches!(&source.origin, KeyOrigin::File(path) if FileStamp::of(path).ok() != source.stamp),
        )
    }

    /// Reads all sources, and writes the merged file if it changes.
    pub(super) fn rebuild(&mut self) -> io::Result<()> {
        self.problems.clear();
        let mut text = String::from(
            "# Written by `quire init` from all sources of keys; changes here are lost.\n",
        );
        let mut seen = HashSet::new();
        for source in &mut self.sources {
            let name = match &source.origin {
                KeyOrigin::Variable(value) => {
                    unquote(value).clone_into(&mut source.text);
                    "QUIRE_AUTHORIZED_KEYS".to_owned()
                }
                KeyOrigin::File(path) => {
                    // The stamp before the content: a change during the read must be noticed later.
                    source.stamp = FileStamp::of(path).ok();
                    match read(path, &self.account) {
                        Ok(text) => source.text = text,
                        Err(error) if error.kind() == ErrorKind::NotFound => source.text.clear(),
                        Err(error) => self.problems.push(read_problem(path, &error)),
                    }
                    path.display().to_string()
                }
            };
            let mut heading = Some(merged_source(&name));
            for (index, line) in source.text.lines().enumerate() {
                match AuthorizedKey::parse(line) {
                    Ok(None) => {}
                    Ok(Some(key)) => {
                        let (options, blob) = key.identity();
                        if seen.insert((options.to_owned(), blob.to_owned())) {
                            text.push_str(&heading.take().unwrap_or_default());
                            text.push_str(key.line);
                            text.push('\n');
                        }
                    }
                    Err(why) => self
                        .problems
                        .push(format!("{name}, line {}, is ignored: {why}", index + 1)),
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
        fsutil::replace_file(&self.target, text.as_bytes(), self.mode)
    }
}

fn read(path: &Path, account: &Account) -> io::Result<String> {
    let read = || {
        // Without blocking: a named pipe at this path must not stop the start.
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
    if !found.is_file() || found.len() > MAX_FILE_BYTES {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_problem(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        ErrorKind::IsADirectory => {
            format!(
                "{path} is a folder (Docker creates one if the file to mount does not exist); no key is read from it"
            )
        }
        ErrorKind::InvalidData => format!(
            "{path} is not a file of public keys (it is not a regular file, or larger than 1 MiB); it is not read"
        ),
        _ => format!(
            "{path} cannot be read ({error}); the keys that were read earlier stay in force"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::InitOptions;
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    const A: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGq1N0L0J9vq4S8n3lF2bJtY1o6x7mYV0b2Qy7zq8kXw";
    const B: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHq1N0L0J9vq4S8n3lF2bJtY1o6x7mYV0b2Qy7zq8kXw";
    const C: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIq1N0L0J9vq4S8n3lF2bJtY1o6x7mYV0b2Qy7zq8kXw";

    fn keys(folder: &Path, inline: &str) -> MergedKeys {
        fs::create_dir_all(folder.join("runtime")).unwrap();
        let options = InitOptions {
            native: true,
            data: Some(folder.to_owned()),
            keys: Some(folder.join("mounted")),
            ..InitOptions::default()
        };
        let settings = InitSettings::new(options, |name| {
            (name == "QUIRE_AUTHORIZED_KEYS").then(|| inline.into())
        })
        .unwrap();
        let id = nix::unistd::Uid::effective().as_raw();
        MergedKeys::new(
            &settings,
            &Account {
                name: "git".into(),
                uid: id,
                gid: id,
                home: "/".into(),
            },
        )
    }

    fn effective(keys: &MergedKeys) -> Vec<String> {
        fs::read_to_string(&keys.target)
            .unwrap()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn three_sources_are_merged_without_duplicates() {
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
        keys.rebuild().unwrap();
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
    fn a_change_is_noticed_and_a_removed_source_loses_its_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authorized_keys");
        let mut keys = keys(folder.path(), "");
        assert!(!keys.changed());
        keys.rebuild().unwrap();
        assert_eq!((keys.count(), effective(&keys).len()), (0, 0));
        fs::write(&path, A).unwrap();
        assert!(keys.changed());
        keys.rebuild().unwrap();
        assert!(!keys.changed());
        assert_eq!(keys.count(), 1);
        fs::remove_file(&path).unwrap();
        assert!(keys.changed());
        keys.rebuild().unwrap();
        assert_eq!(keys.count(), 0);
    }

    #[test]
    fn a_source_that_cannot_be_read_keeps_its_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authorized_keys");
        fs::write(&path, A).unwrap();
        let mut keys = keys(folder.path(), B);
        keys.rebuild().unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        keys.rebuild().unwrap();
        assert_eq!((keys.count(), keys.problems().len()), (2, 1));
        assert!(keys.problems()[0].contains("is a folder"));
        fs::remove_dir(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        keys.rebuild().unwrap();
        assert!(
            keys.problems()[0].contains("not a regular file"),
            "{:?}",
            keys.problems()
        );
    }
}
