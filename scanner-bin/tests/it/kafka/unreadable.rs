//! Batches that cannot be read: their partition waits and says so, or they are skipped, and nothing else is lost. Needs a real Apache Kafka.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use support::broker::Broker;
use support::client::{Outgoing, Record};
use support::memory_group::MemoryGroup;
use support::process::Scanner;
use support::scene::{
    LARGE, Place, Scene, assert_all_answered, assert_answered_once, assert_in_order, line,
};
use support::{announce, wait_for};

const PATIENCE: Duration = Duration::from_secs(120);
/// Several processes end before a batch is recognised, and each look at it decompresses it as far as memory allows.
const RECOGNITION: Duration = Duration::from_secs(400);
/// Records before a batch that cannot be read, in it, and behind it.
const BEFORE: i64 = 10;
const INSIDE: i64 = 120;
const BEHIND: i64 = 300;
/// Memory of a replica that runs out of it.
const LIMIT_KIB: u64 = 400 << 10;
/// Memory of a container, as deploy/pod.yaml has it.
const POD_BYTES: u64 = 640 << 20;
/// Records of 1 MiB in a batch that does not fit in there.
const INSIDE_POD: i64 = 900;

/// The shared broker, if it is a real one; else says what is left out.
fn real() -> Option<&'static Broker> {
    let broker = Broker::shared();
    if !broker.is_real() {
        announce!("left out: batches that cannot be read; there is no real Apache Kafka");
        return None;
    }
    Some(broker)
}

/// One batch of so many records of so many bytes, which say nothing and so are compressed to very little.
fn batch(scene: &Scene<'_>, codec: &str, records: i64, bytes: usize) {
    let mut client = scene.broker.client();
    client
        .set("compression.type", codec)
        // Until the flush: a busy machine must not make two batches of it.
        .set("linger.ms", "200000")
        .set("batch.size", i32::MAX.to_string())
        .set("batch.num.messages", "1000000")
        .set("queue.buffering.max.kbytes", "2097151")
        .set("message.max.bytes", "1000000000");
    let producer: BaseProducer = client.create().unwrap();
    let mut payload = line(0);
    payload.resize(bytes, b'a');
    for _ in 0..records {
        let record = BaseRecord::<[u8], [u8]>::to(&scene.input)
            .partition(0)
            .payload(&payload);
        producer.send(record).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

fn lines(scene: &Scene<'_>, partition: i32, records: i64) {
    let lines = (0..records).map(|n| Outgoing::of(line(n as usize)).partition(partition));
    scene.produce(lines);
}

/// Partition 0 with records, a batch of a few kilobytes that holds 123 MB, and more records; partition 1 with records only.
fn zstd_bomb<'b>(broker: &'b Broker, name: &str) -> Scene<'b> {
    let scene = Scene::new(broker, name, 2);
    lines(&scene, 0, BEFORE);
    batch(&scene, "zstd", INSIDE, 1 << 20);
    lines(&scene, 0, BEHIND);
    lines(&scene, 1, BEHIND);
    assert_eq!(
        scene.broker.ends(&scene.input)[&0],
        BEFORE + INSIDE + BEHIND
    );
    scene
}

fn readiness(scanner: &Scanner) -> (u16, String) {
    scanner.get("/readyz").unwrap_or_default()
}

/// Until readiness fails with a reason that names partition and offset.
fn wait_until_reported(scanner: &Scanner, offset: i64) -> String {
    let (partition, offset) = ("partition 0".to_owned(), format!("offset {offset}"));
    wait_for("a report of the batch", PATIENCE, || {
        let (status, text) = readiness(scanner);
        (status == 503 && text.contains(&partition) && text.contains(&offset)).then_some(text)
    })
}

fn header(record: &Record, name: &str) -> String {
    let found = record.headers.iter().find(|(key, _)| key == name);
    let value = found.and_then(|(_, value)| value.clone());
    String::from_utf8(value.unwrap_or_else(|| panic!("no {name}: {:?}", record.headers))).unwrap()
}

/// Every record but those of the batch.
fn readable(scene: &Scene<'_>, inside: i64) -> std::collections::BTreeSet<Place> {
    let inside = BEFORE..BEFORE + inside;
    let mut places = scene.places();
    places.retain(|(partition, offset)| *partition != 0 || !inside.contains(offset));
    places
}

