//! What a worker made of a batch: for each record the result to send, a dead letter, both, or
//! nothing.

use std::ops::Range;
use std::sync::Arc;

use rdkafka::message::{Header, OwnedHeaders};

use super::batch::Through;
use super::dead_letter::{DeadLetter, Source};
use super::flow::InFlight;
use super::sequencer::{Entry, Lease};

/// Answers for one batch; results and keys share one buffer.
#[derive(Debug)]
pub struct Answers {
    seq: u64,
    /// False if the worker stopped early because the lease is ending.
    complete: bool,
    /// Set if the worker's own code panicked: nothing of the batch is answered.
    crash: Option<String>,
    bytes: Vec<u8>,
    answers: Vec<Answer>,
    /// See [`Batch::through`](super::batch::Batch::through).
    through: Option<Through>,
    in_flight: InFlight,
}

#[derive(Debug)]
struct Answer {
    offset: i64,
    timestamp_ms: Option<i64>,
    status: &'static str,
    severity: &'static str,
    key: Option<Range<usize>>,
    result: Option<Range<usize>>,
    dead_letter: Option<Arc<DeadLetter>>,
}

/// Answers for a batch being scanned.
#[derive(Debug, Default)]
pub struct AnswersBuilder {
    bytes: Vec<u8>,
    /// `None` where the answer is still to come.
    answers: Vec<Option<Answer>>,
    through: Option<Through>,
}

impl AnswersBuilder {
    /// Room for the answers to `records` records.
    pub fn with_capacity(records: usize) -> Self {
        AnswersBuilder {
            bytes: Vec::new(),
            answers: Vec::with_capacity(records),
            through: None,
        }
    }

    /// Behind the last record there are none before this offset.
    pub fn through(&mut self, through: Option<Through>) {
        self.through = through;
    }

    /// Answers a record with the result that `encode` appends to the buffer. What `encode` returns
    /// is passed on; the pair becomes the headers `status` and `severity`.
    pub fn result<R>(
        &mut self,
        offset: i64,
        timestamp_ms: Option<i64>,
        encode: impl FnOnce(&mut Vec<u8>) -> (R, (&'static str, &'static str)),
    ) -> R {
        let start = self.bytes.len();
        let (returned, (status, severity)) = encode(&mut self.bytes);
        let result = Some(start..self.bytes.len());
        self.answers.push(Some(Answer {
            offset,
            timestamp_ms,
            status,
            severity,
            key: None,
            result,
            dead_letter: None,
        }));
        returned
    }

    /// Keeps the place of a record that is answered later, see [`fill`](Self::fill). Returns its number.
    pub fn reserve(&mut self) -> usize {
        self.answers.push(None);
        self.answers.len() - 1
    }

    /// Puts the answer to one record into the place that was reserved for it.
    pub fn fill(&mut self, place: usize, answer: AnswersBuilder) {
        let behind = self.bytes.len();
        let moved = |range: Range<usize>| range.start + behind..range.end + behind;
        let only = answer.answers.into_iter().flatten().next();
        if let Some((slot, only)) = self.answers.get_mut(place).zip(only) {
            self.bytes.extend_from_slice(&answer.bytes);
            *slot = Some(Answer {
                key: only.key.map(moved),
                result: only.result.map(moved),
                ..only
            });
        }
    }

    /// The key of the result that was added last.
    pub fn key(&mut self, key: Option<&[u8]>) {
        let start = self.bytes.len();
        if let (Some(Some(answer)), Some(key)) = (self.answers.last_mut(), key) {
            answer.key = Some(start..start + key.len());
            self.bytes.extend_from_slice(key);
        }
    }

    /// The record answered last also goes to the dead-letter topic.
    pub fn dead_letter(&mut self, letter: DeadLetter) {
        if let Some(answer) = self.last_mut() {
            answer.dead_letter = Some(Arc::new(letter));
        }
    }

    /// The result that was added last is not wanted: its record is answered by a decision to say
    /// nothing.
    pub fn drop_result(&mut self) {
        if let Some(answer) = self.last_mut()
            && let Some(result) = answer.result.take()
        {
            answer.key = None;
            self.bytes.truncate(result.start);
        }
    }

    fn last_mut(&mut self) -> Option<&mut Answer> {
        self.answers.last_mut()?.as_mut()
    }

