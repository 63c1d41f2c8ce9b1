//! What a scan does with a message, noted down at each step.
//!
//! The steps are the scanner's own, in its order: a view that the prefilter clears is not shown to libclamav, nor is
//! any once libclamav has found something. A test holds the number of calls to the scanner's.

use std::time::Instant;

use scanlib::message::{Message, ViewBuffers, ViewRef};
use scanlib::prefilter::{Explanation, Gate, Prefilter};
use scanlib::{Detector, Engine, EngineScan, Payload, Report, Request, ScanError, View};

use crate::config::ScanConfig;
use crate::status::Status;

/// All about one message.
#[derive(Debug)]
pub(super) struct Trace {
    /// What decides.
    pub(super) prefilter: Prefilter,
    /// In the order in which the scanner takes them.
    pub(super) steps: Vec<Step>,
    /// What the scanner says, rules included.
    pub(super) report: Report,
}

/// One view.
#[derive(Debug)]
pub(super) struct Step {
    /// Which.
    pub(super) view: View,
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// What the prefilter makes of it.
    pub(super) explanation: Explanation,
    /// What libclamav makes of it.
    pub(super) clamav: Clamav,
}

/// What libclamav makes of a view.
#[derive(Debug)]
pub(super) enum Clamav {
    /// It need not look.
    Cleared,
    /// It has found something in another view.
    Settled,
    /// It has looked.
    Asked(EngineScan),
}

impl Trace {
    /// Scans the message, and explains each step.
    ///
    /// # Errors
    /// Those of a scan.
    pub(super) fn of(detector: &Detector, message: &Message<'_>) -> Result<Trace, ScanError> {
        let within = ScanConfig::default().max_record_time;
        let request = Request::new().deadline(Instant::now() + within);
        let report = detector.scanner().scan_message(message, &request)?;
        let mut trace = Trace {
            prefilter: detector.prefilter().clone(),
            steps: Vec::new(),
            report,
        };
        let Some(engine) = detector.engine() else {
            return Ok(trace);
        };
        let mut buffers = ViewBuffers::new(detector.decode_limits());
        for ViewRef { view, data } in buffers.views(message, detector.views()) {
            let is_ignored = trace.step(engine, view, data)?;
            if is_ignored && detector.views().contains(View::Guarded) {
                trace.step(engine, View::Guarded, &[b"\n", data].concat())?;
            }
        }
        Ok(trace)
    }

    /// Takes one step; true if libclamav does not examine this type.
    fn step(&mut self, engine: &Engine, view: View, bytes: &[u8]) -> Result<bool, ScanError> {
        let explanation = self.prefilter.explain(bytes);
        let clamav = if self.has_found() {
            Clamav::Settled
        } else if explanation.gate == Gate::Cleared {
            Clamav::Cleared
        } else {
            Clamav::Asked(engine.scan(Payload::Bytes(bytes), &Request::new())?)
        };
        let is_ignored = matches!(&clamav, Clamav::Asked(scan) if scan.type_ignored);
        self.steps.push(Step {
            view,
            bytes: bytes.to_vec(),
            explanation,
            clamav,
        });
        Ok(is_ignored)
    }

    fn has_found(&self) -> bool {
        let found =
            |step: &Step| matches!(&step.clamav, Clamav::Asked(scan) if !scan.names.is_empty());
        self.steps.iter().any(found)
    }

    /// The verdict in a word.
    pub(super) fn status(&self) -> Status {
        Status::of(&self.report.verdict)
    }
}

#[cfg(test)]
mod tests {
    use scanlib::{EngineBuilder, Library, Parser, ViewSet, eicar};

    use super::*;

    #[test]
    fn libclamav_is_asked_as_often_as_the_scanner_asks_it() {
        let dir = tempfile::tempdir().unwrap();
        let needle = "My.Needle:0:*:6e6565646c65\n";
        std::fs::write(dir.path().join("a.ndb"), needle).unwrap();
        let engine = EngineBuilder::new(Library::init().unwrap()).unwrap();
        let engine = engine.builtin_signatures().unwrap();
        let engine = engine.database(dir.path()).unwrap().compile().unwrap();
        let mut asked = Vec::new();
        for views in [ViewSet::RAW, ViewSet::ALL] {
            let builder = Detector::builder().engine(engine.clone()).views(views);
            let detector = builder.build().unwrap();
            for line in [
                "",
                "an ordinary line",
                "ID3 of a type that is ignored, with a needle",
                "ID3 of a type that is ignored",
                "<13>Oct 20 02:44:02 web app: see <script> and Subject: x",
                "<13>Oct 20 02:44:02 web app: needle",
                r#"{"message":"<13>Oct 20 02:44:02 web app: \u006eeedle <script>"}"#,
                &format!("<13>Oct 20 02:44:02 web app: {}", eicar::text()),
                "payload=bmVlZGxlIGluIGEgaGF5c3RhY2sgb2YgYmFzZTY0IHRleHQsIHdoaWNoIGlzIGxvbmc=",
            ] {
                let message = Parser::default().parse(line.as_bytes());
                let trace = Trace::of(&detector, &message).unwrap();
                let scans = trace.steps.iter().filter_map(|step| match &step.clamav {
                    Clamav::Asked(scan) => Some(scan),
                    Clamav::Cleared | Clamav::Settled => None,
                });
                let scans: Vec<_> = scans.collect();
                assert_eq!(scans.len(), trace.report.engine_calls as usize, "{line}");
                let mut names: Vec<_> = scans.iter().flat_map(|scan| &scan.names).collect();
                names.dedup();
                let found = trace.report.verdict.detections().iter();
                assert_eq!(
                    names,
                    found.map(|one| &one.name).collect::<Vec<_>>(),
                    "{line}"
                );
                asked.push(scans.len());
            }
        }
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(asked, [0, 1, 2], "the lines are all alike");
    }
}