/// The dead letter of the batch, which is the only one.
fn assert_one_letter(scene: &Scene<'_>, inside: i64) {
    let letters = scene.broker.read_all(&scene.dead_letters);
    assert_eq!(letters.len(), 1, "{letters:?}");
    let letter = &letters[0];
    assert_eq!((&letter.payload, &letter.key), (&None, &None));
    assert_eq!(header(letter, "reason"), "unreadable_batch");
    assert_eq!(header(letter, "source-topic"), scene.input);
    assert_eq!(header(letter, "source-partition"), "0");
    assert_eq!(header(letter, "source-offset"), BEFORE.to_string());
    let last = BEFORE + inside - 1;
    assert_eq!(header(letter, "source-last-offset"), last.to_string());
}

/// Proves: a batch that cannot be decompressed fails readiness with partition and offset, is counted, and holds its own partition only.
#[test]
fn a_batch_that_cannot_be_decompressed_is_reported_and_holds_no_other_partition() {
    let Some(broker) = real() else { return };
    let scene = zstd_bomb(broker, "bomb-wait");
    let scanner = scene.replica("scanner-0").start();
    let reason = wait_until_reported(&scanner, BEFORE);
    announce!("unreadable: {reason}");
    wait_for("the records that can be read", PATIENCE, || {
        let committed = scene.committed();
        (committed[&0] == BEFORE && committed[&1] == BEHIND).then_some(())
    });
    wait_for("the watermark is said to be blocked", PATIENCE, || {
        let blocked = scanner
            .scrape()
            .by_partition("scanner_watermark_blocked_seconds");
        (blocked[&0] > 3.0 && blocked[&1] == 0.0).then_some(())
    });
    let scrape = scanner.scrape();
    assert_eq!(scrape.sum("scanner_unreadable_batches_total"), 1.0);
    let offsets = scrape.by_partition("scanner_unreadable_batch_offset");
    assert_eq!(
        offsets.into_iter().collect::<Vec<_>>(),
        [(0, BEFORE as f64)]
    );
    assert_eq!(scanner.get("/livez").unwrap().0, 200);
    assert_eq!(scene.answers().len(), (BEFORE + BEHIND) as usize);
    assert_eq!(scene.broker.read_all(&scene.dead_letters), []);
}

/// Proves: such a batch is skipped on request: it is one dead letter with its offsets, and every other record is answered once.
#[test]
fn a_batch_is_skipped_on_request_and_nothing_else_is_lost() {
    let Some(broker) = real() else { return };
    skip(&zstd_bomb(broker, "bomb-skip"), "at-least-once");
}

/// Proves: the same in transactions.
#[test]
fn a_batch_is_skipped_on_request_in_transactions() {
    let Some(broker) = real() else { return };
    skip(&zstd_bomb(broker, "bomb-skip-eos"), "exactly-once");
}

fn skip(scene: &Scene<'_>, delivery: &str) {
    let start = || {
        let replica = scene.replica("scanner-0").flag("--delivery", delivery);
        let replica = replica.env("SCANNER_KAFKA__UNREADABLE_BATCH", "skip");
        replica.start()
    };
    let mut scanner = start();
    scene.wait_until_committed(PATIENCE);
    scanner.wait_until_ready(PATIENCE);
    let scrape = scanner.scrape();
    assert_eq!(scrape.sum("scanner_unreadable_batches_total"), 1.0);
    assert_eq!(scrape.sum("scanner_skipped_batches_total"), 1.0);
    assert_eq!(scrape.sum("scanner_dlq_produced_total"), 1.0);
    assert_eq!(scrape.sum("scanner_unreadable_batch_offset"), 0.0);
    scanner.kill();
    // What was passed over is passed over for good.
    let mut scanner = start();
    lines(scene, 0, 1);
    scene.wait_until_committed(PATIENCE);
    assert_eq!(scanner.scrape().sum("scanner_skipped_batches_total"), 0.0);
    scanner.kill();
    let answers = scene.answers();
    assert_answered_once(&answers, &readable(scene, INSIDE));
    assert_in_order(&answers);
    assert_one_letter(scene, INSIDE);
}

