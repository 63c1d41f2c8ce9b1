//! A plain Kafka client: the tests' own view of what is on the broker, independent of the service's code.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::broker::Broker;

const PATIENCE: Duration = Duration::from_secs(30);
/// A broker may be started anew while it is written to, on a machine that has other things to do.
const PATIENCE_TO_WRITE: Duration = Duration::from_secs(180);
/// Nothing a test sends or reads may be refused by the tests' own client.
const MAX_BYTES: &str = "33554432";

/// A record to produce.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    pub payload: Option<Vec<u8>>,
    pub key: Option<Vec<u8>>,
    pub partition: Option<i32>,
    pub timestamp_ms: Option<i64>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Outgoing {
    /// A record with a value and nothing else.
    pub fn of(payload: impl Into<Vec<u8>>) -> Self {
        Self {
            payload: Some(payload.into()),
            ..Self::default()
        }
    }

    /// A record without a value.
    pub fn tombstone() -> Self {
        Self::default()
    }

    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), Some(value.into())));
        self
    }

    /// A header without a value, which is not the same as an empty one.
    pub fn null_header(mut self, name: &str) -> Self {
        self.headers.push((name.to_owned(), None));
        self
    }
}

/// A record read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    pub timestamp_ms: Option<i64>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            timestamp_ms: message.timestamp().to_millis(),
            headers: message.headers().map_or_else(Vec::new, |headers| {
                let owned = |header: Header<'_, &[u8]>| {
                    (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
                };
                headers.iter().map(owned).collect()
            }),
        }
    }

    /// The value as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(self.payload.as_deref().unwrap_or_default())
            .expect("the value is not UTF-8")
    }

    /// The value as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.text()).expect("the value is not JSON")
    }
}