    /// The answers for `batch`, which stays in flight with them. They end before the first place that was not filled; the batch is not
    /// complete then.
    pub fn build(mut self, seq: u64, complete: bool, in_flight: InFlight) -> Answers {
        let complete = complete && self.answers.iter().all(Option::is_some);
        let letter = self.through.as_mut().and_then(|t| t.letter.take());
        if let (Some(through), Some(letter), true) = (&self.through, letter, complete) {
            self.answers.push(Some(Answer {
                offset: through.offset - 1,
                timestamp_ms: None,
                status: "error",
                severity: "clean",
                key: None,
                result: None,
                dead_letter: Some(letter),
            }));
        }
        Answers {
            seq,
            complete,
            crash: None,
            bytes: self.bytes,
            answers: self
                .answers
                .into_iter()
                .map_while(|answer| answer)
                .collect(),
            through: self.through.filter(|_| complete),
            in_flight,
        }
    }
}

impl Answers {
    /// For a batch whose worker panicked outside of any scan. That is a defect of this program, not
    /// of a record; nothing may be answered and nothing committed.
    pub fn crashed(seq: u64, message: String, in_flight: InFlight) -> Answers {
        let crash = Some(message);
        Answers {
            seq,
            complete: false,
            crash,
            bytes: Vec::new(),
            answers: Vec::new(),
            through: None,
            in_flight,
        }
    }

    /// The lease of the batch.
    pub fn lease(&self) -> Lease {
        self.in_flight.flow().lease()
    }

    /// The batch's place in its lease.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Whether every record of the batch is answered.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The panic's message, if the worker's own code panicked.
    pub fn crash(&self) -> Option<&str> {
        self.crash.as_deref()
    }

    /// The sends that answer the batch, in order. A dead letter goes first; only the result behind it
    /// passes the record's offset.
    pub fn entries(self: &Arc<Self>) -> Vec<Entry<Outgoing>> {
        let mut entries = Vec::with_capacity(self.answers.len());
        for (index, answer) in self.answers.iter().enumerate() {
            let item = |part| Outgoing {
                answers: Arc::clone(self),
                index,
                part,
            };
            let passes = Some(answer.offset + 1);
            if answer.dead_letter.is_some() && answer.result.is_none() {
                // What could not be read has no result: the dead letter passes the offset.
                entries.push(Entry {
                    next_offset: passes,
                    item: Some(item(Part::DeadLetter)),
                });
                continue;
            }
            if answer.dead_letter.is_some() {
                entries.push(Entry {
                    next_offset: None,
                    item: Some(item(Part::DeadLetter)),
                });
            }
            let item = answer.result.is_some().then(|| item(Part::Result));
            entries.push(Entry {
                next_offset: passes,
                item,
            });
        }
        entries.extend(self.through.as_ref().map(|through| Entry {
            next_offset: Some(through.offset),
            item: None,
        }));
        entries
    }
}

/// Which of a record's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The verdict.
    Result,
    /// The original, for the dead-letter topic.
    DeadLetter,
}

/// One send. The answers of a batch live until the last of them is acknowledged.
#[derive(Debug)]
pub struct Outgoing {
    answers: Arc<Answers>,
    index: usize,
    part: Part,
}

impl Outgoing {
    fn answer(&self) -> &Answer {
        &self.answers.answers[self.index]
    }

    fn slice(&self, range: &Option<Range<usize>>) -> Option<&[u8]> {
        range.clone().map(|r| &self.answers.bytes[r])
    }

    /// Result or dead letter.
    pub fn part(&self) -> Part {
        self.part
    }

    /// Offset of the record that this answers.
    pub fn offset(&self) -> i64 {
        self.answer().offset
    }

    /// Timestamp of the record that this answers, in milliseconds since 1970.
    pub fn source_timestamp_ms(&self) -> Option<i64> {
        self.answer().timestamp_ms
    }

