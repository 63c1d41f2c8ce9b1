//! Every error type of the crate. A limit, a time-out and a cancellation are verdicts
//! ([`crate::Incomplete`]), not errors.
//!
//! The text of an error includes its cause, so [`source`](std::error::Error::source) does not return that cause a second time. It is in the
//! public fields.

use std::any::Any;
use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A return code of libclamav: its number, and its own text for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClamCode {
    /// The value of `cl_error_t`.
    pub number: i32,
    /// The text that `cl_strerror` returns.
    pub text: String,
}

impl fmt::Display for ClamCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.text, self.number)
    }
}

/// libclamav cannot be used in this process.
#[derive(Debug, Error, Clone)]
#[non_exhaustive]
pub enum InitError {
    /// `cl_init` failed.
    #[error("libclamav failed to initialise: {0}; check that it is installed completely")]
    Init(ClamCode),
    /// The library loaded at run time is of another family than the headers of the build.
    #[error(
        "built for libclamav {built}, but {running} is loaded; rebuild against the installed library"
    )]
    VersionMismatch {
        /// Version of the headers.
        built: String,
        /// Version of the loaded library.
        running: String,
    },
    /// libclamav could not allocate an engine, for lack of memory.
    #[error("libclamav could not allocate an engine; not enough memory is available")]
    NoEngine,
}

/// A signature database cannot be used.
#[derive(Debug, Error)]
#[error("{}: {kind}{}", .path.display(), LogSuffix(.log))]
pub struct LoadError {
    pub(crate) path: PathBuf,
    pub(crate) kind: LoadErrorKind,
    pub(crate) log: Vec<String>,
}

/// What went wrong while loading; see [`LoadError::kind`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadErrorKind {
    /// The file or directory cannot be read.
    #[error("cannot be read: {0}")]
    Io(std::io::Error),
    /// The directory holds no file that libclamav would load.
    #[error(
        "holds no signature database; add .cvd, .cld, .ndb, .ldb, .hdb, .yar or other libclamav files"
    )]
    Empty,
    /// The profile excludes every signature in the files. The field is their number.
    #[error(
        "the profile excludes all of its {0} signatures because none can match a log message; use the full profile or other signatures"
    )]
    AllExcluded(u64),
    /// The process that loads signatures ended meanwhile; see [`crate::Isolation`].
    #[error(
        "the process that loads signatures ended: {0}; SIGKILL indicates a lack of memory, any other signal a crash of libclamav on a signature file"
    )]
    Ended(String),
    /// libclamav rejected the file or directory.
    #[error("libclamav refused it: {0}; correct or remove the file that it names")]
    Refused(ClamCode),
    /// The digital signature of a container does not match its content.
    #[error(
        "its digital signature is invalid: {0}; the file is damaged or was not published by ClamAV; download it again"
    )]
    Unverified(ClamCode),
    /// A setting of the engine was refused.
    #[error(
        "libclamav refused the setting {setting}: {code}; set another value, or remove the setting to use the default"
    )]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// libclamav's answer.
        code: ClamCode,
    },
    /// A bound of [`crate::Limits`] is out of range.
    #[error("the setting {setting} cannot be used: {problem}")]
    OutOfRange {
        /// The field of [`crate::Limits`].
        setting: &'static str,
        /// Its value, in libclamav's unit, and the range.
        problem: String,
    },
    /// The signatures loaded but did not compile.
    #[error("the loaded signatures do not compile: {0}; load fewer files to find the faulty one")]
    Compile(ClamCode),
    /// A file changed while it was loaded.
    #[error("changed while it was loaded; write a new directory and switch to it instead")]
    Changed,
    /// The directory for temporary files cannot be used.
    #[error("cannot be used for temporary files: {0}; choose another with EngineBuilder::tmp_dir")]
    TmpDir(std::io::Error),
    /// The library itself is not usable.
    #[error(transparent)]
    Init(#[from] InitError),
}

impl LoadError {
    /// The file or directory concerned.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What went wrong.
    pub fn kind(&self) -> &LoadErrorKind {
        &self.kind
    }

    /// What libclamav logged meanwhile, oldest first; it names the file and the line.
    pub fn library_log(&self) -> &[String] {
        &self.log
    }
}

impl From<InitError> for LoadError {
    fn from(error: InitError) -> LoadError {
        let (path, log) = (PathBuf::from("libclamav"), Vec::new());
        LoadError {
            path,
            kind: error.into(),
            log,
        }
    }
}

struct LogSuffix<'a>(&'a [String]);

impl fmt::Display for LogSuffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => Ok(()),
            lines => write!(f, "; libclamav logged: {}", lines.join("; ")),
        }
    }
}

/// A rule file is invalid.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{file}:{line}:{column}: {problem}")]
#[non_exhaustive]
pub struct RuleError {
    /// Name of the file, as given.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The problem, and what was expected instead.
    pub problem: String,
}

/// A scan failed without a verdict.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ScanError {
    /// The object could not be read.
    #[error("{}: {error}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// An object that must be stored until it is complete does not fit in the directory for temporary files.
    #[error("{}: cannot store the object to scan: {error}; free some space or use another directory", .dir.display())]
    Spool {
        /// The directory for temporary files.
        dir: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The scan panicked. The worker continues with a new scanner.
    #[error("the scan panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
}

impl ScanError {
    /// Whether scanning the same object again may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, ScanError::Read { .. } | ScanError::Spool { .. })
    }
}

/// [`crate::DetectorSlot::drain_with`] could not replace the detector.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DrainError<E> {
    /// The detector was still in use when the timeout expired. It remains the current one.
    #[error(
        "the detector is still in use after the timeout; a scan takes long, or a caller holds a clone of it"
    )]
    InUse,
    /// Building the next detector failed. The slot is empty.
    #[error(transparent)]
    Build(E),
}

/// A detector has neither an engine nor rules. It would report every message as clean.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("neither libclamav nor rules are enabled; enable at least one of them")]
pub struct NothingEnabled;

/// The message of a panic that was caught.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "without a message".to_owned(),
    }
}