/// Proves: a batch that is at the very end of its partition is skipped up to the end, and what comes later is answered.
#[test]
fn a_batch_at_the_end_of_its_partition_is_skipped_up_to_the_end() {
    let Some(broker) = real() else { return };
    let scene = Scene::new(broker, "bomb-end", 1);
    batch(&scene, "zstd", INSIDE, 1 << 20);
    let replica = scene.replica("scanner-0");
    let scanner = replica
        .env("SCANNER_KAFKA__UNREADABLE_BATCH", "skip")
        .start();
    scene.wait_until_committed(PATIENCE);
    lines(&scene, 0, BEHIND);
    scene.wait_until_committed(PATIENCE);
    let behind = (INSIDE..INSIDE + BEHIND).map(|offset| (0, offset));
    assert_answered_once(&scene.answers(), &behind.collect());
    assert_eq!(scanner.scrape().sum("scanner_skipped_batches_total"), 1.0);
}

/// The file that holds the partition's records, and where in it a payload of the batch at `offset` is.
fn segment(scene: &Scene<'_>, offset: i64) -> (PathBuf, u64) {
    let dir = scene.broker.partition_dir(&scene.input, 0).unwrap();
    let file = dir.join("00000000000000000000.log");
    let bytes = fs::read(&file).unwrap();
    let at = |from: usize, length: usize| &bytes[from..from + length];
    let mut position = 0;
    loop {
        let base = i64::from_be_bytes(at(position, 8).try_into().unwrap());
        let length = i32::from_be_bytes(at(position + 8, 4).try_into().unwrap());
        let end = position + 12 + usize::try_from(length).unwrap();
        if base == offset {
            return (file, end as u64 - 20);
        }
        position = end;
    }
}

/// One bit of a batch on the broker's disk.
struct Damage {
    file: fs::File,
    position: u64,
}

impl Damage {
    fn of(scene: &Scene<'_>, offset: i64) -> Damage {
        let (file, position) = segment(scene, offset);
        let file = fs::File::options().read(true).write(true).open(file);
        Damage {
            file: file.unwrap(),
            position,
        }
    }

    /// Damages it, or mends it.
    fn flip(&self) {
        let mut byte = [0];
        self.file.read_exact_at(&mut byte, self.position).unwrap();
        self.file
            .write_all_at(&[byte[0] ^ 1], self.position)
            .unwrap();
    }
}

/// Proves: records behind a batch that arrives damaged do not pass it; when it arrives whole again everything is answered, once.
#[test]
fn nothing_passes_a_damaged_batch_and_when_it_is_whole_again_nothing_is_lost() {
    let Some(broker) = real() else { return };
    let scene = Scene::new(broker, "damaged", 1);
    lines(&scene, 0, BEFORE);
    batch(&scene, "none", INSIDE, 1000);
    lines(&scene, 0, BEHIND);
    let damage = Damage::of(&scene, BEFORE);
    damage.flip();
    let mut scanner = scene.replica("scanner-0").start();
    wait_until_reported(&scanner, BEFORE);
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        let committed = scene.committed()[&0];
        assert!(committed <= BEFORE, "{committed}");
    }
    assert_eq!(scene.answers().len() as i64, BEFORE);
    damage.flip();
    scene.wait_until_committed(PATIENCE);
    scanner.wait_until_ready(PATIENCE);
    let answers = scene.answers();
    assert_answered_once(&answers, &scene.places());
    assert_in_order(&answers);
    let scrape = scanner.scrape();
    assert_eq!(scrape.sum("scanner_unreadable_batches_total"), 1.0);
    assert_eq!(scrape.sum("scanner_unreadable_batch_offset"), 0.0);
    assert_eq!(scene.broker.read_all(&scene.dead_letters), []);
}

/// Proves: a partition that waits goes from replica to replica as any other does; its new owner reports it, and the old one does no more.
#[test]
fn a_partition_that_waits_moves_and_is_reported_by_its_new_owner() {
    let Some(broker) = real() else { return };
    let scene = Scene::new(broker, "damaged-moves", 2);
    lines(&scene, 0, BEFORE);
    batch(&scene, "none", INSIDE, 1000);
    lines(&scene, 0, BEHIND);
    lines(&scene, 1, BEHIND);
    let damage = Damage::of(&scene, BEFORE);
    damage.flip();
    let first = scene.replica("scanner-0").start();
    wait_until_reported(&first, BEFORE);
    let second = scene.replica("scanner-1").start();
    let owned = scene.wait_until_shared(&[&first, &second], &[1, 1], PATIENCE);
    let (mut owner, mut other) = match owned[0].contains(&0) {
        true => (first, second),
        false => (second, first),
    };
    wait_until_reported(&owner, BEFORE);
    other.wait_until_ready(PATIENCE);
    owner.terminate();
    assert_eq!(owner.wait(PATIENCE).code(), Some(0), "{}", owner.output());
    wait_until_reported(&other, BEFORE);
    damage.flip();
    scene.wait_until_committed(PATIENCE);
    other.wait_until_ready(PATIENCE);
    assert_answered_once(&scene.answers(), &scene.places());
}

