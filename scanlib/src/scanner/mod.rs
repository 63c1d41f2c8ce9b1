//! One thread's scanner: rules, then the prefilter, then libclamav, over each view.

mod ahead;
mod causes;
mod screen;
mod tally;
mod verdict_cache;
mod view_scanner;

use std::time::{Duration, Instant};

pub use causes::CauseCounts;
pub use screen::{PendingScan, Screened};
pub(crate) use verdict_cache::VerdictCache;

use crate::clam::{CancelToken, Limits, Payload, Request};
use crate::detector::Detector;
use crate::error::ScanError;
use crate::message::{Message, ViewBuffers, ViewRef, ViewSet, Views};
use crate::prefilter::Gate;
use crate::report::{Incomplete, Report, Verdict, View};
use ahead::{Ahead, TOGETHER};
use tally::Tally;
use view_scanner::{Decided, ViewScanner};

/// Views of most messages: three texts and a few payloads.
const FEW_VIEWS: usize = 11;

/// Scans with one [`Detector`]. One for each thread: it owns the buffers that scans reuse.
#[derive(Debug)]
pub struct Scanner {
    detector: Detector,
    /// Of the messages that are looked at next.
    buffers: Vec<ViewBuffers>,
    views: ViewScanner,
    stop: Option<CancelToken>,
    stats: ScannerStats,
}

/// What a scanner has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScannerStats {
    /// Objects and messages that were given a verdict.
    pub scans: u64,
    /// Their length together, in bytes.
    pub scanned_bytes: u64,
    /// Calls of libclamav, audits apart.
    pub engine_calls: u64,
    /// Buffers that the prefilter cleared.
    pub cleared: u64,
    /// Cleared buffers that libclamav scanned nevertheless, as an audit.
    pub audits: u64,
    /// Buffers whose verdict was remembered; see [`crate::DetectorBuilder::verdict_cache_entries`].
    pub cached: u64,
    /// Buffers that had to be scanned, by their cause.
    pub causes: CauseCounts,
    /// Verdicts that are [`Verdict::Infected`].
    pub infected: u64,
    /// Verdicts that are [`Verdict::Incomplete`].
    pub incomplete: u64,
}

impl Scanner {
    pub(crate) fn new(detector: Detector) -> Scanner {
        Scanner {
            views: ViewScanner::new(detector.audit()),
            detector,
            buffers: Vec::new(),
            stop: None,
            stats: ScannerStats::default(),
        }
    }

    /// Cancels every scan of this scanner when `token` is cancelled, in addition to the token of each [`Request`].
    pub fn with_cancel_token(mut self, token: CancelToken) -> Scanner {
        self.stop = Some(token);
        self
    }

    /// What this scanner has done.
    pub fn stats(&self) -> ScannerStats {
        ScannerStats {
            cleared: self.views.cleared,
            audits: self.views.audits,
            cached: self.views.cached,
            causes: self.views.causes,
            ..self.stats
        }
    }

    /// The detector that this scanner scans with.
    pub fn detector(&self) -> &Detector {
        &self.detector
    }

    /// Scans one object as it is: libclamav's answer for exactly these bytes, and the rules if
    /// the detector has any.
    ///
    /// With rules, a file is read into memory, up to [`Limits::max_file_bytes`] of the engine (the default without
    /// one); a larger one is [`Incomplete::FileTooLarge`].
    ///
    /// # Errors
    /// The object cannot be read. Limits and cancellations are verdicts.
    pub fn scan(
        &mut self,
        payload: Payload<'_>,
        request: &Request<'_>,
    ) -> Result<Report, ScanError> {
        let report = self.look_at_object(payload, None, Some(Instant::now()), request)?;
        Ok(self.counted(report))
    }

