//! When to load: after a change that has come to rest, when asked, and again after a failure.

use std::time::{Duration, Instant};

use super::files::Fingerprint;

/// Pause before files that could not be loaded are tried again; doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(30);
/// How long files have to stand still where the kernel tells of changes, if that is less than the interval.
const SETTLED: Duration = Duration::from_secs(1);
/// So many looks come sooner then: one sees the change, the next that it stands still.
const SOON: u32 = 2;
/// The longest such pause.
const LAST_RETRY: Duration = Duration::from_secs(3600);

/// What a look came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing to do.
    Nothing,
    /// Load the files, which look like this.
    Load(Fingerprint),
}

/// The memory between looks.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Time between two looks; zero never looks.
    interval: Duration,
    next_look: Instant,
    /// What was tried last, whether it loaded or not.
    tried: Fingerprint,
    /// What the last look saw.
    seen: Fingerprint,
    asked: bool,
    /// Looks that come sooner.
    soon: u32,
    failures: u32,
    retry: Option<Instant>,
}

impl Schedule {
    pub(super) fn new(interval: Duration, loaded: Fingerprint, now: Instant) -> Schedule {
        Schedule {
            interval,
            next_look: now + interval,
            tried: loaded.clone(),
            seen: loaded,
            asked: false,
            soon: 0,
            failures: 0,
            retry: None,
        }
    }

    /// Makes the next look a load, whatever it sees.
    pub(super) fn ask(&mut self) {
        self.asked = true;
    }

    /// Makes the next looks come soon: something changed.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.soon = SOON;
        self.next_look = self.next_look.min(now + self.pause());
    }

    /// Time to the next look.
    fn pause(&self) -> Duration {
        match self.soon {
            0 => self.interval,
            _ => self.interval.min(SETTLED),
        }
    }

    /// Looks, if it is time to.
    pub(super) fn look(&mut self, now: Instant, look: impl FnOnce() -> Fingerprint) -> Due {
        if self.asked {
            self.asked = false;
            return Due::Load(look());
        }
        if self.interval.is_zero() || now < self.next_look {
            return Due::Nothing;
        }
        self.soon = self.soon.saturating_sub(1);
        self.next_look = now + self.pause();
        let seen = look();
        let at_rest = seen == self.seen;
        self.seen = seen;
        let changed = self.seen != self.tried;
        if at_rest && (changed || self.retry.is_some_and(|at| now >= at)) {
            Due::Load(self.seen.clone())
        } else {
            Due::Nothing
        }
    }

    /// Takes note of a load.
    pub(super) fn loaded(&mut self, tried: Fingerprint, ok: bool, now: Instant) {
        if ok || tried != self.tried {
            self.failures = 0;
        }
        self.retry = (!ok).then(|| {
            let pause = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(self.failures));
            now + pause.min(LAST_RETRY)
        });
        self.failures = self.failures.saturating_add(1);
        self.tried = tried;
        self.next_look = now + self.pause();
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Different for each text: files that do not exist.
    fn files(name: &str) -> Fingerprint {
        Fingerprint::of(&[PathBuf::from("/no/such").join(name)])
    }

    fn schedule() -> (Schedule, Instant) {
        let now = Instant::now();
        (Schedule::new(SECOND, files("first"), now), now)
    }

    #[test]
    fn a_change_is_loaded_once_it_has_stood_still_for_one_interval() {
        let (mut schedule, start) = schedule();
        let mut look = |at: u32, name: &str| schedule.look(start + SECOND * at, || files(name));
        assert_eq!(look(1, "first"), Due::Nothing);
        assert_eq!(look(2, "half"), Due::Nothing);
        assert_eq!(look(3, "more"), Due::Nothing);
        assert_eq!(look(4, "whole"), Due::Nothing);
        assert_eq!(look(5, "whole"), Due::Load(files("whole")));
        schedule.loaded(files("whole"), true, start + SECOND * 5);
        for at in 6..5000 {
            let due = schedule.look(start + SECOND * at, || files("whole"));
            assert_eq!(due, Due::Nothing, "after {at} s");
        }
    }

    #[test]
    fn a_change_that_is_told_is_loaded_once_it_has_stood_still_for_a_second() {
        let now = Instant::now();
        let hour = SECOND * 3600;
        let mut schedule = Schedule::new(hour, files("first"), now);
        let at = |millis: u64| now + Duration::from_millis(millis);
        assert_eq!(schedule.look(at(10), || panic!("looked")), Due::Nothing);
        schedule.hurry(at(10));
        assert_eq!(schedule.look(at(900), || panic!("looked")), Due::Nothing);
        assert_eq!(schedule.look(at(1010), || files("half")), Due::Nothing);
        // It goes on.
        schedule.hurry(at(1500));
        assert_eq!(schedule.look(at(2010), || files("whole")), Due::Nothing);
        let due = schedule.look(at(3010), || files("whole"));
        assert_eq!(due, Due::Load(files("whole")));
        schedule.loaded(files("whole"), true, at(3010));
        assert_eq!(schedule.look(at(60_000), || panic!("looked")), Due::Nothing);
        assert_eq!(
            schedule.look(now + hour * 2, || files("whole")),
            Due::Nothing
        );
    }

    #[test]
    fn no_look_comes_before_its_time() {
        let (mut schedule, start) = schedule();
        let early = schedule.look(start + SECOND / 2, || panic!("looked"));
        assert_eq!(early, Due::Nothing);
    }

    #[test]
    fn a_failed_load_is_tried_again_with_growing_pauses_and_at_once_when_the_files_change() {
        let (mut schedule, start) = schedule();
        let mut tried = Vec::new();
        for at in 1..9000 {
            let now = start + SECOND * at;
            if let Due::Load(seen) = schedule.look(now, || files("broken")) {
                schedule.loaded(seen, false, now);
                tried.push(at);
            }
        }
        let pauses: Vec<_> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 1920, 3600]);

        let at = |seconds: u32| start + SECOND * (9000 + seconds);
        assert_eq!(schedule.look(at(1), || files("mended")), Due::Nothing);
        let due = schedule.look(at(2), || files("mended"));
        assert_eq!(due, Due::Load(files("mended")));
        schedule.loaded(files("mended"), true, at(2));
        assert_eq!(schedule.look(at(9000), || files("mended")), Due::Nothing);
    }

    #[test]
    fn asked_it_loads_at_once_and_without_an_interval_only_then() {
        let now = Instant::now();
        let mut schedule = Schedule::new(Duration::ZERO, files("first"), now);
        let later = now + SECOND * 100;
        assert_eq!(
            schedule.look(later, || panic!("it looked by itself")),
            Due::Nothing
        );
        schedule.ask();
        assert_eq!(
            schedule.look(later, || files("first")),
            Due::Load(files("first"))
        );
        schedule.loaded(files("first"), true, later);
        assert_eq!(
            schedule.look(later, || panic!("asked only once")),
            Due::Nothing
        );
    }
}
