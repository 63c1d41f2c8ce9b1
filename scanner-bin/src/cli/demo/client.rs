//! The demo's own client: it sends the records and reads the results, as any other program would.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

use super::proof::Place;
use super::traffic::Record;

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Collects where each record came to lie.
#[derive(Debug, Default)]
struct Deliveries(Mutex<Vec<Result<(usize, Place), KafkaError>>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<usize>) {
        let outcome = match result {
            Ok(record) => Ok((*number, (record.partition(), record.offset()))),
            Err((error, _)) => Err(error.clone()),
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(outcome);
    }
}

/// Sends the records, spread evenly over the partitions, and says where each came to lie.
///
/// # Errors
/// The broker did not take one of them.
pub(super) fn send(
    bootstrap: &str,
    topic: &str,
    partitions: usize,
    records: &[Record],
) -> Result<Vec<(usize, Place)>, KafkaError> {
    let producer: ThreadedProducer<Deliveries> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("linger.ms", "5")
        .create_with_context(Deliveries::default())?;
    for (number, record) in records.iter().enumerate() {
        let partition = i32::try_from(number % partitions).unwrap_or_default();
        let mut entry = BaseRecord::<(), _, _>::with_opaque_to(topic, Box::new(number))
            .payload(&record.value)
            .partition(partition);
        while let Err((error, back)) = producer.send(entry) {
            if error != KafkaError::MessageProduction(rdkafka::types::RDKafkaErrorCode::QueueFull) {
                return Err(error);
            }
            producer.flush(PATIENCE)?;
            entry = back;
        }
    }
    producer.flush(PATIENCE)?;
    let mut deliveries = producer
        .context()
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    deliveries.drain(..).collect()
}

/// Reads a topic from its beginning.
pub(super) struct Results {
    consumer: BaseConsumer,
}

impl Results {
    /// Reads all partitions, in no group.
    ///
    /// # Errors
    /// The broker does not answer.
    pub(super) fn of(bootstrap: &str, topic: &str, partitions: i32) -> Result<Results, KafkaError> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "scanner-demo-reader")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "50")
            .create()?;
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        Ok(Results { consumer })
    }

    /// The next result that is JSON; `None` if none comes within `timeout`.
    pub(super) fn next(&self, timeout: Duration) -> Option<Value> {
        // Errors of the connection pass by themselves, or the demo ends for want of results.
        let record = self.consumer.poll(timeout)?.ok()?;
        serde_json::from_slice(record.payload()?).ok()
    }
}
