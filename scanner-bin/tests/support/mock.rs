//! The service in this process on librdkafka's embedded broker, and a client that looks at what it wrote.

// Each test program compiles this module by itself and uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use scanlib::prefilter::Prefilter;
use scanlib::{Detector, DetectorSlot, EngineBuilder, Library, RuleSet};
use scanner_bin::config::Config;
use scanner_bin::ops::health::{Health, Limits, Probe};
use scanner_bin::ops::metrics::{Metrics, ResultLabel};
use scanner_bin::service::{self, ExitReport, ServiceError, Watch};
use scanner_bin::shutdown::Shutdown;

pub const PATIENCE: Duration = Duration::from_secs(60);
pub const INPUT: &str = "in";
pub const OUTPUT: &str = "out";
pub const DEAD: &str = "dead";

pub type Cluster = MockCluster<'static, DefaultProducerContext>;

/// A cluster whose input topic has this many partitions; the others have one, so that the order of
/// results can be seen.
pub fn cluster(partitions: i32) -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(INPUT, partitions, 1).unwrap();
    cluster.create_topic(OUTPUT, 1, 1).unwrap();
    cluster.create_topic(DEAD, 1, 1).unwrap();
    cluster
}

pub fn config(cluster: &Cluster) -> Config {
    let mut config = Config::default();
    config.scan.crash_journal = None;
    config.kafka.brokers = cluster.bootstrap_servers();
    config.kafka.group = "scanners".to_owned();
    config.kafka.input_topic = INPUT.to_owned();
    config.kafka.output_topic = OUTPUT.to_owned();
    config.kafka.dead_letter_topic = DEAD.to_owned();
    // The embedded broker lets a member that left count until its session is over.
    config.kafka.session_timeout = Duration::from_secs(6);
    config.kafka.commit_interval = Duration::from_millis(200);
    config.kafka.drain_timeout = Duration::from_secs(20);
    config.ops.instance = "scanner-0".to_owned();
    config
}

/// On a memory file system where there is one: libclamav makes a directory for each scan.
pub fn temporary() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() {
        tempfile::tempdir_in(shm)
    } else {
        tempfile::tempdir()
    }
    .unwrap()
}

pub struct Service {
    pub shutdown: Shutdown,
    pub watch: Watch,
    pub prefilter: Prefilter,
    pub thread: Option<JoinHandle<Result<ExitReport, ServiceError>>>,
    /// libclamav's temporary directory.
    pub tmp: tempfile::TempDir,
}

impl Service {
    pub fn start(config: Config) -> Service {
        let tmp = temporary();
        let engine = EngineBuilder::new(Library::init().unwrap()).unwrap();
        let engine = engine
            .tmp_dir(tmp.path())
            .prefilter(config.scan.prefilter)
            .builtin_signatures()
            .unwrap()
            .compile()
            .unwrap();
        let detector = Detector::builder()
            .engine(engine)
            .rules(RuleSet::builtin())
            .build()
            .unwrap();
        let prefilter = detector.prefilter().clone();
        let slot = DetectorSlot::new(detector);
        let health = Arc::new(Health::new(Limits {
            poll_loop: Duration::from_secs(5),
            worker: Duration::from_secs(60),
        }));
        let metrics = Arc::new(Metrics::new(Arc::clone(health.poll_loop())));
        let (watch, shutdown) = (Watch { health, metrics }, Shutdown::new());
        let thread = std::thread::spawn({
            let (watch, shutdown) = (watch.clone(), shutdown.clone());
            move || service::run(&config, &slot, &watch, &shutdown)
        });
        Service {
            shutdown,
            watch,
            prefilter,
            thread: Some(thread),
            tmp,
        }
    }

    pub fn stop(mut self) -> ExitReport {
        self.shutdown.request();
        self.thread.take().unwrap().join().unwrap().unwrap()
    }

    /// Results that the broker has acknowledged, all of them clean.
    pub fn acknowledged(&self) -> u64 {
        let clean = ResultLabel { result: "clean" };
        self.watch
            .metrics
            .results_produced
            .get_or_create(&clean)
            .get()
    }

    pub fn failures(&self) -> String {
        self.watch.health.answer(Probe::Ready).failures()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shutdown.request();
        if let Some(thread) = self.thread.take() {
            let _outcome = thread.join();
        }
    }
}

pub fn client(cluster: &Cluster) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("message.max.bytes", "33554432")
        .set("linger.ms", "0");
    config
}

pub fn produce<'a>(
    cluster: &Cluster,
    records: impl IntoIterator<Item = BaseRecord<'a, [u8], [u8]>>,
) {
    let producer: BaseProducer = client(cluster).create().unwrap();
    for record in records {
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.poll(Duration::ZERO);
    }
    producer.flush(PATIENCE).unwrap();
}

pub fn text<'a>(partition: i32, payload: &'a str) -> BaseRecord<'a, [u8], [u8]> {
    BaseRecord::to(INPUT)
        .partition(partition)
        .payload(payload.as_bytes())
}

#[derive(Clone, Debug)]
pub struct Received {
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    pub timestamp: Option<i64>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Received {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.payload.as_deref().unwrap()).unwrap()
    }

    /// Partition and offset of the record that this answers.
    pub fn source(&self) -> (i64, i64) {
        let json = self.json();
        (
            json["kafka"]["partition"].as_i64().unwrap(),
            json["kafka"]["offset"].as_i64().unwrap(),
        )
    }

    pub fn status(&self) -> String {
        self.json()["status"].as_str().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        value.clone().map(|v| String::from_utf8(v).unwrap())
    }
}

/// Reads partition 0 of a topic from its start until `enough` is satisfied, and a little longer, to
/// see what should not be there.
pub fn read(cluster: &Cluster, topic: &str, enough: impl Fn(&[Received]) -> bool) -> Vec<Received> {
    let consumer: BaseConsumer = client(cluster).set("group.id", "reader").create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning)
        .unwrap();
    consumer.assign(&list).unwrap();
    let mut all = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    let mut last = Instant::now();
    while !enough(&all) || last.elapsed() < Duration::from_millis(300) {
        assert!(
            Instant::now() < deadline,
            "only {} records on {topic} after {PATIENCE:?}",
            all.len()
        );
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
            last = Instant::now();
            all.push(Received {
                key: message.key().map(<[u8]>::to_vec),
                payload: message.payload().map(<[u8]>::to_vec),
                timestamp: message.timestamp().to_millis(),
                headers: message.headers().map_or(Vec::new(), |headers| {
                    headers
                        .iter()
                        .map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec)))
                        .collect()
                }),
            });
        }
    }
    all
}

pub fn results(cluster: &Cluster, count: usize) -> Vec<Received> {
    read(cluster, OUTPUT, |all| all.len() >= count)
}

/// Committed offset of each partition of the input, if there is one.
pub fn committed(cluster: &Cluster, partitions: i32) -> Vec<Option<i64>> {
    let consumer: BaseConsumer = client(cluster)
        .set("group.id", "scanners")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition(INPUT, partition);
    }
    let found = consumer.committed_offsets(list, PATIENCE).unwrap();
    let offset = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element
        .offset()
    {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    };
    found.elements().iter().map(offset).collect()
}

pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
