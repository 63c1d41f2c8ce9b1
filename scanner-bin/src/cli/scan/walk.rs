//! Which files the paths of the command line stand for.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::io::{self, BufRead};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use regex::bytes::Regex;
use walkdir::{DirEntry, WalkDir};

use super::args::{FileArgs, ScanArgs};

/// What a path turned out to be.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// A file to scan.
    File(&'a Path),
    /// Standard input, to be read.
    Stdin,
    /// A directory that was entered.
    Directory(&'a Path),
    /// Not to be scanned.
    LeftOut(&'a Path, LeftOut),
    /// A directory below the deepest that may be entered.
    TooDeep(&'a Path),
    /// It cannot be scanned, and it should be.
    Refused(&'a Path, String),
}

/// Why something is not scanned although it lies in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LeftOut {
    /// `--exclude`, `--include` and their like.
    Excluded,
    /// A symbolic link inside a directory.
    SymbolicLink,
    /// A device, socket or FIFO inside a directory.
    SpecialFile,
    /// Without `--recursive`.
    Subdirectory,
    /// With `--cross-fs=no`.
    OtherFileSystem,
    /// What the kernel makes up while it is read.
    Proc,
}

impl LeftOut {
    /// The word for it in `--stats json`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            LeftOut::Excluded => "excluded",
            LeftOut::SymbolicLink => "symbolic_link",
            LeftOut::SpecialFile => "special_file",
            LeftOut::Subdirectory => "subdirectory",
            LeftOut::OtherFileSystem => "other_file_system",
            LeftOut::Proc => "proc",
        }
    }
}

/// Finds files as the flags say.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    files: &'a FileArgs,
    recursive: bool,
    proc_device: Option<u64>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(args: &'a ScanArgs) -> Walk<'a> {
        // Files of procfs have no size; a directory of that name that has one is something else.
        let proc = Path::new("/proc").metadata().ok();
        Walk {
            files: &args.files,
            recursive: args.recursive,
            proc_device: proc.filter(|m| m.len() == 0).map(|m| m.dev()),
        }
    }

    /// Visits what a path of the command line stands for.
    ///
    /// # Errors
    /// The visitor's, which ends the walk.
    pub(super) fn argument<E>(
        &self,
        path: &Path,
        visit: &mut impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if path.as_os_str() == "-" {
            return visit(Found::Stdin);
        }
        self.path(path, visit)
    }

    /// Visits what a list of paths stands for, one on each line, as it is read.
    ///
    /// # Errors
    /// The visitor's, which ends the walk.
    pub(super) fn list<E>(
        &self,
        name: &Path,
        mut lines: impl BufRead,
        visit: &mut impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut line = Vec::new();
        loop {
            line.clear();
            match lines.read_until(b'\n', &mut line) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => return visit(Found::Refused(name, error.to_string())),
            }
            let end = line
                .iter()
                .rposition(|byte| !matches!(byte, b'\n' | b'\r'))
                .map_or(0, |last| last + 1);
            match &line[..end] {
                b"" => {}
                // In a list this is a name as any other; everywhere else it is standard input.
                b"-" => self.path(Path::new("./-"), visit)?,
                path => self.path(Path::new(OsStr::from_bytes(path)), visit)?,
            }
        }
    }

    fn path<E>(
        &self,
        path: &Path,
        visit: &mut impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = &without_slashes(path);
        match path.metadata() {
            Err(error) => visit(Found::Refused(path, error.to_string())),
            Ok(metadata) if metadata.is_dir() => self.directory(path, &metadata, visit),
            Ok(metadata) if metadata.is_file() => self.file(path, visit),
            Ok(_) => visit(Found::Refused(
                path,
                "is neither a file nor a directory".to_owned(),
            )),
        }
    }

    fn file<E>(
        &self,
        path: &Path,
        visit: &mut impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let FileArgs {
            include, exclude, ..
        } = self.files;
        // As clamscan does: a file is judged by its real path, a directory by the one it is reached by.
        let real = if include.is_empty() && exclude.is_empty() {
            None
        } else {
            path.canonicalize().ok()
        };
        if wanted(real.as_deref().unwrap_or(path), include, exclude) {
            visit(Found::File(path))
        } else {
            visit(Found::LeftOut(path, LeftOut::Excluded))
        }
    }

    fn directory<E>(
        &self,
        root: &Path,
        metadata: &Metadata,
        visit: &mut impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        // As clamscan does: symbolic links are followed where they are named, not inside.
        let mut entries = WalkDir::new(root).follow_root_links(true).into_iter();
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let path = error.path().unwrap_or(root);
                    let what = error
                        .io_error()
                        .map_or_else(|| error.to_string(), ToString::to_string);
                    visit(Found::Refused(path, what))?;
                    continue;
                }
            };
            let (path, kind) = (entry.path(), entry.file_type());
            // The file type of a root that is a link is the link's.
            if entry.depth() == 0 || kind.is_dir() {
                let found = self.enter(&entry, metadata);
                if !matches!(found, Found::Directory(_)) {
                    entries.skip_current_dir();
                }
                visit(found)?;
            } else if kind.is_file() {
                self.file(path, visit)?;
            } else if kind.is_symlink() {
                visit(Found::LeftOut(path, LeftOut::SymbolicLink))?;
            } else {
                visit(Found::LeftOut(path, LeftOut::SpecialFile))?;
            }
        }
        Ok(())
    }

    /// Whether a directory is entered.
    fn enter<'e>(&self, entry: &'e DirEntry, root: &Metadata) -> Found<'e> {
        let path = entry.path();
        if entry.depth() > 0 && !self.recursive {
            return Found::LeftOut(path, LeftOut::Subdirectory);
        }
        if !wanted(path, &self.files.include_dir, &self.files.exclude_dir) {
            return Found::LeftOut(path, LeftOut::Excluded);
        }
        // One that has just vanished says so when it is read.
        let device = if entry.depth() == 0 {
            Some(root.dev())
        } else {
            entry.metadata().ok().map(|metadata| metadata.dev())
        };
        if device.is_some() && device == self.proc_device {
            return Found::LeftOut(path, LeftOut::Proc);
        }
        if !self.files.cross_fs && device.is_some_and(|device| device != root.dev()) {
            return Found::LeftOut(path, LeftOut::OtherFileSystem);
        }
        let deepest = self.files.max_dir_recursion;
        if deepest.is_some_and(|deepest| entry.depth() >= deepest as usize) {
            return Found::TooDeep(path);
        }
        Found::Directory(path)
    }
}

