//! What is done with infected files: `--move`, `--copy` and `--remove`.
//!
//! Every call names a file by a held descriptor of its directory and a name in it, so no symbolic link that comes meanwhile
//! leads elsewhere. A name can still be given to another file just before the call; so what was moved is compared with what
//! was scanned, and put back if it is another.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, linkat, openat, renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;
use scanlib::FileState;

use super::at;
use super::walk::Target;

/// Names tried for one file: `name`, `name.001`, … `name.999`.
const NAMES: u32 = 1000;
/// Directories above a file that are compared with the quarantine.
const MAX_DEPTH: u32 = 4096;
/// How much is compared at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// A file that was scanned.
#[derive(Clone, Debug)]
pub(super) struct ScannedFile {
    /// Where it lay.
    pub target: Target,
    /// What it was after the scan.
    pub state: FileState,
}

impl ScannedFile {
    /// Whether the scan was about what is there now. Names that other files of this scan lose by being moved are not counted.
    fn is_still(&self, now: &FileState) -> bool {
        is_still(&self.state, now)
    }
}

/// Whether a file holds what it held. With several names, one of them may have been moved or removed on its own account.
pub(super) fn is_still(before: &FileState, now: &FileState) -> bool {
    before == now || (before.links() > 1 && before.has_same_content(now))
}

/// What to do with infected files.
#[derive(Debug)]
pub(super) enum Quarantine {
    /// Move them into a directory.
    Move(Aside),
    /// Copy them into a directory.
    Copy(Aside),
    /// Remove them.
    Remove,
}

/// A directory for infected files.
#[derive(Debug)]
pub(super) struct Aside {
    /// To be printed.
    path: PathBuf,
    dir: File,
    id: (u64, u64),
}

/// What was done with a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// It lies in the directory already.
    Already,
    /// It was moved there.
    Moved(PathBuf),
    /// It was copied there.
    Copied(PathBuf),
    /// It was removed.
    Removed,
}

impl Aside {
    /// The directory must be there.
    ///
    /// # Errors
    /// It is not, or it is no directory.
    pub(super) fn open(path: &Path) -> io::Result<Aside> {
        let path = path.canonicalize()?;
        let dir = at::directory(&path)?;
        let id = id(&dir.metadata()?);
        Ok(Aside { path, dir, id })
    }

    /// Whether this is the directory, or one below it.
    fn holds(&self, dir: &File) -> io::Result<bool> {
        let mut dir = dir.try_clone()?;
        let mut at = id(&dir.metadata()?);
        for _ in 0..MAX_DEPTH {
            if at == self.id {
                return Ok(true);
            }
            let above = at::entry(&dir, "..", at::DIRECTORY)?;
            let above_id = id(&above.metadata()?);
            if above_id == at {
                return Ok(false);
            }
            (dir, at) = (above, above_id);
        }
        Err(io::Error::other("it lies too deep"))
    }

    /// Copies a file under a name that was free.
    fn copy(&self, source: &Source<'_>) -> io::Result<(OsString, File)> {
        let (name, mut copy) = first_free(source.name, |name| create(&self.dir, name))?;
        match fill(&mut copy, source) {
            Ok(()) => Ok((name, copy)),
            Err(error) => {
                self.discard(&name, &copy);
                Err(error)
            }
        }
    }

    /// Removes a copy. That it cannot be removed is a lesser problem than the one that its maker reports.
    fn discard(&self, name: &OsStr, copy: &File) {
        let is_it = || {
            let there = at::entry(&self.dir, name, at::PLACE)?;
            Ok::<_, io::Error>(FileState::of(&there)?.is_same_file(&FileState::of(copy)?))
        };
        if is_it().unwrap_or(false) {
            unlinkat(&self.dir, name, AtFlags::empty()).ok();
        }
    }

    fn take_in(&self, source: &Source<'_>) -> io::Result<OsString> {
        let moved = first_free(source.name, |name| {
            take(source.dir, source.name, &self.dir, name)
        });
        match moved {
            Ok((name, ())) => {
                source.settle(&self.dir, &name)?;
                Ok(name)
            }
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let (name, copy) = self.copy(source)?;
                if let Err(error) = source.remove() {
                    self.discard(&name, &copy);
                    return Err(error);
                }
                Ok(name)
            }
            Err(error) => Err(error),
        }
    }
}

