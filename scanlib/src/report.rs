//! What a scan says: [`Report`], [`Verdict`], [`Detection`] and the reasons for [`Incomplete`].

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How much a detection matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Context only.
    Info,
    /// Noise that matters in numbers.
    Low,
    /// Suspicious; needs context.
    Medium,
    /// Strong malicious intent, or confirmed (test) malware.
    High,
    /// Execution, credential theft or destruction under way.
    Critical,
}

impl Severity {
    /// The lower-case word used in results and rule files.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which rendering of a record a detection was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum View {
    /// The bytes as they came.
    Raw,
    /// The syslog MSG part, or the JSON field that holds the message, unescaped.
    Body,
    /// A payload carved from the body and decoded.
    Decoded,
    /// A buffer with one line feed in front, because libclamav ignores the type of the bare one.
    Guarded,
}

impl View {
    /// The lower-case word used in results and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            View::Raw => "raw",
            View::Body => "body",
            View::Decoded => "decoded",
            View::Guarded => "guarded",
        }
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a detection is about, as results name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ThreatType {
    /// Malicious code or a command that runs it.
    Malware,
    /// A libclamav signature.
    Virus,
    /// Input that tries to leave its context: SQL, shell, markup.
    Injection,
    /// Suspicious content without proof.
    Suspicious,
    /// An attempt at a known vulnerability.
    Exploit,
    /// Probing and scanning.
    Recon,
    /// Authentication events.
    Auth,
    /// A secret in plain sight.
    Exposure,
    /// A test marker.
    Test,
    /// A possibly unwanted application.
    Pua,
}

impl ThreatType {
    /// The lower-case word used in results and rule files.
    pub fn as_str(self) -> &'static str {
        match self {
            ThreatType::Malware => "malware",
            ThreatType::Virus => "virus",
            ThreatType::Injection => "injection",
            ThreatType::Suspicious => "suspicious",
            ThreatType::Exploit => "exploit",
            ThreatType::Recon => "recon",
            ThreatType::Auth => "auth",
            ThreatType::Exposure => "exposure",
            ThreatType::Test => "test",
            ThreatType::Pua => "pua",
        }
    }
}

/// What a detection keeps of the text that a rule matched, in bytes.
pub const MAX_SAMPLE_BYTES: usize = 400;

/// Who found it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DetectionSource {
    /// libclamav, by a signature or by one of its heuristics.
    Clamav,
    /// One of our rules.
    Rule {
        /// The rule's stable identifier, for example `eicar_test`.
        id: String,
        /// Version of the rule.
        version: u32,
        /// Byte range in the view it was found in, end excluded.
        span: Range<usize>,
        /// How often the rule matched in that view.
        count: u32,
        /// The first [`MAX_SAMPLE_BYTES`] of what it matched. Untrusted.
        sample: Vec<u8>,
    },
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Detection {
    /// As results name it: libclamav's own name (`.UNOFFICIAL` included), or the rule's label and
    /// identifier, for example `Malicious pattern: eicar_test`.
    pub name: String,
    /// Who found it.
    pub source: DetectionSource,
    /// Where it was found.
    pub view: View,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about.
    pub threat_type: ThreatType,
}

impl Detection {
    /// True if libclamav found it.
    pub fn is_clamav(&self) -> bool {
        matches!(self.source, DetectionSource::Clamav)
    }
}

/// At least one detection, in the order in which they were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detections(Vec<Detection>);

impl Detections {
    /// `None` for an empty list: "infected" without a detection cannot be said.
    pub fn new(found: Vec<Detection>) -> Option<Detections> {
        if found.is_empty() {
            None
        } else {
            Some(Detections(found))
        }
    }

    /// All of them.
    pub fn as_slice(&self) -> &[Detection] {
        &self.0
    }

    /// The one that names the result; see [`headline`].
    pub fn headline(&self) -> &Detection {
        // Not empty by construction.
        headline(&self.0).unwrap_or(&self.0[0])
    }
}

/// The detection that names a result: highest severity, then a rule before a signature, then the
/// one found first. `None` if nothing was found.
pub fn headline(found: &[Detection]) -> Option<&Detection> {
    // `max_by_key` returns the last of equals, so the search runs backwards to get the first.
    found
        .iter()
        .rev()
        .max_by_key(|d| (d.severity, !d.is_clamav()))
}

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

/// Families of the file types that libclamav tells apart, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileFamily {
    /// Archives, compressed files and installers.
    Archive,
    /// Disk images and file systems.
    Disk,
    /// Office documents, PDF, help files and the like.
    Document,
    /// Programs of any platform.
    Executable,
    /// HTML, scripts and style sheets.
    Html,
    /// Pictures, animations, sound.
    Media,
    /// Mail and its encodings.
    Mail,
    /// Plain text.
    Text,
    /// Everything else, and what libclamav did not type.
    Other,
}

