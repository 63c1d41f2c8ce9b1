//! What happens to whom and when, from a seed alone.

use std::time::Duration;

use scanner_bin::random::SplitMix;

/// Replicas by number. The last one is not there from the beginning.
pub(crate) const REPLICAS: usize = 4;
/// How long a replica sleeps at least that is to lose its session, which is 6 s.
const LONG_SLEEP_MS: u64 = 8_500;

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A replica joins.
    Start(usize),
    /// SIGKILL; it comes back after a while.
    Kill { who: Who, away: Duration },
    /// SIGTERM; the same.
    Terminate { replica: usize, away: Duration },
    /// SIGSTOP, and SIGCONT after a while: within its session, or long after it.
    Stop { who: Who, asleep: Duration },
    /// SIGSTOP and SIGCONT of the broker.
    Freeze(Duration),
    /// The same, at a moment when it has not yet confirmed what a replica sent.
    FreezeInDebt(Duration),
    /// SIGKILL of the broker, which is started again at once.
    Crash,
    /// SIGTERM of the broker, which is started again at once.
    Bounce,
    /// SIGKILL of a replica's scanning process.
    KillScanning(Who),
    /// SIGSTOP and SIGCONT of a replica's scanning process.
    StopScanning { who: Who, asleep: Duration },
    /// SIGKILL of the process that holds a replica's signatures, which are loaded again.
    KillTemplate(Who),
}

/// The first seed whose replicas may have libclamav in processes of its own. What earlier ones do is on record.
const FIRST_ISOLATED: u64 = 57;

/// Whether the replicas of a seed have libclamav in processes of its own: in half of the seeds of each delivery.
pub(crate) fn is_isolated(seed: u64) -> bool {
    seed >= FIRST_ISOLATED && (seed / 2).is_multiple_of(2)
}

/// Which replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Number(usize),
    /// The one with most in flight at that moment.
    Busiest,
}

