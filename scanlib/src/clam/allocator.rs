//! The C library's allocator, which libclamav and other C libraries of the process allocate from.

/// Asks the C library's allocator to hold on to little, for a process that runs for months.
///
/// glibc keeps a pool for each of up to eight threads a CPU, and raises the size from which blocks are given back
/// to the system whenever such a block is freed. A process that now and then handles a megabyte, or loads new
/// signatures, then holds more and more that nobody uses. This sets one pool a CPU, and fixes the size at 128 KiB,
/// glibc's own start value. Without glibc it does nothing.
///
/// It is the process's allocator, so a library must not decide this: call it first thing in `main`, if at all.
pub fn hold_little_memory() {
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
