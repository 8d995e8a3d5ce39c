//! Numbered migrations from `migrations/`, embedded. The list is append-only. The database is copied before it
//! is migrated.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

use super::error::StoreError;
use quire_types::clock::Clock;
use quire_types::fsutil::rename_durably;

/// The version of a database is the number of migrations it has had.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/0001_initial.sql"),
    include_str!("../../../migrations/0002_pipelines.sql"),
    include_str!("../../../migrations/0003_former_names.sql"),
    include_str!("../../../migrations/0004_upkeep.sql"),
    include_str!("../../../migrations/0005_executor_names.sql"),
    include_str!("../../../migrations/0006_session_certificates.sql"),
    include_str!("../../../migrations/0007_run_numbers.sql"),
    include_str!("../../../migrations/0008_sequence.sql"),
    include_str!("../../../migrations/0009_built_images.sql"),
    include_str!("../../../migrations/0010_fresh_images.sql"),
    include_str!("../../../migrations/0011_access_tokens.sql"),
    include_str!("../../../migrations/0012_outbox.sql"),
    include_str!("../../../migrations/0013_overwritten_refs.sql"),
    include_str!("../../../migrations/0014_secrets.sql"),
    include_str!("../../../migrations/0015_mirrors.sql"),
    include_str!("../../../migrations/0016_hooks.sql"),
    include_str!("../../../migrations/0017_operations.sql"),
    include_str!("../../../migrations/0018_landings.sql"),
    include_str!("../../../migrations/0019_pull_mirrors.sql"),
    include_str!("../../../migrations/0020_outbox_of_pushes.sql"),
    include_str!("../../../migrations/0021_changes.sql"),
    include_str!("../../../migrations/0022_health_findings.sql"),
    include_str!("../../../migrations/0023_lfs_of_mirrors.sql"),
];

/// Migrates the database to the newest version. One that holds data is copied first.
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
    // A migration may have to rebuild a table that others reference. Dropping the old one would delete their rows.
    set_foreign_keys(connection, path, false)?;
    without_copy(connection, path)?;
    set_foreign_keys(connection, path, true)
}

/// Migrates a database to the newest version, or creates its tables. Foreign keys have to be off.
pub(super) fn without_copy(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    migrations()
        .to_latest(connection)
        .map_err(|source| StoreError::Migrate {
            path: path.into(),
            source,
        })
}

fn migrations() -> Migrations<'static> {
    let steps = MIGRATIONS.iter().map(|sql| M::up(sql).foreign_key_check());
    Migrations::new(steps.collect())
}

fn set_foreign_keys(connection: &Connection, path: &Path, on: bool) -> Result<(), StoreError> {
    connection
        .pragma_update(None, "foreign_keys", on)
        .map_err(|source| StoreError::Open {
            path: path.into(),
            source,
        })
}

/// Fails if the database does not have the newest version.
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

/// The version of a database. Fails if it is newer than what this quire supports.
pub(super) fn supported_version(connection: &Connection, path: &Path) -> Result<usize, StoreError> {
    let (found, known) = (version(connection, path)?, MIGRATIONS.len());
    if found > known {
        return Err(StoreError::Newer {
            path: path.into(),
            found,
            known,
            snapshot: None,
        });
    }
    Ok(found)
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
    // VACUUM INTO writes a complete, self-contained file; the rename makes sure that only a complete one has
    // the name of a backup.
    let partial = target.with_extension("partial");
    let _ = std::fs::remove_file(&partial);
    vacuum_into(connection, &partial).map_err(|error| failed(error.into()))?;
    rename_durably(&partial, &target).map_err(|error| failed(error.into()))
}

/// Writes a self-contained copy of a database.
pub(super) fn vacuum_into(connection: &Connection, target: &Path) -> rusqlite::Result<()> {
    connection
        .execute("VACUUM INTO ?1", [target.to_string_lossy()])
        .map(|_| ())
}

/// The backups, newest first: names sort by version, then time.
fn backups_in(backups: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(backups).into_iter().flatten().flatten();
    let mut copies: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "db"))
        .collect();
    copies.sort_unstable_by(|a, b| b.cmp(a));
    copies
}

