//! Puts infected files aside: `--move` and `--copy`.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Which file a path stood for: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId(u64, u64);

impl FileId {
    pub(super) fn of(metadata: &Metadata) -> FileId {
        FileId(metadata.dev(), metadata.ino())
    }
}

/// Names tried for one file: `name`, `name.001`, … `name.999`.
const NAMES: u32 = 1000;

/// A directory for infected files.
#[derive(Debug)]
pub(super) struct Quarantine {
    dir: PathBuf,
    copy: bool,
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
}

impl Quarantine {
    /// The directory must be there.
    ///
    /// # Errors
    /// It is not, or it is no directory.
    pub(super) fn open(dir: &Path, copy: bool) -> io::Result<Quarantine> {
        let dir = dir.canonicalize()?;
        if !dir.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Quarantine { dir, copy })
    }

    /// Puts a file aside, if it is still the one that was scanned. Nothing in the directory is ever overwritten.
    ///
    /// # Errors
    /// The file stays where it is.
    pub(super) fn put(&self, path: &Path, scanned: Option<FileId>) -> io::Result<Placed> {
        // A link that was named on the command line stays; what it points to is put aside.
        let real = path.canonicalize()?;
        if real.starts_with(&self.dir) {
            return Ok(Placed::Already);
        }
        let mut source = File::options()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&real)?;
        if scanned != Some(FileId::of(&source.metadata()?)) {
            return Err(io::Error::other("another file has its name by now"));
        }
        let (target, mut file) = self.reserve(&real)?;
        let placed = if self.copy {
            io::copy(&mut source, &mut file).map(|_| Placed::Copied(target.clone()))
        } else {
            move_to(&real, &mut source, &target, &mut file).map(|()| Placed::Moved(target.clone()))
        };
        if placed.is_err() {
            // The half that was written; that it cannot be removed is a lesser problem than the one to report.
            fs::remove_file(&target).ok();
        }
        placed
    }

    /// Makes an empty file under a name that was free.
    fn reserve(&self, real: &Path) -> io::Result<(PathBuf, File)> {
        let name = real.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        for n in 0..NAMES {
            let mut name = OsString::from(name);
            if n > 0 {
                name.push(format!(".{n:03}"));
            }
            let target = self.dir.join(name);
            let mut options = OpenOptions::new();
            match options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&target)
            {
                Ok(file) => return Ok((target, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{NAMES} files of its name are there already"),
        ))
    }
}

fn move_to(real: &Path, source: &mut File, target: &Path, file: &mut File) -> io::Result<()> {
    match fs::rename(real, target) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            io::copy(source, file)?;
            file.sync_all()?;
            fs::remove_file(real)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_the_place_of_the_scanned_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (aside, path) = (dir.path().join("aside"), dir.path().join("file"));
        fs::create_dir(&aside).unwrap();
        fs::write(&path, "scanned").unwrap();
        let id = FileId::of(&path.metadata().unwrap());
        fs::write(dir.path().join("other"), "another").unwrap();
        fs::rename(dir.path().join("other"), &path).unwrap();
        let quarantine = Quarantine::open(&aside, false).unwrap();
        assert!(quarantine.put(&path, Some(id)).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"another");
        assert_eq!(
            fs::read_dir(&aside).unwrap().count(),
            0,
            "nothing half done"
        );
    }

    #[test]
    fn nothing_that_lies_there_is_overwritten_or_moved_again() {
        let dir = tempfile::tempdir().unwrap();
        let (aside, path) = (dir.path().join("aside"), dir.path().join("file"));
        fs::create_dir(&aside).unwrap();
        let quarantine = Quarantine::open(&aside, false).unwrap();
        for (n, name) in ["file", "file.001", "file.002"].iter().enumerate() {
            fs::write(&path, n.to_string()).unwrap();
            let id = FileId::of(&path.metadata().unwrap());
            let target = aside.canonicalize().unwrap().join(name);
            let placed = quarantine.put(&path, Some(id)).unwrap();
            assert_eq!(placed, Placed::Moved(target.clone()));
            assert_eq!(fs::read(&target).unwrap(), n.to_string().as_bytes());
            assert!(!path.exists());
            assert_eq!(quarantine.put(&target, Some(id)).unwrap(), Placed::Already);
        }
    }
}
