//! Which files the paths of the command line stand for.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, BufRead};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use regex::bytes::Regex;
use rustix::fs::{Dir, FileType, OFlags};
use scanlib::FileState;

use super::args::{FileArgs, ScanArgs};
use super::at;

/// What a path turned out to be.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// A file to scan.
    File(Target),
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
            Ok(metadata) if metadata.is_file() => self.file(path, None, &metadata, visit),
            Ok(_) => visit(Found::Refused(
                path,
                "is neither a file nor a directory".to_owned(),
            )),
        }
    }

    fn file<E>(
        &self,
        path: &Path,
        root: Option<&Arc<Root>>,
        metadata: &Metadata,
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
            visit(Found::File(Target {
                path: Arc::from(path),
                root: root.cloned(),
                listed: FileState::from(metadata),
            }))
        } else {
            visit(Found::LeftOut(path, LeftOut::Excluded))
        }
    }

    fn directory<E>(
        &self,
        path: &Path,
        metadata: &Metadata,
        visit: &mut impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let device = metadata.dev();
        if !self.visit_directory(path, 0, device, device, visit)? {
            return Ok(());
        }
        // As clamscan does: symbolic links are followed where they are named, not inside.
        let root = match Root::open(path) {
            Ok(root) => Arc::new(root),
            Err(error) => return visit(Found::Refused(path, error.to_string())),
        };
        let mut tree = match Tree::new(&root) {
            Ok(tree) => tree,
            Err(error) => return visit(Found::Refused(path, error.to_string())),
        };
        while let Some(entry) = tree.next() {
            let at = tree.path.as_path();
            let (kind, place) = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    visit(Found::Refused(at, error.to_string()))?;
                    continue;
                }
            };
            match (kind, place) {
                (Kind::Directory, Some(place)) => {
                    let depth = tree.depth();
                    let entered =
                        self.visit_directory(at, depth, place.metadata.dev(), device, visit)?;
                    if !entered {
                        continue;
                    }
                    let found = match tree.descend() {
                        // What is mounted there is mounted when it is opened.
                        Ok(inside) => match self.crosses(inside, device) {
                            None => continue,
                            Some(why) => {
                                tree.ascend();
                                Found::LeftOut(&tree.path, why)
                            }
                        },
                        Err(error) => Found::Refused(&tree.path, error.to_string()),
                    };
                    visit(found)?;
                }
                (Kind::File, Some(place)) => {
                    self.file(at, Some(&root), &place.metadata, visit)?;
                }
                (Kind::SymbolicLink, _) => visit(Found::LeftOut(at, LeftOut::SymbolicLink))?,
                _ => visit(Found::LeftOut(at, LeftOut::SpecialFile))?,
            }
        }
        Ok(())
    }

    /// Visits a directory, and says whether it is entered.
    fn visit_directory<E>(
        &self,
        path: &Path,
        depth: usize,
        device: u64,
        root_device: u64,
        visit: &mut impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        let found = self.enter(path, depth, device, root_device);
        let entered = matches!(found, Found::Directory(_));
        visit(found)?;
        Ok(entered)
    }

    fn enter<'e>(&self, path: &'e Path, depth: usize, device: u64, root_device: u64) -> Found<'e> {
        if depth > 0 && !self.recursive {
            return Found::LeftOut(path, LeftOut::Subdirectory);
        }
        if !wanted(path, &self.files.include_dir, &self.files.exclude_dir) {
            return Found::LeftOut(path, LeftOut::Excluded);
        }
        if let Some(why) = self.crosses(device, root_device) {
            return Found::LeftOut(path, why);
        }
        let deepest = self.files.max_dir_recursion;
        if deepest.is_some_and(|deepest| depth >= deepest as usize) {
            return Found::TooDeep(path);
        }
        Found::Directory(path)
    }

    /// Why a directory on this device is not entered.
    fn crosses(&self, device: u64, root_device: u64) -> Option<LeftOut> {
        if Some(device) == self.proc_device {
            Some(LeftOut::Proc)
        } else if !self.files.cross_fs && device != root_device {
            Some(LeftOut::OtherFileSystem)
        } else {
            None
        }
    }
}

/// Directories of one tree that are held open at a time. Those above them are read to their ends.
const MAX_OPEN: usize = 32;

/// The directory where a walk began. Files in it are found again from here, without following a link that has come since.
#[derive(Debug)]
struct Root {
    dir: File,
    path: PathBuf,
}

impl Root {
    fn open(path: &Path) -> io::Result<Root> {
        let dir = File::options()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(path)?;
        let path = path.to_owned();
        Ok(Root { dir, path })
    }
}