/// Proves: when retention removes what a partition waits for, it goes on with what is left.
#[test]
fn a_partition_goes_on_when_the_batch_is_removed() {
    let Some(broker) = real() else { return };
    let scene = Scene::new(broker, "bomb-removed", 1);
    batch(&scene, "zstd", INSIDE, 1 << 20);
    lines(&scene, 0, BEHIND);
    let mut scanner = scene.replica("scanner-0").start();
    wait_until_reported(&scanner, 0);
    broker.delete_records_before(&scene.input, 0, INSIDE);
    scene.wait_until_committed(PATIENCE);
    scanner.wait_until_ready(PATIENCE);
    let behind = (INSIDE..INSIDE + BEHIND).map(|offset| (0, offset));
    assert_answered_once(&scene.answers(), &behind.collect());
}

/// A replica under a limit of memory, with so little of it for what is fetched that 16 MiB of a topic are many.
fn limited(scene: &mut Scene<'_>, unreadable_batch: &str) -> impl Fn() -> Scanner + use<> {
    // What the limit does to it is what running out of memory does: it ends in the middle of a fetch.
    let wrapper = scene.tmp().join("limited");
    let program = scene.program.display();
    let script = format!("#!/bin/sh\nulimit -c 0\nulimit -d {LIMIT_KIB}\nexec {program} \"$@\"\n");
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    scene.program = wrapper;
    let (input, output, dead) = (
        scene.input.clone(),
        scene.output.clone(),
        scene.dead_letters.clone(),
    );
    let (group, journal, program) = (scene.group.clone(), scene.journal(), scene.program.clone());
    let (bootstrap, word) = (
        scene.broker.bootstrap().to_owned(),
        unreadable_batch.to_owned(),
    );
    move || {
        Scanner::launch_program(&program, &bootstrap)
            .flag("--group", &group)
            .flag("--input-topic", &input)
            .flag("--output-topic", &output)
            .flag("--dead-letter-topic", &dead)
            .flag("--instance", "scanner-0")
            .env("SCANNER_SCAN__THREADS", "1")
            .env("SCANNER_SCAN__CRASH_JOURNAL", &journal)
            .env("SCANNER_KAFKA__SESSION_TIMEOUT", "6s")
            .env("SCANNER_KAFKA__FETCH_MEMORY_BYTES", "16MiB")
            .env("SCANNER_KAFKA__MAX_PARTITIONS", "4")
            .env("SCANNER_KAFKA__UNREADABLE_BATCH", &word)
            .start()
    }
}

/// Partition 0 with records, a batch that is a gzip file of 400 MB, and more records; partition 1 with records only.
fn gzip_bomb<'b>(broker: &'b Broker, name: &str) -> Scene<'b> {
    let scene = Scene::new(broker, name, 2);
    lines(&scene, 0, BEFORE);
    batch(&scene, "gzip", INSIDE, 4 << 20);
    lines(&scene, 0, BEHIND);
    lines(&scene, 1, BEHIND);
    assert_eq!(
        scene.broker.ends(&scene.input)[&0],
        BEFORE + INSIDE + BEHIND
    );
    scene
}

