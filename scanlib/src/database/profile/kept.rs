//! What stays of signature files, written down for libclamav to load.
//!
//! A container is unpacked on the way and never held: of its members only what stays is written. They are loaded one by one in the
//! container's order, as libclamav does, and as what they are: signed, if the container was.

use std::fs::File;
use std::io::{self, BufRead, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::excluded::Excluded;
use super::judge::{self, Rule};
use super::lines;
use crate::database::{Container, Contents, Source, format_of};
use crate::error::{LoadError, LoadErrorKind};
use clamav_prefilter::formats::{Format, visit};

/// One call of libclamav's loader.
#[derive(Debug)]
pub(crate) struct Part {
    /// A file or a directory.
    pub(crate) path: PathBuf,
    /// What it is of: the user's file or directory.
    pub(crate) of: PathBuf,
    /// It comes out of a container, which has to be verified before this is loaded.
    pub(crate) container: Option<PathBuf>,
}

impl Part {
    /// A line of libclamav's about the part, told of the user's files.
    pub(crate) fn told(&self, line: String) -> String {
        match self.path == self.of {
            true => line,
            false => line.replace(&*self.path.to_string_lossy(), &self.of.to_string_lossy()),
        }
    }
}

/// Where files for libclamav are created, in the engine's directory for temporary files.
pub(crate) trait Store {
    /// Creates a file, and the directories above it.
    fn create(&mut self, path: &Path) -> io::Result<File>;

    /// Removes a file, or a directory with its contents.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
}

/// What stays of a file or a directory.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// In the order in which it is to be loaded.
    pub(crate) parts: Vec<Part>,
    /// Every file of them.
    pub(crate) files: Vec<PathBuf>,
    /// What does not stay.
    pub(crate) excluded: Excluded,
}

/// Counts what would not stay.
pub(super) fn count(path: &Path, max: u64) -> Result<Excluded, LoadError> {
    let source = Source::new(path)?;
    let mut excluded = Excluded::default();
    for file in loaded(&source, false)? {
        Filter {
            max,
            excluded: &mut excluded,
            to: None,
            failed: None,
            contents: &mut Contents::default(),
        }
        .file(&file)?;
    }
    Ok(excluded)
}

impl Kept {
    /// The containers of a source that are loaded.
    pub(crate) fn containers(
        source: &Source,
        official_only: bool,
    ) -> Result<Vec<PathBuf>, LoadError> {
        let files = loaded(source, official_only)?.into_iter();
        Ok(files
            .filter(|file| format_of(file).is_container())
            .collect())
    }

    /// Writes what stays of a source into `to`, a directory that does not exist yet in `store`. Files are read once, and hashed on the way.
    pub(crate) fn write(
        source: &Source,
        official_only: bool,
        (store, to): (&mut dyn Store, &Path),
        max: u64,
        contents: &mut Contents,
    ) -> Result<Kept, LoadError> {
        let mut kept = Kept::default();
        // Names that are to be passed over come first, as libclamav would have it.
        let (ignored, loose) = (to.join("ignored"), to.join("loose"));
        let mut members = Vec::new();
        for (number, file) in loaded(source, official_only)?.into_iter().enumerate() {
            let format = format_of(&file);
            let is_container = format.is_container();
            let to = match format {
                Format::Container(_) => to.join(number.to_string()),
                Format::IgnoreList => ignored.clone(),
                _ => loose.clone(),
            };
            let mut filter = Filter {
                max,
                excluded: &mut kept.excluded,
                to: Some((&mut *store, &to)),
                failed: None,
                contents,
            };
            let files = filter.file(&file)?;
            if is_container {
                members.extend(files.iter().map(|path| Part {
                    path: path.clone(),
                    of: file.clone(),
                    container: Some(file.clone()),
                }));
            }
            kept.files.extend(files);
        }
        let whole = |path: &PathBuf| {
            let is_used = kept.files.iter().any(|file| file.starts_with(path));
            is_used.then(|| Part {
                path: path.clone(),
                of: source.path().to_owned(),
                container: None,
            })
        };
        let (ignored, loose) = (whole(&ignored), whole(&loose));
        kept.parts = ignored.into_iter().chain(members).chain(loose).collect();
        Ok(kept)
    }
}

/// The files that libclamav loads, in its order. If only official ones are wanted, it takes no others from a directory.
fn loaded(source: &Source, official_only: bool) -> Result<Vec<PathBuf>, LoadError> {
    let mut files = source.files()?;
    if official_only && source.path().is_dir() {
        files.retain(|file| format_of(file).counts_as_official());
    }
    Ok(order(files))
}

