//! Taking the ids of a task.

use alloc::vec::Vec;

use quire_step::TaskIds;
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Gives this process the ids, for good. The process has a single thread.
pub(crate) fn take(ids: &TaskIds) -> Result<(), Errno> {
    let groups: Vec<Gid> = ids
        .groups
        .iter()
        .map(|group| Gid::from_raw(*group))
        .collect();
    set_thread_groups(&groups)?;
    let gid = Gid::from_raw(ids.gid);
    set_thread_res_gid(gid, gid, gid)?;
    let uid = Uid::from_raw(ids.uid);
    set_thread_res_uid(uid, uid, uid)
}
