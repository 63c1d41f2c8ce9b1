//! The least that anybody has to do: consume a record, produce what is ready for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use scanlib::Parser;
use scanner_bin::result::ScanContext;

use crate::support::scene::Scene;
use crate::{INSTANCE, PARTITIONS, Round, encode, measured};

/// Counts what the broker has.
#[derive(Clone, Default)]
struct Delivered(Arc<AtomicU64>);

impl ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "the broker refused a result");
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A result for each line, as the service would write it.
fn results(scene: &Scene<'_>, lines: &[Vec<u8>], records: u64) -> Vec<Vec<u8>> {
    let parser = Parser::default();
    let one = |line: &Vec<u8>| {
        let now = SystemTime::now();
        let now_ms = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_millis();
        let now_ms = i64::try_from(now_ms).unwrap();
        let context = ScanContext {
            instance: INSTANCE,
            is_replay: false,
            cluster: "plumbing",
            topic: &scene.input,
            partition: 0,
            // Most offsets have as many digits as this one.
            offset: i64::try_from(records).unwrap() / i64::from(PARTITIONS) / 2,
            key: None,
            timestamp_ms: Some(now_ms),
            scanned_at: now,
            processed_at: now,
        };
        let mut out = Vec::new();
        encode(
            &mut out,
            &context,
            &parser.parse_received(line, Some(now_ms)),
        );
        out
    };
    lines.iter().map(one).collect()
}

/// Relays everything once, in a group of its own, with the service's settings for what is sent: idempotent, lz4, 20 ms.
pub fn run(scene: &Scene<'_>, lines: &[Vec<u8>], records: u64) -> Round {
    let results = results(scene, lines, records);
    let consumer: BaseConsumer = scene
        .broker
        .client()
        .set("group.id", &scene.group)
        .set("auto.offset.reset", "earliest")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("fetch.wait.max.ms", "100")
        .create()
        .unwrap();
    consumer.subscribe(&[&scene.input]).unwrap();
    let delivered = Delivered::default();
    let producer: BaseProducer<Delivered> = scene
        .broker
        .client()
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "20")
        .set("compression.codec", "lz4")
        .set("partitioner", "murmur2_random")
        .create_with_context(delivered.clone())
        .unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| relay(&consumer, &producer, &scene.output, &results, &stop));
        let round = measured(records, || delivered.0.load(Ordering::Relaxed));
        stop.store(true, Ordering::Relaxed);
        round
    })
}

fn relay(
    consumer: &BaseConsumer,
    producer: &BaseProducer<Delivered>,
    output: &str,
    results: &[Vec<u8>],
    stop: &AtomicBool,
) {
    while !stop.load(Ordering::Relaxed) {
        producer.poll(Duration::ZERO);
        // A broker that is not there yet, or is slow, comes back.
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(10)) else {
            continue;
        };
        // Lines were put on the partitions in turn.
        let number = message.offset() * i64::from(PARTITIONS) + i64::from(message.partition());
        let result = &results[usize::try_from(number).unwrap() % results.len()];
        let headers = || {
            let header = |key| Header {
                key,
                value: Some("clean"),
            };
            OwnedHeaders::new_with_capacity(2)
                .insert(header("status"))
                .insert(header("severity"))
        };
        loop {
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(output)
                .payload(&result[..])
                .headers(headers());
            record.key = message.key();
            record.timestamp = message.timestamp().to_millis();
            match producer.send(record) {
                Ok(()) => break,
                Err((error, _)) => {
                    assert_eq!(
                        error.rdkafka_error_code(),
                        Some(RDKafkaErrorCode::QueueFull)
                    );
                    producer.poll(Duration::from_millis(1));
                }
            }
        }
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}
