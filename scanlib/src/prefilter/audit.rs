//! Which cleared messages are scanned all the same, to see that they are clean.

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
pub(crate) struct Audit {
    options: AuditOptions,
    /// So many cleared messages until the next.
    left: u32,
    random: u64,
    worked: Duration,
    spent: Duration,
}

impl Audit {
    pub(crate) fn new(options: AuditOptions, seed: u64) -> Audit {
        let mut audit = Audit {
            options,
            left: 0,
            // Any number but 0, and no two neighbours alike.
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            worked: Duration::ZERO,
            spent: Duration::ZERO,
        };
        audit.left = audit.gap();
        audit
    }

    /// Whether this cleared message is one of them.
    #[inline]
    pub(crate) fn is_due(&mut self) -> bool {
        if self.left > 1 {
            self.left -= 1;
            return false;
        }
        if self.options.one_in == 0 {
            return false;
        }
        if self.spent.saturating_mul(100) > self.worked.saturating_mul(self.options.percent) {
            // No time yet; the next message is as good as this one.
            return false;
        }
        self.left = self.gap();
        true
    }

    /// Notes down how long the scanner has worked on a message, of which so much was an audit.
    pub(crate) fn worked(&mut self, all: Duration, audit: Duration) {
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
}