impl Quarantine {
    /// Does with a file what is wanted, if it is still the one that was scanned. Nothing is ever overwritten.
    ///
    /// # Errors
    /// The file stays where it is.
    pub(super) fn put(&self, scanned: &ScannedFile) -> io::Result<Placed> {
        // A link that was named on the command line stays; what it points to is taken.
        let (dir, name) = scanned.target.parent()?;
        if let Quarantine::Move(aside) | Quarantine::Copy(aside) = self
            && aside.holds(&dir)?
        {
            return Ok(Placed::Already);
        }
        let file = at::entry(&dir, &name, at::TO_READ)?;
        let state = FileState::of(&file)?;
        if !scanned.is_still(&state) {
            return Err(io::Error::other(
                "it changed since it was scanned, or another file has its name: scan it again",
            ));
        }
        let source = Source {
            dir: &dir,
            name: &name,
            file: &file,
            state,
        };
        match self {
            Quarantine::Move(aside) => {
                let name = aside.take_in(&source)?;
                Ok(Placed::Moved(aside.path.join(name)))
            }
            Quarantine::Copy(aside) => {
                let (name, _) = aside.copy(&source)?;
                Ok(Placed::Copied(aside.path.join(name)))
            }
            Quarantine::Remove => source.remove().map(|()| Placed::Removed),
        }
    }

    /// The word for what is done, in a message that it was not.
    pub(super) fn participle(&self) -> &'static str {
        match self {
            Quarantine::Move(_) | Quarantine::Copy(_) => "moved or copied",
            Quarantine::Remove => "removed",
        }
    }
}

/// The file that was scanned, open, under the name that it had a moment ago.
struct Source<'s> {
    dir: &'s File,
    name: &'s OsStr,
    file: &'s File,
    state: FileState,
}

impl Source<'_> {
    /// Whether the file still holds what was scanned. It may have got another name.
    fn is_unchanged(&self) -> io::Result<bool> {
        Ok(self.state.has_same_content(&FileState::of(self.file)?))
    }

    /// Looks at what was renamed to this place, and gives it its name back if it is not the file that was scanned.
    fn settle(&self, dir: &File, name: &OsStr) -> io::Result<()> {
        let there = at::entry(dir, name, at::PLACE).and_then(|there| FileState::of(&there));
        match there {
            Ok(there) if self.state.has_same_content(&there) => Ok(()),
            _ => Err(self.put_back(dir, name)),
        }
    }

    /// Moves another file back, and says so.
    fn put_back(&self, dir: &File, name: &OsStr) -> io::Error {
        let back = first_free(self.name, |own| give(dir, name, self.dir, own));
        let problem = match back {
            Ok((own, ())) if own == self.name => {
                "it changed, or another file took its name, at the last moment: scan it again"
                    .to_owned()
            }
            Ok((own, ())) => format!(
                "another file took its name at the last moment, and is now '{}' beside it",
                own.display()
            ),
            Err(error) => format!(
                "another file took its name at the last moment, and could not be given it back: it is now '{}': {error}",
                name.display()
            ),
        };
        io::Error::other(problem)
    }

    /// Removes the file. It gets a name of our own first, so that no other file can have it when it goes.
    fn remove(&self) -> io::Result<()> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (_, own) = first_free(self.name, |_| {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let own = format!(".scanner-bin-{}-{number}", std::process::id());
            take(self.dir, self.name, self.dir, own.as_ref()).map(|()| own)
        })?;
        let own = OsStr::new(&own);
        self.settle(self.dir, own)?;
        Ok(unlinkat(self.dir, own, AtFlags::empty())?)
    }
}

/// Copies a file and compares the copy with it.
fn fill(copy: &mut File, source: &Source<'_>) -> io::Result<()> {
    let changed = || io::Error::other("it changed while it was copied: scan it again");
    let len = source.state.len();
    let mut original = source.file;
    original.rewind()?;
    if io::copy(&mut original.take(len), copy)? != len {
        return Err(changed());
    }
    copy.sync_all()?;
    original.rewind()?;
    copy.rewind()?;
    if !is_equal(original.take(len), &*copy, len)? || !source.is_unchanged()? {
        return Err(changed());
    }
    Ok(())
}

fn is_equal(mut one: impl Read, mut other: impl Read, len: u64) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let mut rest = len;
    while rest > 0 {
        let size = CHUNK_BYTES.min(usize::try_from(rest).unwrap_or(CHUNK_BYTES));
        one.read_exact(&mut left[..size])?;
        other.read_exact(&mut right[..size])?;
        if left[..size] != right[..size] {
            return Ok(false);
        }
        rest -= size as u64;
    }
    Ok(true)
}

/// Tries `name`, `name.001` and so on until one is free.
fn first_free<T>(
    name: &OsStr,
    mut make: impl FnMut(&OsStr) -> rustix::io::Result<T>,
) -> io::Result<(OsString, T)> {
    for number in 0..NAMES {
        let mut free = OsString::from(name);
        if number > 0 {
            free.push(format!(".{number:03}"));
        }
        match make(&free) {
            Ok(made) => return Ok((free, made)),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AlreadyExists,
        format!("{NAMES} files of its name are there already"),
    ))
}

