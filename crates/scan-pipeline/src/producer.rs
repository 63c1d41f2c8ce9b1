//! librdkafka's producer as the egress thread uses it: hand over, poll, collect delivery reports.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

/// The client, for the thread that makes the calls of transactions.
pub(super) type Handle = Arc<BaseProducer<Reports>>;

use super::client;
use super::sequencer::{Lease, Slot};

/// What comes back with the delivery report of a send.
#[derive(Debug)]
pub(super) struct Ticket {
    pub lease: Lease,
    pub slot: Slot,
    pub sent: Instant,
}

/// What the broker, or the client in its place, said about a send.
#[derive(Debug)]
pub(super) struct Report {
    pub ticket: Box<Ticket>,
    pub error: Option<RDKafkaErrorCode>,
}

/// One record to send.
#[derive(Debug)]
pub(super) struct Send<'a> {
    pub topic: &'a str,
    pub key: Option<&'a [u8]>,
    pub payload: Option<&'a [u8]>,
    pub headers: OwnedHeaders,
    pub timestamp_ms: Option<i64>,
}

/// Why a record was not taken.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The client's queue is full: poll, and come again.
    Full,
    /// Larger than the client may send.
    TooLarge,
    /// Something else; the record may be tried again.
    Other(RDKafkaErrorCode),
}

pub(super) struct Producer {
    inner: Handle,
    in_flight: usize,
}

/// Delivery reports as they come, on whichever thread serves the client: the egress thread, or the one that waits for
/// the end of a transaction.
pub(super) struct Reports {
    reports: Mutex<Vec<Report>>,
    errors: client::Errors,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log("producer", level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.errors.note("producer", &error, reason);
    }

    fn stats_raw(&self, _: &[u8]) {}
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let error = match result {
            Ok(_) => None,
            Err((error, _)) => Some(
                error
                    .rdkafka_error_code()
                    .unwrap_or(RDKafkaErrorCode::Unknown),
            ),
        };
        self.reports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Report { ticket, error });
    }
}

impl Producer {
    pub(super) fn new(config: &ClientConfig, errors: client::Errors) -> KafkaResult<Producer> {
        let context = Reports {
            reports: Mutex::default(),
            errors,
        };
        Ok(Producer {
            inner: Arc::new(config.create_with_context(context)?),
            in_flight: 0,
        })
    }

    /// Hands a record over; it is copied.
    pub(super) fn send(&mut self, send: Send<'_>, ticket: Ticket) -> Result<(), Refusal> {
        let mut record: BaseRecord<'_, [u8], [u8], Box<Ticket>> =
            BaseRecord::with_opaque_to(send.topic, Box::new(ticket)).headers(send.headers);
        record.key = send.key;
        record.payload = send.payload;
        record.timestamp = send.timestamp_ms;
        match self.inner.send(record) {
            Ok(()) => {
                self.in_flight += 1;
                Ok(())
            }
            Err((error, _)) => Err(match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => Refusal::Full,
                Some(RDKafkaErrorCode::MessageSizeTooLarge) => Refusal::TooLarge,
                code => Refusal::Other(code.unwrap_or(RDKafkaErrorCode::Unknown)),
            }),
        }
    }

    /// Serves the client and returns what was reported meanwhile. Does not wait.
    pub(super) fn poll(&mut self) -> Vec<Report> {
        let mut reports = Vec::new();
        loop {
            self.inner.poll(Duration::ZERO);
            let context: &Arc<Reports> = self.inner.client().context();
            let mut new = context
                .reports
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if new.is_empty() {
                break;
            }
            self.in_flight -= new.len();
            reports.append(&mut new);
        }
        reports
    }

    /// The client, to make the calls of transactions that wait.
    pub(super) fn handle(&self) -> Handle {
        Arc::clone(&self.inner)
    }

    /// Begins a transaction, which waits for nothing.
    pub(super) fn begin(&self) -> KafkaResult<()> {
        self.inner.begin_transaction()
    }

    /// How many sends have no report yet.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Why this producer can never send again, if so.
    pub(super) fn fatal(&self) -> Option<String> {
        self.inner
            .client()
            .fatal_error()
            .map(|(code, text)| format!("{code:?}: {text}"))
    }
}
