//! One thread's scanner: rules, then the prefilter, then libclamav, over each view.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clam::{CancelToken, Engine, EngineScan, Limits, Payload, Request};
use crate::detector::Detector;
use crate::error::ScanError;
use crate::message::{MAX_VIEWS, Message, ViewBuffers, ViewRef, ViewSet, Views};
use crate::prefilter::{Audit, AuditOptions, Cause, Gate, Scratch};
use crate::report::{Detection, Detections, Incomplete, Report, Stage, Verdict, View};
use crate::rules::RuleMatch;
use crate::signature;

/// So many objects are judged by the prefilter at a time.
const TOGETHER: usize = 32;

/// As long as they are no longer than this together, in bytes: what is decoded of them is kept for so long.
const TOGETHER_BYTES: usize = 256 << 10;

/// How many of these messages are judged next; at least one.
fn together(messages: &[Message<'_>]) -> usize {
    let mut bytes = 0;
    let fits = |message: &&Message<'_>| {
        bytes += message.raw.len();
        bytes <= TOGETHER_BYTES
    };
    let few = messages.iter().take(TOGETHER);
    few.take_while(fits).count().max(1)
}

/// Scans with one [`Detector`]. One for each thread: it owns the buffers that scans reuse.
#[derive(Debug)]
pub struct Scanner {
    detector: Detector,
    /// Of the messages that are looked at next.
    buffers: Vec<ViewBuffers>,
    eyes: Eyes,
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
    /// Cleared buffers that libclamav was asked about all the same.
    pub audits: u64,
    /// Buffers that had to be scanned, by [`Cause::ALL`]'s order.
    pub causes: [u64; Cause::ALL.len()],
    /// Verdicts that are [`Verdict::Infected`].
    pub infected: u64,
    /// Verdicts that are [`Verdict::Incomplete`].
    pub incomplete: u64,
}

/// What looking at one view needs, apart from the views themselves.
#[derive(Debug)]
struct Eyes {
    guarded: Vec<u8>,
    matches: Vec<RuleMatch>,
    scratch: Scratch,
    /// What the prefilter said of the buffers that come next.
    gates: Vec<Gate>,
    audit: Audit,
    /// Time that audits took in this message.
    audited: Duration,
    cleared: u64,
    audits: u64,
    causes: [u64; Cause::ALL.len()],
}

impl Scanner {
    pub(crate) fn new(detector: Detector) -> Scanner {
        Scanner {
            eyes: Eyes::new(detector.audit()),
            detector,
            buffers: Vec::new(),
            stop: None,
            stats: ScannerStats::default(),
        }
    }

    /// Lets another thread stop every scan of this scanner, beside what each [`Request`] says.
    pub fn stop_with(mut self, token: CancelToken) -> Scanner {
        self.stop = Some(token);
        self
    }

