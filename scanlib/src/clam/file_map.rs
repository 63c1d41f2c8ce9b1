//! A file as memory, for who scans files that are in memory anyway.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};

/// A file mapped into memory, to be scanned as [`Payload::Bytes`](crate::Payload::Bytes) without a copy.
///
/// [`Payload::File`](crate::Payload::File) needs no such care: use this for files that others hand over in shared
/// memory. The mapping is private and cannot be written to; it goes with this value.
///
/// # The risk
///
/// If somebody makes the file shorter, touching what was there kills the process with `SIGBUS`; if somebody writes to
/// it, the bytes change under a Rust reference, which is undefined behaviour. So there are two ways in:
/// [`FileMap::sealed`] takes only files that nobody can change any more, and [`FileMap::new`] leaves the proof to you.
#[derive(Debug)]
pub struct FileMap {
    /// Dangling if `len` is 0, which cannot be mapped.
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: bytes that nobody writes to, and not tied to the thread that mapped them.
unsafe impl Send for FileMap {}
// SAFETY: as above.
unsafe impl Sync for FileMap {}

impl FileMap {
    /// Maps a file of memory (`memfd_create`) that is sealed against shrinking and writing.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::PermissionDenied`] if it is not sealed so; [`io::ErrorKind::InvalidInput`] if files of its kind
    /// cannot be; else what the system says.
    pub fn sealed(file: &File) -> io::Result<FileMap> {
        // SAFETY: an open descriptor; the call has no argument beside it.
        let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
        if seals < 0 {
            return Err(io::Error::last_os_error());
        }
        let needed = libc::F_SEAL_SHRINK | libc::F_SEAL_WRITE;
        if seals & needed != needed {
            let problem = "not sealed against shrinking and writing: add F_SEAL_SHRINK and F_SEAL_WRITE, or scan it \
                           as Payload::File";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
        }
        // SAFETY: the system keeps everybody from changing the file, for ever.
        unsafe { FileMap::new(file) }
    }

    /// Maps a file.
    ///
    /// # Safety
    ///
    /// As long as the map lives nobody, in this process or another, may shorten the file or write to it.
    ///
    /// # Errors
    ///
    /// The file cannot be mapped: it is not opened for reading, is a pipe, or is larger than the address space.
    pub unsafe fn new(file: &File) -> io::Result<FileMap> {
        let len = usize::try_from(file.metadata()?.len())
            .map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        if len == 0 {
            let start = NonNull::dangling();
            return Ok(FileMap { start, len });
        }
        // SAFETY: asks for a new mapping, at an address of the system's choice, of an open descriptor.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        match NonNull::new(start.cast()) {
            Some(start) => Ok(FileMap { start, len }),
            None => Err(io::Error::other("mapped at address zero")),
        }
    }
}

impl Deref for FileMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: mapped for `len` bytes until drop, and unchanged by the promise made to `new`; an empty slice may
        // dangle.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for FileMap {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: mapped by `new` with this length, and unmapped only here; no borrow is left.
            let _unmapped = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        }
    }
}
