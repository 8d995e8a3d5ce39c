//! The program's entry point, and what a program without a standard library has to bring itself:
//! memory, the functions that compiled code calls, and the end after a panic.
#![no_std]
#![no_main]
#![allow(
    unsafe_code,
    reason = "the entry point, the allocator, and memory functions; each says why it is sound"
)]

use core::alloc::{GlobalAlloc, Layout};
use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::ptr::NonNull;

use quire_step_helper::ConnectVariables;
use rustix_dlmalloc::Dlmalloc;

// The kernel starts the program with the stack pointer at argc and no return address. What is there is
// passed on.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor %ebp, %ebp",
    "mov %rsp, %rdi",
    "and $-16, %rsp",
    "call step_main",
    "hlt",
    options(att_syntax)
);
#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, sp",
    "bl step_main",
    "brk 1",
);

// SAFETY: no other symbol has this name.
#[unsafe(no_mangle)]
extern "C" fn step_main(stack: *const usize) -> ! {
    // SAFETY: the stack is as the kernel has made it, and this is the only look at it.
    let variables = unsafe { connect_variables(stack) };
    quire_step_helper::run(variables)
}

/// The variables of the environment that the helper reads.
///
/// # Safety
/// `stack` must point to the number of arguments, which their pointers, a null pointer, those of the
/// variables and another null pointer follow. It must not be called twice.
unsafe fn connect_variables(stack: *const usize) -> Option<ConnectVariables> {
    let (mut addresses, mut token) = (None, None);
    let mut next = unsafe { stack.add(*stack + 2) }.cast::<*mut u8>();
    while let Some(text) = NonNull::new(unsafe { *next }) {
        next = unsafe { next.add(1) };
        let length = unsafe { strlen(text.as_ptr()) };
        // SAFETY: the string stays where it is to the end of the program, and nothing else refers to it.
        let text: &'static mut [u8] =
            unsafe { NonNull::slice_from_raw_parts(text, length).as_mut() };
        if let Some(at) = value_start(text, b"QUIRE_CONNECT=") {
            addresses = text.get(at..);
        } else if let Some(at) = value_start(text, b"QUIRE_TOKEN=") {
            token = text.get_mut(at..);
        }
    }
    Some(ConnectVariables {
        addresses: addresses?,
        token: token.unwrap_or_default(),
    })
}

fn value_start(text: &[u8], name: &[u8]) -> Option<usize> {
    text.starts_with(name).then_some(name.len())
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    quire_step_helper::give_up(info.message())
}

// The layout that the linker reads: the program is compiled again when it changes.
const _: &str = include_str!("../step.ld");

struct Memory(UnsafeCell<Dlmalloc>);

// SAFETY: the program has a single thread.
unsafe impl Sync for Memory {}

#[global_allocator]
static MEMORY: Memory = Memory(UnsafeCell::new(Dlmalloc::new()));

// SAFETY: the calls are passed on with the same layout; there is no second thread, and the
// allocator does not call itself, so the reference is unique.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe { (*self.0.get()).malloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { (*self.0.get()).free(memory, layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        unsafe { (*self.0.get()).calloc(layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        unsafe { (*self.0.get()).realloc(memory, layout.size(), layout.align(), size) }
    }
}

// What follows are the functions of C that the compiler calls. They must not be written as loops
// that it would turn into calls of themselves.

// SAFETY: of all: as the functions of the same name in C, by contract of the compiler.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    unsafe { copy_forward(to, from, length) };
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // Forward is right unless the target begins within the source.
    if (to as usize).wrapping_sub(from as usize) >= length {
        unsafe { copy_forward(to, from, length) };
    } else {
        unsafe { copy_backward(to, from, length) };
    }
    to
}

#[cfg(target_arch = "x86_64")]
unsafe fn copy_forward(to: *mut u8, from: *const u8, length: usize) {
    unsafe {
        asm!("rep movsb", inout("rcx") length => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
}

#[cfg(target_arch = "x86_64")]
unsafe fn copy_backward(to: *mut u8, from: *const u8, length: usize) {
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") length => _,
            inout("rdi") to.wrapping_add(length).wrapping_sub(1) => _,
            inout("rsi") from.wrapping_add(length).wrapping_sub(1) => _,
            options(nostack));
    }
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn copy_forward(to: *mut u8, from: *const u8, length: usize) {
    let mut at = 0;
    // Words first, where both are aligned; volatile, so that this stays a loop.
    if (to as usize | from as usize) & 7 == 0 {
        while at + 8 <= length {
            unsafe {
                let word = from.add(at).cast::<u64>().read_volatile();
                to.add(at).cast::<u64>().write_volatile(word);
            }
            at += 8;
        }
    }
    while at < length {
        unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
        at += 1;
    }
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn copy_backward(to: *mut u8, from: *const u8, length: usize) {
    let mut at = length;
    while at > 0 {
        at -= 1;
        unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("rep stosb", inout("rcx") length => _, inout("rdi") to => _, in("al") byte as u8,
            options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    for at in 0..length {
        unsafe { to.add(at).write_volatile(byte as u8) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
    for at in 0..length {
        let (x, y) = unsafe { (a.add(at).read_volatile(), b.add(at).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
    unsafe { memcmp(a, b, length) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(string: *const u8) -> usize {
    let mut length = 0;
    while unsafe { string.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}

// The compiled `alloc` refers to functions that unwind the stack. A panic ends this program, so they are never called.

#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    quire_step_helper::give_up("a panic was resumed")
}
