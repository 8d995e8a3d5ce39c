//! Numbered migrations from `migrations/`, embedded, append-only; a copy is made before each.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

use super::error::StoreError;
use crate::clock::Clock;

/// In order; the number of a migration is its place here, from 1. Append only.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/0001_initial.sql"),
    include_str!("../../migrations/0002_pipelines.sql"),
    include_str!("../../migrations/0003_former_names.sql"),
    include_str!("../../migrations/0004_upkeep.sql"),
];

/// Brings the database to the newest version, after a copy of one that already holds data.
pub(super) fn to_latest(
    connection: &mut Connection,
    path: &Path,
    backups: &Path,
    clock: &Clock,
) -> Result<(), StoreError> {
    let found = version(connection, path)?;
    let known = MIGRATIONS.len();
    if found > known {
        return Err(newer(path, found, backups));
    }
    if found < known && found > 0 {
        back_up(connection, backups, found, clock)?;
    }
    let steps = Migrations::new(MIGRATIONS.iter().map(|sql| M::up(sql)).collect());
    steps
        .to_latest(connection)
        .map_err(|source| StoreError::Migrate {
            path: path.into(),
            source,
        })
}

/// Refuses a database that is not of the newest version.
pub(super) fn require_latest(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let (found, known) = (version(connection, path)?, MIGRATIONS.len());
    match found.cmp(&known) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(StoreError::Older {
            path: path.into(),
            found,
            known,
        }),
        std::cmp::Ordering::Greater => {
            let backups = path.parent().unwrap_or(path).join("backups");
            Err(newer(path, found, &backups))
        }
    }
}

fn newer(path: &Path, found: usize, backups: &Path) -> StoreError {
    StoreError::Newer {
        path: path.into(),
        found,
        known: MIGRATIONS.len(),
        snapshot: newest_backup(backups),
    }
}

fn version(connection: &Connection, path: &Path) -> Result<usize, StoreError> {
    let version: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|source| StoreError::Open {
            path: path.into(),
            source,
        })?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

fn back_up(
    connection: &Connection,
    backups: &Path,
    version: usize,
    clock: &Clock,
) -> Result<(), StoreError> {
    let stamp = clock.now().to_string().replace(':', "");
    let target = backups.join(format!("quire-v{version:04}-{stamp}.db"));
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Backup {
        path: target.clone(),
        source,
    };
    std::fs::create_dir_all(backups).map_err(|error| failed(error.into()))?;
    // VACUUM INTO gives a whole, self-contained file; the rename lets only a whole one bear the name.
    let partial = target.with_extension("partial");
    let _ = std::fs::remove_file(&partial);
    connection
        .execute("VACUUM INTO ?1", [partial.to_string_lossy()])
        .map_err(|error| failed(error.into()))?;
    std::fs::File::open(&partial)
        .and_then(|file| file.sync_all())
        .map_err(|error| failed(error.into()))?;
    std::fs::rename(&partial, &target).map_err(|error| failed(error.into()))
}

/// The copies, newest first; names sort by version, then time.
fn backups_in(backups: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(backups).into_iter().flatten().flatten();
    let mut copies: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "db"))
        .collect();
    copies.sort_unstable_by(|a, b| b.cmp(a));
    copies
}

/// The newest copy.
fn newest_backup(backups: &Path) -> Option<PathBuf> {
    backups_in(backups).into_iter().next()
}

/// The newest copy that can be gone back to: one that is whole.
pub(super) fn newest_sound_backup(backups: &Path) -> Option<PathBuf> {
    let is_sound = |path: &PathBuf| {
        let flags =
            rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let check = |connection: Connection| {
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
        };
        Connection::open_with_flags(path, flags)
            .and_then(check)
            .is_ok_and(|verdict| verdict == "ok")
    };
    backups_in(backups).into_iter().find(is_sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_sound() {
        Migrations::new(MIGRATIONS.iter().map(|sql| M::up(sql)).collect())
            .validate()
            .unwrap();
    }

    /// Of each migration, rows as the release that brought it writes them.
    const SAMPLES: [&str; MIGRATIONS.len()] = [
        include_str!("../../migrations/samples/0001_initial.sql"),
        include_str!("../../migrations/samples/0002_pipelines.sql"),
        include_str!("../../migrations/samples/0003_former_names.sql"),
        include_str!("../../migrations/samples/0004_upkeep.sql"),
    ];

    #[test]
    fn what_any_release_wrote_is_carried_over() {
        for written in 1..=MIGRATIONS.len() {
            let folder = tempfile::tempdir().unwrap();
            let (path, backups) = (
                folder.path().join("quire.db"),
                folder.path().join("backups"),
            );
            let mut connection = Connection::open(&path).unwrap();
            for (migration, sample) in MIGRATIONS.iter().zip(SAMPLES).take(written) {
                connection.execute_batch(migration).unwrap();
                connection.execute_batch(sample).unwrap();
            }
            connection
                .pragma_update(None, "user_version", i64::try_from(written).unwrap())
                .unwrap();
            connection
                .pragma_update(None, "foreign_keys", true)
                .unwrap();
            let runs = |connection: &Connection| -> i64 {
                connection
                    .query_row("SELECT count(*) FROM runs", [], |row| row.get(0))
                    .unwrap()
            };
            let before = runs(&connection);
            to_latest(&mut connection, &path, &backups, &Clock::system()).unwrap();
            require_latest(&connection, &path).unwrap();
            assert_eq!(runs(&connection), before, "of version {written}");
            let verdict: String = connection
                .query_row("PRAGMA integrity_check", [], |row| row.get(0))
                .unwrap();
            assert_eq!(verdict, "ok", "of version {written}");
            assert!(
                !connection
                    .prepare("PRAGMA foreign_key_check")
                    .unwrap()
                    .exists([])
                    .unwrap(),
                "of version {written}"
            );
            assert_eq!(
                backups_in(&backups).len(),
                usize::from(written < MIGRATIONS.len()),
                "a copy before, where there is something to do"
            );
        }
    }
}
