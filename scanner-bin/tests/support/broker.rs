//! A broker to test on: a real Apache Kafka in a process of its own, or librdkafka's embedded one where that cannot be had.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;

use super::process::{self, guarded};
use super::{announce, free_ports, in_ci, workspace};

/// How long a broker may take to start: 5 s on an idle machine, a minute on one that is compiling.
const START: Duration = Duration::from_secs(180);

/// One broker, on 127.0.0.1 unless said otherwise, with a directory of its own. Dropped, it is gone, and so is the directory.
pub struct Broker {
    kind: Kind,
    bootstrap: String,
}

enum Kind {
    Real(Real),
    Embedded(Embedded),
}

impl Broker {
    /// The one broker that all tests of this program share. Tests that stop or kill their broker start their own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Start a real Apache Kafka and wait until it serves.
    ///
    /// Where Java, Maven or the jars cannot be had, this says so and starts an embedded broker, on which the same scenarios run;
    /// with `CI=true` it panics instead. A real broker that is there but does not start is always a panic.
    pub fn start() -> Self {
        match jars() {
            Ok(()) => {
                let real = Real::start();
                let bootstrap = format!("127.0.0.1:{}", real.port);
                let broker = Self {
                    kind: Kind::Real(real),
                    bootstrap,
                };
                announce!(
                    "broker: Apache Kafka {}, process {}, {}",
                    broker.version(),
                    broker.pid().unwrap(),
                    broker.bootstrap
                );
                broker
            }
            Err(reason) => {
                assert!(!in_ci(), "CI must test on a real Apache Kafka: {reason}");
                announce!(
                    "left out: the real Apache Kafka; an embedded broker runs the same scenarios. Reason: {reason}"
                );
                let (embedded, bootstrap) = Embedded::start();
                Self {
                    kind: Kind::Embedded(embedded),
                    bootstrap,
                }
            }
        }
    }

    /// The same with one more listener that wants TLS, a certificate and a password, see [`Broker::secure`]. `None`, which has
    /// been announced, if no real broker can be had.
    pub fn start_secure() -> Option<Self> {
        if let Err(reason) = jars() {
            assert!(!in_ci(), "CI must test on a real Apache Kafka: {reason}");
            announce!(
                "left out: TLS and SASL, which the embedded broker does not have. Reason: {reason}"
            );
            return None;
        }
        let real = Real::start_on(free_ports(3), true);
        let bootstrap = format!("127.0.0.1:{}", real.port);
        let kind = Kind::Real(real);
        Some(Self { kind, bootstrap })
    }

    /// The secure listener, and the directory with what its clients need: see `tests/kafka/run`.
    pub fn secure(&self) -> (String, PathBuf) {
        match &self.kind {
            Kind::Real(real) if real.secure => {
                (format!("localhost:{}", real.port + 2), real.dir.join("tls"))
            }
            _ => panic!("this broker has no secure listener"),
        }
    }

    /// A real one on another address of this machine, where pods reach it. There is no stand-in for it: without one this panics.
    pub fn start_on(address: IpAddr) -> Self {
        if let Err(reason) = jars() {
            panic!("a pod cannot reach an embedded broker, and there is no real one: {reason}");
        }
        let real = Real::new(address, free_ports(2), false);
        real.start_process();
        let bootstrap = format!("{address}:{}", real.port);
        let kind = Kind::Real(real);
        Self { kind, bootstrap }
    }

    /// Where the real one keeps a partition; `None` for the embedded one.
    pub fn partition_dir(&self, topic: &str, partition: i32) -> Option<PathBuf> {
        match &self.kind {
            Kind::Real(real) => Some(real.dir.join("log").join(format!("{topic}-{partition}"))),
            Kind::Embedded(_) => None,
        }
    }

    /// For `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Whether this is a real Apache Kafka. The embedded one has no transactions, keeps about 5 MiB a partition, creates
    /// topics by itself and rebalances slowly: a test that is about one of those asks here.
    pub fn is_real(&self) -> bool {
        matches!(self.kind, Kind::Real(_))
    }