/// The same numbers on every machine, for ever.
struct Dice(SplitMix);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// The events of a seed: something every second or three, a sleep past the session in each, and in a long one the broker is bounced.
pub(crate) fn plan(seed: u64, length: Duration) -> Vec<(Duration, Step)> {
    let mut dice = Dice(SplitMix::new(seed.wrapping_mul(0x5851_F42D_4C95_7F2D)));
    let mut plan = Vec::new();
    let length_ms = length.as_millis() as u64;
    plan.push((
        dice.millis(length_ms / 10, length_ms / 2),
        Step::Start(REPLICAS - 1),
    ));
    // Early enough to wake up before the end, late enough to have work.
    let latest = length_ms.saturating_sub(LONG_SLEEP_MS + 1_500).max(2_500);
    let asleep = dice.millis(LONG_SLEEP_MS, LONG_SLEEP_MS + 2_500);
    let sleeps_at = dice.millis(2_000, latest.min(length_ms / 2).max(2_100));
    plan.push((
        sleeps_at,
        Step::Stop {
            who: Who::Busiest,
            asleep,
        },
    ));
    if length >= Duration::from_secs(40) {
        let at = dice.millis(length_ms * 6 / 10, length_ms * 8 / 10);
        plan.push((
            at,
            match dice.below(2) {
                0 => Step::Crash,
                _ => Step::Bounce,
            },
        ));
    }
    let mut at = Duration::from_millis(1_500);
    loop {
        at += dice.millis(900, 3_600);
        if at >= length {
            break;
        }
        let replica = dice.below(REPLICAS as u64) as usize;
        let away = dice.millis(100, 2_500);
        let step = match dice.below(100) {
            0..15 => Step::Kill {
                who: Who::Number(replica),
                away,
            },
            15..40 => Step::Kill {
                who: Who::Busiest,
                away,
            },
            40..65 => Step::Terminate { replica, away },
            65..80 => Step::Stop {
                who: Who::Number(replica),
                asleep: dice.millis(300, 3_500),
            },
            _ => Step::Freeze(dice.millis(300, 3_000)),
        };
        plan.push((at, step));
    }
    if is_isolated(seed) {
        plan.extend(scanning(seed, length));
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}

/// What happens to scanning processes: they are killed several times a second for a while, stopped now and then, and once
/// the process that they are forked from is killed.
fn scanning(seed: u64, length: Duration) -> Vec<(Duration, Step)> {
    // Dice of their own: the other events of a seed stay as they are.
    let mut dice = Dice(SplitMix::new(seed.wrapping_mul(0x2545_F491_4F6C_DD1D)));
    let mut plan = Vec::new();
    let who = |dice: &mut Dice| match dice.below(2) {
        0 => Who::Busiest,
        _ => Who::Number(dice.below(REPLICAS as u64) as usize),
    };
    let template_at = dice.millis(2_000, length.as_millis() as u64 * 9 / 10);
    plan.push((template_at, Step::KillTemplate(who(&mut dice))));
    let mut at = Duration::from_millis(1_000);
    loop {
        let burst_ends = at + dice.millis(1_000, 4_000);
        while at < burst_ends {
            at += dice.millis(100, 500);
            let who = who(&mut dice);
            let step = match dice.below(10) {
                0 => Step::StopScanning {
                    who,
                    asleep: dice.millis(100, 1_500),
                },
                _ => Step::KillScanning(who),
            };
            if at >= length {
                return plan;
            }
            plan.push((at, step));
        }
        at += dice.millis(500, 3_000);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const LONG: Duration = Duration::from_secs(45);
    const SHORT: Duration = Duration::from_secs(12);

    #[test]
    fn a_seed_is_a_plan() {
        assert_eq!(plan(7, LONG), plan(7, LONG));
        let plans: BTreeSet<_> = (1..=50)
            .map(|seed| format!("{:?}", plan(seed, LONG)))
            .collect();
        assert_eq!(plans.len(), 50);
    }

    #[test]
    fn half_of_the_later_seeds_of_each_delivery_have_scanning_processes_that_are_killed() {
        for seed in 1..FIRST_ISOLATED {
            assert!(!is_isolated(seed), "what seed {seed} does is on record");
        }
        for parity in [0, 1] {
            let seeds = (FIRST_ISOLATED..FIRST_ISOLATED + 40).filter(|seed| seed % 2 == parity);
            assert_eq!(seeds.filter(|seed| is_isolated(*seed)).count(), 10);
        }
        for seed in FIRST_ISOLATED..FIRST_ISOLATED + 40 {
            let plan = plan(seed, LONG);
            let count = |wanted: fn(&Step) -> bool| plan.iter().filter(|(_, s)| wanted(s)).count();
            let kills = count(|s| matches!(s, Step::KillScanning(_)));
            let templates = count(|s| matches!(s, Step::KillTemplate(_)));
            match is_isolated(seed) {
                true => assert!(kills > 30 && templates == 1, "seed {seed}: {plan:?}"),
                false => assert_eq!(kills + templates, 0),
            }
        }
    }

    #[test]
    fn each_plan_has_kills_a_late_riser_and_if_it_is_long_a_broker_that_goes_and_comes() {
        for (seed, length) in (1..=200).flat_map(|seed| [(seed, LONG), (seed, SHORT)]) {
            let plan = plan(seed, length);
            assert!(
                plan.iter().all(|(at, _)| *at < length),
                "seed {seed}: {plan:?}"
            );
            let count = |wanted: fn(&Step) -> bool| plan.iter().filter(|(_, s)| wanted(s)).count();
            let late = |s: &Step| matches!(s, Step::Stop { asleep, .. } if *asleep > Duration::from_secs(8));
            assert_eq!(count(late), 1, "seed {seed}: {plan:?}");
            let bounces = count(|s| matches!(s, Step::Crash | Step::Bounce));
            assert_eq!(
                bounces,
                usize::from(length == LONG),
                "seed {seed}: {plan:?}"
            );
            if length == LONG {
                assert!(
                    count(|s| matches!(s, Step::Kill { .. })) >= 1,
                    "seed {seed}: {plan:?}"
                );
            }
        }
    }
}
