//! What the driver gives up before it reads foreign code.
//!
//! The Lua state has no door to the outside. This is the wall behind it, for the day when a fault
//! in Lua or in our own code opens one: no new privileges, no file system, no sockets, no
//! processes, no executable memory; only computing, its two pipes and its end are left.
//!
//! What counts is the filter of system calls: it stands for all the rest, and without it nothing is
//! evaluated, unless the owner says so. Landlock and the limits stand beside it where the kernel has
//! them. The groups of `serve` stay, the engine's among them: to give them up takes a privilege that
//! `serve` does not have. Without sockets they open nothing.

use std::collections::BTreeMap;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, RestrictionStatus, Ruleset,
    RulesetAttr, Scope,
};
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// All memory the process may map: the Lua states, the lines of the protocol, the binary itself.
const ADDRESS_SPACE: u64 = 1 << 30;

/// The kernel took no filter of system calls.
#[derive(Debug, thiserror::Error)]
#[error("this kernel takes no filter of system calls (seccomp): {0}")]
pub(super) struct Unconfined(String);

/// Gives everything up that is not needed from here on. Cannot be undone.
///
/// # Errors
/// The filter is not in force; everything else is given up as far as it goes.
pub(super) fn enter() -> Result<(), Unconfined> {
    let _ = nix::sys::prctl::set_no_new_privs();
    let _ = nix::sys::prctl::set_dumpable(false);
    let _ = close_file_system();
    for (resource, limit) in [
        (Resource::RLIMIT_AS, ADDRESS_SPACE),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_NPROC, 0),
        (Resource::RLIMIT_NOFILE, 3),
    ] {
        let _ = setrlimit(resource, limit, limit);
    }
    let filter = filter()
        .ok_or_else(|| Unconfined(format!("there is none for {}", std::env::consts::ARCH)))?;
    seccompiler::apply_filter(&filter)
        .map_err(|error| Unconfined(crate::causes::with_causes(&error)))
}

/// No rule allows anything: every access that landlock knows is denied.
fn close_file_system() -> Result<RestrictionStatus, landlock::RulesetError> {
    let abi = ABI::V6;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .restrict_self()
}

/// The system calls that are left: everything else fails with EPERM.
fn filter() -> Option<BpfProgram> {
    let mut allowed: BTreeMap<i64, Vec<SeccompRule>> =
        FREE.iter().map(|call| (*call, Vec::new())).collect();
    let process = u64::from(std::process::id());
    let on = |argument, operator, value| -> Option<SeccompRule> {
        let condition =
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value).ok()?;
        SeccompRule::new(vec![condition]).ok()
    };
    let not_executable = SeccompCmpOp::MaskedEq(u64::from(libc::PROT_EXEC.unsigned_abs()));
    allowed.insert(libc::SYS_read, vec![on(0, SeccompCmpOp::Eq, 0)?]);
    allowed.insert(
        libc::SYS_write,
        vec![on(0, SeccompCmpOp::Eq, 1)?, on(0, SeccompCmpOp::Eq, 2)?],
    );
    allowed.insert(
        libc::SYS_writev,
        vec![on(0, SeccompCmpOp::Eq, 1)?, on(0, SeccompCmpOp::Eq, 2)?],
    );
    allowed.insert(libc::SYS_mmap, vec![on(2, not_executable.clone(), 0)?]);
    allowed.insert(libc::SYS_mprotect, vec![on(2, not_executable, 0)?]);
    // For abort: a signal to itself.
    allowed.insert(libc::SYS_tgkill, vec![on(0, SeccompCmpOp::Eq, process)?]);
    let arch = TargetArch::try_from(std::env::consts::ARCH).ok()?;
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(allowed, denied, SeccompAction::Allow, arch)
        .ok()?
        .try_into()
        .ok()
}

/// Allowed whatever their arguments: memory, time, waiting for the pipes, the end.
const FREE: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_alarm,
    libc::SYS_setitimer,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_sched_yield,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

#[cfg(test)]
mod tests;