    /// The result's status.
    pub fn status(&self) -> &'static str {
        self.answer().status
    }

    /// The dead letter, if this is one.
    pub fn dead_letter(&self) -> Option<&DeadLetter> {
        self.answer()
            .dead_letter
            .as_deref()
            .filter(|_| self.part == Part::DeadLetter)
    }

    /// Key to send.
    pub fn key(&self) -> Option<&[u8]> {
        match self.dead_letter() {
            Some(letter) => letter.key(),
            None => self.slice(&self.answer().key),
        }
    }

    /// Payload to send.
    pub fn payload(&self) -> Option<&[u8]> {
        match self.dead_letter() {
            Some(letter) => letter.payload(),
            None => self.slice(&self.answer().result),
        }
    }

    /// Headers to send.
    pub fn headers(&self, source: Source<'_>) -> OwnedHeaders {
        match self.dead_letter() {
            Some(letter) => letter.headers(source),
            None => OwnedHeaders::new_with_capacity(2)
                .insert(Header {
                    key: "status",
                    value: Some(self.answer().status),
                })
                .insert(Header {
                    key: "severity",
                    value: Some(self.answer().severity),
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Record;
    use crate::dead_letter::Reason;
    use crate::flow::{Budget, Flow};

    fn answers(fill: impl FnOnce(&mut AnswersBuilder)) -> Arc<Answers> {
        let lease = Lease {
            partition: 0,
            generation: 1,
        };
        let flow = Flow::new(lease, Arc::new(Budget::default()));
        let mut builder = AnswersBuilder::default();
        fill(&mut builder);
        Arc::new(builder.build(0, true, flow.admit(1, 1)))
    }

    fn add(builder: &mut AnswersBuilder, offset: i64, json: &[u8]) {
        builder.result(offset, None, |out| {
            out.extend_from_slice(json);
            ((), ("clean", "clean"))
        });
    }

    #[test]
    fn the_offset_of_a_dead_letter_is_passed_only_by_the_result_behind_it() {
        let answers = answers(|builder| {
            add(builder, 7, b"{}");
            let record = Record {
                offset: 7,
                timestamp_ms: None,
                key: None,
                payload: Some(b"original"),
                headers: None,
            };
            builder.dead_letter(DeadLetter::new(&record, 0, Reason::ScanError, "why"));
        });
        let entries = answers.entries();
        let seen: Vec<_> = entries
            .iter()
            .map(|e| {
                (
                    e.next_offset,
                    e.item.as_ref().map(|i| (i.part(), i.payload())),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (None, Some((Part::DeadLetter, Some(&b"original"[..])))),
                (Some(8), Some((Part::Result, Some(&b"{}"[..])))),
            ]
        );
    }

    #[test]
    fn a_result_that_is_dropped_leaves_its_offset_and_takes_its_bytes_along() {
        let answers = answers(|builder| {
            add(builder, 1, b"first");
            builder.key(Some(b"k"));
            builder.drop_result();
            add(builder, 2, b"second");
            builder.key(Some(b""));
        });
        let entries = answers.entries();
        assert_eq!(
            (entries[0].next_offset, entries[0].item.is_none()),
            (Some(2), true)
        );
        let second = entries[1]
            .item
            .as_ref()
            .map(|i| (i.key(), i.payload(), i.offset()));
        assert_eq!(second, Some((Some(&b""[..]), Some(&b"second"[..]), 2)));
    }

    #[test]
    fn answers_that_come_later_take_their_places_and_a_missing_one_ends_the_batch() {
        let fill = |builder: &mut AnswersBuilder, last: bool| {
            let first = builder.reserve();
            add(builder, 2, b"second");
            let third = builder.reserve();
            add(builder, 4, b"fourth");
            let answer = |offset, json: &[u8]| {
                let mut answer = AnswersBuilder::default();
                add(&mut answer, offset, json);
                answer.key(Some(b"key"));
                answer
            };
            if last {
                builder.fill(third, answer(3, b"third"));
            }
            builder.fill(first, answer(1, b"first"));
            builder.through(Some(Through {
                offset: 9,
                letter: None,
            }));
        };
        let seen = |answers: &Arc<Answers>| -> Vec<(Option<i64>, Option<Vec<u8>>)> {
            let entries = answers.entries();
            let payload = |item: &Outgoing| item.payload().map(<[u8]>::to_vec);
            let entry = |entry: &Entry<Outgoing>| {
                (entry.next_offset, entry.item.as_ref().and_then(payload))
            };
            entries.iter().map(entry).collect()
        };
        let text = |text: &str| Some(text.as_bytes().to_vec());
        let whole = answers(|builder| fill(builder, true));
        assert!(whole.is_complete());
        let expected = [
            (Some(2), text("first")),
            (Some(3), text("second")),
            (Some(4), text("third")),
            (Some(5), text("fourth")),
            (Some(9), None),
        ];
        assert_eq!(seen(&whole), expected);
        let part = answers(|builder| fill(builder, false));
        assert!(!part.is_complete());
        assert_eq!(seen(&part), expected[..2]);
    }
}
