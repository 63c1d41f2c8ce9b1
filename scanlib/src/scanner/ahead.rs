//! Judges messages ahead of their turn, several at once: digests of several buffers are taken side by side.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::Scanner;
use crate::message::Message;

/// Maximum number of objects the prefilter judges in one batch.
pub(super) const TOGETHER: usize = 32;

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

/// Which messages of a list are judged, and what that took.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    judged: Range<usize>,
    each: Duration,
    next_gate: usize,
}

/// Where to find what was judged of one message.
pub(super) struct Turn {
    /// Its decoded views.
    pub(super) place: usize,
    /// The decision on the first of its views; those on the others follow.
    pub(super) first_gate: usize,
    /// The message's share of the time.
    pub(super) each: Duration,
}

impl Ahead {
    /// Turns to the message with this number, which is one more than at the last turn.
    pub(super) fn turn(
        &mut self,
        scanner: &mut Scanner,
        messages: &[Message<'_>],
        number: usize,
    ) -> Turn {
        if number >= self.judged.end {
            let rest = messages.get(number..).unwrap_or_default();
            let together = rest.get(..together(rest)).unwrap_or(rest);
            let started = Instant::now();
            scanner.look_ahead_of(together);
            self.each = started.elapsed() / together.len().max(1) as u32;
            self.judged = number..number + together.len();
            self.next_gate = 0;
        }
        let place = number - self.judged.start;
        let first_gate = self.next_gate;
        let views = messages
            .get(number)
            .map_or(0, |message| scanner.views_of(message, place).len());
        self.next_gate += views;
        Turn {
            place,
            first_gate,
            each: self.each,
        }
    }
}
