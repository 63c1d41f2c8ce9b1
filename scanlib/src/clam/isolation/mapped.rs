//! Returning pages of program files that a process has mapped and rarely needs.
//!
//! A forked process that waits most of its life needs little of the code that loaded libraries or signatures. The kernel counts those pages
//! as the process's memory for as long as they are mapped, and brings back the ones that are needed again.

use std::ffi::{c_int, c_void};
use std::ptr;

use rustix::mm::{Advice, madvise};
use rustix::param::page_size;

/// Entries of a dynamic section: its end, and the two ways to say that code itself is relocated.
const DT_NULL: usize = 0;
const DT_TEXTREL: usize = 22;
const DT_FLAGS: usize = 30;
const DF_TEXTREL: usize = 4;

/// Unmaps the pages of all loaded program files that are the same in memory as in the file: code and constants.
pub(super) fn give_back() {
    // SAFETY: the callback matches what the call expects, does not unwind and keeps nothing.
    unsafe { libc::dl_iterate_phdr(Some(give_back_one), ptr::null_mut()) };
}

/// # Safety
///
/// `object` describes a loaded program file.
unsafe extern "C" fn give_back_one(
    object: *mut libc::dl_phdr_info,
    _size: usize,
    _data: *mut c_void,
) -> c_int {
    // SAFETY: by this function's contract.
    let object = unsafe { &*object };
    if object.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: the program headers, as many as the object has; they stay for as long as it is loaded.
    let headers =
        unsafe { std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
    let base = object.dlpi_addr as usize;
    let dynamic = headers
        .iter()
        .find(|header| header.p_type == libc::PT_DYNAMIC);
    // SAFETY: the dynamic section of a loaded object is in memory, and ends with `DT_NULL`.
    let is_relocated = dynamic.is_none_or(|header| unsafe {
        relocates_code((base + header.p_vaddr as usize) as *const [usize; 2])
    });
    if is_relocated {
        return 0;
    }
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = base + header.p_vaddr as usize;
        let end = start + header.p_memsz as usize;
        let first = start & !(page_size() - 1);
        // SAFETY: pages of a private mapping of a file that nothing writes to: the segment is not writable, and is not relocated. The
        // kernel reads them from the file again when they are needed. A failure changes nothing.
        let _gave = unsafe { madvise(first as *mut c_void, end - first, Advice::LinuxDontNeed) };
    }
    0
}

/// Whether the loader writes to segments that are not writable.
///
/// # Safety
///
/// `entry` is a dynamic section.
unsafe fn relocates_code(mut entry: *const [usize; 2]) -> bool {
    loop {
        // SAFETY: the end has not been met.
        match unsafe { *entry } {
            [DT_NULL, _] => return false,
            [DT_TEXTREL, _] => return true,
            [DT_FLAGS, flags] if flags & DF_TEXTREL != 0 => return true,
            _ => {}
        }
        // SAFETY: the next entry, as this was not the last.
        entry = unsafe { entry.add(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of this process's pages that are the same as in their files.
    fn file_bytes() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssFile:"));
        let kib = line.unwrap().split_whitespace().next().unwrap();
        kib.parse::<u64>().unwrap() * 1024
    }

    #[test]
    fn code_and_constants_are_returned_and_come_back_when_they_are_needed() {
        // In a process where no other test needs its pages meanwhile.
        if std::env::var_os("ALONE").is_none() {
            let name = "clam::isolation::mapped::tests::code_and_constants_are_returned_and_come_back_when_they_are_needed";
            let program = std::env::current_exe().unwrap();
            let mut alone = std::process::Command::new(program);
            let output = alone.args(["--exact", name]).env("ALONE", "1").output();
            let output = output.unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success() && text.contains("1 passed"),
                "{text}"
            );
            return;
        }
        let before = file_bytes();
        let sum = |text: &str| text.bytes().map(u64::from).sum::<u64>();
        let constant = "a constant of this program";
        let expected = sum(constant);
        give_back();
        let after = file_bytes();
        assert!(after < before / 2, "{after} of {before}");
        assert_eq!(sum(constant), expected);
        assert_eq!(std::hint::black_box(6.5_f64).sin(), 6.5_f64.sin());
    }
}