impl Broker {
    /// Create a topic and wait until it can be written to. `configs` as for `kafka-topics --config`; the embedded broker knows none.
    pub fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        if self.create_embedded_topic(name, partitions) {
            return;
        }
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in configs {
            topic = topic.set(key, value);
        }
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        for created in block_on(admin.create_topics([&topic], &options)).unwrap() {
            created.expect("the topic was not created");
        }
        super::wait_for(
            "a leader for each partition of a new topic",
            PATIENCE,
            || {
                let metadata = admin.inner().fetch_metadata(Some(name), PATIENCE).ok()?;
                let found = metadata.topics()[0].partitions();
                let led = found
                    .iter()
                    .filter(|partition| partition.leader() >= 0)
                    .count();
                (i32::try_from(led).unwrap() == partitions).then_some(())
            },
        );
    }

    /// Deletes a topic of the real broker, and waits until nobody knows it.
    pub fn delete_topic(&self, name: &str) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        for answer in block_on(admin.delete_topics(&[name], &options)).unwrap() {
            answer.expect("the topic was not deleted");
        }
        super::wait_for("a deleted topic to be gone", PATIENCE, || {
            let metadata = admin.inner().fetch_metadata(None, PATIENCE).ok()?;
            let is_there = metadata.topics().iter().any(|topic| topic.name() == name);
            (!is_there).then_some(())
        });
    }

    /// Removes the records of a partition before an offset, as retention does.
    pub fn delete_records_before(&self, topic: &str, partition: i32, offset: i64) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let mut before = TopicPartitionList::new();
        before
            .add_partition_offset(topic, partition, Offset::Offset(offset))
            .unwrap();
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let deleted = block_on(admin.delete_records(&before, &options)).unwrap();
        let deleted = deleted.find_partition(topic, partition).unwrap();
        deleted.error().expect("the records were not deleted");
    }

    /// Produce, wait until every record is acknowledged, and say where each one went, in the order given.
    pub fn produce(
        &self,
        topic: &str,
        records: impl IntoIterator<Item = Outgoing>,
    ) -> Vec<(i32, i64)> {
        // Without the round trips of an idempotent producer: one is made for each call.
        let writer = self.writing(topic, false);
        writer.send(records);
        writer.places()
    }

    /// To produce again and again.
    pub fn writer(&self, topic: &str) -> Writer {
        // What is sent again because the broker went away is there once.
        self.writing(topic, true)
    }

    fn writing(&self, topic: &str, is_idempotent: bool) -> Writer {
        let placed = Placed::default();
        let producer = self
            .client()
            .set("linger.ms", "5")
            .set("enable.idempotence", is_idempotent.to_string())
            .set("message.max.bytes", MAX_BYTES)
            .create_with_context(placed.clone())
            .unwrap();
        Writer {
            topic: topic.to_owned(),
            producer,
            placed,
        }
    }

    /// Everything that is on the topic now, partition by partition, in order of offsets. Records of open or aborted transactions
    /// are not among them.
    pub fn read_all(&self, topic: &str) -> Vec<Record> {
        let mut reader = Reader::new(self, topic, "read_committed");
        reader.read_to_the_end();
        reader.records
    }

    /// The same with the records of open and aborted transactions.
    pub fn read_uncommitted(&self, topic: &str) -> Vec<Record> {
        let mut reader = Reader::new(self, topic, "read_uncommitted");
        reader.read_to_the_end();
        reader.records
    }

    /// Hand over everything that is on the topic now, one by one: there may be more of it than memory. Offset order within a
    /// partition. Records of open or aborted transactions are not among them.
    pub fn read_each(&self, topic: &str, mut take: impl FnMut(&BorrowedMessage<'_>)) {
        let mut reader = Reader::new(self, topic, "read_committed");
        let mut progress = Instant::now();
        while reader.ended.len() < reader.partitions {
            if reader.poll_with(Duration::from_millis(100), &mut take) {
                progress = Instant::now();
            }
            assert!(
                progress.elapsed() < PATIENCE,
                "the broker does not serve all partitions"
            );
        }
    }

    /// Read until `enough` says so, at most for `timeout`; then panic. Arrival order between partitions, offset order within.
    pub fn read_until(
        &self,
        topic: &str,
        timeout: Duration,
        mut enough: impl FnMut(&[Record]) -> bool,
    ) -> Vec<Record> {
        let mut reader = Reader::new(self, topic, "read_committed");
        let deadline = Instant::now() + timeout;
        while !enough(&reader.records) {
            assert!(
                Instant::now() < deadline,
                "within {timeout:?} only {} records came on {topic}, which is not enough",
                reader.records.len()
            );
            reader.poll(Duration::from_millis(100));
        }
        reader.records
    }

    /// Read what is committed from the beginning on, as it comes, until there are as many records as `enough` says; that may become
    /// known later, and then there is some patience left.
    pub fn follow(&self, topic: &str, enough: &AtomicUsize) -> Vec<Record> {
        let mut reader = Reader::new(self, topic, "read_committed");
        let mut deadline = None;
        loop {
            let enough = enough.load(Ordering::Relaxed);
            if enough != usize::MAX {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
                if reader.records.len() >= enough || Instant::now() >= deadline {
                    return reader.records;
                }
            }
            reader.poll(Duration::from_millis(100));
        }
    }

    /// The offsets that `group` has committed on `topic`; partitions without one are not in it.
    pub fn committed(&self, group: &str, topic: &str) -> BTreeMap<i32, i64> {
        let consumer: BaseConsumer = self.client().set("group.id", group).create().unwrap();
        let mut asked = TopicPartitionList::new();
        for partition in partitions(&consumer, topic) {
            asked.add_partition(topic, partition);
        }
        // The topic of the offsets is made with the first group, and its leaders move when the broker restarts.
        let committed = super::wait_for("committed offsets from the broker", PATIENCE, || {
            let committed = consumer
                .committed_offsets(asked.clone(), Duration::from_secs(5))
                .ok()?;
            let is_complete = committed
                .elements()
                .iter()
                .all(|element| element.error().is_ok());
            is_complete.then_some(committed)
        });
        let offsets =
            committed
                .elements()
                .into_iter()
                .filter_map(|element| match element.offset() {
                    Offset::Offset(offset) => Some((element.partition(), offset)),
                    _ => None,
                });
        offsets.collect()
    }

    /// The end of each partition: the offset that the next record will get.
    pub fn ends(&self, topic: &str) -> BTreeMap<i32, i64> {
        self.ends_for(topic, "read_uncommitted")
    }

    /// The same for a reader of committed records: where the first open transaction begins, if one is open.
    pub fn ends_for(&self, topic: &str, isolation: &str) -> BTreeMap<i32, i64> {
        let consumer: BaseConsumer = self
            .client()
            .set("isolation.level", isolation)
            .create()
            .unwrap();
        // A broker that has just restarted, or is frozen, says nothing for a while.
        let end = |partition| {
            super::wait_for("the end of a partition", PATIENCE, || {
                let ends = consumer.fetch_watermarks(topic, partition, Duration::from_secs(5));
                ends.ok().map(|(_, end)| end)
            })
        };
        partitions(&consumer, topic)
            .map(|partition| (partition, end(partition)))
            .collect()
    }

    /// The configuration of a client of this broker.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.bootstrap())
            .set("reconnect.backoff.max.ms", "500");
        config
    }
}

