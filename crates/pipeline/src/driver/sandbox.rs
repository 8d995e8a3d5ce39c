//! The sandbox that a driver process enters before it reads untrusted code.
//!
//! The Lua state itself cannot reach outside of the process. The sandbox is the second layer of
//! defence, in case a bug in Lua or in quire allows it: no new privileges, no file system, no
//! sockets, no processes, no executable memory. The process can only compute, use its two pipes and
//! exit.
//!
//! The system call filter alone enforces all of this, so no pipeline is evaluated without it unless
//! the owner allows that. Landlock and the resource limits are added where the kernel supports them.
//! The process keeps the supplementary groups of `serve`, which may include the group of the Docker
//! socket: `serve` has no privilege to drop them. Without sockets they are of no use.

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

/// The limit of the address space: the Lua states, the lines of the protocol, the binary itself.
const MAX_ADDRESS_SPACE: u64 = 1 << 30;

#[derive(Debug, thiserror::Error)]
#[error("the kernel does not accept a system call filter (seccomp): {0}")]
pub(super) struct SandboxError(String);

/// Enters the sandbox, for the rest of the process's life.
///
/// # Errors
/// Fails if the system call filter cannot be installed. All other restrictions are best effort.
pub(super) fn enter() -> Result<(), SandboxError> {
    let _ = nix::sys::prctl::set_no_new_privs();
    let _ = nix::sys::prctl::set_dumpable(false);
    let _ = restrict_file_system();
    for (resource, limit) in [
        (Resource::RLIMIT_AS, MAX_ADDRESS_SPACE),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_NPROC, 0),
        (Resource::RLIMIT_NOFILE, 3),
    ] {
        let _ = setrlimit(resource, limit, limit);
    }
    let filter = syscall_filter()
        .ok_or_else(|| SandboxError(format!("{} is not supported", std::env::consts::ARCH)))?;
    seccompiler::apply_filter(&filter)
        .map_err(|error| SandboxError(quire_types::error_chain::chain(&error)))
}

/// Denies every access that Landlock knows: the ruleset has no rule that allows any.
fn restrict_file_system() -> Result<RestrictionStatus, landlock::RulesetError> {
    let abi = ABI::V6;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .restrict_self()
}

/// The system calls that remain allowed. All others fail with EPERM.
fn syscall_filter() -> Option<BpfProgram> {
    let mut allowed: BTreeMap<i64, Vec<SeccompRule>> = UNRESTRICTED
        .iter()
        .map(|call| (*call, Vec::new()))
        .collect();
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
    // `abort` sends a signal to its own process.
    allowed.insert(libc::SYS_tgkill, vec![on(0, SeccompCmpOp::Eq, process)?]);
    let arch = TargetArch::try_from(std::env::consts::ARCH).ok()?;
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(allowed, denied, SeccompAction::Allow, arch)
        .ok()?
        .try_into()
        .ok()
}

/// System calls that are allowed with any arguments: for memory, time, waiting for the pipes, and
/// exiting.
const UNRESTRICTED: &[i64] = &[
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