/// As a supervisor does: starts it again whenever it ends, until it stays. Returns it, and how often it ended.
fn supervise(start: impl Fn() -> Scanner, stays: impl Fn(&Scanner) -> bool) -> (Scanner, u32) {
    let deadline = Instant::now() + RECOGNITION;
    for ends in 0.. {
        let mut scanner = start();
        while scanner.try_wait().is_none() {
            if stays(&scanner) {
                return (scanner, ends);
            }
            assert!(
                Instant::now() < deadline,
                "{ends} ends:\n{}",
                scanner.output()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    unreachable!()
}

/// Proves: a batch that takes more memory than there is ends a few processes and not every one: then its partition is held, readiness names
/// it, and the other partitions are answered.
#[test]
fn a_batch_that_ends_the_process_is_recognised_and_its_partition_held() {
    let Some(broker) = real() else { return };
    let mut scene = gzip_bomb(broker, "oom-wait");
    let start = limited(&mut scene, "wait");
    let (mut scanner, ends) =
        supervise(start, |scanner| readiness(scanner).1.contains("the last 2"));
    announce!("unreadable: recognised after {ends} ends");
    // One end on the way to the batch, and two at it; another where the commit before the first one was not made.
    assert!((2..=4).contains(&ends), "{ends}");
    let reason = wait_until_reported(&scanner, BEFORE);
    announce!("unreadable: {reason}");
    assert!(reason.contains("memory"), "{reason}");
    wait_for("the records that can be read", PATIENCE, || {
        let committed = scene.committed();
        (committed[&0] == BEFORE && committed[&1] == BEHIND).then_some(())
    });
    wait_for("a look at the batch", PATIENCE, || {
        readiness(&scanner)
            .1
            .contains("decompresses to")
            .then_some(())
    });
    assert_eq!(scanner.try_wait(), None);
    let offsets = scanner
        .scrape()
        .by_partition("scanner_unreadable_batch_offset");
    assert_eq!(
        offsets.into_iter().collect::<Vec<_>>(),
        [(0, BEFORE as f64)]
    );
    assert_eq!(scene.broker.read_all(&scene.dead_letters), []);
}

/// Proves: on request it is skipped, and nothing else is lost.
#[test]
fn a_batch_that_ends_the_process_is_skipped_on_request_and_nothing_else_is_lost() {
    let Some(broker) = real() else { return };
    let mut scene = gzip_bomb(broker, "oom-skip");
    let start = limited(&mut scene, "skip");
    let skipped = |scanner: &Scanner| {
        let page = scanner.get("/metrics").unwrap_or_default().1;
        page.contains("scanner_skipped_batches_total 1")
    };
    let (mut scanner, _) = supervise(start, skipped);
    scene.wait_until_committed(PATIENCE);
    scanner.wait_until_ready(PATIENCE);
    assert_all_answered(&scene.answers(), &readable(&scene, INSIDE));
    assert_one_letter(&scene, INSIDE);
}

/// A replica with the pod's settings in a control group with the pod's limit of memory, and the group, if this machine has such groups.
fn in_a_pod(scene: &mut Scene<'_>, name: &str) -> Option<MemoryGroup> {
    let group = match MemoryGroup::new(name, POD_BYTES) {
        Ok(group) => group,
        Err(reason) => {
            announce!("left out: a batch that a container's memory does not hold: {reason}");
            return None;
        }
    };
    let (wrapper, program) = (scene.tmp().join("in-a-pod"), scene.program.display());
    let procs = group.joined_through();
    let script = format!(
        "#!/bin/sh\nset -e\necho 0 > {}\nexec {program} \"$@\"\n",
        procs.display()
    );
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    scene.program = wrapper;
    Some(group)
}

fn start_in_pod(scene: &Scene<'_>, unreadable_batch: &str) -> Scanner {
    let replica = scene.replica("scanner-0").flag("--isolation", "process");
    replica
        .env("SCANNER_SCAN__ISOLATION_MEMORY_BYTES", "256MiB")
        .env("SCANNER_KAFKA__FETCH_MEMORY_BYTES", "64MiB")
        .env("SCANNER_KAFKA__MAX_PARTITIONS", "16")
        .env("SCANNER_KAFKA__UNREADABLE_BATCH", unreadable_batch)
        .start()
}

/// Partition 0 with records, a batch of 1 MB that is a gzip file of 944 MB, and more records; partition 1 with records only.
fn pod_bomb<'b>(broker: &'b Broker, name: &str) -> Scene<'b> {
    let scene = Scene::new(broker, name, 2);
    lines(&scene, 0, BEFORE);
    batch(&scene, "gzip", INSIDE_POD, 1 << 20);
    lines(&scene, 0, BEHIND);
    lines(&scene, 1, BEHIND);
    assert_eq!(
        scene.broker.ends(&scene.input)[&0],
        BEFORE + INSIDE_POD + BEHIND
    );
    scene
}

/// Proves: a batch that does not fit in a container's memory ends a few processes and not every one: then its partition is held, log,
/// metrics and readiness name it, and the other partitions are answered.
#[test]
fn a_batch_that_a_containers_memory_does_not_hold_is_recognised_and_its_partition_held() {
    let Some(broker) = real() else { return };
    let mut scene = pod_bomb(broker, "pod-wait");
    let Some(group) = in_a_pod(&mut scene, "wait") else {
        return;
    };
    let (mut scanner, ends) = supervise(
        || start_in_pod(&scene, "wait"),
        |scanner| readiness(scanner).1.contains("the last 2"),
    );
    let kills = group.kills();
    announce!(
        "unreadable: recognised in {POD_BYTES} bytes after {ends} ends, {kills} processes killed"
    );
    assert!(kills > 0, "the limit was not met");
    assert!((2..=4).contains(&ends), "{ends}");
    let reason = wait_until_reported(&scanner, BEFORE);
    assert!(reason.contains("memory"), "{reason}");
    wait_for("the records that can be read", PATIENCE, || {
        let committed = scene.committed();
        (committed[&0] == BEFORE && committed[&1] == BEHIND).then_some(())
    });
    // The other partition is checked as well and continues.
    wait_for("the metric", PATIENCE, || {
        let scrape = scanner.scrape();
        let offsets = scrape.by_partition("scanner_unreadable_batch_offset");
        offsets.into_iter().eq([(0, BEFORE as f64)]).then_some(())
    });
    wait_for("the log", PATIENCE, || {
        let output = scanner.output();
        output
            .contains("A batch cannot be read and its partition waits")
            .then_some(())
    });
    assert_eq!(scanner.try_wait(), None);
    assert_eq!(scene.broker.read_all(&scene.dead_letters), []);
    scanner.kill();
}

/// Proves: on request it is skipped, and nothing else is lost.
#[test]
fn a_batch_that_a_containers_memory_does_not_hold_is_skipped_on_request() {
    let Some(broker) = real() else { return };
    let mut scene = pod_bomb(broker, "pod-skip");
    let Some(group) = in_a_pod(&mut scene, "skip") else {
        return;
    };
    let skipped = |scanner: &Scanner| {
        let page = scanner.get("/metrics").unwrap_or_default().1;
        page.contains("scanner_skipped_batches_total 1")
    };
    let (mut scanner, ends) = supervise(|| start_in_pod(&scene, "skip"), skipped);
    announce!(
        "unreadable: skipped in {POD_BYTES} bytes after {ends} ends, {} processes killed",
        group.kills()
    );
    assert!(group.kills() > 0, "the limit was not met");
    scene.wait_until_committed(PATIENCE);
    scanner.wait_until_ready(PATIENCE);
    assert_all_answered(&scene.answers(), &readable(&scene, INSIDE_POD));
    assert_one_letter(&scene, INSIDE_POD);
    let output = scanner.output();
    assert!(
        output.contains("A batch that cannot be read was skipped"),
        "{output}"
    );
    scanner.kill();
}

/// Proves: where the topic is uncompressed the broker itself refuses such a batch, as the documentation recommends.
#[test]
fn a_topic_without_compression_takes_no_such_batch() {
    let Some(broker) = real() else { return };
    let scene = Scene::without_topics(broker, "uncompressed");
    let settings = [("compression.type", "uncompressed"), LARGE];
    broker.create_topic(&scene.input, 1, &settings);
    batch(&scene, "gzip", INSIDE, 1 << 20);
    assert_eq!(broker.ends(&scene.input)[&0], 0);
    lines(&scene, 0, BEFORE);
    assert_eq!(broker.ends(&scene.input)[&0], BEFORE);
}

/// Proves: a partition at which nothing can be fetched is not taken for one that ends the process, however often that is killed.
#[test]
fn an_idle_partition_is_suspected_of_nothing() {
    let Some(broker) = real() else { return };
    let scene = Scene::new(broker, "idle", 1);
    lines(&scene, 0, BEFORE);
    let mut scanner = scene.ready_replica("scanner-0");
    scene.wait_until_committed(PATIENCE);
    scanner.kill();
    for _ in 0..4 {
        let mut scanner = scene.ready_replica("scanner-0");
        wait_for("the partition", PATIENCE, || {
            (scanner.owned().len() == 1).then_some(())
        });
        std::thread::sleep(Duration::from_millis(2500));
        assert_eq!(
            scanner.scrape().sum("scanner_unreadable_batches_total"),
            0.0
        );
        scanner.kill();
    }
}
