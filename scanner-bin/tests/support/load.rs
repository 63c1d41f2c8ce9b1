//! Records at a steady rate.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use super::scene::Scene;

/// A round of the load.
const TICK: Duration = Duration::from_millis(10);

/// Send so many of these lines in each second, to all partitions in turn, until told to stop. Returns how many were sent.
pub fn paced(
    scene: &Scene<'_>,
    lines: &[Vec<u8>],
    per_second: f64,
    partitions: i32,
    stop: &AtomicBool,
) -> u64 {
    let producer: ThreadedProducer<DefaultProducerContext> = scene
        .broker
        .client()
        .set("linger.ms", "0")
        .create()
        .unwrap();
    let started = Instant::now();
    let mut records = lines.iter().cycle().zip((0..partitions).cycle());
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        // By the clock and not by the round, so that a round that comes late is made up for.
        let due = (started.elapsed().as_secs_f64() * per_second) as u64;
        for (line, partition) in records.by_ref().take((due - sent) as usize) {
            let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&scene.input);
            let sent = producer.send(record.payload(line).partition(partition));
            sent.map_err(|(error, _)| error)
                .expect("the tests' own producer cannot send");
        }
        sent = due;
        std::thread::sleep(TICK);
    }
    producer
        .flush(Duration::from_secs(30))
        .expect("the broker did not acknowledge in time");
    sent
}
