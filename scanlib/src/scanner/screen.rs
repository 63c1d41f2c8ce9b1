//! The first of two stages: what the prefilter and the rules decide without libclamav.

use std::cmp::Ordering;
use std::time::Duration;

use super::view_scanner::Decided;
use super::{Scanner, ahead::Ahead};
use crate::message::Message;
use crate::prefilter::{AuditTicket, Gate};
use crate::report::{Generation, Report};
use crate::scanner::tally::Tally;

/// What [`Scanner::screen_messages`] made of a message.
#[derive(Debug)]
#[non_exhaustive]
pub enum Screened {
    /// The report, for which libclamav was not needed.
    Decided(Report),
    /// libclamav has to examine a view of the message, or an audit of one is due.
    Pending(PendingScan),
}

/// What is known of a message that libclamav has to examine: the prefilter's decision on each of its views.
///
/// It holds neither the message nor a detector. A queue of pending scans therefore costs only the messages, and does not keep a
/// detector alive that was replaced: whoever finishes the scan brings both, see [`Scanner::finish_message`].
#[derive(Debug)]
pub struct PendingScan {
    generation: Generation,
    views: Box<[View]>,
    /// Set if a view is to be audited: charges the audit to the scanner that drew it.
    ticket: Option<AuditTicket>,
    /// What screening this message took.
    screened: Duration,
}

/// The decision on one view.
#[derive(Clone, Copy, Debug)]
struct View {
    gate: Gate,
    /// `None` leaves the draw to the scanner that finishes.
    audit: Option<bool>,
}

impl PendingScan {
    /// The detector by which the message was screened.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The decisions, if they are those of this detector on a message with so many views.
    pub(super) fn decisions(
        &self,
        generation: Generation,
        views: usize,
    ) -> Option<impl Iterator<Item = Decided>> {
        let is_the_same = self.generation == generation && self.views.len() == views;
        is_the_same.then(|| {
            self.views.iter().map(|view| Decided {
                gate: Some(view.gate),
                audit: view.audit,
            })
        })
    }

    pub(super) fn ticket(&self) -> Option<&AuditTicket> {
        self.ticket.as_ref()
    }

    pub(super) fn screened(&self) -> Duration {
        self.screened
    }
}

impl Scanner {
    /// Judges several messages as far as that is possible without libclamav, in their order: microseconds for each, whatever is in
    /// them. What stays [`Screened::Pending`] is for [`Scanner::finish_message`], on this thread or on another that may take its time.
    /// Both together give the report that [`Scanner::scan_message`] would.
    ///
    /// As with [`Scanner::scan_messages`] a message is judged when its turn comes, and the prefilter judges some ahead.
    ///
    /// ```
    /// use scanlib::{Detector, EngineBuilder, Library, Parser, Request, Screened, Verdict};
    ///
    /// let engine = EngineBuilder::new(Library::init()?)?.builtin_signatures()?.compile()?;
    /// let detector = Detector::builder().engine(engine).build()?;
    /// let (mut quick, mut thorough) = (detector.scanner(), detector.scanner());
    ///
    /// let parser = Parser::default();
    /// let messages = [parser.parse(b"sshd[7]: session opened"), parser.parse(b"see <script>alert(1)</script>")];
    /// for (message, screened) in messages.iter().zip(quick.screen_messages(&messages)) {
    ///     let report = match screened {
    ///         Screened::Decided(report) => report,
    ///         Screened::Pending(pending) => thorough.finish_message(message, &pending, &Request::new())?,
    ///         _ => unreachable!(),
    ///     };
    ///     assert_eq!(report.verdict, Verdict::Clean);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn screen_messages<'a>(
        &'a mut self,
        messages: &'a [Message<'a>],
    ) -> impl ExactSizeIterator<Item = Screened> + 'a {
        let mut ahead = Ahead::default();
        messages.iter().enumerate().map(move |(number, message)| {
            let turn = ahead.turn(self, messages, number);
            match self.screen(message, turn.place, turn.first_gate, turn.each) {
                Screened::Decided(report) => Screened::Decided(self.counted(Report {
                    elapsed: report.elapsed + turn.each,
                    ..report
                })),
                pending => {
                    self.views.audit.worked(turn.each, Duration::ZERO);
                    pending
                }
            }
        })
    }

    /// Judges a message that was decoded at this place, and whose views the prefilter has judged from this gate on.
    fn screen(
        &mut self,
        message: &Message<'_>,
        place: usize,
        first_gate: usize,
        screened: Duration,
    ) -> Screened {
        let Scanner {
            detector,
            buffers,
            views: scanner,
            stop,
            ..
        } = self;
        let views = buffers[place].list(message, detector.views());
        if detector.engine().is_some() {
            let gates = scanner.gates.get(first_gate..).unwrap_or_default();
            let gates = gates.get(..views.len()).unwrap_or(gates);
            // Whoever stops a scanner is to hear that it stopped; libclamav's answer says so.
            let is_stopped = stop.as_ref().is_some_and(|stop| stop.is_cancelled());
            let is_cleared = gates.iter().all(|gate| *gate == Gate::Cleared)
                && detector.prefilter().off().is_none()
                && !is_stopped;
            let audit = &mut scanner.audit;
            let is_due = |_: &usize| audit.is_due();
            let first_audit = match is_cleared {
                true => (0..gates.len()).find(is_due),
                false => None,
            };
            if !is_cleared || first_audit.is_some() {
                let view = |(number, gate): (usize, &Gate)| View {
                    gate: *gate,
                    audit: first_audit.map(|first| match number.cmp(&first) {
                        Ordering::Less => false,
                        Ordering::Equal => true,
                        Ordering::Greater => scanner.audit.is_due(),
                    }),
                };
                let views = gates.iter().enumerate().map(view).collect();
                return Screened::Pending(PendingScan {
                    generation: detector.generation(),
                    views,
                    ticket: first_audit.map(|_| scanner.audit.ticket()),
                    screened,
                });
            }
            scanner.cleared += views.len() as u64;
        }
        let mut tally = Tally::new(None);
        let limit = views.limit();
        for view in views {
            scanner.match_rules(detector, view, &mut tally);
        }
        Screened::Decided(
            tally
                .of_message(limit)
                .finish(detector, message.raw.len() as u64),
        )
    }
}
