//! Why a message is cleared or not, step by step.

use std::ops::ControlFlow;

use super::gate::Scratch;
use super::signature::Kind;
use super::{Cause, Gate, Prefilter};

/// The outcome of every step of the decision. Unlike the decision itself it does not stop at the first step that requires a scan.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// The decision.
    pub gate: Gate,
    /// Why the message is not plain text, if it is not; then nothing else is looked at.
    pub not_plain: Option<Cause>,
    /// The normalised text, as libclamav would see it.
    pub normalised: Vec<u8>,
    /// Signatures that may match any message of this length.
    pub unprovable: Vec<String>,
    /// Candidate signatures, in the order in which their literals were found.
    pub candidates: Vec<CandidateSignature>,
    /// It may be HTML in UTF-16.
    pub utf16: bool,
    /// Its digest may be that of a known file.
    pub digest: bool,
}

/// A signature one of whose literals was found in the message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CandidateSignature {
    /// The signature, or the type of file.
    pub name: String,
    /// It is a pattern of a type of file.
    pub is_file_type: bool,
    /// The literal that was found.
    pub text: Vec<u8>,
    /// Whether all its required literals are present, so the message must be scanned.
    pub is_possible: bool,
}

impl Prefilter {
    /// Every step of the decision.
    pub fn explain(&self, message: &[u8]) -> Explanation {
        let mut scratch = Scratch::default();
        let mut explanation = Explanation {
            gate: self.check(message, &mut scratch),
            not_plain: None,
            normalised: Vec::new(),
            unprovable: Vec::new(),
            candidates: Vec::new(),
            utf16: false,
            digest: false,
        };
        let (Ok(plan), None) = (&self.shared.plan, self.shared.wrong.get()) else {
            explanation.not_plain = Some(Cause::Off);
            return explanation;
        };
        explanation.not_plain = plan.is_not_plain(message, &mut scratch);
        if explanation.not_plain.is_some() {
            return explanation;
        }
        explanation.normalised = scratch.normalised().to_vec();
        explanation.unprovable = plan
            .unprovable(message, &scratch)
            .map(str::to_owned)
            .collect();
        plan.each_candidate(message, &mut scratch, &mut |candidate| {
            explanation.candidates.push(CandidateSignature {
                name: candidate.signature.name.to_string(),
                is_file_type: candidate.signature.kind == Kind::Type,
                text: candidate.text.to_vec(),
                is_possible: candidate.is_possible,
            });
            ControlFlow::Continue(())
        });
        explanation.utf16 = plan.is_html_in_utf16(message, &mut scratch);
        explanation.digest = plan.may_be_known(message, &scratch);
        explanation
    }
}
