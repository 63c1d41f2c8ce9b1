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
    /// The message holds more encoded payloads than [`crate::DecodeLimits::payloads`].
    DecodedPayloads,
    /// The message holds a payload that is encoded more times than [`crate::DecodeLimits::depth`].
    DecodeDepth,
    /// Another limit of libclamav, by the name it reports.
    OtherLimit(String),
    /// The process that scanned it ended, and so did a second one that scanned it alone; see [`crate::Isolation`].
    Crashed {
        /// How the second one ended: a signal, as a rule.
        how: String,
    },
    /// The object needs more space for temporary files than the directory has. Other objects can still be scanned.
    TemporaryRoom,
    /// Content error: the object is damaged or contradictory. Scanning it again gives the same result.
    Malformed {
        /// The error code that libclamav returned, if any.
        code: Option<i32>,
        /// The lines that libclamav logged during the scan. Untrusted: it may quote the object.
        log: Vec<String>,
    },
    /// The file changed while it was scanned, so the examined bytes match neither the old nor the new content.
    Changed,
    /// Environment error: libclamav could not examine the object, for example because its temporary directory is missing or
    /// full. Another scan may succeed.
    EngineError {
        /// The error code that libclamav returned, if any.
        code: Option<i32>,
        /// The lines that libclamav logged during the scan.
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
            Incomplete::ScanBytes => f.write_str("libclamav's limit on scanned bytes was exceeded"),
            Incomplete::FileCount => f.write_str("libclamav's limit on files was exceeded"),
            Incomplete::Recursion => f.write_str("libclamav's limit on nesting was exceeded"),
            Incomplete::DecodedPayloads => {
                f.write_str("the message holds more encoded payloads than the limit")
            }
            Incomplete::DecodeDepth => {
                f.write_str("the message holds a payload that is encoded more times than the limit")
            }
            Incomplete::OtherLimit(name) => write!(f, "a limit of libclamav was exceeded: {name}"),
            Incomplete::Crashed { how } => {
                write!(f, "the scanning process ended twice on this object: {how}")
            }
            Incomplete::TemporaryRoom => {
                f.write_str("the object needs more space for temporary files than is available")
            }
            Incomplete::Malformed { code, log } => {
                f.write_str("libclamav reported malformed content")?;
                write_details(f, *code, log)
            }
            Incomplete::Changed => f.write_str("the file changed while it was scanned"),
            Incomplete::EngineError { code, log } => {
                f.write_str("libclamav could not examine the object")?;
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