/// Makes an empty file, under a name that must be free.
fn create(dir: &File, name: &OsStr) -> rustix::io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
}

/// Renames what others may rename meanwhile, to a name that must be free and that nobody else uses.
fn take(from: &File, name: &OsStr, to: &File, own: &OsStr) -> rustix::io::Result<()> {
    match renameat_with(from, name, to, own, RenameFlags::NOREPLACE) {
        Err(error) if is_unsupported(error) => take_over(from, name, to, own),
        renamed => renamed,
    }
}

/// As [`take`], in the place of an empty file that was made for it.
fn take_over(from: &File, name: &OsStr, to: &File, own: &OsStr) -> rustix::io::Result<()> {
    drop(create(to, own)?);
    renameat(from, name, to, own).inspect_err(|_| {
        unlinkat(to, own, AtFlags::empty()).ok();
    })
}

/// Renames what nobody else uses, to a name that must be free and that others may use.
fn give(from: &File, own: &OsStr, to: &File, name: &OsStr) -> rustix::io::Result<()> {
    match renameat_with(from, own, to, name, RenameFlags::NOREPLACE) {
        Err(error) if is_unsupported(error) => give_by_link(from, own, to, name),
        renamed => renamed,
    }
}

/// As [`give`], in two steps.
fn give_by_link(from: &File, own: &OsStr, to: &File, name: &OsStr) -> rustix::io::Result<()> {
    linkat(from, own, to, name, AtFlags::empty())?;
    unlinkat(from, own, AtFlags::empty())
}

/// Whether the kernel or the file system cannot refuse to overwrite.
fn is_unsupported(error: Errno) -> bool {
    matches!(error, Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
}

fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A directory with a file `own`, and what else is needed.
    fn scene() -> (tempfile::TempDir, File) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("own"), "scanned").unwrap();
        let opened = File::open(dir.path()).unwrap();
        (dir, opened)
    }

    #[test]
    fn nothing_is_overwritten_whatever_the_file_system_can_do() {
        for rename in [take, take_over, give, give_by_link] {
            let (dir, at) = scene();
            let path = |name: &str| dir.path().join(name);
            fs::write(path("there"), "another").unwrap();
            let taken = rename(&at, "own".as_ref(), &at, "there".as_ref());
            assert_eq!(taken, Err(Errno::EXIST));
            assert_eq!(fs::read(path("there")).unwrap(), b"another");
            assert_eq!(fs::read(path("own")).unwrap(), b"scanned");
            rename(&at, "own".as_ref(), &at, "free".as_ref()).unwrap();
            assert_eq!(fs::read(path("free")).unwrap(), b"scanned");
            assert!(!path("own").exists());
            let gone = rename(&at, "own".as_ref(), &at, "more".as_ref());
            assert_eq!(gone, Err(Errno::NOENT));
            assert!(!path("more").exists(), "nothing half done");
        }
    }

    #[test]
    fn another_file_that_was_renamed_is_put_back_and_never_over_a_third() {
        let (dir, at) = scene();
        let path = |name: &str| dir.path().join(name);
        let file = File::open(path("own")).unwrap();
        let source = Source {
            dir: &at,
            name: "name".as_ref(),
            file: &file,
            state: FileState::of(&file).unwrap(),
        };
        assert!(source.settle(&at, "own".as_ref()).is_ok());
        fs::write(path("other"), "another").unwrap();
        assert!(source.settle(&at, "other".as_ref()).is_err());
        assert_eq!(fs::read(path("name")).unwrap(), b"another");
        fs::write(path("third"), "third").unwrap();
        let error = source.settle(&at, "third".as_ref()).unwrap_err();
        assert_eq!(fs::read(path("name")).unwrap(), b"another");
        assert_eq!(fs::read(path("name.001")).unwrap(), b"third");
        assert!(error.to_string().contains("'name.001'"), "{error}");
    }

    #[test]
    fn a_file_that_was_rewritten_in_its_place_is_not_the_one_that_was_scanned() {
        let (dir, at) = scene();
        let file = File::open(dir.path().join("own")).unwrap();
        let source = Source {
            dir: &at,
            name: "own".as_ref(),
            file: &file,
            state: FileState::settled(&file).unwrap(),
        };
        fs::write(dir.path().join("own"), "cleaned").unwrap();
        assert!(source.remove().is_err());
        assert_eq!(fs::read(dir.path().join("own")).unwrap(), b"cleaned");
        let mut copy = tempfile::tempfile().unwrap();
        assert!(fill(&mut copy, &source).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
