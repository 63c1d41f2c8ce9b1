use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use thiserror::Error;

use super::Message;
use super::decode::{MAX_DECODED_PAYLOADS, Payloads};
use crate::report::View;

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

/// `raw`, two of `body`, and the decoded ones.
pub(crate) const MAX_VIEWS: usize = 3 + MAX_DECODED_PAYLOADS;

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
        let mut views = Views {
            list: [ViewRef {
                view: View::Raw,
                data: &[],
            }; MAX_VIEWS],
            next: 0,
            end: 0,
            payloads_left_out: self.payloads.left_out(),
        };
        views.push(View::Raw, message.raw);
        if set.contains(View::Body) {
            views.push(View::Body, message.text());
            views.push(View::Body, message.body());
        }
        for payload in self.payloads.iter() {
            views.push(View::Decoded, payload);
        }
        views
    }
}

/// Iterator over the [`ViewRef`]s of a message.
#[derive(Clone, Debug)]
pub struct Views<'a> {
    list: [ViewRef<'a>; MAX_VIEWS],
    next: usize,
    end: usize,
    payloads_left_out: bool,
}

impl<'a> Views<'a> {
    /// True if the message holds more encoded payloads than are decoded, see
    /// [`MAX_DECODED_PAYLOADS`](super::MAX_DECODED_PAYLOADS) and its neighbours.
    pub fn payloads_left_out(&self) -> bool {
        self.payloads_left_out
    }

    /// The bytes of those that are still to come.
    pub(crate) fn buffers<'l>(&self, list: &'l mut [&'a [u8]; MAX_VIEWS]) -> &'l [&'a [u8]] {
        let to_come = self.list.get(self.next..self.end).unwrap_or_default();
        for (to, view) in list.iter_mut().zip(to_come) {
            *to = view.data;
        }
        list.get(..to_come.len()).unwrap_or_default()
    }

    fn push(&mut self, view: View, data: &'a [u8]) {
        let known = &self.list[..self.end];
        let superfluous = data.is_empty() || known.iter().any(|other| other.data == data);
        if (view == View::Raw || !superfluous) && self.end < MAX_VIEWS {
            self.list[self.end] = ViewRef { view, data };
            self.end += 1;
        }
    }
}

impl<'a> Iterator for Views<'a> {
    type Item = ViewRef<'a>;

    fn next(&mut self) -> Option<ViewRef<'a>> {
        let view = self.list[..self.end].get(self.next).copied()?;
        self.next += 1;
        Some(view)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Views<'_> {}