/// Today's signatures come first, as they take back older ones; of two containers of today's, libclamav loads the newer.
fn order(mut files: Vec<PathBuf>) -> Vec<PathBuf> {
    let named = |files: &[PathBuf], name: &str| {
        let is_it = |file: &PathBuf| file.file_name().is_some_and(|file| file == name);
        files.iter().position(is_it)
    };
    if let (Some(cld), Some(cvd)) = (named(&files, "daily.cld"), named(&files, "daily.cvd")) {
        let version = |at: usize| {
            let container = files.get(at).map(Container::read);
            container
                .and_then(|read| read.ok().flatten())
                .map(|found| found.version)
        };
        files.remove(if version(cld) > version(cvd) {
            cvd
        } else {
            cld
        });
    }
    files.sort_by_key(|file| {
        let name = file.file_name().unwrap_or_default();
        !(name == "daily.cld" || name == "daily.cvd")
    });
    files
}

fn not_written(path: &Path, error: io::Error) -> LoadError {
    LoadError {
        path: path.to_owned(),
        kind: LoadErrorKind::TmpDir(error),
        log: Vec::new(),
    }
}

/// Goes through one file.
struct Filter<'f> {
    max: u64,
    excluded: &'f mut Excluded,
    /// Where what stays is written, if it is.
    to: Option<(&'f mut dyn Store, &'f Path)>,
    /// What could not be written.
    failed: Option<LoadError>,
    contents: &'f mut Contents,
}

impl Filter<'_> {
    /// Says what was written.
    fn file(&mut self, path: &Path) -> Result<Vec<PathBuf>, LoadError> {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let is_container = format_of(path).is_container();
        let mut written = Vec::new();
        let mut contents = std::mem::take(self.contents);
        let read = contents.read(path, |content| {
            let mut number = 0;
            visit(name, content, &mut |name, format, content| {
                number += 1;
                if is_container && !format.is_loaded() {
                    return Ok(());
                }
                // A name may occur twice in a container.
                let number = is_container.then_some(number);
                self.content(name, number, format, content, &mut written)
            })
        });
        *self.contents = contents;
        match (self.failed.take(), read) {
            (Some(failed), _) => Err(failed),
            (None, Err(error)) => Err(LoadError {
                path: path.to_owned(),
                kind: LoadErrorKind::Io(error),
                log: Vec::new(),
            }),
            (None, Ok(())) => Ok(written),
        }
    }

    fn content(
        &mut self,
        name: &[u8],
        number: Option<u32>,
        format: Format,
        content: &mut dyn BufRead,
        written: &mut Vec<PathBuf>,
    ) -> io::Result<()> {
        let Some((_, to)) = &self.to else {
            self.copy(format, content, &mut io::sink())?;
            return Ok(());
        };
        let directory = match number {
            Some(number) => to.join(number.to_string()),
            None => to.to_path_buf(),
        };
        let path = directory.join(os_str(name));
        let file = self.in_store(|store| store.create(&path));
        let file = file.map_err(|error| self.not_written(&path, error))?;
        let mut file = Told {
            file: BufWriter::with_capacity(64 << 10, file),
            failed: None,
        };
        let stays = self.copy(format, content, &mut file);
        let stays = stays.and_then(|stays| file.flush().map(|()| stays));
        if let Some(error) = file.failed.take() {
            return Err(self.not_written(&path, error));
        }
        if stays? {
            written.push(path);
        } else {
            // libclamav refuses a file without a signature.
            let removed = self.in_store(|store| store.remove(&path));
            removed.map_err(|error| self.not_written(&path, error))?;
        }
        Ok(())
    }

    fn in_store<T>(&mut self, f: impl FnOnce(&mut dyn Store) -> io::Result<T>) -> io::Result<T> {
        match &mut self.to {
            Some((store, _)) => f(*store),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Copies what stays; whether there is something to load.
    fn copy(
        &mut self,
        format: Format,
        content: &mut dyn BufRead,
        to: &mut dyn Write,
    ) -> io::Result<bool> {
        match judge::rule(format) {
            Rule::Keep => io::copy(content, to).map(|_| true),
            Rule::Lines { kind, most, judge } => {
                let mut left_out = 0_u64;
                let kept = lines::copy(content, to, most, &mut |line| {
                    let Some(reason) = judge(line, self.max) else {
                        return false;
                    };
                    self.excluded.add(kind, reason);
                    left_out += 1;
                    true
                })?;
                Ok(kept > 0 || left_out == 0)
            }
        }
    }

    fn not_written(&mut self, path: &Path, error: io::Error) -> io::Error {
        let kind = error.kind();
        self.failed = Some(not_written(path, error));
        kind.into()
    }
}

fn os_str(name: &[u8]) -> &std::ffi::OsStr {
    use std::os::unix::ffi::OsStrExt as _;
    std::ffi::OsStr::from_bytes(name)
}

/// Remembers that it was the writing that failed, and not the reading.
struct Told {
    file: BufWriter<File>,
    failed: Option<io::Error>,
}

impl Told {
    fn tell<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let kind = error.kind();
            self.failed = Some(error);
            kind.into()
        })
    }
}

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.file.write(bytes);
        self.tell(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.file.flush();
        self.tell(result)
    }
}
