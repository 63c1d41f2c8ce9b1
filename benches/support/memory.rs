//! How much memory this process takes, by the kernel's account.

use std::fs;

/// Bytes in memory now.
///
/// # Panics
///
/// There is no `/proc` of Linux.
pub fn resident_bytes() -> u64 {
    bytes("/proc/self/status", "VmRSS:")
}

/// Those of them that this process has for itself: what is mapped from files, programs above all, the system has for everybody, and how much of it counts
/// differs by megabytes from start to start.
///
/// # Panics
///
/// As [`resident_bytes`].
pub fn own_bytes() -> u64 {
    bytes("/proc/self/status", "RssAnon:")
}

/// The most bytes in memory since the start, or since [`forget_peak`].
///
/// # Panics
///
/// As [`resident_bytes`].
pub fn peak_bytes() -> u64 {
    bytes("/proc/self/status", "VmHWM:")
}

/// Lets [`peak_bytes`] start anew.
///
/// # Panics
///
/// The kernel does not do that.
#[allow(clippy::expect_used)]
pub fn forget_peak() {
    fs::write("/proc/self/clear_refs", "5").expect("the kernel forgets the peak of memory");
}

#[allow(clippy::expect_used)]
fn bytes(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).expect("Linux and its /proc");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    number.unwrap_or_else(|| panic!("no {name} in {file}")) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_seen_after_it_is_gone_and_then_forgotten() {
        const MUCH: usize = 64 << 20;
        let before = resident_bytes();
        let much = std::hint::black_box(vec![1_u8; MUCH]);
        assert!(resident_bytes() >= before + MUCH as u64 / 2);
        drop(much);
        assert!(peak_bytes() >= before + MUCH as u64 / 2);
        forget_peak();
        assert!(peak_bytes() < before + MUCH as u64 / 2);
    }
}
