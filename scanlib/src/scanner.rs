//! One thread's scanner: rules, then the prefilter, then libclamav, over each view.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Instant;

use crate::clam::{Engine, EngineScan, Payload, Request};
use crate::detector::Detector;
use crate::error::ScanError;
use crate::message::{Message, ViewBuffers, ViewRef, ViewSet};
use crate::prefilter::Gate;
use crate::report::{Detection, Detections, Incomplete, Report, Stage, Verdict, View};
use crate::rules::RuleMatch;
use crate::signature;

/// Scans with one [`Detector`]. One for each thread: it owns the buffers that scans reuse.
#[derive(Debug)]
pub struct Scanner {
    detector: Detector,
    buffers: ViewBuffers,
    eyes: Eyes,
}

/// The buffers that looking at one view needs, apart from the views themselves.
#[derive(Debug, Default)]
struct Eyes {
    guarded: Vec<u8>,
    matches: Vec<RuleMatch>,
}

impl Scanner {
    pub(crate) fn new(detector: Detector) -> Scanner {
        Scanner {
            detector,
            buffers: ViewBuffers::default(),
            eyes: Eyes::default(),
        }
    }

    /// The detector that this scanner scans with.
    pub fn detector(&self) -> &Detector {
        &self.detector
    }

    /// Scans one object as it is: libclamav's answer for exactly these bytes, and the rules if
    /// the detector has any.
    ///
    /// With rules, a file is read into memory, up to the engine's limit on an object's size.
    ///
    /// # Errors
    /// The object cannot be read. Limits and cancellations are verdicts.
    pub fn scan(
        &mut self,
        payload: Payload<'_>,
        request: &Request<'_>,
    ) -> Result<Report, ScanError> {
        let mut tally = Tally::start();
        match (payload, self.detector.rules()) {
            (Payload::Bytes(bytes), _) => {
                let detector = &self.detector;
                self.eyes.look(
                    detector,
                    View::Raw,
                    bytes,
                    request,
                    ViewSet::RAW,
                    &mut tally,
                )?;
                Ok(tally.finish(detector, bytes.len() as u64))
            }
            (payload, None) => {
                let len = payload.len_bytes()?;
                if let Some(engine) = self.detector.engine() {
                    tally.engine(View::Raw, engine.scan(payload, request)?);
                }
                tally.views = 1;
                Ok(tally.finish(&self.detector, len))
            }
            (Payload::Path(path), Some(_)) => {
                let file = File::open(path).map_err(|source| read_error(path, source))?;
                self.scan_read(&file, path, request)
            }
            (Payload::File { file, path }, Some(_)) => self.scan_read(file, path, request),
        }
    }

    /// Scans a message: every view of the detector's set, with rules and libclamav.
    ///
    /// A detection that several views show is reported once, for the first of them.
    ///
    /// # Errors
    /// As [`Scanner::scan`].
    pub fn scan_message(
        &mut self,
        message: &Message<'_>,
        request: &Request<'_>,
    ) -> Result<Report, ScanError> {
        let mut tally = Tally::start();
        let Scanner {
            detector,
            buffers,
            eyes,
        } = self;
        let set = detector.views();
        let views = buffers.views(message, set);
        let left_out = views.payloads_left_out();
        for ViewRef { view, data } in views {
            eyes.look(detector, view, data, request, set, &mut tally)?;
        }
        if left_out {
            tally.incomplete.get_or_insert(Incomplete::DecodedPayloads);
        }
        Ok(tally.finish(detector, message.raw.len() as u64))
    }

    fn scan_read(
        &mut self,
        file: &File,
        path: &Path,
        request: &Request<'_>,
    ) -> Result<Report, ScanError> {
        let max = self
            .detector
            .engine()
            .map_or(u64::MAX, |engine| engine.limits().max_file_bytes);
        let mut bytes = Vec::new();
        // One byte more than the limit tells "too large" from "just fits".
        file.take(max.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|source| read_error(path, source))?;
        self.scan(Payload::Bytes(&bytes), request)
    }
}

