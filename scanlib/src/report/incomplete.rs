//! Reasons why a scan did not examine the whole object.

use std::fmt;

/// Why a scan did not examine everything. Not an error, and not clean.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Incomplete {
    /// The caller's token was cancelled.
    Cancelled,
    /// The request's deadline passed.
    Deadline,
    /// The engine's own time limit for one scan passed.
    EngineTimeLimit,
    /// The object is larger than a limit.
    FileTooLarge {
        /// Length of the object in bytes, where known.
        len: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// Something inside the object is larger than the limit; its length is not known.
    MemberTooLarge {
        /// The limit in bytes.
        max: u64,
    },
    /// The engine's limit on bytes scanned with everything extracted was met.
    ScanBytes,
    /// The engine's limit on files inside a container was met.
    FileCount,
    /// The engine's limit on nesting was met.
    Recursion,
    /// The message carries more encoded payloads than are decoded.
    DecodedPayloads,
    /// The message carries a payload that is encoded more often than is decoded.
    DecodeDepth,
    /// Another limit of libclamav, by the name it reports.
    OtherLimit(String),
    /// The process that scanned it ended, and so did a second one that scanned it alone; see [`crate::Isolation`].
    Crashed {
        /// How the second one ended: a signal, as a rule.
        how: String,
    },
    /// The object needs more room for temporary files than the directory has, while other objects can be scanned.
    TemporaryRoom,
    /// libclamav reported an error about the object's content: a damaged or contradictory file. Scanning it again gives the same
    /// answer.
    Malformed {
        /// What libclamav returned, if it returned an error.
        code: Option<i32>,
        /// What libclamav logged meanwhile. Untrusted: it may quote the object.
        log: Vec<String>,
    },
    /// The file changed while it was scanned, so what was examined is not what it holds now, nor what it held before.
    Changed,
    /// The environment kept libclamav from looking, for example because its temporary directory is missing or full. Another
    /// scan may succeed.
    EngineError {
        /// What libclamav returned, if it returned an error.
        code: Option<i32>,
        /// What libclamav logged meanwhile.
        log: Vec<String>,
    },
}

impl Incomplete {
    /// A short stable word for metrics and for the `limits` of a result.
    pub fn reason(&self) -> &'static str {
        match self {
            Incomplete::Cancelled => "cancelled",
            Incomplete::Deadline => "deadline",
            Incomplete::EngineTimeLimit => "max_scantime",
            Incomplete::FileTooLarge { .. } | Incomplete::MemberTooLarge { .. } => "max_filesize",
            Incomplete::ScanBytes => "max_scansize",
            Incomplete::FileCount => "max_files",
            Incomplete::Recursion => "max_recursion",
            Incomplete::DecodedPayloads => "max_decoded_payloads",
            Incomplete::DecodeDepth => "decode_depth",
            Incomplete::OtherLimit(_) => "other_limit",
            Incomplete::Crashed { .. } => "crash",
            Incomplete::TemporaryRoom => "temporary_room",
            Incomplete::Malformed { .. } => "malformed",
            Incomplete::Changed => "changed",
            Incomplete::EngineError { .. } => "engine_error",
        }
    }
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Incomplete::Cancelled => f.write_str("the scan was cancelled"),
            Incomplete::Deadline => f.write_str("the deadline passed"),
            Incomplete::EngineTimeLimit => f.write_str("libclamav's time limit passed"),
            Incomplete::FileTooLarge { len, max } => {
                write!(f, "{len} bytes, more than the limit of {max}")
            }
            Incomplete::MemberTooLarge { max } => {
                write!(
                    f,
                    "a file inside it is larger than the limit of {max} bytes"
                )
            }
            Incomplete::ScanBytes => f.write_str("libclamav's limit on scanned bytes was met"),
            Incomplete::FileCount => f.write_str("libclamav's limit on files was met"),
            Incomplete::Recursion => f.write_str("libclamav's limit on nesting was met"),
            Incomplete::DecodedPayloads => {
                f.write_str("the message carries more encoded payloads than are decoded")
            }
            Incomplete::DecodeDepth => f.write_str(
                "the message carries a payload that is encoded more often than is decoded",
            ),
            Incomplete::OtherLimit(name) => write!(f, "a limit of libclamav was met: {name}"),
            Incomplete::Crashed { how } => {
                write!(f, "the process that scanned it ended twice: {how}")
            }
            Incomplete::TemporaryRoom => {
                f.write_str("it needs more room for temporary files than there is")
            }
            Incomplete::Malformed { code, log } => {
                f.write_str("libclamav reported malformed content")?;
                write_details(f, *code, log)
            }
            Incomplete::Changed => f.write_str("the file changed while it was scanned"),
            Incomplete::EngineError { code, log } => {
                f.write_str("libclamav could not look")?;
                write_details(f, *code, log)
            }
        }
    }
}

/// The code and the first line of the log, where there are any.
fn write_details(f: &mut fmt::Formatter<'_>, code: Option<i32>, log: &[String]) -> fmt::Result {
    if let Some(code) = code {
        write!(f, " (code {code})")?;
    }
    if let Some(line) = log.first() {
        write!(f, ": {line}")?;
    }
    Ok(())
}
