//! The folder of scheduled backups.
//!
//! ```text
//! quire-INSTANCE-TIME.partial ──proved──► quire-INSTANCE-TIME.tar.zst
//!                             └─not──────► quire-INSTANCE-TIME.unproved.tar.zst
//! ```
//! Only files with such a name and the id of this appliance are removed: other files of the folder, and the backups of other
//! appliances, stay.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use quire_types::clock::Millis;

const SUFFIX: &str = ".tar.zst";
const UNPROVED: &str = ".unproved";
const PARTIAL: &str = ".partial";
const PROOF: &str = ".proof";

/// The backups of one appliance in a folder.
#[derive(Debug, Clone)]
pub struct BackupFolder {
    folder: PathBuf,
    /// What the names of its files begin with.
    prefix: String,
}

/// A backup in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBackup {
    pub path: PathBuf,
    pub made_at: Millis,
    /// Whether it was restored as a test, without a problem.
    pub proved: bool,
    /// In bytes.
    pub size: u64,
}

impl BackupFolder {
    #[must_use]
    pub fn new(folder: PathBuf, instance: &str) -> Self {
        let id: String = instance.chars().filter(|c| *c != '-').collect();
        // The end of an id is random; its beginning is the time of its creation.
        let start = id.len().saturating_sub(8);
        Self {
            folder,
            prefix: format!("quire-{}-", id.get(start..).unwrap_or_default()),
        }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The file of a backup that is being made.
    #[must_use]
    pub fn partial(&self, now: Millis) -> PathBuf {
        self.folder
            .join(format!("{}{}{PARTIAL}", self.prefix, stamp(now)))
    }

    /// The folder into which a backup is restored to prove it.
    #[must_use]
    pub fn scratch(&self, now: Millis) -> PathBuf {
        let name = format!("{}{}{PROOF}{PARTIAL}", self.prefix, stamp(now));
        self.folder.join(name)
    }

    /// The name of a backup that is complete.
    #[must_use]
    pub fn complete(&self, now: Millis, proved: bool) -> PathBuf {
        let mark = if proved { "" } else { UNPROVED };
        let name = format!("{}{}{mark}{SUFFIX}", self.prefix, stamp(now));
        self.folder.join(name)
    }

    /// The complete backups, newest first.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn list(&self) -> io::Result<Vec<StoredBackup>> {
        let mut backups = Vec::new();
        for (path, name) in self.entries()? {
            let Some(rest) = name.strip_suffix(SUFFIX) else {
                continue;
            };
            let unproved = rest.strip_suffix(UNPROVED);
            let Some(made_at) = parse_stamp(unproved.unwrap_or(rest)) else {
                continue;
            };
            let size = fs::metadata(&path).map_or(0, |found| found.len());
            backups.push(StoredBackup {
                path,
                made_at,
                proved: unproved.is_none(),
                size,
            });
        }
        backups.sort_unstable_by_key(|backup| std::cmp::Reverse(backup.made_at));
        Ok(backups)
    }

    /// Removes all but the newest `keep` proved backups, unproved ones that are older than a proved one, and files of
    /// attempts that were interrupted.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn prune(&self, keep: usize) -> io::Result<()> {
        let backups = self.list()?;
        let newest_proved = backups.iter().find(|backup| backup.proved);
        let newest_proved = newest_proved.map(|backup| backup.made_at);
        let mut proved = 0;
        let mut unproved = 0;
        for backup in &backups {
            let expired = if backup.proved {
                proved += 1;
                proved > keep.max(1)
            } else {
                unproved += 1;
                unproved > 1 || newest_proved > Some(backup.made_at)
            };
            if expired {
                remove(&backup.path)?;
            }
        }
        self.remove_partial()
    }

    /// Removes what an interrupted attempt left. Only one attempt is made at a time.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn remove_partial(&self) -> io::Result<()> {
        for (path, name) in self.entries()? {
            let stamp = name.strip_suffix(PARTIAL);
            let stamp = stamp.map(|stamp| stamp.strip_suffix(PROOF).unwrap_or(stamp));
            if stamp.and_then(parse_stamp).is_some() {
                if path.is_dir() {
                    fs::remove_dir_all(&path)?;
                } else {
                    remove(&path)?;
                }
            }
        }
        Ok(())
    }

    /// The paths of this appliance's files, and their names without the prefix.
    fn entries(&self) -> io::Result<Vec<(PathBuf, String)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let rest = name
                .to_str()
                .and_then(|name| name.strip_prefix(&self.prefix));
            if let Some(rest) = rest {
                found.push((entry.path(), rest.to_owned()));
            }
        }
        Ok(found)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The time as names have it, such as `20261129T030000Z`. Names sort by it.
fn stamp(now: Millis) -> String {
    jiff::Timestamp::from_millisecond(now.0)
        .unwrap_or_default()
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string()
}

fn parse_stamp(text: &str) -> Option<Millis> {
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Millis(time.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 60 * 60 * 1000;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn only_old_backups_of_this_appliance_are_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let instance = "0197a1b2-0000-7000-8000-0000deadbeef";
        let folder = BackupFolder::new(scratch.path().to_owned(), instance);
        let other = BackupFolder::new(
            scratch.path().to_owned(),
            "0197a1b2-0000-7000-8000-000000000001",
        );
        for day in 0..4 {
            let now = Millis(1_790_000_000_000 + day * DAY);
            fs::write(folder.complete(now, true), "x").unwrap();
            fs::write(other.complete(now, true), "x").unwrap();
            fs::write(folder.complete(now.plus(1000), false), "x").unwrap();
        }
        fs::write(folder.partial(Millis(0)), "x").unwrap();
        fs::create_dir(folder.scratch(Millis(0))).unwrap();
        fs::write(scratch.path().join("quire-deadbeef-notes.tar.zst"), "x").unwrap();
        fs::write(scratch.path().join("photos.tar.zst"), "x").unwrap();
        folder.prune(2).unwrap();
        insta::assert_snapshot!(names(scratch.path()).join("\n"), @"
        photos.tar.zst
        quire-00000001-20260921T141320Z.tar.zst
        quire-00000001-20260922T141320Z.tar.zst
        quire-00000001-20260923T141320Z.tar.zst
        quire-00000001-20260924T141320Z.tar.zst
        quire-deadbeef-20260923T141320Z.tar.zst
        quire-deadbeef-20260924T141320Z.tar.zst
        quire-deadbeef-20260924T141321Z.unproved.tar.zst
        quire-deadbeef-notes.tar.zst
    ");
        let listed: Vec<bool> = folder
            .list()
            .unwrap()
            .iter()
            .map(|backup| backup.proved)
            .collect();
        assert_eq!(listed, [false, true, true]);
    }

    #[test]
    fn a_name_has_the_time_of_its_backup() {
        let folder = BackupFolder::new("/backups".into(), "0197a1b2-0000-7000-8000-0000deadbeef");
        let now = Millis(1_790_000_000_000);
        let path = folder.complete(now, true);
        assert_eq!(
            path,
            Path::new("/backups/quire-deadbeef-20260921T141320Z.tar.zst")
        );
        assert_eq!(parse_stamp("20260921T141320Z"), Some(now));
        assert_eq!(parse_stamp("20260921T141320"), None);
        assert_eq!(parse_stamp("notes"), None);
    }
}