impl Eyes {
    /// Looks at one buffer with rules and libclamav.
    fn look(
        &mut self,
        detector: &Detector,
        view: View,
        buffer: &[u8],
        request: &Request<'_>,
        views: ViewSet,
        tally: &mut Tally,
    ) -> Result<(), ScanError> {
        tally.views += 1;
        if let Some(rules) = detector.rules() {
            rules.find(buffer, &mut self.matches);
            for found in self.matches.drain(..) {
                tally.add(rules.detection(&found, view, buffer));
            }
        }
        let Some(engine) = detector.engine() else {
            return Ok(());
        };
        if ask(detector, engine, view, buffer, request, tally)? {
            if !views.contains(View::Guarded) {
                tally.type_ignored = true;
                return Ok(());
            }
            self.guarded.clear();
            self.guarded.push(b'\n');
            self.guarded.extend_from_slice(buffer);
            // Typed as something else now; were it ignored again, it would have to be said.
            tally.type_ignored |= ask(
                detector,
                engine,
                View::Guarded,
                &self.guarded,
                request,
                tally,
            )?;
        }
        Ok(())
    }
}

/// Has libclamav examine a buffer, unless it would certainly call it clean or the answer is
/// settled. True if it gave the buffer's type no examination.
fn ask(
    detector: &Detector,
    engine: &Engine,
    view: View,
    buffer: &[u8],
    request: &Request<'_>,
    tally: &mut Tally,
) -> Result<bool, ScanError> {
    let settled = !request.all_matches() && tally.found.iter().any(Detection::is_clamav);
    if settled || detector.prefilter().check(buffer) == Gate::Cleared {
        return Ok(false);
    }
    let scan = engine.scan(Payload::Bytes(buffer), request)?;
    let ignored = scan.type_ignored;
    tally.engine(view, scan);
    Ok(ignored)
}

/// What is known about an object so far.
#[derive(Debug)]
struct Tally {
    started: Instant,
    found: Vec<Detection>,
    incomplete: Option<Incomplete>,
    views: u32,
    engine_calls: u32,
    type_ignored: bool,
}

impl Tally {
    fn start() -> Tally {
        Tally {
            started: Instant::now(),
            found: Vec::new(),
            incomplete: None,
            views: 0,
            engine_calls: 0,
            type_ignored: false,
        }
    }

    fn add(&mut self, detection: Detection) {
        let same = |known: &Detection| {
            known.name == detection.name && known.is_clamav() == detection.is_clamav()
        };
        if !self.found.iter().any(same) {
            self.found.push(detection);
        }
    }

    fn engine(&mut self, view: View, scan: EngineScan) {
        self.engine_calls += 1;
        for name in scan.names {
            self.add(signature::detection(name, view));
        }
        // The first cause is the one to report: later ones often follow from it.
        self.incomplete = self.incomplete.take().or(scan.incomplete);
    }

    fn finish(self, detector: &Detector, input_bytes: u64) -> Report {
        let decided_by = match (&self.incomplete, self.engine_calls) {
            (Some(Incomplete::FileTooLarge { .. }), _) => Stage::Limits,
            (None, _) if self.found.iter().any(|found| !found.is_clamav()) => Stage::Rules,
            (_, 1..) => Stage::Engine,
            (_, 0) if detector.engine().is_some() => Stage::Prefilter,
            (_, 0) => Stage::Rules,
        };
        let verdict = match (self.incomplete, self.found) {
            (Some(cause), so_far) => Verdict::Incomplete { cause, so_far },
            (None, found) => Detections::new(found).map_or(Verdict::Clean, Verdict::Infected),
        };
        Report {
            verdict,
            decided_by,
            generation: detector.generation(),
            input_bytes,
            views: self.views,
            engine_calls: self.engine_calls,
            type_ignored: self.type_ignored,
            elapsed: self.started.elapsed(),
        }
    }
}

fn read_error(path: &Path, source: io::Error) -> ScanError {
    ScanError::Read {
        path: path.to_owned(),
        source,
    }
}
