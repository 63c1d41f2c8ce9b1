//! Records of one partition, copied out of librdkafka into one buffer.
//!
//! A borrowed message would pin the whole fetch it came with, so nothing borrowed leaves the poll
//! loop. Payloads and keys of a batch share one allocation; headers are kept only where there are
//! any, and without looking into them, because they are copied on and nothing else.

use std::ops::Range;
use std::sync::Arc;

use rdkafka::Message;
use rdkafka::message::{BorrowedHeaders, OwnedHeaders};

use super::dead_letter::DeadLetter;
use super::flow::{Flow, InFlight};
use super::sequencer::Lease;

/// A batch is closed at this many records…
pub const MAX_RECORDS: usize = 256;
/// …or when its payloads and keys reach this many bytes. A larger record is a batch of its own.
pub const MAX_BYTES: usize = 256 * 1024;
/// What a record in flight is taken to cost beyond its own bytes: the result made of it.
const RESULT_BYTES: u64 = 1024;

/// One record of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Record<'b> {
    /// Offset in its partition.
    pub offset: i64,
    /// The record's timestamp in milliseconds since 1970, if it has one.
    pub timestamp_ms: Option<i64>,
    /// The key; an empty key is not a missing one.
    pub key: Option<&'b [u8]>,
    /// The payload; `None` is a tombstone.
    pub payload: Option<&'b [u8]>,
    /// The headers, if there are any.
    pub headers: Option<&'b OwnedHeaders>,
}

/// A copy of one record, for work that outlives its batch's bytes.
#[derive(Debug)]
pub struct OwnedRecord {
    offset: i64,
    timestamp_ms: Option<i64>,
    key: Option<Box<[u8]>>,
    payload: Option<Box<[u8]>>,
    headers: Option<Box<OwnedHeaders>>,
}

impl OwnedRecord {
    /// Copies a record.
    pub fn of(record: &Record<'_>) -> OwnedRecord {
        OwnedRecord {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(Box::from),
            payload: record.payload.map(Box::from),
            headers: record.headers.map(|headers| Box::new(headers.clone())),
        }
    }

    /// The record.
    pub fn borrow(&self) -> Record<'_> {
        Record {
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            payload: self.payload.as_deref(),
            headers: self.headers.as_deref(),
        }
    }
}

#[derive(Debug)]
struct Place {
    offset: i64,
    timestamp_ms: Option<i64>,
    key: Option<Range<usize>>,
    payload: Option<Range<usize>>,
    headers: Option<Box<OwnedHeaders>>,
}

/// Records on their way to a worker. They count as in flight until the batch, and what a worker made
/// of it, are gone.
#[derive(Debug)]
pub struct Batch {
    seq: u64,
    bytes: Vec<u8>,
    places: Vec<Place>,
    through: Option<Through>,
    in_flight: InFlight,
}

/// The offset that may be committed behind a batch, where that is not the one after its last record.
#[derive(Clone, Debug)]
pub struct Through {
    /// The offset.
    pub offset: i64,
    /// What has to be acknowledged before: it tells of the records that were passed over.
    pub letter: Option<Arc<DeadLetter>>,
}

impl Batch {
    /// No records: only that there are none before this offset, behind those of the batches before. It goes through workers and
    /// ring like any other, so the watermark reaches the offset in turn.
    pub fn gap(flow: &Arc<Flow>, seq: u64, through: i64) -> Batch {
        Batch {
            seq,
            bytes: Vec::new(),
            places: Vec::new(),
            through: Some(Through {
                offset: through,
                letter: None,
            }),
            in_flight: flow.admit(0, 0),
        }
    }

    /// No records, because those before this offset cannot be read. The offset is passed when the dead letter is acknowledged.
    pub fn skipped(flow: &Arc<Flow>, seq: u64, through: i64, letter: DeadLetter) -> Batch {
        let mut batch = Batch::gap(flow, seq, through);
        batch.through = Some(Through {
            offset: through,
            letter: Some(Arc::new(letter)),
        });
        batch
    }

    /// The lease under which the records were received.
    pub fn lease(&self) -> Lease {
        self.flow().lease()
    }

    /// Place among the batches of its lease, from 0.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// State of that lease.
    pub fn flow(&self) -> &Arc<Flow> {
        self.in_flight.flow()
    }

    /// False once nobody wants the batch any more.
    pub fn is_live(&self) -> bool {
        self.flow().is_live()
    }

    /// What follows the batch's last record, if that is not the record after it.
    pub fn through(&self) -> Option<Through> {
        self.through.clone()
    }

    /// The offset after everything that the batch stands for.
    pub fn end(&self) -> Option<i64> {
        let last = self.places.last().map(|place| place.offset + 1);
        self.through.as_ref().map(|through| through.offset).or(last)
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True if there are no records.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Bytes of payloads and keys.
    pub fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The records in input order.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.places.iter().map(|place| Record {
            offset: place.offset,
            timestamp_ms: place.timestamp_ms,
            key: place.key.clone().map(|r| &self.bytes[r]),
            payload: place.payload.clone().map(|r| &self.bytes[r]),
            headers: place.headers.as_deref(),
        })
    }

    /// Frees the records and goes on counting them as in flight.
    pub fn into_in_flight(self) -> InFlight {
        self.in_flight
    }
}

/// A batch being filled.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

impl BatchBuilder {
    /// True if this record belongs into the next batch instead.
    pub fn must_close_before(&self, message: &impl Message) -> bool {
        !self.places.is_empty() && self.bytes.len() + size_of_message(message) > MAX_BYTES
    }

    /// True if no further record belongs into this batch.
    pub fn is_full(&self) -> bool {
        self.places.len() >= MAX_RECORDS || self.bytes.len() >= MAX_BYTES
    }