/// How many bytes there are to scan. `None` if that cannot be known, or on being told to stop.
pub(super) fn count(args: &ScanArgs, stop: impl Fn() -> bool) -> Option<u64> {
    let walk = Walk::new(args);
    let mut bytes = 0;
    let mut visit = |found: Found<'_>| match found {
        _ if stop() => Err(()),
        Found::Stdin => Err(()),
        Found::File(path) => {
            bytes += path.metadata().map_or(0, |metadata| metadata.len());
            Ok(())
        }
        _ => Ok(()),
    };
    for path in &args.paths {
        walk.argument(path, &mut visit).ok()?;
    }
    if let Some(list) = &args.files.file_list {
        if list.as_os_str() == "-" {
            return None;
        }
        let lines = io::BufReader::new(std::fs::File::open(list).ok()?);
        walk.list(list, lines, &mut visit).ok()?;
    }
    Some(bytes)
}

/// Whether a path passes: nothing excludes it and, if there is anything to include, something includes it.
fn wanted(path: &Path, include: &[Regex], exclude: &[Regex]) -> bool {
    let any = |list: &[Regex]| list.iter().any(|regex| matches(regex, path));
    !any(exclude) && (include.is_empty() || any(include))
}

/// As clamscan does: an expression that ends with a slash sees a path that ends with one.
fn matches(regex: &Regex, path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    if regex.as_str().ends_with('/') {
        regex.is_match(&[bytes, b"/"].concat())
    } else {
        regex.is_match(bytes)
    }
}

/// As clamscan names things: `dir/` is `dir`.
fn without_slashes(path: &Path) -> PathBuf {
    let mut bytes = path.as_os_str().as_bytes().to_vec();
    while bytes.len() > 1 && bytes.last() == Some(&b'/') {
        bytes.pop();
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regexes(list: &[&str]) -> Vec<Regex> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn exclusion_wins_and_inclusion_needs_one() {
        let wanted = |path, include: &[&str], exclude: &[&str]| {
            super::wanted(Path::new(path), &regexes(include), &regexes(exclude))
        };
        assert!(wanted("a/b.txt", &[], &[]));
        assert!(!wanted("a/b.txt", &[], &["x", "txt$"]));
        assert!(wanted("a/b.txt", &["zip", "^a/"], &[]));
        assert!(!wanted("a/b.txt", &["zip"], &[]));
        assert!(!wanted("a/b.txt", &["txt"], &["b"]));
        assert!(!wanted("a/exc", &[], &["/exc/"]), "a slash at the end");
        assert!(wanted("a/excellent", &[], &["/exc/"]));
        assert!(!wanted("a/exc", &[], &["/exc$"]));
    }

    #[test]
    fn names_lose_their_last_slashes_only() {
        for (given, want) in [
            ("a/", "a"),
            ("a//", "a"),
            ("/", "/"),
            ("//", "/"),
            ("a/b", "a/b"),
        ] {
            assert_eq!(without_slashes(Path::new(given)), Path::new(want));
        }
    }

    #[test]
    fn a_list_may_end_anyhow_and_hold_any_bytes() {
        let args: FileArgs = parse(&[]);
        let walk = Walk {
            files: &args,
            recursive: false,
            proc_device: None,
        };
        let mut seen = Vec::new();
        let list: &[u8] = b"/no/a\n\n/no/b \r\n/no/\xff/\n/no/c";
        let visited = walk.list(Path::new("list"), list, &mut |found| -> Result<
            (),
            std::convert::Infallible,
        > {
            if let Found::Refused(path, _) = found {
                seen.push(path.as_os_str().as_bytes().to_vec());
            }
            Ok(())
        });
        visited.unwrap();
        let want: [&[u8]; 4] = [b"/no/a", b"/no/b ", b"/no/\xff", b"/no/c"];
        assert_eq!(seen, want);
    }

    fn parse(flags: &[&str]) -> FileArgs {
        #[derive(clap::Parser)]
        struct Only {
            #[command(flatten)]
            files: FileArgs,
        }
        let arguments = ["scan"].iter().chain(flags);
        <Only as clap::Parser>::parse_from(arguments).files
    }
}