impl FileFamily {
    /// Every family.
    pub const ALL: &'static [FileFamily] = &[
        FileFamily::Archive,
        FileFamily::Disk,
        FileFamily::Document,
        FileFamily::Executable,
        FileFamily::Html,
        FileFamily::Media,
        FileFamily::Mail,
        FileFamily::Text,
        FileFamily::Other,
    ];

    /// The lower-case word used in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            FileFamily::Archive => "archive",
            FileFamily::Disk => "disk",
            FileFamily::Document => "document",
            FileFamily::Executable => "executable",
            FileFamily::Html => "html",
            FileFamily::Media => "media",
            FileFamily::Mail => "mail",
            FileFamily::Text => "text",
            FileFamily::Other => "other",
        }
    }

    /// The family of one of libclamav's types, for example `CL_TYPE_ZIP`.
    pub(crate) fn of(name: &str) -> FileFamily {
        let name = name.strip_prefix("CL_TYPE_").unwrap_or(name);
        match name {
            "7Z" | "7ZSFX" | "ALZ" | "ARJ" | "ARJSFX" | "AUTOIT" | "BZ" | "CABSFX" | "CPIO_CRC"
            | "CPIO_NEWC" | "CPIO_ODC" | "CPIO_OLD" | "EGG" | "EGGSFX" | "GZ" | "ISHIELD_MSI"
            | "LHA_LZH" | "MSCAB" | "MSSZDD" | "NULSFT" | "OLD_TAR" | "POSIX_TAR" | "RAR"
            | "RARSFX" | "SFX" | "SIS" | "XAR" | "XZ" | "ZIP" | "ZIPSFX" | "ZSTD" => {
                FileFamily::Archive
            }
            "APM" | "DMG" | "GPT" | "ISO9660" | "MBR" | "PART_ANY" | "PART_HFSPLUS" | "UDF" => {
                FileFamily::Disk
            }
            "HWP3" | "HWPOLE2" | "MSCHM" | "MSOLE2" | "ONENOTE" | "OOXML_HWP" | "OOXML_PPT"
            | "OOXML_WORD" | "OOXML_XL" | "PDF" | "PS" | "RTF" | "XDP" | "XML_HWP" | "XML_WORD"
            | "XML_XL" => FileFamily::Document,
            "ELF" | "JAVA" | "LNK" | "MACHO" | "MACHO_UNIBIN" | "MSEXE" | "PYTHON_COMPILED" => {
                FileFamily::Executable
            }
            "HTML" | "HTML_UTF16" | "MHTML" | "SCRENC" | "SCRIPT" => FileFamily::Html,
            "GIF" | "GRAPHICS" | "JPEG" | "PNG" | "RIFF" | "SWF" | "TIFF" => FileFamily::Media,
            "BINHEX" | "MAIL" | "TNEF" | "UUENCODED" => FileFamily::Mail,
            "TEXT_ASCII" | "TEXT_UTF16BE" | "TEXT_UTF16LE" | "TEXT_UTF8" => FileFamily::Text,
            _ => FileFamily::Other,
        }
    }
}

/// What is known about an object after a scan.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Every enabled engine examined everything, and nothing matched.
    Clean,
    /// Something was found.
    Infected(Detections),
    /// Not everything was examined.
    Incomplete {
        /// Why.
        cause: Incomplete,
        /// What was found in the part that was examined.
        so_far: Vec<Detection>,
    },
}

impl Verdict {
    /// Everything that was found, also by an incomplete scan.
    pub fn detections(&self) -> &[Detection] {
        match self {
            Verdict::Clean => &[],
            Verdict::Infected(found) => found.as_slice(),
            Verdict::Incomplete { so_far, .. } => so_far,
        }
    }

    /// The verdict on a file that changed while it was scanned: [`Incomplete::Changed`], with what was found. An earlier reason
    /// stays, unless it is an error, which is most likely due to the change.
    pub fn changed(self) -> Verdict {
        match self {
            Verdict::Incomplete { ref cause, .. }
                if !matches!(cause, Incomplete::EngineError { .. }) =>
            {
                self
            }
            verdict => Verdict::Incomplete {
                cause: Incomplete::Changed,
                so_far: verdict.detections().to_vec(),
            },
        }
    }
}

/// Which step of the scanner settled the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// A limit on the length, before anything was scanned.
    Limits,
    /// Our rules.
    Rules,
    /// The prefilter proved that libclamav would find nothing.
    Prefilter,
    /// libclamav.
    Engine,
}

/// Identity of one loaded detector; grows by one with each that a process builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The outcome of one scan.
#[must_use]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// What is known.
    pub verdict: Verdict,
    /// The step that settled it.
    pub decided_by: Stage,
    /// The detector that said so.
    pub generation: Generation,
    /// Length of the object in bytes.
    pub input_bytes: u64,
    /// How many buffers (views) were examined.
    pub views: u32,
    /// How many of them went to libclamav.
    pub engine_calls: u32,
    /// libclamav gives the object's type no examination at all, so its "clean" says nothing;
    /// true only if the view `guarded` was not asked for.
    pub type_ignored: bool,
    /// The family of the file that libclamav was examining at the first error, if the verdict is [`Incomplete::Malformed`]
    /// or [`Incomplete::EngineError`].
    pub failed_in: Option<FileFamily>,
    /// Wall time of the scan.
    pub elapsed: Duration,
}
