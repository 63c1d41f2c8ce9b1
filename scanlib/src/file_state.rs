//! Whether a file is still the one that was scanned.

use std::fs::{File, Metadata};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::report::Incomplete;

/// Longest wait for the clock of the file system to move on. It ticks every 10 ms at most.
const MAX_WAIT: Duration = Duration::from_millis(50);

/// Identity, size and times of a file.
///
/// Two equal states of a file mean that nobody changed it in between, by a system call and with a clock that was not set
/// back: every write, truncation, renaming and linking moves a time. A program that writes through a shared memory
/// mapping can do so without moving one.
///
/// The scanner compares the states before and after a scan by itself and reports [`Incomplete::Changed`]. This type is for
/// those who read files themselves, or do something with a file after the scan.
///
/// ```
/// use scanlib::FileState;
///
/// let file = tempfile::NamedTempFile::new()?;
/// let before = FileState::settled(file.as_file())?;
/// assert_eq!(FileState::of(file.as_file())?, before);
/// std::fs::write(file.path(), "more")?;
/// assert_ne!(FileState::of(file.as_file())?, before);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    device: u64,
    inode: u64,
    links: u64,
    len: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// As `modified`; moves with names, links and permissions as well, and nobody can set it.
    changed: (i64, i64),
}

impl FileState {
    /// The state of an open file.
    ///
    /// # Errors
    ///
    /// The system cannot tell.
    pub fn of(file: &File) -> io::Result<FileState> {
        Ok(FileState::from(&file.metadata()?))
    }

    /// The state of an open file, taken so that every later change shows.
    ///
    /// Most file systems take their times from a clock that ticks every 1 to 10 ms, so two changes within a tick have
    /// the same time. If the last change was in the current tick, this waits for the next one. It does not wait for a
    /// file without a name, which nobody else can open.
    ///
    /// # Errors
    ///
    /// The system cannot tell.
    pub fn settled(file: &File) -> io::Result<FileState> {
        let started = Instant::now();
        loop {
            let state = FileState::of(file)?;
            let now = clock_gettime(ClockId::RealtimeCoarse);
            let passed = (now.tv_sec, now.tv_nsec) > state.changed;
            if passed || state.links == 0 || started.elapsed() > MAX_WAIT {
                return Ok(state);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether both are of one file, whatever happened to its contents.
    pub fn is_same_file(&self, other: &FileState) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Whether both are of one file with the same size and time of modification. Unlike equality this allows for new names and
    /// permissions.
    pub fn has_same_content(&self, other: &FileState) -> bool {
        self.is_same_file(other) && (self.len, self.modified) == (other.len, other.modified)
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the length is 0.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of names.
    pub fn links(&self) -> u64 {
        self.links
    }
}

impl From<&Metadata> for FileState {
    fn from(metadata: &Metadata) -> FileState {
        FileState {
            device: metadata.dev(),
            inode: metadata.ino(),
            links: metadata.nlink(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Tells at the end of a scan whether the file changed since its beginning.
#[derive(Debug)]
pub(crate) struct Watch<'f> {
    file: Handle<'f>,
    /// `None` for a pipe or a device, which has no contents of its own.
    before: Option<FileState>,
}

#[derive(Debug)]
pub(crate) enum Handle<'f> {
    Lent(&'f File),
    Owned(File),
}

impl Deref for Handle<'_> {
    type Target = File;

    fn deref(&self) -> &File {
        match self {
            Handle::Lent(file) => file,
            Handle::Owned(file) => file,
        }
    }
}

impl<'f> Watch<'f> {
    pub(crate) fn start(file: Handle<'f>) -> io::Result<Watch<'f>> {
        let is_file = file.metadata()?.is_file();
        let before = is_file.then(|| FileState::settled(&file)).transpose()?;
        Ok(Watch { file, before })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Why the answer of a scan is not one about the file, if it is not. A limit or a cancellation is still the reason; an
    /// error is most likely due to the change.
    pub(crate) fn end(&self, incomplete: Option<Incomplete>) -> Option<Incomplete> {
        match incomplete {
            None | Some(Incomplete::EngineError { .. }) if self.has_changed() => {
                Some(Incomplete::Changed)
            }
            other => other,
        }
    }

    fn has_changed(&self) -> bool {
        // What cannot be told is not the same.
        self.before
            .is_some_and(|before| FileState::of(&self.file).ok() != Some(before))
    }
}