/// A file to scan: where it was listed, and what it was then.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The path as it is printed.
    pub path: Arc<Path>,
    /// `None` for a file that was named, by a path in which symbolic links are followed.
    root: Option<Arc<Root>>,
    listed: FileState,
}

impl Target {
    /// Length in bytes when it was listed.
    pub(super) fn len(&self) -> u64 {
        self.listed.len()
    }

    /// Whether this is another file than the one that was listed.
    pub(super) fn is_replaced_by(&self, state: &FileState) -> bool {
        !self.listed.is_same_file(state)
    }

    /// Opens the file for reading.
    ///
    /// # Errors
    /// It is gone, has become something else, or cannot be read.
    pub(super) fn open(&self) -> io::Result<File> {
        let file = match self.below() {
            Some((root, path)) => at::beneath(&root.dir, path, at::TO_READ),
            None => File::options()
                .read(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(&self.path),
        };
        let file = file.map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) if self.root.is_some() => {
                io::Error::other("a symbolic link has taken its place since it was listed")
            }
            _ => error,
        })?;
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::other("is not a regular file any more"))
        }
    }

    /// The directory that holds the file itself, not a link to it, and its name there.
    ///
    /// # Errors
    /// It is gone, or a link has taken the place of a directory.
    pub(super) fn parent(&self) -> io::Result<(File, OsString)> {
        let real;
        let path = match self.below() {
            Some((_, path)) => path,
            None => {
                real = self.path.canonicalize()?;
                &real
            }
        };
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let above = path.parent().unwrap_or(Path::new(""));
        let dir = match self.below() {
            None => at::directory(above)?,
            Some((root, _)) if above.as_os_str().is_empty() => root.dir.try_clone()?,
            Some((root, _)) => at::beneath(&root.dir, above, at::DIRECTORY)?,
        };
        Ok((dir, name.to_owned()))
    }

    fn below(&self) -> Option<(&Root, &Path)> {
        let root = self.root.as_deref()?;
        Some((root, self.path.strip_prefix(&root.path).ok()?))
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    File,
    Directory,
    SymbolicLink,
    Special,
}

impl Kind {
    /// `None` if the file system leaves it open.
    fn listed(kind: FileType) -> Option<Kind> {
        match kind {
            FileType::RegularFile => Some(Kind::File),
            FileType::Directory => Some(Kind::Directory),
            FileType::Symlink => Some(Kind::SymbolicLink),
            FileType::Unknown => None,
            _ => Some(Kind::Special),
        }
    }

    fn of(metadata: &Metadata) -> Kind {
        match metadata.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_symlink() => Kind::SymbolicLink,
            _ => Kind::Special,
        }
    }
}

/// What an entry is, other than a link or special file by its directory.
struct Place {
    metadata: Metadata,
}

/// The entries below a directory, each directory before what it holds.
struct Tree<'r> {
    root: &'r Root,
    /// The way down to the directory that is read.
    levels: VecDeque<Level>,
    /// Of the entry that came last.
    path: PathBuf,
    /// The path ends with the name of an entry, not with that of the directory that is read.
    at_entry: bool,
}

enum Level {
    Open(Dir),
    /// The rest of the entries of a directory that was closed.
    Closed(std::vec::IntoIter<io::Result<(OsString, FileType)>>),
}

impl Level {
    fn next(&mut self) -> Option<io::Result<(OsString, FileType)>> {
        match self {
            Level::Open(dir) => next_entry(dir),
            Level::Closed(rest) => rest.next(),
        }
    }
}

fn next_entry(dir: &mut Dir) -> Option<io::Result<(OsString, FileType)>> {
    loop {
        let entry = match dir.read()? {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error.into())),
        };
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            let name = OsStr::from_bytes(name).to_owned();
            return Some(Ok((name, entry.file_type())));
        }
    }
}

impl<'r> Tree<'r> {
    fn new(root: &'r Root) -> io::Result<Tree<'r>> {
        let dir = Dir::read_from(&root.dir)?;
        Ok(Tree {
            root,
            levels: VecDeque::from([Level::Open(dir)]),
            path: root.path.clone(),
            at_entry: false,
        })
    }

    /// Directories between the first one and the entry.
    fn depth(&self) -> usize {
        self.levels.len()
    }

    /// The next entry. After an error the path is that of the entry, or of the directory that cannot be read.
    fn next(&mut self) -> Option<io::Result<(Kind, Option<Place>)>> {
        loop {
            if std::mem::take(&mut self.at_entry) {
                self.path.pop();
            }
            match self.levels.back_mut()?.next() {
                Some(Ok((name, kind))) => {
                    self.path.push(name);
                    self.at_entry = true;
                    return Some(self.examine(kind));
                }
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    self.levels.pop_back();
                    self.at_entry = true;
                }
            }
        }
    }

