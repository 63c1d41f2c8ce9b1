//! How often a file is asked for, and how long a mirror is left alone in between.

use std::time::Duration;

use super::trouble::Trouble;
use crate::random;

/// So many requests in a row may bring nothing.
const TRIES: u32 = 5;
/// A request that brought so many bytes more than any before was worth it, and does not count.
const WORTH: u64 = 1 << 20;
/// The first wait; each is twice as long as the one before.
const FIRST: Duration = Duration::from_secs(1);
/// Who wants to be left alone for longer is: a sync is started again by its timer.
const LONGEST: Duration = Duration::from_secs(60);

/// What was tried for one file.
#[derive(Debug, Default)]
pub struct Patience {
    tries: u32,
    in_vain: u32,
    most: u64,
}

impl Patience {
    /// How long to wait before the next request; `None` if there is to be none. `bytes` are there by now.
    pub fn wait(&mut self, trouble: &Trouble, bytes: u64) -> Option<Duration> {
        self.tries += 1;
        // Measured by the most there ever was: it cannot go on for ever.
        if bytes >= self.most.saturating_add(WORTH) {
            self.in_vain = 0;
        }
        self.most = self.most.max(bytes);
        self.in_vain += 1;
        if !trouble.may_pass() || self.in_vain >= TRIES {
            return None;
        }
        let ours = FIRST * 2u32.pow(self.in_vain - 1);
        match trouble {
            Trouble::Busy {
                after: Some(after), ..
            } if *after > LONGEST => None,
            Trouble::Busy {
                after: Some(after), ..
            } => Some((*after).max(ours)),
            // Replicas that failed together do not come back together.
            _ => Some(random::jitter(ours, 1.0..1.25)),
        }
    }

    /// How many requests failed.
    pub fn tries(&self) -> u32 {
        self.tries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(after: Option<u64>) -> Trouble {
        Trouble::Busy {
            status: 503,
            after: after.map(Duration::from_secs),
        }
    }

    #[test]
    fn waits_grow_and_end() {
        let mut patience = Patience::default();
        let waits: Vec<_> = (0..5).map(|_| patience.wait(&busy(None), 0)).collect();
        for (wait, least) in waits.iter().zip([1, 2, 4, 8]) {
            let wait = wait.unwrap().as_secs_f64();
            assert!((f64::from(least)..f64::from(least) * 1.25).contains(&wait));
        }
        assert_eq!((waits[4], patience.tries()), (None, 5));
    }

    #[test]
    fn what_brings_more_is_gone_on_with_and_what_goes_in_circles_is_not() {
        let mut patience = Patience::default();
        let broken = Trouble::Connection(String::new());
        for round in 1..100 {
            assert!(patience.wait(&broken, round * WORTH).is_some());
        }
        let mut patience = Patience::default();
        let rounds = (0..).take_while(|round| {
            let bytes = if round % 2 == 0 {
                10 * WORTH
            } else {
                50 * WORTH
            };
            patience.wait(&broken, bytes).is_some()
        });
        assert!(rounds.take(100).count() < 10);
    }

    #[test]
    fn a_mirror_that_names_a_time_is_left_alone_for_as_long_or_until_the_next_run() {
        assert_eq!(
            Patience::default().wait(&busy(Some(7)), 0),
            Some(Duration::from_secs(7))
        );
        assert_eq!(Patience::default().wait(&busy(Some(3600)), 0), None);
        assert!(Patience::default().wait(&busy(Some(0)), 0) >= Some(FIRST));
    }

    #[test]
    fn what_will_not_pass_is_asked_once() {
        assert_eq!(Patience::default().wait(&Trouble::Missing, 0), None);
        assert_eq!(
            Patience::default().wait(&Trouble::Status { status: 403 }, 0),
            None
        );
    }
}
