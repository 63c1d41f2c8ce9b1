//! Records that keep coming: log lines, planted hits, bad records, and such as are taken back before anybody may read them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::support::client::Outgoing;
use crate::support::scene::{Scene, line, planted};

/// Records of one burst, and the time from one to the next: enough for replicas to have work in hand when something happens to them.
const BURST: usize = 320;
const PAUSE: Duration = Duration::from_millis(400);
/// Records that may be on their way to the broker.
const MOST: i32 = 2_000;
/// Records of a transaction that is aborted, and the time from one to the next: one record in twenty.
const TAKEN_BACK: usize = 40;
const PAUSE_BETWEEN: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);

/// Writes until it is told to stop. Returns how many records there are to be answered.
pub(crate) fn keep_coming(
    scene: &Scene<'_>,
    partitions: i32,
    isolated: bool,
    stop: &AtomicBool,
) -> usize {
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let (mut number, mut producer) = (0, None);
            while !stop.load(Ordering::Relaxed) {
                producer = take_back(scene, partitions, number, producer);
                number += TAKEN_BACK;
                std::thread::sleep(PAUSE_BETWEEN);
            }
        });
        let writer = scene.broker.writer(&scene.input);
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            // While the broker is away no more is added.
            if writer.unacknowledged() > MOST {
                std::thread::sleep(PAUSE);
                continue;
            }
            writer.send(
                (number..)
                    .take(BURST)
                    .map(|n| record(n, partitions, isolated)),
            );
            number += BURST;
            std::thread::sleep(PAUSE);
        }
        writer.places().len()
    })
}

/// One in twenty is malicious, one in a hundred bad; where libclamav has processes of its own, it has to see one in five. Each has a key: results of one record are on one partition then, however often it
/// is answered.
fn record(number: usize, partitions: i32, isolated: bool) -> Outgoing {
    let planted = planted();
    let record = match number % 97 {
        1 => Outgoing::tombstone(),
        2 if number.is_multiple_of(2) => Outgoing::of(Vec::new()),
        3 => Outgoing::of([&line(number), b"\xff\xfe\x00 not UTF-8".as_slice()].concat()),
        4 if number.is_multiple_of(2) => Outgoing::of(br#"{"message": "broken"#.to_vec()),
        _ if number.is_multiple_of(20) => {
            Outgoing::of(planted[number / 20 % planted.len()].0.clone())
        }
        _ if isolated && number % 5 == 1 => Outgoing::of(
            format!(
                "<13>Oct 20 02:44:02 web app: comment {number}: <html><script>x()</script></html>"
            )
            .into_bytes(),
        ),
        _ => Outgoing::of(line(number)),
    };
    record
        .key(format!("host-{}", number % 23))
        .partition((number % partitions as usize) as i32)
}

/// A broker that goes away meanwhile ends the transaction by itself: then another producer goes on.
fn take_back(
    scene: &Scene<'_>,
    partitions: i32,
    number: usize,
    producer: Option<BaseProducer>,
) -> Option<BaseProducer> {
    let producer = match producer {
        Some(producer) => producer,
        None => {
            let producer: BaseProducer = scene
                .broker
                .client()
                .set("transactional.id", format!("{}-load", scene.group))
                .set("transaction.timeout.ms", "10000")
                .create()
                .unwrap();
            producer.init_transactions(PATIENCE).ok()?;
            producer
        }
    };
    producer.begin_transaction().ok()?;
    for n in (number..).take(TAKEN_BACK) {
        let line = line(n);
        let record = BaseRecord::<[u8], [u8]>::to(&scene.input)
            .payload(&line[..])
            .partition((n % partitions as usize) as i32);
        // What is not sent need not be taken back.
        producer.send(record).ok()?;
    }
    producer.flush(PATIENCE).ok()?;
    producer.abort_transaction(PATIENCE).ok()?;
    Some(producer)
}
