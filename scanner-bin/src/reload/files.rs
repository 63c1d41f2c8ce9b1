//! Whether signature files are still those that were loaded.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Name endings of what updaters keep beside signatures and libclamav does not load.
const NOT_LOADED: &[&str] = &["dat", "log", "tmp", "cdiff", "info", "lock"];

/// The files of some paths as a look at them found them: their names, and what tells one file from
/// another without reading it. Symlinks count as what they lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(Vec<(PathBuf, Option<Identity>)>);

/// Device, inode, length, and the times of the last write and the last change of anything.
type Identity = (u64, u64, u64, (i64, i64), (i64, i64));

impl Fingerprint {
    /// Looks at these files, and at the files in these directories.
    pub fn of(paths: &[PathBuf]) -> Fingerprint {
        let mut files = Vec::new();
        for path in paths {
            match fs::read_dir(path) {
                Ok(entries) => {
                    let entries = entries.flatten().map(|entry| entry.path());
                    files.extend(entries.filter(|file| may_be_loaded(file)));
                }
                Err(_) => files.push(path.clone()),
            }
        }
        files.sort();
        let identified = files
            .into_iter()
            .filter_map(|file| match fs::metadata(&file) {
                Ok(found) if found.is_dir() => None,
                found => Some((file, found.ok().map(|found| identity(&found)))),
            });
        Fingerprint(identified.collect())
    }

    /// When the last of them changed, by the clock of the file system.
    pub(super) fn newest(&self) -> Option<SystemTime> {
        let changed = |(_, identity): &(PathBuf, Option<Identity>)| {
            let (_, _, _, _, (seconds, nanos)) = (*identity)?;
            let since = Duration::new(seconds.try_into().ok()?, nanos.try_into().ok()?);
            SystemTime::UNIX_EPOCH.checked_add(since)
        };
        self.0.iter().filter_map(changed).max()
    }
}

fn identity(file: &Metadata) -> Identity {
    (
        file.dev(),
        file.ino(),
        file.len(),
        (file.mtime(), file.mtime_nsec()),
        (file.ctime(), file.ctime_nsec()),
    )
}

/// False for what changes often and is no signature file. What is missing here costs a load in vain.
fn may_be_loaded(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().as_encoded_bytes();
    let ending = file.extension().unwrap_or_default();
    !name.starts_with(b".")
        && !NOT_LOADED
            .iter()
            .any(|not| ending.eq_ignore_ascii_case(not))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn look(path: &Path) -> Fingerprint {
        Fingerprint::of(&[path.to_owned()])
    }

    #[test]
    fn what_changes_the_signatures_is_seen_and_what_stands_beside_them_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a.ndb"), "one").unwrap();
        let first = look(dir.path());
        assert_eq!(look(dir.path()), first);

        for beside in ["freshclam.dat", "update.LOG", ".hidden.ndb", "b.cdiff"] {
            fs::write(at(beside), "x").unwrap();
        }
        fs::create_dir(at("tmp.0123")).unwrap();
        assert_eq!(look(dir.path()), first);

        let mut seen = vec![first];
        let mut changed = |what: &str| {
            let next = look(dir.path());
            assert!(!seen.contains(&next), "{what} is not seen");
            seen.push(next);
        };
        fs::write(at("b.ndb"), "two").unwrap();
        changed("a new file");
        fs::write(at("b.ndb"), "TWO").unwrap();
        changed("a file of the same length");
        fs::rename(at("b.ndb"), at("c.ndb")).unwrap();
        changed("another name");
        fs::remove_file(at("c.ndb")).unwrap();
        fs::write(at("new"), "one").unwrap();
        fs::rename(at("new"), at("a.ndb")).unwrap();
        changed("a file of the same content in place of another");
        fs::remove_file(at("a.ndb")).unwrap();
        changed("the lack of a file");
    }

    /// As Kubernetes mounts a ConfigMap: a link to a link that is swapped for another.
    #[test]
    fn a_swapped_symlink_is_seen_and_a_path_that_is_gone_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (version, text) in [("v1", "one"), ("v2", "two")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("a.ndb"), text).unwrap();
        }
        symlink("v1", at("..data")).unwrap();
        symlink("..data/a.ndb", at("a.ndb")).unwrap();
        let by_directory = look(dir.path());
        let by_file = look(&at("a.ndb"));
        symlink("v2", at("..next")).unwrap();
        fs::rename(at("..next"), at("..data")).unwrap();
        assert_ne!(look(dir.path()), by_directory);
        assert_ne!(look(&at("a.ndb")), by_file);

        fs::remove_dir_all(at("v2")).unwrap();
        let gone = look(&at("a.ndb"));
        assert_eq!(gone, look(&at("a.ndb")));
        assert_ne!(gone, by_file);
    }
}