    /// What the broker itself says it is.
    pub fn version(&self) -> String {
        match &self.kind {
            Kind::Real(real) => real.version(),
            Kind::Embedded(_) => String::from("embedded"),
        }
    }

    /// The broker's process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        match &self.kind {
            Kind::Real(real) => real.process.lock().unwrap().as_ref().map(Child::id),
            Kind::Embedded(_) => None,
        }
    }

    /// The broker's own log, for a message.
    pub fn log(&self) -> String {
        match &self.kind {
            Kind::Real(real) => real.log(),
            Kind::Embedded(_) => String::new(),
        }
    }

    /// SIGKILL: a crash. Nothing was flushed, no client was told.
    pub fn kill(&self) {
        match &self.kind {
            Kind::Real(real) => real.end("KILL"),
            Kind::Embedded(embedded) => embedded.ask(Ask::Down),
        }
    }

    /// SIGTERM, and wait: an orderly shutdown.
    pub fn shut_down(&self) {
        match &self.kind {
            Kind::Real(real) => real.end("TERM"),
            Kind::Embedded(embedded) => embedded.ask(Ask::Down),
        }
    }

    /// Start it again on the same port with everything it had, and wait until every partition has a leader.
    pub fn start_again(&self) {
        match &self.kind {
            Kind::Real(real) => real.start_process(),
            Kind::Embedded(embedded) => embedded.ask(Ask::Up),
        }
    }

    /// Crash it and start it again.
    pub fn restart(&self) {
        self.kill();
        self.start_again();
    }

    /// SIGSTOP: connections stay open and nothing answers. The embedded broker refuses connections instead.
    pub fn freeze(&self) {
        match &self.kind {
            Kind::Real(real) => process::signal(real.pid(), "STOP"),
            Kind::Embedded(embedded) => embedded.ask(Ask::Down),
        }
    }

    /// SIGCONT: go on after [`Broker::freeze`].
    pub fn thaw(&self) {
        match &self.kind {
            Kind::Real(real) => process::signal(real.pid(), "CONT"),
            Kind::Embedded(embedded) => embedded.ask(Ask::Up),
        }
    }

    /// Only the embedded broker creates topics this way.
    pub(super) fn create_embedded_topic(&self, name: &str, partitions: i32) -> bool {
        match &self.kind {
            Kind::Real(_) => false,
            Kind::Embedded(embedded) => {
                embedded.ask(Ask::Topic(name.to_owned(), partitions));
                true
            }
        }
    }
}

/// Have the jars and Java, or say why not.
fn jars() -> Result<(), String> {
    let fetch = Command::new(workspace().join("tests/kafka/fetch"))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("tests/kafka/fetch does not start: {error}"))?;
    if fetch.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&fetch.stderr).trim().to_owned())
}

struct Real {
    address: IpAddr,
    port: u16,
    /// Whether there is a secure listener too, on the second port after this one.
    secure: bool,
    dir: PathBuf,
    process: Mutex<Option<Child>>,
}

impl Real {
    fn start() -> Self {
        Self::start_on(free_ports(2), false) // the controller has the second
    }

