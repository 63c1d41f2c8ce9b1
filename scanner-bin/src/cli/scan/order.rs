//! Puts answers back into the order of the questions, within a window.
//!
//! The window is what keeps memory from growing: the reader takes a ticket for each job and waits
//! when as many tickets are out as the window has, so at most that many answers ever wait for a
//! slow one before them.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Sender};

/// The reader's side.
#[derive(Debug)]
pub(super) struct Tickets {
    free: Receiver<()>,
    next: u64,
}

/// The printer's side.
#[derive(Debug)]
pub(super) struct Ordered<T> {
    give_back: Sender<()>,
    waiting: VecDeque<Option<T>>,
    next: u64,
}

/// Both sides of a window of `size` jobs.
pub(super) fn window<T>(size: usize) -> (Tickets, Ordered<T>) {
    let (give_back, free) = crossbeam_channel::bounded(size);
    for _ in 0..size {
        // Has room for all of them.
        let _sent = give_back.try_send(());
    }
    (
        Tickets { free, next: 0 },
        Ordered {
            give_back,
            waiting: VecDeque::new(),
            next: 0,
        },
    )
}

impl Tickets {
    /// The number of the next job; waits while the window is full. `None` once the printer is gone.
    pub(super) fn take(&mut self) -> Option<u64> {
        self.free.recv().ok()?;
        self.next += 1;
        Some(self.next - 1)
    }
}

impl<T> Ordered<T> {
    /// Accepts the answer to job `number`, and hands out those whose turn has come.
    pub(super) fn accept(&mut self, number: u64, answer: T) -> impl Iterator<Item = T> + '_ {
        // The window bounds the distance, so it fits.
        let place = usize::try_from(number - self.next).unwrap_or(usize::MAX);
        if place >= self.waiting.len() {
            self.waiting.resize_with(place + 1, || None);
        }
        self.waiting[place] = Some(answer);
        std::iter::from_fn(|| {
            let ready = self.waiting.front_mut()?.take()?;
            self.waiting.pop_front();
            self.next += 1;
            let _reader_gone = self.give_back.try_send(());
            Some(ready)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_in_the_order_of_the_questions() {
        let (mut tickets, mut ordered) = window::<u64>(4);
        let numbers: Vec<u64> = (0..4).filter_map(|_| tickets.take()).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        assert!(tickets.free.is_empty(), "the window is full");
        let mut out = Vec::new();
        for number in [2, 0, 3, 1] {
            out.extend(ordered.accept(number, number));
        }
        assert_eq!(out, [0, 1, 2, 3]);
        assert_eq!(tickets.free.len(), 4, "every ticket came back");
    }
}
