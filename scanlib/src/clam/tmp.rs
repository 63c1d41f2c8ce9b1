//! Where libclamav puts its temporary files. Every scan makes and removes a directory there, so
//! memory beats a disk by an order of magnitude on small objects; but unpacked archives go there
//! too, so it must be large enough.
//!
//! It must also be watched: when the file system is full, several of libclamav's unpackers lose what
//! they write without an error and without a line in the log, and the object is then called clean.

use std::collections::hash_map::RandomState;
use std::ffi::{CStr, CString};
use std::fs::{self, DirBuilder, File, Permissions};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags};
use tempfile::TempDir;

const SHARED_MEMORY: &str = "/dev/shm";
const PREFIX: &str = "scanlib-";
/// A directory that nobody holds is left over from a killed process, unless it is just being made.
const LEFT_OVER_AFTER: Duration = Duration::from_secs(60);

/// Less than this, and a file of some scan may have lost its end. What gets lost in silence are the
/// buffers of stdio, 4 KiB each; this is room for those of many threads, and for pages the system
/// counts late.
const MIN_FREE_BYTES: u64 = 1 << 20;
/// A scan of an archive makes a few directories and files at a time.
const MIN_FREE_FILES: u64 = 64;
/// Names of a directory that are held at a time while it is removed.
const MAX_NAMES: usize = 1 << 12;

/// A private directory, removed with what is in it on drop.
#[derive(Debug)]
pub(super) struct ScratchDir {
    dir: Dir,
    /// Open, because asking an open file for its file system is quicker than asking by path; and
    /// locked, which tells other processes that the directory is in use.
    handle: File,
    /// How often a scan noticed that there was too little room. A scan that overlaps with such a moment cannot be
    /// sure of its own files.
    troubles: Troubles,
}

#[derive(Debug)]
enum Dir {
    Own(TempDir),
    /// Somebody else removes it.
    Other(PathBuf),
}

#[derive(Debug)]
enum Troubles {
    Own(AtomicU64),
    /// In memory that several processes share.
    Shared(&'static AtomicU64),
}

impl Deref for Troubles {
    type Target = AtomicU64;

    fn deref(&self) -> &AtomicU64 {
        match self {
            Troubles::Own(count) => count,
            Troubles::Shared(count) => count,
        }
    }
}

impl ScratchDir {
    /// In `base`, which must exist and have room.
    pub(super) fn create(base: &Path) -> io::Result<ScratchDir> {
        remove_left_overs(base);
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(base)?;
        let handle = File::open(dir.path())?;
        handle.lock_shared()?;
        let scratch = ScratchDir {
            dir: Dir::Own(dir),
            handle,
            troubles: Troubles::Own(AtomicU64::new(0)),
        };
        match scratch.shortage() {
            None => Ok(scratch),
            Some(shortage) => Err(io::Error::new(io::ErrorKind::StorageFull, shortage)),
        }
    }

    /// Creates the directory again if somebody removed it. Its base directory has to be there.
    pub(super) fn restore(&mut self) -> io::Result<()> {
        let path = self.path();
        if Identity::of(path).ok() == Some(Identity::new(&self.handle.metadata()?)) {
            return Ok(());
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let handle = File::open(path)?;
        handle.lock_shared()?;
        self.handle = handle;
        Ok(())
    }

    /// A directory that somebody else made and removes; `troubles` counts for all scans in its file system.
    pub(super) fn of(dir: &Path, troubles: &'static AtomicU64) -> io::Result<ScratchDir> {
        Ok(ScratchDir {
            handle: File::open(dir)?,
            dir: Dir::Other(dir.to_owned()),
            troubles: Troubles::Shared(troubles),
        })
    }

    pub(super) fn path(&self) -> &Path {
        match &self.dir {
            Dir::Own(dir) => dir.path(),
            Dir::Other(dir) => dir,
        }
    }

    /// A sentence if there is not enough room left. Takes about a microsecond.
    pub(super) fn shortage(&self) -> Option<String> {
        let room = Room::of(&self.handle)?;
        if room.bytes >= MIN_FREE_BYTES && room.files >= MIN_FREE_FILES {
            return None;
        }
        let Room { bytes, files, .. } = room;
        Some(format!(
            "too little room for temporary files in {}: {bytes} bytes and {files} files are left, \
             {MIN_FREE_BYTES} and {MIN_FREE_FILES} are needed",
            self.path().display()
        ))
    }

    pub(super) fn troubles(&self) -> u64 {
        self.troubles.load(Ordering::SeqCst)
    }

    pub(super) fn report_trouble(&self) {
        self.troubles.fetch_add(1, Ordering::SeqCst);
    }

    /// Does what a scan does: makes a directory and writes a file into it.
    pub(super) fn check(&self) -> io::Result<()> {
        if let Some(shortage) = self.shortage() {
            return Err(io::Error::new(io::ErrorKind::StorageFull, shortage));
        }
        let probe = TempDir::with_prefix_in("probe-", self.path())?;
        fs::write(probe.path().join("probe"), [b'x'; 4096])?;
        probe.close()
    }
}

/// Where directories for temporary files are tried in turn by default: in shared memory if `max_scan_bytes` fit there, and in the system's
/// directory.
pub(super) fn default_bases(max_scan_bytes: u64) -> Vec<PathBuf> {
    let memory = Path::new(SHARED_MEMORY);
    let room = File::open(memory)
        .ok()
        .and_then(|dir| Room::of(&dir))
        .filter(|room| room.in_memory && room.bytes >= max_scan_bytes);
    let memory = room.map(|_| memory.to_path_buf());
    memory.into_iter().chain([std::env::temp_dir()]).collect()
}

/// Which directory is at a path: another one that is created there later differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(path: &Path) -> io::Result<Identity> {
        Ok(Identity::new(&fs::metadata(path)?))
    }