    fn start_on(port: u16, secure: bool) -> Self {
        let real = Self::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port, secure);
        real.start_process();
        real
    }

    fn new(address: IpAddr, port: u16, secure: bool) -> Self {
        Self {
            address,
            port,
            secure,
            dir: process::directory().join(format!("broker-{port}")),
            process: Mutex::new(None),
        }
    }

    fn start_process(&self) {
        let mut process = self.process.lock().unwrap();
        assert!(process.is_none(), "the broker is running");
        fs::create_dir_all(&self.dir).unwrap();
        let errors = fs::File::create(self.dir.join("start.log")).unwrap();
        let mut command = Command::new(workspace().join("tests/kafka/run"));
        command.env("KAFKA_ADDRESS", self.address.to_string());
        command.arg(&self.dir).arg(self.port.to_string());
        if self.secure {
            let (controller, secure) = (self.port + 1, self.port + 2);
            command.args([controller.to_string(), secure.to_string()]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors);
        let child = process.insert(guarded(&mut command).spawn().unwrap());
        if let Err(reason) = wait_until_it_serves(self.address, self.port, child) {
            panic!(
                "Apache Kafka does not start ({reason}); it said:\n{}",
                self.log()
            );
        }
    }

    fn pid(&self) -> u32 {
        self.process
            .lock()
            .unwrap()
            .as_ref()
            .expect("the broker is not running")
            .id()
    }

    fn end(&self, signal: &str) {
        let child = self.process.lock().unwrap().take();
        let mut child = child.expect("the broker is not running");
        process::signal(child.id(), signal);
        child.wait().unwrap();
    }

    fn version(&self) -> String {
        let log = read_lossy(&self.dir.join("broker.log"));
        let version = log
            .split_once("Kafka version: ")
            .and_then(|(_, rest)| rest.split_whitespace().next());
        version.unwrap_or("of unknown version").to_owned()
    }

    /// What there is to read about a start that failed; the end of it, for the log is long.
    fn log(&self) -> String {
        let mut text = String::new();
        for name in ["start.log", "format.log", "console.log", "broker.log"] {
            text.push_str(&read_lossy(&self.dir.join(name)));
        }
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let Ok(process) = self.process.get_mut() else {
            return;
        };
        if let Some(mut child) = process.take() {
            // Nobody reads its data again, so there is no point in an orderly shutdown. Already gone is fine.
            child.kill().ok();
            child.wait().ok();
        }
        fs::remove_dir_all(&self.dir).ok();
    }
}

fn read_lossy(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// Until the broker answers for its metadata and every partition it knows has a leader.
fn wait_until_it_serves(address: IpAddr, port: u16, process: &mut Child) -> Result<(), String> {
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", format!("{address}:{port}"))
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "200")
        .create()
        .unwrap();
    let deadline = Instant::now() + START;
    loop {
        let metadata = client.fetch_metadata(None, Duration::from_secs(1));
        let serves = metadata.is_ok_and(|metadata| {
            let partitions = || {
                metadata
                    .topics()
                    .iter()
                    .flat_map(|topic| topic.partitions())
            };
            !metadata.brokers().is_empty() && partitions().all(|partition| partition.leader() >= 0)
        });
        if serves {
            return Ok(());
        }
        if let Some(status) = process.try_wait().map_err(|error| error.to_string())? {
            return Err(format!("it ended at once: {status}"));
        }
        if Instant::now() > deadline {
            return Err(format!("it does not answer within {START:?}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// librdkafka's mock cluster, on a thread of its own: its handle may not leave the thread that made it.
struct Embedded {
    asks: Option<mpsc::Sender<(Ask, mpsc::Sender<()>)>>,
    thread: Option<JoinHandle<()>>,
}

enum Ask {
    Topic(String, i32),
    Down,
    Up,
}

impl Embedded {
    fn start() -> (Self, String) {
        let (asks, inbox) = mpsc::channel::<(Ask, mpsc::Sender<()>)>();
        let (ready, bootstrap) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let cluster = MockCluster::new(1).unwrap();
            ready.send(cluster.bootstrap_servers()).unwrap();
            for (ask, done) in inbox {
                match ask {
                    Ask::Topic(name, partitions) => cluster.create_topic(&name, partitions, 1),
                    Ask::Down => cluster.broker_down(1),
                    Ask::Up => cluster.broker_up(1),
                }
                .unwrap();
                done.send(()).unwrap();
            }
        });
        (
            Self {
                asks: Some(asks),
                thread: Some(thread),
            },
            bootstrap.recv().unwrap(),
        )
    }

    fn ask(&self, ask: Ask) {
        let (done, answer) = mpsc::channel();
        self.asks.as_ref().unwrap().send((ask, done)).unwrap();
        answer.recv().expect("the embedded broker refused");
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.asks = None;
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been reported by the ask that caused it.
            thread.join().ok();
        }
    }
}
