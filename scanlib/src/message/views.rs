use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use thiserror::Error;

use super::Message;
use super::decode::{DecodeLimits, Payloads};
use crate::report::{Incomplete, View};

/// Which views of a message are scanned. `raw` is in every set.
///
/// Written as `raw,body,decoded`; in configuration also as a list of names.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ViewSet(u8);

const NAMED: [View; 4] = [View::Raw, View::Body, View::Decoded, View::Guarded];

impl ViewSet {
    /// The bytes as they came and nothing else: exactly libclamav's own answer.
    pub const RAW: ViewSet = ViewSet(1 << View::Raw as u8);
    /// Every view.
    pub const ALL: ViewSet = ViewSet(
        1 << View::Raw as u8
            | 1 << View::Body as u8
            | 1 << View::Decoded as u8
            | 1 << View::Guarded as u8,
    );

    /// This set and one more view.
    #[must_use]
    pub const fn with(self, view: View) -> ViewSet {
        ViewSet(self.0 | 1 << view as u8)
    }

    /// True if the view is in the set.
    pub const fn contains(self, view: View) -> bool {
        self.0 & (1 << view as u8) != 0
    }
}

impl Default for ViewSet {
    fn default() -> Self {
        ViewSet::ALL
    }
}

impl fmt::Display for ViewSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for view in NAMED.into_iter().filter(|view| self.contains(*view)) {
            write!(f, "{comma}{view}")?;
            comma = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for ViewSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ViewSet({self})")
    }
}

/// A word that names no view.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown view `{0}`: expected raw, body, decoded or guarded, separated by commas")]
pub struct ViewSetError(String);

impl FromStr for ViewSet {
    type Err = ViewSetError;

    fn from_str(text: &str) -> Result<ViewSet, ViewSetError> {
        text.split(',').try_fold(ViewSet::RAW, |set, word| {
            let word = word.trim();
            let view = NAMED.into_iter().find(|view| view.as_str() == word);
            view.map(|view| set.with(view))
                .ok_or_else(|| ViewSetError(word.to_owned()))
        })
    }
}

impl<'de> Deserialize<'de> for ViewSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ViewSet, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = ViewSet;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of views: raw, body, decoded, guarded")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ViewSet, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<ViewSet, A::Error> {
                let mut set = ViewSet::RAW;
                while let Some(view) = names.next_element()? {
                    set = set.with(view);
                }
                Ok(set)
            }
        }
        deserializer.deserialize_any(Names)
    }
}

/// One buffer to scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewRef<'a> {
    /// What it is.
    pub view: View,
    /// Its bytes.
    pub data: &'a [u8],
}

/// `raw`, and two of `body`.
const MAX_TEXTS: usize = 3;

/// Buffers for decoded payloads, reused from message to message; one per worker.
///
/// It holds at most [`MAX_DECODED_BYTES`](super::MAX_DECODED_BYTES) of payload and, while one is
/// decoded and converted, twice as much again; of large buffers nothing is kept for the next
/// message.
#[derive(Debug, Default)]
pub struct ViewBuffers {
    payloads: Payloads,
}

impl ViewBuffers {
    /// Buffers for messages whose payloads are decoded so far.
    pub fn new(limits: DecodeLimits) -> ViewBuffers {
        ViewBuffers {
            payloads: Payloads::new(limits),
        }
    }

    /// The buffers of a message that `set` asks for, each different one once, `raw` first.
    ///
    /// `guarded` is left to the scanner: it depends on what libclamav makes of a buffer.
    pub fn views<'a>(&'a mut self, message: &'a Message<'_>, set: ViewSet) -> Views<'a> {
        self.decode(message, set);
        self.list(message, set)
    }

    /// Decodes the payloads of a message that `set` asks for.
    pub(crate) fn decode(&mut self, message: &Message<'_>, set: ViewSet) {
        self.payloads.clear();
        if set.contains(View::Decoded) {
            // From the whole text, of which the body is a part: headers can carry payloads, too.
            self.payloads.carve(message.text());
        }
    }

    /// The buffers of the message that was decoded last.
    pub(crate) fn list<'a>(&'a self, message: &'a Message<'_>, set: ViewSet) -> Views<'a> {
        let payloads = &self.payloads;
        let mut views = Views {
            texts: [&[]; MAX_TEXTS],
            texts_end: 0,
            payloads: payloads.as_slice(),
            next: 0,
            left: 0,
            payloads_left_out: payloads.left_out(),
            payloads_too_deep: payloads.too_deep(),
        };
        views.push(message.raw);
        if set.contains(View::Body) {
            views.push(message.text());
            views.push(message.body());
        }
        let texts = &views.texts[..views.texts_end];
        let others = views.payloads.iter();
        let others = others.filter(|payload| !texts.contains(&payload.as_slice()));
        views.left = views.texts_end + others.count();
        views
    }
}

/// Iterator over the [`ViewRef`]s of a message.
#[derive(Clone, Debug)]
pub struct Views<'a> {
    /// `raw` first.
    texts: [&'a [u8]; MAX_TEXTS],
    texts_end: usize,
    /// Each different; one may be the same as a text.
    payloads: &'a [Vec<u8>],
    /// Place of the next view, texts first.
    next: usize,
    left: usize,
    payloads_left_out: bool,
    payloads_too_deep: bool,
}

impl<'a> Views<'a> {
    /// Which of the [`DecodeLimits`] was met; `None` if every payload of the message was decoded.
    pub fn limit(&self) -> Option<Incomplete> {
        if self.payloads_left_out {
            Some(Incomplete::DecodedPayloads)
        } else if self.payloads_too_deep {
            Some(Incomplete::DecodeDepth)
        } else {
            None
        }
    }

    /// True if the message holds more encoded payloads than [`DecodeLimits::payloads`], or more bytes of them than
    /// [`MAX_DECODED_BYTES`](super::MAX_DECODED_BYTES).
    pub fn payloads_left_out(&self) -> bool {
        self.payloads_left_out
    }

    /// True if the message holds payloads that are encoded more often than [`DecodeLimits::depth`].
    pub fn payloads_too_deep(&self) -> bool {
        self.payloads_too_deep
    }

    fn push(&mut self, text: &'a [u8]) {
        let known = &self.texts[..self.texts_end];
        // The first is `raw`, which may be empty.
        let superfluous = text.is_empty() || known.contains(&text);
        if self.texts_end == 0 || !superfluous {
            self.texts[self.texts_end] = text;
            self.texts_end += 1;
        }
    }
}

impl<'a> Iterator for Views<'a> {
    type Item = ViewRef<'a>;

    fn next(&mut self) -> Option<ViewRef<'a>> {
        let texts = &self.texts[..self.texts_end];
        loop {
            let place = self.next;
            self.next += 1;
            let (view, data) = match place.checked_sub(texts.len()) {
                None if place == 0 => (View::Raw, texts[0]),
                None => (View::Body, texts[place]),
                Some(place) => (View::Decoded, self.payloads.get(place)?.as_slice()),
            };
            if view == View::Decoded && texts.contains(&data) {
                continue;
            }
            self.left -= 1;
            return Some(ViewRef { view, data });
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Views<'_> {}
