//! What the benches share: where they run, said beside every result, and where libclamav puts its temporary files.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The machine, the library and the commit of a measurement, on one line: a number without them cannot be compared.
pub fn surroundings() -> String {
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "libclamav {}, {} ({threads} threads), commit {}{}, temporary files in {}",
        env!("BENCH_LIBCLAMAV"),
        env!("BENCH_CPU"),
        env!("BENCH_COMMIT"),
        if has_changes() { " and changes" } else { "" },
        tmp_dir().display(),
    )
}

/// Memory if the machine has a tmpfs, else the usual place. A scan makes and removes a directory there, which on a disk can
/// cost more than the scan itself.
pub fn tmp_dir() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    }
}

/// Whether what is measured is not exactly the commit.
fn has_changes() -> bool {
    let diff = Command::new("git")
        .args(["diff", "--quiet", "HEAD"])
        .status();
    diff.is_ok_and(|status| status.code() == Some(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_names_its_library_machine_and_commit() {
        let line = surroundings();
        for part in ["libclamav ", "threads)", "commit ", "temporary files in /"] {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
        assert!(!line.contains('\n'));
    }
}
