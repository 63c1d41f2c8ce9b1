//! The probes, asked as a kubelet would, and more often.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::process::Scanner;

/// Time between two rounds.
const EVERY: Duration = Duration::from_millis(200);

/// What the probes answered.
#[derive(Debug, Default)]
pub struct Answers {
    pub rounds: usize,
    /// Each answer but 200, and when it came.
    pub failures: Vec<String>,
}

/// Asks until told to stop.
pub fn watch(scanner: &Scanner, stop: &AtomicBool) -> Answers {
    let mut answers = Answers::default();
    let started = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let round = Instant::now();
        answers.rounds += 1;
        for path in ["/readyz", "/livez"] {
            let said = match scanner.get(path) {
                Some((200, _)) => continue,
                Some((status, body)) => format!("{status}: {}", body.trim()),
                None => "no answer".to_owned(),
            };
            let second = started.elapsed().as_secs_f64();
            answers
                .failures
                .push(format!("{path} after {second:.1} s: {said}"));
        }
        std::thread::sleep(EVERY.saturating_sub(round.elapsed()));
    }
    answers
}