    /// True if nothing was added.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Copies a record.
    pub fn push<M: Message>(&mut self, message: &M)
    where
        M::Headers: Detach,
    {
        let key = message.key().map(|bytes| self.copy(bytes));
        let payload = message.payload().map(|bytes| self.copy(bytes));
        self.places.push(Place {
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            key,
            payload,
            headers: message
                .headers()
                .map(|headers| Box::new(headers.detach_all())),
        });
    }

    fn copy(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    /// Closes the batch: from now on its records are in flight. The builder is empty afterwards.
    pub fn build(&mut self, flow: &Arc<Flow>, seq: u64) -> Batch {
        let bytes = std::mem::take(&mut self.bytes);
        let places = std::mem::take(&mut self.places);
        let cost = bytes.len() as u64 + places.len() as u64 * RESULT_BYTES;
        let in_flight = flow.admit(places.len() as u64, cost);
        Batch {
            seq,
            bytes,
            places,
            through: None,
            in_flight,
        }
    }

    /// Forgets what was added.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
    }
}

fn size_of_message(message: &impl Message) -> usize {
    message.payload().map_or(0, <[u8]>::len) + message.key().map_or(0, <[u8]>::len)
}

/// Headers that can be copied whole. Reading them one by one is not safe for the process: rdkafka
/// panics on a name that is not UTF-8, and senders choose the names.
pub trait Detach {
    /// A copy, byte for byte, with duplicates and nulls.
    fn detach_all(&self) -> OwnedHeaders;
}

impl Detach for BorrowedHeaders {
    fn detach_all(&self) -> OwnedHeaders {
        self.detach()
    }
}

impl Detach for OwnedHeaders {
    fn detach_all(&self) -> OwnedHeaders {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::Timestamp;
    use rdkafka::message::{Header, Headers, OwnedMessage};

    use super::*;
    use crate::flow::Budget;

    fn message(offset: i64, key: Option<&[u8]>, payload: Option<&[u8]>) -> OwnedMessage {
        let own = |bytes: &[u8]| bytes.to_vec();
        OwnedMessage::new(
            payload.map(own),
            key.map(own),
            "in".into(),
            Timestamp::CreateTime(offset * 10),
            3,
            offset,
            None,
        )
    }

    fn flow(budget: &Arc<Budget>) -> Arc<Flow> {
        Flow::new(
            Lease {
                partition: 3,
                generation: 7,
            },
            Arc::clone(budget),
        )
    }

    #[test]
    fn records_come_out_as_they_went_in_and_empty_is_not_missing() {
        let mut builder = BatchBuilder::default();
        builder.push(&message(5, Some(b"k"), Some(b"payload")));
        builder.push(&message(9, Some(b""), Some(b"")));
        builder.push(&message(12, None, None));
        let batch = builder.build(&flow(&Arc::default()), 4);
        assert_eq!(
            (batch.lease(), batch.seq(), batch.len()),
            (
                Lease {
                    partition: 3,
                    generation: 7
                },
                4,
                3
            )
        );
        let seen: Vec<_> = batch
            .records()
            .map(|r| (r.offset, r.timestamp_ms, r.key, r.payload))
            .collect();
        assert_eq!(
            seen,
            [
                (5, Some(50), Some(&b"k"[..]), Some(&b"payload"[..])),
                (9, Some(90), Some(&b""[..]), Some(&b""[..])),
                (12, Some(120), None, None),
            ]
        );
        assert!(builder.is_empty());
    }

    #[test]
    fn headers_keep_their_order_duplicates_and_nulls() {
        let headers = OwnedHeaders::new()
            .insert(Header {
                key: "a",
                value: Some(b"1"),
            })
            .insert(Header {
                key: "a",
                value: None::<&[u8]>,
            })
            .insert(Header {
                key: "b",
                value: Some(b""),
            });
        let mut builder = BatchBuilder::default();
        builder.push(&message(0, None, Some(b"x")).replace_headers(Some(headers)));
        let batch = builder.build(&flow(&Arc::default()), 0);
        let kept = batch
            .records()
            .next()
            .and_then(|r| r.headers)
            .expect("headers");
        let seen: Vec<_> = kept.iter().map(|h| (h.key, h.value)).collect();
        assert_eq!(
            seen,
            [("a", Some(&b"1"[..])), ("a", None), ("b", Some(&b""[..]))]
        );
    }

    #[test]
    fn a_batch_closes_by_count_and_a_large_record_is_alone() {
        let mut builder = BatchBuilder::default();
        for offset in 0..MAX_RECORDS as i64 {
            assert!(!builder.is_full());
            builder.push(&message(offset, None, Some(b"x")));
        }
        assert!(builder.is_full());

        builder.clear();
        let large = message(1, None, Some(&vec![0; 5 << 20]));
        assert!(
            !builder.must_close_before(&large),
            "an empty batch takes any record"
        );
        builder.push(&message(0, None, Some(b"x")));
        assert!(builder.must_close_before(&large));
        builder.clear();
        builder.push(&large);
        assert!(builder.is_full());
    }

    #[test]
    fn records_are_in_flight_until_the_last_of_them_is_gone() {
        let budget = Arc::new(Budget::default());
        let flow = flow(&budget);
        let mut builder = BatchBuilder::default();
        builder.push(&message(0, None, Some(&[0; 100])));
        let batch = builder.build(&flow, 0);
        assert_eq!(
            (flow.messages(), budget.messages(), budget.bytes()),
            (1, 1, 100 + RESULT_BYTES)
        );
        let guard = batch.into_in_flight();
        assert_eq!(budget.messages(), 1);
        drop(guard);
        assert_eq!(
            (flow.messages(), budget.messages(), budget.bytes()),
            (0, 0, 0)
        );
    }
}
