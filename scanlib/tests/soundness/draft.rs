//! What a message has to hold to be detected, before it is a message.

use super::random::Random;
use super::words::Words;

/// Where a piece has to stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Anywhere,
    /// Starts between these two.
    Start(usize, usize),
    /// Starts so many bytes before the end.
    End(usize),
}

#[derive(Clone, Debug)]
pub struct Piece {
    pub bytes: Vec<u8>,
    pub place: Place,
}

#[derive(Clone, Debug, Default)]
pub struct Draft {
    pub pieces: Vec<Piece>,
    /// The least and the greatest length of the message.
    pub size: Option<(usize, usize)>,
}

/// A message is not made longer than that to reach a length.
pub const LONGEST_MESSAGE: usize = 65_536;

impl Draft {
    pub fn add(&mut self, bytes: Vec<u8>, place: Place) {
        self.pieces.push(Piece { bytes, place });
    }

    /// Both must be in the message.
    pub fn merge(&mut self, other: Draft) {
        self.pieces.extend(other.pieces);
        self.size = match (self.size, other.size) {
            (Some(a), Some(b)) => Some((a.0.max(b.0), a.1.min(b.1))),
            (a, b) => a.or(b),
        };
    }

    /// Embeds the pieces in text that looks like a log's; at times bare, so that a match touches an end.
    pub fn message(self, words: &Words, random: &mut Random) -> Vec<u8> {
        let bare = (random.percent(25), random.percent(25));
        self.embedded(bare, words, random)
    }

    /// With nothing before the first piece, or nothing behind the last, where `bare` says so.
    pub fn embedded(mut self, bare: (bool, bool), words: &Words, random: &mut Random) -> Vec<u8> {
        let mut out = Vec::new();

        let mut fixed: Vec<(usize, Vec<u8>)> = Vec::new();
        let mut last: Option<(usize, Vec<u8>)> = None;
        let mut floating = Vec::new();
        for piece in self.pieces.drain(..) {
            match piece.place {
                Place::Anywhere => floating.push(piece.bytes),
                Place::Start(low, high) => {
                    let at = match random.below(4) {
                        0 | 1 => low,
                        2 => high.max(low),
                        _ => random.between(low, high.max(low)),
                    };
                    fixed.push((at, piece.bytes));
                }
                Place::End(before) => last = Some((before, piece.bytes)),
            }
        }
        fixed.sort_by_key(|(at, _)| *at);
        if fixed.is_empty() && !bare.0 {
            out.extend(words.phrase(random));
            out.push(b' ');
        }
        // Floating pieces fill the room before a fixed one, if they find it.
        for (at, bytes) in fixed {
            while let Some(index) = floating.iter().position(|f| out.len() + f.len() < at) {
                out.extend(floating.remove(index));
                out.push(b' ');
            }
            if at < LONGEST_MESSAGE {
                while out.len() < at {
                    out.push(*random.pick(b"qjzvkwy0357"));
                }
            }
            out.extend(bytes);
        }
        if random.percent(30) {
            random.shuffle(&mut floating);
        }
        let close = random.percent(40);
        for (index, bytes) in floating.into_iter().enumerate() {
            if index > 0 || !out.is_empty() {
                out.push(b' ');
                if !close {
                    out.extend(words.phrase(random));
                    out.push(b' ');
                }
            }
            out.extend(bytes);
        }
        let tail = last.as_ref().map_or(0, |(before, _)| *before);
        if let Some((min, max)) = self.size {
            let max = max.min(LONGEST_MESSAGE);
            let aim = match random.below(4) {
                0 => max.min(min + 3000),
                1 => random.between(min, max.min(min + 200)),
                _ => min,
            };
            while out.len() + tail < aim {
                out.push(*random.pick(b"qjzvkwy0357"));
            }
        } else if last.is_none() && !bare.1 {
            out.push(b' ');
            out.extend(words.phrase(random));
        }
        if let Some((before, bytes)) = last {
            let end = out.len() + before.min(LONGEST_MESSAGE);
            out.extend(bytes);
            while out.len() < end {
                out.push(*random.pick(b"qjzvkwy0357"));
            }
        }
        out
    }
}
