//! A trace for people. A terminal obeys nothing of what is quoted.

use std::io::{self, Write};

use scanlib::prefilter::{CandidateSignature, Cause, Explanation, Gate};
use scanlib::{EngineScan, Verdict};

use super::trace::{Clamav, Step, Trace};
use crate::escape::Escaped;

/// Writes one trace.
///
/// # Errors
/// Those of the writer.
pub(super) fn write(out: &mut impl Write, trace: &Trace) -> io::Result<()> {
    if let Some(why) = trace.prefilter.off() {
        let why = why.to_string();
        writeln!(
            out,
            "the prefilter is off, so libclamav is asked about every view: {}",
            Escaped(why.as_bytes())
        )?;
    }
    for step in &trace.steps {
        self::step(out, step)?;
    }
    let verdict = &trace.report.verdict;
    let found = verdict.detections().iter();
    let names: Vec<_> = found
        .map(|found| Escaped(found.name.as_bytes()).to_string())
        .collect();
    write!(out, "verdict: {}", trace.status().as_str())?;
    if !names.is_empty() {
        write!(out, ": {}", names.join(", "))?;
    }
    if let Verdict::Incomplete { cause, .. } = verdict {
        let cause = cause.to_string();
        write!(out, "; not examined in full: {}", Escaped(cause.as_bytes()))?;
    }
    writeln!(out)
}

fn step(out: &mut impl Write, step: &Step) -> io::Result<()> {
    let Step {
        view,
        bytes,
        explanation,
        clamav,
    } = step;
    writeln!(
        out,
        "view {view}, {} bytes: {}",
        bytes.len(),
        Escaped(bytes)
    )?;
    match explanation.not_plain {
        // Said above, once for all.
        Some(Cause::Off) => {}
        Some(cause) => line(out, "plain text", &format!("no: {cause}"))?,
        None => plain(out, explanation)?,
    }
    match explanation.gate {
        Gate::Cleared => line(out, "prefilter", "cleared: libclamav would find nothing")?,
        Gate::MustScan(cause) => {
            line(out, "prefilter", &format!("libclamav has to look: {cause}"))?;
        }
    }
    match clamav {
        Clamav::Cleared => line(out, "libclamav", "not asked"),
        Clamav::Settled => line(
            out,
            "libclamav",
            "not asked: it has found something already",
        ),
        Clamav::Asked(scan) => line(out, "libclamav", &said(scan)),
    }
}

fn plain(out: &mut impl Write, explanation: &Explanation) -> io::Result<()> {
    let normalised = Escaped(&explanation.normalised);
    line(out, "plain text", &format!("yes, normalised: {normalised}"))?;
    for name in &explanation.unprovable {
        let name = Escaped(name.as_bytes());
        line(
            out,
            "any text",
            &format!("{name} may match any message of this length"),
        )?;
    }
    let mut proposals: Vec<_> = explanation.candidates.iter().map(proposal).collect();
    // A type of file has many patterns and one name.
    proposals.dedup();
    for proposal in &proposals {
        line(out, "text", proposal)?;
    }
    if explanation.utf16 {
        line(out, "UTF-16", "it may be HTML in UTF-16")?;
    }
    if explanation.digest {
        line(out, "digest", "it may be that of a known file")?;
    }
    Ok(())
}

fn proposal(proposed: &CandidateSignature) -> String {
    let CandidateSignature {
        name,
        is_file_type,
        text,
        is_possible,
        ..
    } = proposed;
    let (text, name) = (Escaped(text), Escaped(name.as_bytes()));
    let kind = if *is_file_type {
        "file type"
    } else {
        "signature"
    };
    let rest = match is_possible {
        true => "all else that it needs is there",
        false => "something else that it needs is missing",
    };
    format!("\"{text}\" of {kind} {name}: {rest}")
}

fn said(scan: &EngineScan) -> String {
    let found: Vec<_> = scan
        .names
        .iter()
        .map(|name| Escaped(name.as_bytes()).to_string())
        .collect();
    let mut said = match found.is_empty() {
        true => "asked: nothing found".to_owned(),
        false => format!("asked: {}", found.join(", ")),
    };
    if let Some(cause) = &scan.incomplete {
        let cause = cause.to_string();
        said.push_str(&format!(
            "; not examined in full: {}",
            Escaped(cause.as_bytes())
        ));
    }
    if scan.type_ignored {
        said.push_str("; libclamav does not examine this type");
    }
    said
}

fn line(out: &mut impl Write, what: &str, text: &str) -> io::Result<()> {
    writeln!(out, "  {what:<11}{text}")
}
