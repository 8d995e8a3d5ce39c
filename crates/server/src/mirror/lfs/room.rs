//! Whether objects have room on the disk.

use std::sync::Arc;

use super::error::LfsError;
use quire_runtime::blocking::run_blocking;
use quire_types::disk_space::{MinFree, free_bytes, has_inodes};
use quire_types::paths::Paths;
use quire_types::text::format_bytes;

/// Whether an object of this size may be stored. It may block.
pub(super) type RoomCheck = Arc<dyn Fn(u64) -> Result<(), String> + Send + Sync>;

/// Asks on a thread where it may block.
pub(super) async fn ask(room: &RoomCheck, size: u64) -> Result<(), LfsError> {
    let room = room.clone();
    let checked = run_blocking(move || room(size)).await?;
    checked.map_err(LfsError::NoRoom)
}

/// Whether an object of this size may be stored, as an upload of git-lfs may be. Reads the disk.
pub(super) fn check_room(paths: &Paths, size: u64) -> Result<(), String> {
    if !has_inodes(paths.data()) {
        return Err("the disk has no room for another file (it has no free inodes)".to_owned());
    }
    let needed = MinFree::read(paths).push_threshold();
    // Where it cannot be told, writing will.
    let free = free_bytes(paths.data()).unwrap_or(u64::MAX);
    if size.saturating_add(needed) <= free {
        return Ok(());
    }
    Err(format!(
        "the disk has no room for an object of {}: {} are free, and {} have to stay free",
        format_bytes(size),
        format_bytes(free),
        format_bytes(needed)
    ))
}
