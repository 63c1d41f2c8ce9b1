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
    /// What `cl_strerror` says.
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
    #[error("libclamav did not initialise: {0}; check that it is installed in full")]
    Init(ClamCode),
    /// The library loaded at run time is of another family than the headers of the build.
    #[error(
        "built for libclamav {built}, but {running} is loaded: rebuild against the installed library"
    )]
    VersionMismatch {
        /// Version of the headers.
        built: String,
        /// Version of the loaded library.
        running: String,
    },
    /// libclamav gave no engine: out of memory.
    #[error("libclamav could not allocate an engine: memory is short")]
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
        "holds no signature database: put .cvd, .cld, .ndb, .ldb, .hdb, .yar or other libclamav files there"
    )]
    Empty,
    /// The profile leaves out every signature that it holds.
    #[error(
        "the profile leaves out all of its {0} signatures, as none can match a log message: use the full profile, or other signatures"
    )]
    Outside(u64),
    /// The process that loads signatures ended meanwhile; see [`crate::Isolation`].
    #[error(
        "the process that loads signatures ended: {0}; with SIGKILL memory was short, else a file made libclamav crash"
    )]
    Ended(String),
    /// libclamav refused it.
    #[error("libclamav refused it: {0}; correct or remove the file that it names")]
    Refused(ClamCode),
    /// The digital signature of a container does not fit what it holds.
    #[error(
        "its digital signature is not good: {0}; it is damaged or was not made by ClamAV: fetch it anew"
    )]
    Unverified(ClamCode),
    /// A setting of the engine was refused.
    #[error(
        "libclamav refused the setting {setting}: {code}; set another value, or none for the default"
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
    #[error("the loaded signatures do not compile: {0}; load fewer files to find the one at fault")]
    Compile(ClamCode),
    /// A file changed while it was loaded.
    #[error("changed while it was loaded: write a new directory and switch to it instead")]
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
            lines => write!(f, "; libclamav says: {}", lines.join("; ")),
        }
    }
}

/// A rule file is wrong.
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
    /// What is wrong and what was expected.
    pub problem: String,
}

/// An object could not be judged at all.
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
    /// There is no room for an object that has to be held until it is complete.
    #[error("{}: cannot hold what is to be scanned: {error}; make room, or use another directory", .dir.display())]
    Spool {
        /// The directory for temporary files.
        dir: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The code that scanned it panicked; the worker went on with a new scanner.
    #[error("the scan panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
}

impl ScanError {
    /// True if the same object may be judged when it is tried again.
    pub fn is_retryable(&self) -> bool {
        matches!(self, ScanError::Read { .. } | ScanError::Spool { .. })
    }
}

/// A [`crate::DetectorSlot`] was not emptied, or not filled again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DrainError<E> {
    /// Somebody still used the detector when the time was over; it is back in its place.
    #[error(
        "the detector in use is not free within the time: a scan takes long, or somebody else holds it"
    )]
    InUse,
    /// There is no other detector, and the place is empty.
    #[error(transparent)]
    Build(E),
}

/// A detector needs an engine or rules: what examines nothing may not say "clean".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("neither libclamav nor rules are enabled: enable at least one of them")]
pub struct NothingEnabled;

/// The message of a panic that was caught.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "without a message".to_owned(),
    }
}
