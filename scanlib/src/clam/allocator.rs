//! The C library's allocator, which libclamav and other C libraries of the process allocate from.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the program has asked for it: the allocator is not ours.
static HOLD_LITTLE: AtomicBool = AtomicBool::new(false);

/// Asks the C library's allocator to hold on to little, for a process that runs for months.
///
/// glibc keeps a pool for each of up to eight threads a CPU, and raises the size from which blocks are given back
/// to the system whenever such a block is freed. A process that now and then handles a megabyte, or loads new
/// signatures, then holds more and more that nobody uses. This sets one pool a CPU, and fixes the size at 128 KiB,
/// glibc's own start value, and gives back what an engine held as soon as it is freed. Without glibc it does nothing.
///
/// It is the process's allocator, so a library must not decide this: call it first thing in `main`, if at all.
pub fn hold_little_memory() {
    HOLD_LITTLE.store(true, Ordering::Relaxed);
    #[cfg(target_env = "gnu")]
    {
        const LARGE_BLOCK_BYTES: libc::c_int = 128 << 10;
        let pools = std::thread::available_parallelism().map_or(1, |n| n.get().min(1024));
        let pools = libc::c_int::try_from(pools).unwrap_or(1);
        for (parameter, value) in [
            (libc::M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES),
            (libc::M_ARENA_MAX, pools),
        ] {
            // SAFETY: mallopt takes a number and its value, and may be called at any time.
            let _taken = unsafe { libc::mallopt(parameter, value) };
        }
    }
}

/// Gives back to the system what nobody uses, if the program wants that: after an engine it is much.
pub(super) fn give_back() {
    if !HOLD_LITTLE.load(Ordering::Relaxed) {
        return;
    }
    // SAFETY: malloc_trim locks what it looks at, and may be called at any time.
    #[cfg(target_env = "gnu")]
    let _gave = unsafe { libc::malloc_trim(0) };
}
