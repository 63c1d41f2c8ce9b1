//! Where libclamav puts its temporary files. Every scan makes and removes a directory there, so
//! memory beats a disk by an order of magnitude on small objects; but unpacked archives go there
//! too, so it must be large enough.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::handle::c_path;

const SHARED_MEMORY: &str = "/dev/shm";

/// Makes a private directory in `base`; it is removed with what is in it on drop.
pub(super) fn create(base: &Path) -> io::Result<TempDir> {
    tempfile::Builder::new()
        .prefix("scanlib-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(base)
}

/// The same in shared memory if `max_scan_bytes` fit there, else in the system's directory.
pub(super) fn create_default(max_scan_bytes: u64) -> (PathBuf, io::Result<TempDir>) {
    let memory = Path::new(SHARED_MEMORY);
    if free_memory(memory).is_some_and(|free| free >= max_scan_bytes)
        && let Ok(dir) = create(memory)
    {
        return (memory.to_path_buf(), Ok(dir));
    }
    let system = std::env::temp_dir();
    let dir = create(&system);
    (system, dir)
}

/// Free bytes of a memory-backed file system; `None` if `dir` is on anything else.
fn free_memory(dir: &Path) -> Option<u64> {
    let path = c_path(dir)?;
    let mut stat = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: a terminated string, and room for the answer.
    if unsafe { libc::statfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: the call said that it filled it.
    let stat = unsafe { stat.assume_init() };
    let block = u64::try_from(stat.f_bsize).ok()?;
    (stat.f_type == libc::TMPFS_MAGIC).then(|| stat.f_bavail.saturating_mul(block))
}