    /// What this scanner has done.
    pub fn stats(&self) -> ScannerStats {
        ScannerStats {
            cleared: self.eyes.cleared,
            audits: self.eyes.audits,
            causes: self.eyes.causes,
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
        let report = self.look_at(payload, None, Some(Instant::now()), request)?;
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
                self.eyes.look_ahead(&self.detector, chunk);
                ahead = started.elapsed() / chunk.len() as u32;
            }
            let gate = self.eyes.gates.get(place).copied();
            let report = self.look_at(Payload::Bytes(object), gate, None, request)?;
            Ok(self.counted(Report {
                elapsed: report.elapsed + ahead,
                ..report
            }))
        })
    }

    fn look_at(
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
            (payload, Some(engine)) if detector.rules().is_none() => {
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
        self.eyes
            .look(detector, raw, gate, request, ViewSet::RAW, &mut tally)?;
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
        let (mut ahead, mut each) = (0..0, Duration::ZERO);
        let mut next_gate = 0;
        messages.iter().enumerate().map(move |(number, message)| {
            if number >= ahead.end {
                let rest = messages.get(number..).unwrap_or_default();
                let together = rest.get(..together(rest)).unwrap_or(rest);
                let started = Instant::now();
                self.look_ahead_of(together);
                each = started.elapsed() / together.len() as u32;
                ahead = number..number + together.len();
                next_gate = 0;
            }
            let gate = next_gate;
            let place = number - ahead.start;
            next_gate += self.views_of(message, place).len();
            let report = self.look_at_views(message, place, gate, None, request)?;
            Ok(self.counted(Report {
                elapsed: report.elapsed + each,
                ..report
            }))
        })
    }

    /// Decodes these messages, each at its place, and has the prefilter judge all views of them.
    fn look_ahead_of(&mut self, messages: &[Message<'_>]) {
        let set = self.detector.views();
        if self.buffers.len() < messages.len() {
            self.buffers
                .resize_with(messages.len(), ViewBuffers::default);
        }
        for (message, buffers) in messages.iter().zip(&mut self.buffers) {
            buffers.decode(message, set);
        }
        if let ([message], [buffers, ..]) = (messages, &*self.buffers) {
            let mut list = [&[][..]; MAX_VIEWS];
            let buffers = buffers.list(message, set);
            self.eyes
                .look_ahead(&self.detector, buffers.buffers(&mut list));
            return;
        }
        let views = messages.iter().zip(&self.buffers);
        let views = views.flat_map(|(message, buffers)| buffers.list(message, set));
        let list: Vec<&[u8]> = views.map(|view| view.data).collect();
        self.eyes.look_ahead(&self.detector, &list);
    }

    fn views_of<'a>(&'a self, message: &'a Message<'_>, place: usize) -> Views<'a> {
        self.buffers[place].list(message, self.detector.views())
    }

    /// Looks at the views of a message that was decoded at this place; the prefilter has judged them, from this gate on.
    fn look_at_views(
        &mut self,
        message: &Message<'_>,
        place: usize,
        first_gate: usize,
        started: Option<Instant>,
        request: &Request<'_>,
    ) -> Result<Report, ScanError> {
        let mut tally = Tally::new(started);
        let Scanner {
            detector,
            buffers,
            eyes,
            stop,
            ..
        } = self;
        let request = &request.stop(stop.as_ref());
        let set = detector.views();
        let views = buffers[place].list(message, set);
        let left_out = views.payloads_left_out();
        for (view, gate) in views.zip(first_gate..) {
            let gate = eyes.gates.get(gate).copied();
            eyes.look(detector, view, gate, request, set, &mut tally)?;
        }
        if left_out {
            tally.incomplete.get_or_insert(Incomplete::DecodedPayloads);
        }
        Ok(tally.finish(detector, message.raw.len() as u64))
    }

    fn counted(&mut self, report: Report) -> Report {
        let stats = &mut self.stats;
        stats.scans += 1;
        stats.scanned_bytes += report.input_bytes;
        stats.engine_calls += u64::from(report.engine_calls);
        stats.infected += u64::from(matches!(report.verdict, Verdict::Infected(_)));
        stats.incomplete += u64::from(matches!(report.verdict, Verdict::Incomplete { .. }));
        let eyes = &mut self.eyes;
        let audited = std::mem::take(&mut eyes.audited);
        eyes.audit.worked(report.elapsed, audited);
        report
    }
}

impl Eyes {
    fn new(audit: AuditOptions) -> Eyes {
        // Scanners that start together must not draw the same messages.
        static SEED: AtomicU64 = AtomicU64::new(0);
        let seed = SEED.fetch_add(1, Ordering::Relaxed) + u64::from(std::process::id());
        Eyes {
            guarded: Vec::new(),
            matches: Vec::new(),
            scratch: Scratch::default(),
            gates: Vec::new(),
            audit: Audit::new(audit, seed),
            audited: Duration::ZERO,
            cleared: 0,
            audits: 0,
            causes: [0; Cause::ALL.len()],
        }
    }

    /// Has the prefilter judge what will be looked at next.
    fn look_ahead(&mut self, detector: &Detector, buffers: &[&[u8]]) {
        match detector.engine() {
            Some(_) => {
                let prefilter = detector.prefilter();
                prefilter.check_each(buffers, &mut self.scratch, &mut self.gates);
            }
            None => self.gates.clear(),
        }
    }

