//! A trace as one JSON object.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use scanlib::Verdict;
use scanlib::prefilter::{CandidateSignature, Gate};
use serde::Serialize;

use super::trace::{Clamav, Step, Trace};
use crate::json;
use crate::result::Match;
use crate::status::Status;

/// Appends one line.
///
/// # Errors
/// None but those of `serde`.
pub(super) fn write(out: &mut Vec<u8>, trace: &Trace) -> serde_json::Result<()> {
    let verdict = &trace.report.verdict;
    json::append(
        out,
        &Object {
            status: trace.status(),
            matches: verdict.detections().iter().map(Match::of).collect(),
            incomplete: match verdict {
                Verdict::Incomplete { cause, .. } => Some(cause.to_string()),
                _ => None,
            },
            prefilter_off: trace.prefilter.off().map(ToString::to_string),
            views: trace.steps.iter().map(ViewObject::of).collect(),
        },
    )?;
    out.push(b'\n');
    Ok(())
}

#[derive(Serialize)]
struct Object<'a> {
    status: Status,
    matches: Vec<Match<'a>>,
    /// Why not everything was examined.
    incomplete: Option<String>,
    /// Why nothing is cleared.
    prefilter_off: Option<String>,
    views: Vec<ViewObject<'a>>,
}

#[derive(Serialize)]
struct ViewObject<'a> {
    view: &'static str,
    bytes: usize,
    #[serde(flatten)]
    text: Text<'a>,
    /// Why it is not plain text; nothing else is known then.
    not_plain: Option<&'static str>,
    normalised: Cow<'a, str>,
    /// Signatures that may match any message of this length.
    unprovable: &'a [String],
    proposed: Vec<ProposedObject<'a>>,
    utf16: bool,
    digest: bool,
    /// `cleared`, or why libclamav has to look: the words of the metric.
    decision: &'static str,
    clamav: ClamavObject<'a>,
}

/// Bytes as text, and as they are if that is not all.
#[derive(Serialize)]
struct Text<'a> {
    text: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

#[derive(Serialize)]
struct ProposedObject<'a> {
    name: &'a str,
    file_type: bool,
    #[serde(flatten)]
    text: Text<'a>,
    possible: bool,
}

#[derive(Serialize)]
struct ClamavObject<'a> {
    asked: bool,
    found: &'a [String],
    incomplete: Option<String>,
    type_ignored: bool,
}

impl<'a> ViewObject<'a> {
    fn of(step: &'a Step) -> ViewObject<'a> {
        let explanation = &step.explanation;
        ViewObject {
            view: step.view.as_str(),
            bytes: step.bytes.len(),
            text: Text::of(&step.bytes),
            not_plain: explanation.not_plain.map(|cause| cause.as_str()),
            normalised: String::from_utf8_lossy(&explanation.normalised),
            unprovable: &explanation.unprovable,
            proposed: explanation
                .candidates
                .iter()
                .map(ProposedObject::of)
                .collect(),
            utf16: explanation.utf16,
            digest: explanation.digest,
            decision: match explanation.gate {
                Gate::Cleared => "cleared",
                Gate::MustScan(cause) => cause.as_str(),
            },
            clamav: ClamavObject::of(&step.clamav),
        }
    }
}

impl<'a> Text<'a> {
    fn of(bytes: &'a [u8]) -> Text<'a> {
        let text = String::from_utf8_lossy(bytes);
        Text {
            base64: matches!(text, Cow::Owned(_)).then(|| BASE64_STANDARD.encode(bytes)),
            text,
        }
    }
}

impl<'a> ProposedObject<'a> {
    fn of(proposed: &'a CandidateSignature) -> ProposedObject<'a> {
        ProposedObject {
            name: &proposed.name,
            file_type: proposed.is_file_type,
            text: Text::of(&proposed.text),
            possible: proposed.is_possible,
        }
    }
}

impl<'a> ClamavObject<'a> {
    fn of(clamav: &'a Clamav) -> ClamavObject<'a> {
        let scan = match clamav {
            Clamav::Asked(scan) => Some(scan),
            Clamav::Cleared | Clamav::Settled => None,
        };
        ClamavObject {
            asked: scan.is_some(),
            found: scan.map_or(&[], |scan| &scan.names),
            incomplete: scan.and_then(|scan| Some(scan.incomplete.as_ref()?.to_string())),
            type_ignored: scan.is_some_and(|scan| scan.type_ignored),
        }
    }
}
