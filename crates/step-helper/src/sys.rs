//! The calls of the kernel that no safe library offers: fork, exec, exit, signals, and closing all
//! descriptors but some.
//!
//! The program is a single thread, so the child of a fork may do what its parent may.
#![allow(
    unsafe_code,
    reason = "system calls; each function says what makes it sound"
)]

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::arch::asm;
use core::ffi::CStr;
use core::ptr;

use linux_raw_sys::general as raw;
use rustix::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::process::Pid;

/// The size of the kernel's set of signals.
const SIGNAL_SET_BYTES: usize = 8;
const SIGNALS: u32 = 64;
const SIGCHLD: u32 = 17;
const SIGPIPE: u32 = 13;
const SIG_SETMASK: usize = 2;
const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;

/// # Safety
/// As for the system call with this number: pointers among the arguments must be valid for what the
/// kernel does with them.
#[cfg(target_arch = "x86_64")]
unsafe fn syscall(number: u32, a: usize, b: usize, c: usize, d: usize, e: usize) -> isize {
    let result;
    // SAFETY: the instruction changes rcx, r11 and rax only; memory as the caller vouches for.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// # Safety
/// As on the other architecture.
#[cfg(target_arch = "aarch64")]
unsafe fn syscall(number: u32, a: usize, b: usize, c: usize, d: usize, e: usize) -> isize {
    let result;
    // SAFETY: the instruction changes x0 only; memory as the caller vouches for.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number as usize,
            inlateout("x0") a as isize => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e,
            options(nostack),
        );
    }
    result
}

fn check(result: isize) -> Result<usize, Errno> {
    usize::try_from(result)
        .map_err(|_| Errno::from_raw_os_error(i32::try_from(-result).unwrap_or_default()))
}

/// Starts a process that runs `child` and exits with what it returns. Destructors of what the
/// child holds do not run.
pub(crate) fn fork(child: impl FnOnce() -> u8) -> Result<Pid, Errno> {
    // SAFETY: `clone` with SIGCHLD and no other flag copies the process: no memory is shared, and no
    // other thread exists that could hold a lock.
    let result = unsafe { syscall(raw::__NR_clone, SIGCHLD as usize, 0, 0, 0, 0) };
    match check(result)? {
        0 => exit(child()),
        pid => Pid::from_raw(i32::try_from(pid).unwrap_or_default()).ok_or(Errno::INVAL),
    }
}

/// Ends this process at once.
pub(crate) fn exit(code: u8) -> ! {
    loop {
        // SAFETY: the call takes no pointers and does not return.
        unsafe { syscall(raw::__NR_exit_group, usize::from(code), 0, 0, 0, 0) };
    }
}

/// Replaces this process by a program; returns only with an error.
pub(crate) fn execute(program: &CStr, argv: &[CString], env: &[CString]) -> Errno {
    let pointers = |strings: &[CString]| -> Vec<*const u8> {
        let all = strings.iter().map(|string| string.as_ptr().cast());
        all.chain([ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: the strings end with NUL and the lists with null, and all live across the call.
    let result = unsafe {
        syscall(
            raw::__NR_execve,
            program.as_ptr() as usize,
            argv.as_ptr() as usize,
            env.as_ptr() as usize,
            0,
            0,
        )
    };
    check(result).err().unwrap_or(Errno::INVAL)
}

/// Standard input, output and error of the helper, which it never closes.
pub(crate) fn standard_fds() -> [BorrowedFd<'static>; 3] {
    // SAFETY: the descriptors are open from the start to the end of the program. A child that
    // closes them uses none of these values after it.
    [0, 1, 2].map(|fd| unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Blocks SIGCHLD and returns a descriptor that is readable when it is pending; ignores SIGPIPE.
pub(crate) fn child_signals() -> Result<OwnedFd, Errno> {
    let set: u64 = 1 << (SIGCHLD - 1);
    set_mask(set)?;
    set_action(SIGPIPE, SIG_IGN)?;
    let flags = raw::O_CLOEXEC | raw::O_NONBLOCK;
    // SAFETY: the set lives across the call and has the size that is named.
    let result = unsafe {
        syscall(
            raw::__NR_signalfd4,
            usize::MAX,
            ptr::from_ref(&set) as usize,
            SIGNAL_SET_BYTES,
            flags as usize,
            0,
        )
    };
    let fd = RawFd::try_from(check(result)?).unwrap_or(-1);
    // SAFETY: the kernel has just opened it for this caller.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Default handling of all signals and none blocked, as a program expects it.
pub(crate) fn reset_signals() {
    for signal in 1..=SIGNALS {
        // SIGKILL and SIGSTOP cannot be set, which is no error here.
        let _ = set_action(signal, SIG_DFL);
    }
    let _ = set_mask(0);
}

fn set_mask(set: u64) -> Result<(), Errno> {
    // SAFETY: the set lives across the call; the old one is not asked for.
    let result = unsafe {
        syscall(
            raw::__NR_rt_sigprocmask,
            SIG_SETMASK,
            ptr::from_ref(&set) as usize,
            0,
            SIGNAL_SET_BYTES,
            0,
        )
    };
    check(result).map(drop)
}

/// `handler` is SIG_DFL or SIG_IGN, so no code is called.
fn set_action(signal: u32, handler: usize) -> Result<(), Errno> {
    // The kernel's structure: handler, flags, restorer, mask. All but the handler are 0.
    let action: [usize; 4] = [handler, 0, 0, 0];
    // SAFETY: the structure lives across the call; the old one is not asked for.
    let result = unsafe {
        syscall(
            raw::__NR_rt_sigaction,
            signal as usize,
            action.as_ptr() as usize,
            0,
            SIGNAL_SET_BYTES,
            0,
        )
    };
    check(result).map(drop)
}

/// Closes every descriptor of this process except `keep`. For the child of a fork, which never
/// runs the destructors of the others.
pub(crate) fn close_all_except(keep: &mut [RawFd]) {
    keep.sort_unstable();
    let mut first = 0;
    for fd in keep.iter().filter_map(|fd| u32::try_from(*fd).ok()) {
        if fd > first {
            close_range(first, fd - 1);
        }
        first = fd + 1;
    }
    close_range(first, u32::MAX);
}

fn close_range(first: u32, last: u32) {
    // SAFETY: the call takes no pointers. Values that own these descriptors are never used again.
    let result = unsafe {
        syscall(
            raw::__NR_close_range,
            first as usize,
            last as usize,
            0,
            0,
            0,
        )
    };
    if result < 0 {
        // Kernels before 5.9 and strict seccomp profiles have no such call.
        for fd in first..=last.min(4096) {
            // SAFETY: as before.
            unsafe { syscall(raw::__NR_close, fd as usize, 0, 0, 0, 0) };
        }
    }
}