fn newest_backup(backups: &Path) -> Option<PathBuf> {
    backups_in(backups).into_iter().next()
}

/// The newest backup that is intact, and so can be restored.
pub(super) fn newest_intact_backup(backups: &Path) -> Option<PathBuf> {
    let is_intact = |path: &PathBuf| {
        let flags =
            rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let check = |connection: Connection| {
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
        };
        Connection::open_with_flags(path, flags)
            .and_then(check)
            .is_ok_and(|verdict| verdict == "ok")
    };
    backups_in(backups).into_iter().find(is_intact)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn migrations_are_valid() {
        migrations().validate().unwrap();
    }

    /// For each migration, rows as the release that added it writes them.
    const SAMPLES: [&str; MIGRATIONS.len()] = [
        include_str!("../../../migrations/samples/0001_initial.sql"),
        include_str!("../../../migrations/samples/0002_pipelines.sql"),
        include_str!("../../../migrations/samples/0003_former_names.sql"),
        include_str!("../../../migrations/samples/0004_upkeep.sql"),
        include_str!("../../../migrations/samples/0005_executor_names.sql"),
        include_str!("../../../migrations/samples/0006_session_certificates.sql"),
        include_str!("../../../migrations/samples/0007_run_numbers.sql"),
        include_str!("../../../migrations/samples/0008_sequence.sql"),
        include_str!("../../../migrations/samples/0009_built_images.sql"),
        include_str!("../../../migrations/samples/0010_fresh_images.sql"),
        include_str!("../../../migrations/samples/0011_access_tokens.sql"),
        include_str!("../../../migrations/samples/0012_outbox.sql"),
        include_str!("../../../migrations/samples/0013_overwritten_refs.sql"),
        include_str!("../../../migrations/samples/0014_secrets.sql"),
        include_str!("../../../migrations/samples/0015_mirrors.sql"),
        include_str!("../../../migrations/samples/0016_hooks.sql"),
        include_str!("../../../migrations/samples/0017_operations.sql"),
        include_str!("../../../migrations/samples/0018_landings.sql"),
        include_str!("../../../migrations/samples/0019_pull_mirrors.sql"),
        include_str!("../../../migrations/samples/0020_outbox_of_pushes.sql"),
        include_str!("../../../migrations/samples/0021_changes.sql"),
        include_str!("../../../migrations/samples/0022_health_findings.sql"),
        include_str!("../../../migrations/samples/0023_lfs_of_mirrors.sql"),
    ];

    fn rows_by_table(connection: &Connection) -> BTreeMap<String, i64> {
        let mut tables = connection
            .prepare(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
            )
            .unwrap();
        let names = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let count = |name: &str| {
            connection
                .query_row(&format!("SELECT count(*) FROM {name}"), [], |row| {
                    row.get(0)
                })
                .unwrap()
        };
        names
            .map(Result::unwrap)
            .map(|name| (name.clone(), count(&name)))
            .collect()
    }

    #[test]
    fn rows_of_each_earlier_version_survive_the_migrations() {
        for written in 1..=MIGRATIONS.len() {
            let folder = tempfile::tempdir().unwrap();
            let (path, backups) = (
                folder.path().join("quire.db"),
                folder.path().join("backups"),
            );
            let mut connection = Connection::open(&path).unwrap();
            set_foreign_keys(&connection, &path, false).unwrap();
            for (migration, sample) in MIGRATIONS.iter().zip(SAMPLES).take(written) {
                connection.execute_batch(migration).unwrap();
                connection.execute_batch(sample).unwrap();
            }
            connection
                .pragma_update(None, "user_version", i64::try_from(written).unwrap())
                .unwrap();
            set_foreign_keys(&connection, &path, true).unwrap();
            let before = rows_by_table(&connection);
            to_latest(&mut connection, &path, &backups, &Clock::system()).unwrap();
            require_latest(&connection, &path).unwrap();
            let after = rows_by_table(&connection);
            for (table, rows) in &before {
                assert_eq!(after.get(table), Some(rows), "{table} of version {written}");
            }
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
                "a backup if there was something to migrate"
            );
        }
    }
}