    /// Looks at one buffer with rules and libclamav. The prefilter may have judged it already.
    fn look(
        &mut self,
        detector: &Detector,
        of: ViewRef<'_>,
        gate: Option<Gate>,
        request: &Request<'_>,
        views: ViewSet,
        tally: &mut Tally,
    ) -> Result<(), ScanError> {
        let ViewRef { view, data: buffer } = of;
        tally.views += 1;
        if let Some(rules) = detector.rules() {
            tally.start();
            rules.find(buffer, &mut self.matches);
            for found in self.matches.drain(..) {
                tally.add(rules.detection(&found, view, buffer));
            }
        }
        let Some(engine) = detector.engine() else {
            return Ok(());
        };
        let ignored_before = std::mem::take(&mut tally.type_ignored);
        if self.has_to_look(detector, engine, of, gate, request, tally)? {
            tally.engine(view, engine.scan(Payload::Bytes(buffer), request)?);
        }
        if tally.type_ignored && views.contains(View::Guarded) {
            self.guarded.clear();
            self.guarded.push(b'\n');
            self.guarded.extend_from_slice(buffer);
            // Typed as something else now; were it ignored again, it would be said.
            tally.type_ignored = false;
            let guarded = std::mem::take(&mut self.guarded);
            let of = ViewRef {
                view: View::Guarded,
                data: &guarded,
            };
            if self.has_to_look(detector, engine, of, None, request, tally)? {
                tally.engine(of.view, engine.scan(Payload::Bytes(of.data), request)?);
            }
            self.guarded = guarded;
        }
        tally.type_ignored |= ignored_before;
        Ok(())
    }

    /// Whether libclamav has to examine a buffer: not if the answer is settled, nor if it would certainly call it clean.
    fn has_to_look(
        &mut self,
        detector: &Detector,
        engine: &Engine,
        of: ViewRef<'_>,
        gate: Option<Gate>,
        request: &Request<'_>,
        tally: &mut Tally,
    ) -> Result<bool, ScanError> {
        let ViewRef { view, data: buffer } = of;
        if !request.all_matches() && tally.found.iter().any(Detection::is_clamav) {
            return Ok(false);
        }
        if gate != Some(Gate::Cleared) {
            tally.start();
        }
        if request.is_cancelled() {
            // Whoever stops a scanner is to hear that it stopped; libclamav's answer says so.
            return Ok(true);
        }
        let prefilter = detector.prefilter();
        let gate = match gate {
            // An audit since then may have found that it is not to be trusted.
            Some(gate) if prefilter.off().is_none() => gate,
            _ => prefilter.check(buffer, &mut self.scratch),
        };
        match gate {
            Gate::MustScan(cause) => {
                self.causes[cause as usize] += 1;
                return Ok(true);
            }
            Gate::Cleared => self.cleared += 1,
        }
        if self.audit.is_due() {
            self.audits += 1;
            tally.start();
            let started = Instant::now();
            let scan = engine.scan(Payload::Bytes(buffer), request)?;
            self.audited += started.elapsed();
            // What could not be examined now is clean by proof; only a finding says something.
            if !scan.names.is_empty() {
                prefilter.was_wrong(buffer, &scan.names);
                tally.engine(view, scan);
            }
        }
        Ok(false)
    }
}

/// What is known about an object so far.
#[derive(Debug)]
struct Tally {
    /// Since when something has been done for this object alone. Nothing is, for most of those that were judged ahead: two looks at the
    /// clock would cost as much as half the automata.
    started: Option<Instant>,
    found: Vec<Detection>,
    incomplete: Option<Incomplete>,
    views: u32,
    engine_calls: u32,
    type_ignored: bool,
}

impl Tally {
    fn new(started: Option<Instant>) -> Tally {
        Tally {
            started,
            found: Vec::new(),
            incomplete: None,
            views: 0,
            engine_calls: 0,
            type_ignored: false,
        }
    }

    /// What comes takes time; now, if it has not begun yet.
    fn start(&mut self) {
        self.started.get_or_insert_with(Instant::now);
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
        self.type_ignored |= scan.type_ignored;
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
            elapsed: self.started.map_or(Duration::ZERO, |it| it.elapsed()),
        }
    }
}
