//! Which cleared messages are scanned all the same, to see that they are clean.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// How many cleared messages are scanned to check on the prefilter, and for how much of a scanner's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditOptions {
    /// One in so many; 0 is none. Default: 1,000.
    pub one_in: u32,
    /// Hundredths of the time that the scanner works, at most. Default: 1. A scan costs as much as the decisions on a thousand
    /// messages, so this is what decides on fast machines.
    pub percent: u32,
}

impl Default for AuditOptions {
    fn default() -> Self {
        AuditOptions {
            one_in: 1000,
            percent: 1,
        }
    }
}

/// Draws the messages of one scanner.
#[derive(Debug)]
pub struct Audit {
    options: AuditOptions,
    /// So many cleared messages until the next.
    left: u32,
    random: u64,
    worked: Duration,
    spent: Duration,
    elsewhere: Arc<Elsewhere>,
}

/// Audits that one scanner drew and others make.
#[derive(Debug, Default)]
struct Elsewhere {
    /// Not made yet.
    waiting: AtomicU32,
    /// What the last one took, and all of them, in nanoseconds.
    last_nanos: AtomicU64,
    spent_nanos: AtomicU64,
}

impl Elsewhere {
    /// Time for audits that were made and, as far as can be known, for those that wait.
    fn spent(&self) -> Duration {
        let waiting = u64::from(self.waiting.load(Ordering::Relaxed));
        let waiting = waiting.saturating_mul(self.last_nanos.load(Ordering::Relaxed));
        Duration::from_nanos(
            self.spent_nanos
                .load(Ordering::Relaxed)
                .saturating_add(waiting),
        )
    }
}

/// An audit that one scanner drew and another makes: it counts against the time of the first.
#[derive(Debug)]
pub struct AuditTicket(Arc<Elsewhere>);

impl AuditTicket {
    /// Notes what the audit took.
    pub fn charge(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.last_nanos.store(nanos, Ordering::Relaxed);
        self.0.spent_nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl Drop for AuditTicket {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Audit {
    /// Scanners with the same seed draw the same messages.
    pub fn new(options: AuditOptions, seed: u64) -> Audit {
        let mut audit = Audit {
            options,
            left: 0,
            // Any number but 0, and no two neighbours alike.
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            worked: Duration::ZERO,
            spent: Duration::ZERO,
            elsewhere: Arc::default(),
        };
        audit.left = audit.gap();
        audit
    }

    /// Whether this cleared message is one of them.
    #[inline]
    pub fn is_due(&mut self) -> bool {
        if self.left > 1 {
            self.left -= 1;
            return false;
        }
        if self.options.one_in == 0 {
            return false;
        }
        let spent = self.spent + self.elsewhere.spent();
        if spent.saturating_mul(100) > self.worked.saturating_mul(self.options.percent) {
            // No time yet; the next message is as good as this one.
            return false;
        }
        self.left = self.gap();
        true
    }

    /// For an audit that was drawn here and is made by another scanner. It counts as waiting until the ticket is dropped.
    pub fn ticket(&self) -> AuditTicket {
        self.elsewhere.waiting.fetch_add(1, Ordering::Relaxed);
        AuditTicket(Arc::clone(&self.elsewhere))
    }

    /// Notes down how long the scanner has worked on a message, of which so much was an audit.
    pub fn worked(&mut self, all: Duration, audit: Duration) {
        self.worked += all;
        self.spent += audit;
    }

    /// A random distance, which no rhythm of the messages can be in step with; on average it is what was asked for.
    fn gap(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let most = u64::from(self.options.one_in).saturating_mul(2).max(2) - 1;
        u32::try_from(1 + self.random % most).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(options: AuditOptions, messages: u32, each: Duration, cost: Duration) -> u32 {
        let mut audit = Audit::new(options, 7);
        let mut due = 0;
        for _ in 0..messages {
            let cost = match audit.is_due() {
                true => {
                    due += 1;
                    cost
                }
                false => Duration::ZERO,
            };
            audit.worked(each + cost, cost);
        }
        due
    }

    #[test]
    fn about_one_in_so_many_is_drawn() {
        let (micro, zero) = (Duration::from_micros(1), Duration::ZERO);
        let options = |one_in| AuditOptions { one_in, percent: 1 };
        assert_eq!(due(options(0), 10_000, micro, zero), 0);
        assert_eq!(due(options(1), 10_000, micro, zero), 10_000);
        let drawn = due(options(1000), 1_000_000, micro, zero);
        assert!((900..1100).contains(&drawn), "{drawn}");
    }

    #[test]
    fn an_audit_takes_no_more_than_its_share_of_the_time() {
        let (micro, milli) = (Duration::from_micros(1), Duration::from_millis(1));
        for percent in [1, 10] {
            let options = AuditOptions {
                one_in: 10,
                percent,
            };
            let drawn = due(options, 1_000_000, micro, milli);
            // A second of work, each audit a thousandth of it.
            assert!((9..=12).contains(&(drawn / percent)), "{drawn}");
        }
    }

    #[test]
    fn audits_made_by_other_scanners_are_charged_and_waiting_ones_are_foreseen() {
        let (milli, zero) = (Duration::from_millis(1), Duration::ZERO);
        let options = AuditOptions {
            one_in: 1,
            percent: 10,
        };
        let mut audit = Audit::new(options, 7);
        assert!(audit.is_due());
        let ticket = audit.ticket();
        ticket.charge(milli);
        assert!(!audit.is_due(), "a millisecond of no time");
        drop(ticket);
        audit.worked(milli * 10, zero);
        assert!(audit.is_due(), "a tenth of the time");
        let waiting = audit.ticket();
        assert!(!audit.is_due(), "one waits that will take as long");
        drop(waiting);
        assert!(audit.is_due(), "it was given up");
    }
}