/// Writes to one topic.
pub struct Writer {
    topic: String,
    producer: ThreadedProducer<Placed>,
    placed: Placed,
}

impl Writer {
    /// Hands records to the client; waits only while its queue is full.
    pub fn send(&self, records: impl IntoIterator<Item = Outgoing>) {
        for record in records {
            let index = {
                let mut placed = self.placed.0.lock().unwrap();
                placed.push(None);
                placed.len() - 1
            };
            let mut headers = OwnedHeaders::new();
            for (name, value) in &record.headers {
                headers = headers.insert(Header {
                    key: name,
                    value: value.as_deref(),
                });
            }
            let mut outgoing =
                BaseRecord::<[u8], [u8], _>::with_opaque_to(&self.topic, Box::new(index));
            outgoing.payload = record.payload.as_deref();
            outgoing.key = record.key.as_deref();
            outgoing.partition = record.partition;
            outgoing.timestamp = record.timestamp_ms;
            outgoing.headers = (!record.headers.is_empty()).then_some(headers);
            while let Err((error, returned)) = self.producer.send(outgoing) {
                let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
                assert_eq!(error, full, "the tests' own producer cannot send");
                outgoing = returned;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Records that the broker has not acknowledged.
    pub fn unacknowledged(&self) -> i32 {
        self.producer.in_flight_count()
    }

    /// Waits until every record is acknowledged, and says where each one went, in the order of sending.
    pub fn places(self) -> Vec<(i32, i64)> {
        self.producer
            .flush(PATIENCE_TO_WRITE)
            .expect("the broker did not acknowledge in time");
        let placed = self.placed.0.lock().unwrap();
        placed
            .iter()
            .map(|place| place.expect("a record was refused"))
            .collect()
    }
}

/// Looks at what a group has committed of a topic, and then at how far another topic has come. A broker that is away shows nothing.
pub struct Watcher {
    consumer: BaseConsumer,
    committed_of: TopicPartitionList,
    output: String,
    output_partitions: Vec<i32>,
}

impl Watcher {
    pub fn new(broker: &Broker, group: &str, input: &str, output: &str) -> Self {
        let consumer: BaseConsumer = broker
            .client()
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            // The state as it is, also in the middle of a transaction.
            .set("isolation.level", "read_uncommitted")
            .create()
            .unwrap();
        let mut committed_of = TopicPartitionList::new();
        for partition in partitions(&consumer, input) {
            committed_of.add_partition(input, partition);
        }
        let output_partitions = partitions(&consumer, output).collect();
        Self {
            consumer,
            committed_of,
            output: output.to_owned(),
            output_partitions,
        }
    }

    /// Committed offsets first, ends of the output topic after that.
    pub fn look(&self) -> Option<(BTreeMap<i32, i64>, BTreeMap<i32, i64>)> {
        let patience = Duration::from_secs(2);
        let asked = self.committed_of.clone();
        let committed = self.consumer.committed_offsets(asked, patience).ok()?;
        let mut offsets = BTreeMap::new();
        for element in committed.elements() {
            element.error().ok()?;
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert(element.partition(), offset);
            }
        }
        let mut ends = BTreeMap::new();
        for partition in &self.output_partitions {
            let watermarks = self
                .consumer
                .fetch_watermarks(&self.output, *partition, patience);
            ends.insert(*partition, watermarks.ok()?.1);
        }
        Some((offsets, ends))
    }
}

/// The client's administrator is asynchronous; nothing else here is.
fn block_on<T>(answer: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(answer)
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> impl Iterator<Item = i32> + use<> {
    let metadata = consumer
        .fetch_metadata(Some(topic), PATIENCE)
        .expect("no metadata from the broker");
    let ids: Vec<_> = metadata.topics()[0]
        .partitions()
        .iter()
        .map(|partition| partition.id())
        .collect();
    assert!(!ids.is_empty(), "the topic {topic} does not exist");
    ids.into_iter()
}

/// Reads a topic from its beginning, without a group.
struct Reader {
    consumer: BaseConsumer,
    records: Vec<Record>,
    /// Partitions whose end was reached at least once.
    ended: Vec<i32>,
    partitions: usize,
}

impl Reader {
    fn new(broker: &Broker, topic: &str, isolation: &str) -> Self {
        let consumer: BaseConsumer = broker
            .client()
            .set("group.id", "tests-without-a-group")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", isolation)
            .set("fetch.message.max.bytes", MAX_BYTES)
            .set("fetch.wait.max.ms", "50")
            .create()
            .unwrap();
        let mut assignment = TopicPartitionList::new();
        for partition in partitions(&consumer, topic) {
            assignment
                .add_partition_offset(topic, partition, Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&assignment).unwrap();
        Self {
            consumer,
            records: Vec::new(),
            ended: Vec::new(),
            partitions: assignment.count(),
        }
    }

    fn read_to_the_end(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.ended.len() < self.partitions {
            assert!(
                Instant::now() < deadline,
                "the broker does not serve all partitions"
            );
            self.poll(Duration::from_millis(100));
        }
        self.records
            .sort_by_key(|record| (record.partition, record.offset));
    }

    fn poll(&mut self, timeout: Duration) {
        let mut records = std::mem::take(&mut self.records);
        self.poll_with(timeout, |message| records.push(Record::of(message)));
        self.records = records;
    }

    /// True if a record came.
    fn poll_with(&mut self, timeout: Duration, mut take: impl FnMut(&BorrowedMessage<'_>)) -> bool {
        match self.consumer.poll(timeout) {
            Some(Ok(message)) => {
                take(&message);
                return true;
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                if !self.ended.contains(&partition) {
                    self.ended.push(partition);
                }
            }
            // A broker that is away comes back, or the caller's time runs out.
            Some(Err(_)) | None => {}
        }
        false
    }
}

/// A partition and an offset.
type Place = (i32, i64);

/// Where each produced record went; `None` until it is acknowledged.
#[derive(Clone, Default)]
struct Placed(Arc<Mutex<Vec<Option<Place>>>>);

impl ClientContext for Placed {}

impl ProducerContext for Placed {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Self::DeliveryOpaque) {
        if let Ok(message) = result {
            self.0.lock().unwrap()[*index] = Some((message.partition(), message.offset()));
        }
    }
}