    fn new(metadata: &fs::Metadata) -> Identity {
        Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        if let Dir::Own(dir) = &self.dir {
            // What is left is removed with the directory itself.
            let _gone = remove_tree(dir.path());
        }
    }
}

/// Removes a directory with what is in it, however deep that is: whoever made it may have been taken over. A recursion could be made to
/// run out of stack or of descriptors; here what is in a directory moves up until nothing is left.
///
/// Nobody may change the directory meanwhile.
pub(super) fn remove_tree(dir: &Path) -> io::Result<()> {
    const OPEN: OFlags = OFlags::RDONLY
        .union(OFlags::DIRECTORY)
        .union(OFlags::NOFOLLOW)
        .union(OFlags::CLOEXEC);
    // No name that is there already.
    let random = RandomState::new().build_hasher().finish();
    let mut moved = 0_u64;
    let top = rustix::fs::open(dir, OPEN, Mode::empty())?;
    loop {
        let mut is_empty = true;
        for entry in names(&top)? {
            is_empty = false;
            if unlink(&top, &entry)? {
                continue;
            }
            let inner = rustix::fs::openat(&top, &entry, OPEN, Mode::empty())?;
            loop {
                let below = names(&inner)?;
                if below.is_empty() {
                    break;
                }
                for name in below {
                    if !unlink(&inner, &name)? {
                        moved += 1;
                        let to = format!("moved-{random:x}-{moved}");
                        rustix::fs::renameat(&inner, &name, &top, to)?;
                    }
                }
            }
            drop(inner);
            rustix::fs::unlinkat(&top, &entry, AtFlags::REMOVEDIR)?;
        }
        if is_empty {
            break;
        }
    }
    fs::remove_dir(dir)
}

/// Some of the names in a directory: there may be very many.
fn names(dir: &impl AsFd) -> io::Result<Vec<CString>> {
    let entries = rustix::fs::Dir::read_from(dir)?;
    let names = entries.filter_map(|entry| match entry {
        Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => None,
        Ok(entry) => Some(Ok(entry.file_name().to_owned())),
        Err(error) => Some(Err(error.into())),
    });
    names.take(MAX_NAMES).collect()
}

/// Removes a file or an empty directory; false if it is a directory that is not empty, which can be opened now.
fn unlink(dir: &impl AsFd, name: &CStr) -> io::Result<bool> {
    use rustix::io::Errno;
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {
            rustix::fs::chmodat(dir, name, Mode::RWXU, AtFlags::empty())?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// A killed process cannot clean up, and what it left would fill the file system in the end. To fail
/// here does no harm: either there is room enough, or somebody will be told that there is not.
fn remove_left_overs(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let ours = entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PREFIX.as_bytes());
        if ours && is_left_over(&entry.path()).unwrap_or(false) {
            let _gone = remove_tree(&entry.path());
        }
    }
}

/// The lock goes with the process that held it, however it ended.
fn is_left_over(dir: &Path) -> io::Result<bool> {
    // Not through a link, which might lead anywhere.
    if !fs::symlink_metadata(dir)?.is_dir() {
        return Ok(false);
    }
    let handle = File::open(dir)?;
    let age = handle.metadata()?.modified()?.elapsed().unwrap_or_default();
    Ok(age > LEFT_OVER_AFTER && handle.try_lock().is_ok())
}

/// What is left on a file system.
struct Room {
    bytes: u64,
    files: u64,
    in_memory: bool,
}

impl Room {
    /// `None` if the system does not say.
    fn of(dir: &File) -> Option<Room> {
        let mut stat = MaybeUninit::<libc::statfs>::uninit();
        // SAFETY: an open descriptor, and room for the answer.
        if unsafe { libc::fstatfs(dir.as_raw_fd(), stat.as_mut_ptr()) } != 0 {
            return None;
        }
        // SAFETY: the call said that it filled it.
        let stat = unsafe { stat.assume_init() };
        // A total of zero means that the file system does not count these: an unlimited tmpfs, or btrfs's files.
        let limited = |total: u64, left: u64| if total == 0 { u64::MAX } else { left };
        let block = u64::try_from(stat.f_bsize).ok()?;
        Some(Room {
            bytes: limited(stat.f_blocks, stat.f_bavail.saturating_mul(block)),
            files: limited(stat.f_files, stat.f_ffree),
            in_memory: stat.f_type == libc::TMPFS_MAGIC,
        })
    }
}
