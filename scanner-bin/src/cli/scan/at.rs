//! Files by descriptors of their directories, so that nobody can put another file in their place by changing a path.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// How often a lookup is repeated that the kernel gave up because of renamings elsewhere.
const TRIES: u32 = 16;

/// Opens a regular file without waiting: one that has become a FIFO since it was found has perhaps no writer.
pub(super) const TO_READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
/// A place in the file system, which needs no permission to read.
pub(super) const PLACE: OFlags = OFlags::PATH;
/// As [`PLACE`], of a directory.
pub(super) const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// Opens the entry `name` of a directory, which may not be a symbolic link; with [`PLACE`] it is then the link itself.
pub(super) fn entry(dir: impl AsFd, name: impl AsRef<Path>, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(openat(
        dir,
        name.as_ref(),
        flags,
        Mode::empty(),
    )?))
}

/// Opens what lies at a relative path below a directory. No part of the path may be a symbolic link.
pub(super) fn beneath(dir: impl AsFd, path: &Path, flags: OFlags) -> io::Result<File> {
    let dir = dir.as_fd();
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let all = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..TRIES {
        match openat2(dir, path, all, Mode::empty(), resolve) {
            Ok(file) => return Ok(File::from(file)),
            Err(Errno::AGAIN) => {}
            // Linux before 5.6, or a container that does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => return step_by_step(dir, path, flags),
            Err(error) => return Err(error.into()),
        }
    }
    step_by_step(dir, path, flags)
}

/// As [`beneath`], with a call for each part of the path.
fn step_by_step(dir: impl AsFd, path: &Path, flags: OFlags) -> io::Result<File> {
    let mut at: Option<OwnedFd> = None;
    let mut parts = path.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else {
            return Err(Errno::XDEV.into());
        };
        let flags = if parts.peek().is_some() {
            DIRECTORY
        } else {
            flags
        };
        let next = match &at {
            None => entry(&dir, name, flags)?,
            Some(at) => entry(at, name, flags)?,
        };
        at = Some(next.into());
    }
    at.map(File::from).ok_or_else(|| Errno::NOENT.into())
}

/// Opens the directory at a path that has no symbolic links in it, as [`Path::canonicalize`] gives it.
pub(super) fn directory(path: &Path) -> io::Result<File> {
    let root = File::from(openat(
        rustix::fs::CWD,
        "/",
        DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?);
    match path.strip_prefix("/") {
        Ok(below) if below.as_os_str().is_empty() => Ok(root),
        Ok(below) => beneath(&root, below, DIRECTORY),
        Err(_) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_symbolic_link_is_followed_whichever_calls_the_kernel_has() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(path("real/sub")).unwrap();
        std::fs::write(path("real/sub/file"), "text").unwrap();
        symlink("real", path("link")).unwrap();
        symlink("sub", path("real/inner")).unwrap();
        symlink("file", path("real/sub/last")).unwrap();
        let root = File::open(dir.path()).unwrap();
        let both = |rel: &str| {
            let rel = Path::new(rel);
            let one = beneath(&root, rel, TO_READ).is_ok();
            assert_eq!(
                one,
                step_by_step(&root, rel, TO_READ).is_ok(),
                "{}",
                rel.display()
            );
            one
        };
        assert!(both("real/sub/file"));
        for wrong in [
            "link/sub/file",
            "real/inner/file",
            "real/sub/last",
            "../x",
            "/etc/passwd",
            "real/none",
            "",
        ] {
            assert!(!both(wrong), "{wrong}");
        }
        let real = dir.path().canonicalize().unwrap();
        assert!(directory(&real.join("real")).is_ok());
        assert!(directory(&real.join("link")).is_err());
        assert!(directory(Path::new("/")).is_ok());
    }
}