    fn examine(&self, listed: FileType) -> io::Result<(Kind, Option<Place>)> {
        if let Some(kind @ (Kind::SymbolicLink | Kind::Special)) = Kind::listed(listed) {
            return Ok((kind, None));
        }
        let metadata = self.open(at::PLACE)?.metadata()?;
        Ok((Kind::of(&metadata), Some(Place { metadata })))
    }

    /// Opens the entry that came last.
    fn open(&self, flags: OFlags) -> io::Result<File> {
        match (self.levels.back(), self.path.file_name()) {
            (Some(Level::Open(dir)), Some(name)) => at::entry(dir.fd()?, name, flags),
            _ => {
                let below = self.path.strip_prefix(&self.root.path);
                let below = below.map_err(io::Error::other)?;
                at::beneath(&self.root.dir, below, flags)
            }
        }
    }

    /// Enters the entry that came last, and gives its device.
    fn descend(&mut self) -> io::Result<u64> {
        let dir = self.open(OFlags::RDONLY | OFlags::DIRECTORY)?;
        let device = dir.metadata()?.dev();
        if let Some(at) = self.levels.len().checked_sub(MAX_OPEN) {
            let level = &mut self.levels[at];
            if let Level::Open(dir) = level {
                let rest: Vec<_> = std::iter::from_fn(|| next_entry(dir)).collect();
                *level = Level::Closed(rest.into_iter());
            }
        }
        self.levels.push_back(Level::Open(Dir::new(dir)?));
        self.at_entry = false;
        Ok(device)
    }

    /// Leaves the directory that was just entered.
    fn ascend(&mut self) {
        self.levels.pop_back();
        self.at_entry = true;
    }
}

/// How many bytes there are to scan. `None` if that cannot be known, or on being told to stop.
pub(super) fn count(args: &ScanArgs, stop: impl Fn() -> bool) -> Option<u64> {
    let walk = Walk::new(args);
    let mut bytes = 0;
    let mut visit = |found: Found<'_>| match found {
        _ if stop() => Err(()),
        Found::Stdin => Err(()),
        Found::File(target) => {
            bytes += target.len();
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
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::process::Command;

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

    /// What a walk finds below a directory, before it is changed.
    fn targets(root: &Path) -> Vec<Target> {
        let args: FileArgs = parse(&[]);
        let walk = Walk {
            files: &args,
            recursive: true,
            proc_device: None,
        };
        let mut targets = Vec::new();
        let walked = walk.path(root, &mut |found| -> Result<(), std::convert::Infallible> {
            if let Found::File(target) = found {
                targets.push(target);
            }
            Ok(())
        });
        walked.unwrap();
        targets.sort_by(|a, b| a.path.cmp(&b.path));
        targets
    }

    #[test]
    fn what_took_the_place_of_an_entry_since_it_was_listed_is_known_for_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("tree/sub")).unwrap();
        for name in [
            "tree/fifo",
            "tree/file",
            "tree/link",
            "tree/same",
            "tree/sub/in",
        ] {
            fs::write(path(name), "text").unwrap();
        }
        let found = targets(&path("tree"));
        let [fifo, file, link, same, inside] = &found[..] else {
            panic!("{found:?}")
        };
        fs::remove_file(path("tree/fifo")).unwrap();
        let made = Command::new("mkfifo").arg(path("tree/fifo")).status();
        assert!(made.unwrap().success());
        fs::write(path("new"), "text").unwrap();
        fs::rename(path("new"), path("tree/file")).unwrap();
        fs::rename(path("tree/link"), path("moved")).unwrap();
        symlink(path("moved"), path("tree/link")).unwrap();
        fs::rename(path("tree/sub"), path("elsewhere")).unwrap();
        symlink(path("elsewhere"), path("tree/sub")).unwrap();

        let state = |target: &Target| FileState::of(&target.open().unwrap()).unwrap();
        assert!(!same.is_replaced_by(&state(same)));
        assert!(file.is_replaced_by(&state(file)));
        // Nobody will ever write to it: it is refused, and not waited for.
        assert!(fifo.open().is_err());
        let error = link.open().unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
        let error = inside.open().unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
        assert!(inside.parent().is_err());
        assert!(same.parent().is_ok());
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
