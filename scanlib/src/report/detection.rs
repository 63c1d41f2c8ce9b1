//! What was found, where, and how severe it is.

use std::fmt;
use std::ops::Range;

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
    /// Returns `None` for an empty list, because "infected" requires a detection.
    pub fn new(found: Vec<Detection>) -> Option<Detections> {
        if found.is_empty() {
            None
        } else {
            Some(Detections(found))
        }
    }

    /// The detections, in the order in which they were found.
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