    /// Scans several objects that are in memory, each as [`Scanner::scan`] would: their reports, in their order. An object is
    /// scanned when its report is asked for, but the prefilter judges some of them ahead, and together: with signatures that know files by
    /// their digest that takes a third of its time less.
    ///
    /// ```
    /// use scanlib::{Detector, Request, RuleSet, Verdict};
    ///
    /// let detector = Detector::builder().rules(RuleSet::builtin()).build()?;
    /// let mut scanner = detector.scanner();
    /// let lines: [&[u8]; 2] = [b"sshd[7]: session opened", b"cmd: powershell -e JABjAGwAaQBlAG4AdAA9AE4AZQB3AC0ATwBiAGoA"];
    /// for (line, report) in lines.iter().zip(scanner.scan_each(&lines, &Request::new())) {
    ///     let report = report?;
    ///     assert_eq!(line == &lines[0], report.verdict == Verdict::Clean);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Of each object, as [`Scanner::scan`].
    pub fn scan_each<'a>(
        &'a mut self,
        objects: &'a [&'a [u8]],
        request: &'a Request<'a>,
    ) -> impl ExactSizeIterator<Item = Result<Report, ScanError>> + 'a {
        let mut ahead = Duration::ZERO;
        objects.iter().enumerate().map(move |(number, object)| {
            let place = number % TOGETHER;
            if place == 0 {
                let chunk = objects.get(number..).unwrap_or_default();
                let chunk = chunk.get(..TOGETHER).unwrap_or(chunk);
                let started = Instant::now();
                self.views.look_ahead(&self.detector, chunk);
                ahead = started.elapsed() / chunk.len() as u32;
            }
            let gate = self.views.gates.get(place).copied();
            let report = self.look_at_object(Payload::Bytes(object), gate, None, request)?;
            Ok(self.counted(Report {
                elapsed: report.elapsed + ahead,
                ..report
            }))
        })
    }

    fn look_at_object(
        &mut self,
        payload: Payload<'_>,
        gate: Option<Gate>,
        started: Option<Instant>,
        request: &Request<'_>,
    ) -> Result<Report, ScanError> {
        let mut tally = Tally::new(started);
        let request = &request.stop(self.stop.as_ref());
        let detector = &self.detector;
        let held;
        let mut watched = None;
        let bytes = match (payload, detector.engine()) {
            (Payload::Bytes(bytes), _) => bytes,
            (payload, Some(engine)) if !detector.has_rules() => {
                let len = payload.len_bytes()?;
                tally.engine(View::Raw, engine.scan(payload, request)?);
                tally.views = 1;
                return Ok(tally.finish(detector, len));
            }
            (payload, engine) => {
                let limits = engine.map_or_else(Limits::default, |engine| *engine.limits());
                let max = limits.max_file_bytes;
                let (read, watch) = payload.read(max)?;
                held = read;
                watched = watch;
                let len = held.len() as u64;
                if len > max {
                    tally.incomplete = Some(Incomplete::FileTooLarge { len, max });
                }
                &held
            }
        };
        let raw = ViewRef {
            view: View::Raw,
            data: bytes,
        };
        let decided = Decided { gate, audit: None };
        self.views
            .look(detector, raw, decided, request, ViewSet::RAW, &mut tally)?;
        if let Some(watch) = watched {
            tally.incomplete = watch.end(tally.incomplete);
        }
        Ok(tally.finish(detector, bytes.len() as u64))
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
        let started = Instant::now();
        self.look_ahead_of(std::slice::from_ref(message));
        let report = self.look_at_views(message, 0, 0, Some(started), request)?;
        Ok(self.counted(report))
    }

    /// Scans several messages, each as [`Scanner::scan_message`] would: their reports, in their order. As with
    /// [`Scanner::scan_each`] a message is scanned when its report is asked for, and the prefilter judges some ahead.
    ///
    /// # Errors
    /// Of each message, as [`Scanner::scan`].
    pub fn scan_messages<'a>(
        &'a mut self,
        messages: &'a [Message<'a>],
        request: &'a Request<'a>,
    ) -> impl ExactSizeIterator<Item = Result<Report, ScanError>> + 'a {
        let mut ahead = Ahead::default();
        messages.iter().enumerate().map(move |(number, message)| {
            let turn = ahead.turn(self, messages, number);
            let (place, gate) = (turn.place, turn.first_gate);
            let report = self.look_at_views(message, place, gate, None, request)?;
            Ok(self.counted(Report {
                elapsed: report.elapsed + turn.each,
                ..report
            }))
        })
    }

    /// Finishes the scan of a message that was [screened](Scanner::screen_messages): libclamav examines what it has to, with the
    /// result that [`Scanner::scan_message`] would have. It may be called again if it failed.
    ///
    /// `message` is the one that was screened, parsed again from the same bytes. Where this scanner has another detector, for example
    /// because signatures were loaded since then, the message is scanned from the start.
    ///
    /// # Errors
    /// As [`Scanner::scan`].
    pub fn finish_message(
        &mut self,
        message: &Message<'_>,
        pending: &PendingScan,
        request: &Request<'_>,
    ) -> Result<Report, ScanError> {
        let started = Instant::now();
        self.decode(std::slice::from_ref(message));
        let views = self.views_of(message, 0).len();
        let Some(decisions) = pending.decisions(self.detector.generation(), views) else {
            return self.scan_message(message, request);
        };
        let report = self.look_at(message, 0, decisions, Some(started), request)?;
        if let Some(ticket) = pending.ticket() {
            ticket.charge(std::mem::take(&mut self.views.audited));
        }
        Ok(self.counted(Report {
            elapsed: report.elapsed + pending.screened(),
            ..report
        }))
    }

    /// Decodes these messages, each at its place.
    fn decode(&mut self, messages: &[Message<'_>]) {
        let set = self.detector.views();
        if self.buffers.len() < messages.len() {
            let limits = self.detector.decode_limits();
            self.buffers
                .resize_with(messages.len(), || ViewBuffers::new(limits));
        }
        for (message, buffers) in messages.iter().zip(&mut self.buffers) {
            buffers.decode(message, set);
        }
    }

    /// Decodes these messages, each at its place, and has the prefilter judge all views of them.
    fn look_ahead_of(&mut self, messages: &[Message<'_>]) {
        self.decode(messages);
        let set = self.detector.views();
        if let ([message], [buffers, ..]) = (messages, &*self.buffers) {
            // Without an allocation for most messages.
            let mut list = [&[][..]; FEW_VIEWS];
            let views = buffers.list(message, set);
            if let Some(list) = list.get_mut(..views.len()) {
                list.iter_mut()
                    .zip(views)
                    .for_each(|(to, view)| *to = view.data);
                self.views.look_ahead(&self.detector, list);
                return;
            }
        }
        let views = messages.iter().zip(&self.buffers);
        let views = views.flat_map(|(message, buffers)| buffers.list(message, set));
        let list: Vec<&[u8]> = views.map(|view| view.data).collect();
        self.views.look_ahead(&self.detector, &list);
    }

    fn views_of<'a>(&'a self, message: &'a Message<'_>, place: usize) -> Views<'a> {
        self.buffers[place].list(message, self.detector.views())
    }

    /// Examines the views of a message that was decoded at this place; the prefilter has judged them, from this gate on.
    fn look_at_views(
        &mut self,
        message: &Message<'_>,
        place: usize,
        first_gate: usize,
        started: Option<Instant>,
        request: &Request<'_>,
    ) -> Result<Report, ScanError> {
        let gates = std::mem::take(&mut self.views.gates);
        let decisions = gates.get(first_gate..).unwrap_or_default().iter();
        let decisions = decisions.map(|gate| Decided {
            gate: Some(*gate),
            audit: None,
        });
        let report = self.look_at(message, place, decisions, started, request);
        self.views.gates = gates;
        report
    }

    /// Examines the views of a message that was decoded at this place, each with what was decided about it.
    fn look_at(
        &mut self,
        message: &Message<'_>,
        place: usize,
        mut decisions: impl Iterator<Item = Decided>,
        started: Option<Instant>,
        request: &Request<'_>,
    ) -> Result<Report, ScanError> {
        let mut tally = Tally::new(started);
        let Scanner {
            detector,
            buffers,
            views: scanner,
            stop,
            ..
        } = self;
        let request = &request.stop(stop.as_ref());
        let set = detector.views();
        let views = buffers[place].list(message, set);
        let limit = views.limit();
        for view in views {
            let decided = decisions.next().unwrap_or_default();
            scanner.look(detector, view, decided, request, set, &mut tally)?;
        }
        let tally = tally.of_message(limit);
        Ok(tally.finish(detector, message.raw.len() as u64))
    }

    fn counted(&mut self, report: Report) -> Report {
        let stats = &mut self.stats;
        stats.scans += 1;
        stats.scanned_bytes += report.input_bytes;
        stats.engine_calls += u64::from(report.engine_calls);
        stats.infected += u64::from(matches!(report.verdict, Verdict::Infected(_)));
        stats.incomplete += u64::from(matches!(report.verdict, Verdict::Incomplete { .. }));
        let audited = std::mem::take(&mut self.views.audited);
        self.views.audit.worked(report.elapsed, audited);
        report
    }
}
