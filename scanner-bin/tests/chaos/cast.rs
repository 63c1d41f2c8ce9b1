//! The replicas and the broker of a run, and what the schedule does to them. Keeps what the oracle has to know of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::oracle::{Delivery, Excuse};
use crate::schedule::{REPLICAS, Step, Who, is_isolated};
use crate::support::broker::Broker;
use crate::support::process::{Launch, Scanner, below, signal};
use crate::support::scene::Scene;
use crate::support::{announce, now_ms};

/// How long a replica that was asked to stop may take.
const STOP: Duration = Duration::from_secs(90);
/// In those behind it the broker gives out the partitions (KIP-848).
const CLASSIC_SEEDS: u64 = 50;
/// After the broker is back, clients need a moment to find it, and members may find that they are none any more.
const AFTER_FREEZE_MS: i64 = 3_000;
const AFTER_BOUNCE_MS: i64 = 8_000;

/// What a replica says it has in flight is not older.
const ACCOUNT_AGE: Duration = Duration::from_millis(1_200);
/// How often the broker is stopped at most until it owes an answer, and how long it may run in between.
const FREEZES: u32 = 20;
const BETWEEN_FREEZES: Duration = Duration::from_millis(330);

/// Time between two questions to a replica.
const PROBE: Duration = Duration::from_millis(300);

/// By which a replica says itself that others may answer again what it has answered.
const CONFESSIONS: [&str; 4] = [
    "could not be drained in time",
    "partitions were lost to the group",
    "the last commit of partitions was refused",
    "the consumer group could not be left",
];

/// How the replicas of a seed are set up.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// What happens is said to happen in it.
    pub name: String,
    /// Settings follow from it.
    pub seed: u64,
    pub delivery: Delivery,
    /// A fault that the binary was built with, if it was.
    pub fault: Option<String>,
    /// Whether replicas are asked all the time how they are.
    pub is_probed: bool,
}

/// What replicas said of themselves while the faults were.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    last: Option<Instant>,
    /// How often `/livez` said 200.
    pub(crate) alive: usize,
    /// What `/readyz` said when it was not 200: which checks failed, and how often.
    pub(crate) unready: BTreeMap<String, usize>,
}

enum Part {
    Absent,
    Running(Scanner),
    /// Asked to stop.
    Leaving {
        scanner: Scanner,
        since: (Instant, i64),
        away: Duration,
    },
    Asleep {
        scanner: Scanner,
        since_ms: i64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BrokerIs {
    Up,
    Frozen {
        since_ms: i64,
    },
    /// Being started again.
    Down {
        since_ms: i64,
    },
}

/// What is due later because of something that was done.
#[derive(Debug, Clone, Copy)]
enum Later {
    Start(usize),
    Wake(usize),
    Continue(Pid),
    Thaw,
}

pub(crate) struct Cast<'s> {
    scene: &'s Scene<'s>,
    setup: &'s Setup,
    started: Instant,
    parts: Vec<Part>,
    broker_is: BrokerIs,
    later: Vec<(Instant, Later)>,
    /// Told by the thread that starts the broker again.
    back: &'s Mutex<Option<i64>>,
    pub(crate) excuses: Vec<Excuse>,
    /// What was done, and how often.
    pub(crate) faults: BTreeMap<&'static str, usize>,
    /// What replicas did that they may not.
    pub(crate) misdeeds: Vec<String>,
    pub(crate) probes: Probes,
    /// Since when the broker is not as it should be, or when it last was so.
    troubled_until_ms: i64,
}

impl<'s> Cast<'s> {
    pub(crate) fn new(
        scene: &'s Scene<'s>,
        setup: &'s Setup,
        back: &'s Mutex<Option<i64>>,
    ) -> Self {
        Self {
            scene,
            setup,
            started: Instant::now(),
            parts: (0..REPLICAS).map(|_| Part::Absent).collect(),
            broker_is: BrokerIs::Up,
            later: Vec::new(),
            back,
            excuses: Vec::new(),
            faults: BTreeMap::new(),
            misdeeds: Vec::new(),
            probes: Probes::default(),
            troubled_until_ms: 0,
        }
    }

    fn name(replica: usize) -> String {
        format!("replica-{replica}")
    }

    /// Names stay, as those of a StatefulSet: who comes back ends what it left open.
    fn launch(&self, replica: usize) -> Launch {
        let seed = self.setup.seed as usize;
        let mut launch = self
            .scene
            .replica(&Self::name(replica))
            .flag("--delivery", self.setup.delivery.as_str())
            .env("SCANNER_SCAN__THREADS", ["2", "1"][seed % 2])
            .env("SCANNER_KAFKA__TRANSACTION_TIMEOUT", "20s")
            .env(
                "SCANNER_KAFKA__TRANSACTION_INTERVAL",
                ["200ms", "50ms", "500ms"][seed / 2 % 3],
            )
            .env(
                "SCANNER_KAFKA__COMMIT_INTERVAL",
                ["100ms", "1s", "300ms"][seed / 2 % 3],
            );
        if self.setup.seed > CLASSIC_SEEDS {
            launch = launch.env("SCANNER_KAFKA__GROUP_PROTOCOL", "consumer-anyway");
        } else if seed.is_multiple_of(5) {
            launch = launch.flag("--property", "partition.assignment.strategy=range");
        }
        if is_isolated(self.setup.seed) {
            launch = launch
                .flag("--isolation", "process")
                // A stopped process continues before a time limit ends its scan, so the verdict does not change.
                .env("SCANNER_SCAN__MAX_SCAN_TIME", "20s")
                .env("SCANNER_SCAN__MAX_RECORD_TIME", "60s");
        }
        if let Some(fault) = &self.setup.fault {
            launch = launch.env("CHAOS_FAULT", fault);
        }
        launch
    }

    pub(crate) fn start(&mut self, replica: usize) {
        if let Part::Absent = self.parts[replica] {
            self.parts[replica] = Part::Running(self.launch(replica).start());
        }
    }

    /// Those that run.
    pub(crate) fn running(&mut self) -> impl Iterator<Item = &mut Scanner> {
        self.parts.iter_mut().filter_map(|part| match part {
            Part::Running(scanner) => Some(scanner),
            _ => None,
        })
    }

    fn say(&self, what: &str) {
        announce!(
            "  {} {:5.1} s: {what}",
            self.setup.name,
            self.started.elapsed().as_secs_f64()
        );
    }

    fn count(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }

    fn excuse(&mut self, writer: Option<usize>, from_ms: i64, to_ms: i64, is_sleep: bool) {
        self.excuses.push(Excuse {
            writer: writer.map(Self::name),
            from_ms,
            to_ms,
            is_sleep,
        });
    }

    /// Does it, unless the one it is meant for is not there or in no state for it.
    pub(crate) fn act<'t>(&mut self, step: Step, threads: &'t std::thread::Scope<'t, '_>)
    where
        's: 't,
    {
        match step {
            Step::Start(replica) => {
                if let Part::Absent = self.parts[replica] {
                    self.count("join");
                    self.say(&format!("{} joins", Self::name(replica)));
                    self.start(replica);
                }
            }
            Step::Kill { who, away } => {
                if let Some(replica) = self.find(who) {
                    self.kill(replica, away);
                }
            }
            Step::Terminate { replica, away } => self.terminate(replica, away),
            Step::Stop { who, asleep } => {
                if let Some(replica) = self.find(who) {
                    self.stop(replica, asleep);
                }
            }
            Step::Freeze(length) => self.freeze(length, false),
            Step::FreezeInDebt(length) => self.freeze(length, true),
            Step::Crash | Step::Bounce => self.bounce(step, threads),
            Step::KillScanning(who) => self.strike(who, "scan-worker", "worker"),
            Step::KillTemplate(who) => self.strike(who, "scan-template", "template"),
            Step::StopScanning { who, asleep } => self.stop_scanning(who, asleep),
        }
    }

    /// Between two bursts the broker may owe nobody an answer; `in_debt` tries until it does.
    fn freeze(&mut self, length: Duration, in_debt: bool) {
        if self.broker_is != BrokerIs::Up {
            return;
        }
        self.count("freeze");
        let since_ms = now_ms();
        self.broker_is = BrokerIs::Frozen { since_ms };
        self.scene.broker.freeze();
        let mut tries = 1;
        while in_debt && !self.is_owed() && tries < FREEZES {
            self.scene.broker.thaw();
            std::thread::sleep(BETWEEN_FREEZES);
            self.scene.broker.freeze();
            tries += 1;
        }
        self.say(&format!(
            "SIGSTOP of the broker for {length:.1?} (try {tries})"
        ));
        self.later.push((Instant::now() + length, Later::Thaw));
    }

    /// Whether a replica still waits when its account is surely of the time since the broker stopped.
    fn is_owed(&mut self) -> bool {
        std::thread::sleep(ACCOUNT_AGE);
        self.running()
            .filter_map(|scanner| InFlight::of(scanner))
            .any(|of| of.records + of.sends > 0)
    }

    /// The busiest is who runs and has most in flight, by its own account.
    fn find(&self, who: Who) -> Option<usize> {
        if let Who::Number(replica) = who {
            return Some(replica);
        }
        let running = self
            .parts
            .iter()
            .enumerate()
            .filter_map(|(replica, part)| match part {
                Part::Running(scanner) => Some((InFlight::of(scanner)?.records, replica)),
                _ => None,
            });
        running.max().map(|(_, replica)| replica)
    }

    fn kill(&mut self, replica: usize, away: Duration) {
        let Part::Running(scanner) = &mut self.parts[replica] else {
            return;
        };
        let in_flight = InFlight::of(scanner);
        scanner.kill();
        let at_ms = now_ms();
        let in_flight = in_flight.map_or_else(InFlight::unknown, |of| of.to_string());
        self.say(&format!(
            "SIGKILL of {} with {in_flight}",
            Self::name(replica)
        ));
        self.count("kill");
        self.excuse(Some(replica), at_ms, at_ms, false);
        self.bury(replica, true);
        self.later
            .push((Instant::now() + away, Later::Start(replica)));
    }

    /// The processes of this name below a replica that runs.
    fn processes(&self, who: Who, name: &str) -> Vec<Pid> {
        let replica = self.find(who).map(|replica| &self.parts[replica]);
        match replica {
            Some(Part::Running(scanner)) => below(scanner.pid(), name),
            _ => Vec::new(),
        }
    }

    /// SIGKILL of a process that a replica has for libclamav.
    fn strike(&mut self, who: Who, name: &str, fault: &'static str) {
        for pid in self.processes(who, name) {
            // One that has ended meanwhile is gone all the same.
            if kill_process(pid, Signal::KILL).is_ok() {
                self.count(fault);
            }
        }
    }

    fn stop_scanning(&mut self, who: Who, asleep: Duration) {
        for pid in self.processes(who, "scan-worker") {
            if kill_process(pid, Signal::STOP).is_ok() {
                self.count("worker-nap");
                self.later
                    .push((Instant::now() + asleep, Later::Continue(pid)));
            }
        }
    }

    fn terminate(&mut self, replica: usize, away: Duration) {
        match std::mem::replace(&mut self.parts[replica], Part::Absent) {
            Part::Running(scanner) => {
                self.count("term");
                self.say(&format!("SIGTERM of {}", Self::name(replica)));
                scanner.terminate();
                let since = (Instant::now(), now_ms());
                self.parts[replica] = Part::Leaving {
                    scanner,
                    since,
                    away,
                };
            }
            other => self.parts[replica] = other,
        }
    }

    fn stop(&mut self, replica: usize, asleep: Duration) {
        match std::mem::replace(&mut self.parts[replica], Part::Absent) {
            Part::Running(scanner) => {
                let is_long = asleep > Duration::from_secs(6);
                self.count(if is_long { "zombie" } else { "nap" });
                let in_flight = match is_long {
                    true => format!(
                        " with {}",
                        InFlight::of(&scanner).map_or_else(InFlight::unknown, |of| of.to_string())
                    ),
                    false => String::new(),
                };
                self.say(&format!(
                    "SIGSTOP of {} for {asleep:.1?}{in_flight}",
                    Self::name(replica)
                ));
                signal(scanner.pid(), "STOP");
                let since_ms = now_ms();
                self.parts[replica] = Part::Asleep { scanner, since_ms };
                self.later
                    .push((Instant::now() + asleep, Later::Wake(replica)));
            }
            other => self.parts[replica] = other,
        }
    }

    fn wake(&mut self, replica: usize) {
        match std::mem::replace(&mut self.parts[replica], Part::Absent) {
            Part::Asleep { scanner, since_ms } => {
                signal(scanner.pid(), "CONT");
                self.say(&format!("SIGCONT of {}", Self::name(replica)));
                self.excuse(Some(replica), since_ms, now_ms(), true);
                self.parts[replica] = Part::Running(scanner);
            }
            other => self.parts[replica] = other,
        }
    }

    fn thaw(&mut self) {
        if let BrokerIs::Frozen { since_ms } = self.broker_is {
            self.scene.broker.thaw();
            self.say("SIGCONT of the broker");
            self.broker_is = BrokerIs::Up;
            self.trouble(since_ms, now_ms() + AFTER_FREEZE_MS);
        }
    }

    fn trouble(&mut self, since_ms: i64, until_ms: i64) {
        self.excuse(None, since_ms, until_ms, false);
        self.troubled_until_ms = self.troubled_until_ms.max(until_ms);
    }

    fn bounce<'t>(&mut self, step: Step, threads: &'t std::thread::Scope<'t, '_>)
    where
        's: 't,
    {
        self.thaw();
        if self.broker_is != BrokerIs::Up {
            return;
        }
        let (fault, signal) = match step {
            Step::Crash => ("crash", "SIGKILL"),
            _ => ("bounce", "SIGTERM"),
        };
        self.count(fault);
        self.say(&format!("{signal} of the broker, which is started again"));
        self.broker_is = BrokerIs::Down { since_ms: now_ms() };
        let (broker, back): (&Broker, _) = (self.scene.broker, self.back);
        threads.spawn(move || {
            match step {
                Step::Crash => broker.kill(),
                _ => broker.shut_down(),
            }
            broker.start_again();
            *back.lock().unwrap() = Some(now_ms());
        });
    }

    /// Asks everybody who is awake. Alive they are always, ready perhaps not.
    pub(crate) fn probe(&mut self) {
        if !self.setup.is_probed || self.probes.last.is_some_and(|last| last.elapsed() < PROBE) {
            return;
        }
        self.probes.last = Some(Instant::now());
        for (replica, part) in self.parts.iter().enumerate() {
            let Part::Running(scanner) = part else {
                continue;
            };
            match scanner.get("/livez") {
                Some((200, _)) => self.probes.alive += 1,
                other => {
                    let name = Self::name(replica);
                    self.misdeeds.push(format!("{name}: /livez said {other:?}"));
                }
            }
            if let Some((status, body)) = scanner.get("/readyz")
                && status != 200
            {
                let said: Value = serde_json::from_str(&body).unwrap_or_default();
                let checks = said["checks"].as_array().cloned().unwrap_or_default();
                let failed = checks.iter().filter(|check| check["ok"] == false);
                for name in failed.filter_map(|check| check["name"].as_str()) {
                    *self.probes.unready.entry(name.to_owned()).or_default() += 1;
                }
            }
        }
    }

    /// Looks after everybody, and does what is due.
    pub(crate) fn tend(&mut self) {
        let now = Instant::now();
        let (due, later): (Vec<_>, _) = self.later.drain(..).partition(|(at, _)| *at <= now);
        self.later = later;
        for (_, what) in due {
            match what {
                Later::Start(replica) => self.start(replica),
                Later::Wake(replica) => self.wake(replica),
                // Unless it was killed meanwhile.
                Later::Continue(pid) => drop(kill_process(pid, Signal::CONT)),
                Later::Thaw => self.thaw(),
            }
        }
        if let BrokerIs::Down { since_ms } = self.broker_is {
            let back = self.back.lock().unwrap().take();
            if let Some(back_ms) = back {
                self.say("the broker is back");
                self.broker_is = BrokerIs::Up;
                self.trouble(since_ms, back_ms + AFTER_BOUNCE_MS);
            }
        }
        for replica in 0..REPLICAS {
            self.look_after(replica);
        }
    }

    fn look_after(&mut self, replica: usize) {
        let name = Self::name(replica);
        match &mut self.parts[replica] {
            Part::Running(scanner) => {
                if let Some(status) = scanner.try_wait() {
                    self.misdeeds.push(format!(
                        "{name} ended by itself: {status}; {}",
                        tail(scanner)
                    ));
                    self.bury(replica, true);
                    self.later.push((Instant::now(), Later::Start(replica)));
                }
            }
            Part::Leaving {
                scanner,
                since: (since, since_ms),
                away,
            } => {
                let (since_ms, away) = (*since_ms, *away);
                let status = scanner.try_wait();
                if status.is_none() && since.elapsed() < STOP {
                    return;
                }
                let code = status.and_then(|status| status.code());
                let is_troubled =
                    self.broker_is != BrokerIs::Up || self.troubled_until_ms >= since_ms;
                if code != Some(0) {
                    // It says so itself; with a broker that does not answer it cannot commit.
                    self.excuses.push(Excuse {
                        writer: Some(name.clone()),
                        from_ms: since_ms,
                        to_ms: now_ms(),
                        is_sleep: false,
                    });
                    if !is_troubled || status.is_none() {
                        let took = since.elapsed();
                        self.misdeeds.push(format!(
                            "{name} was asked to stop and ended with {status:?} after {took:.1?}; {}",
                            tail(scanner)
                        ));
                    }
                }
                self.bury(replica, status.is_none());
                self.later
                    .push((Instant::now() + away, Later::Start(replica)));
            }
            Part::Absent | Part::Asleep { .. } => {}
        }
    }

    /// Takes what a process has said of itself, and lets go of it.
    fn bury(&mut self, replica: usize, was_ended: bool) {
        let part = std::mem::replace(&mut self.parts[replica], Part::Absent);
        let (Part::Running(mut scanner) | Part::Leaving { mut scanner, .. }) = part else {
            return;
        };
        if was_ended && scanner.try_wait().is_none() {
            scanner.kill();
        }
        self.confess(replica, &scanner);
    }

    fn confess(&mut self, replica: usize, scanner: &Scanner) {
        let name = Self::name(replica);
        for line in scanner.stdout().iter().chain(&scanner.stderr()) {
            if line.contains("panicked at") {
                self.misdeeds.push(format!("{name}: {line}"));
            }
            if CONFESSIONS.iter().any(|words| line.contains(words))
                && let Some(at_ms) = timestamp_ms(line)
            {
                self.excuse(Some(replica), at_ms, at_ms, false);
            }
        }
    }

    /// The end of all faults: everybody is awake, there, and the broker too.
    pub(crate) fn calm(&mut self) {
        self.thaw();
        for replica in 0..REPLICAS {
            self.wake(replica);
        }
        let until = Instant::now() + STOP * 2;
        loop {
            self.tend();
            let is_calm = self.broker_is == BrokerIs::Up
                && self
                    .parts
                    .iter()
                    .all(|part| matches!(part, Part::Running(_)));
            if is_calm {
                return;
            }
            for replica in 0..REPLICAS {
                self.start(replica);
            }
            assert!(
                Instant::now() < until,
                "the broker or a replica does not come back"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Everybody leaves in order, and now nothing is an excuse.
    pub(crate) fn dismiss(&mut self) {
        for scanner in self.running() {
            scanner.terminate();
        }
        for replica in 0..REPLICAS {
            if let Part::Running(scanner) = &mut self.parts[replica] {
                let deadline = Instant::now() + STOP;
                while scanner.try_wait().is_none() && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(20));
                }
                let status = scanner.try_wait();
                if status.and_then(|status| status.code()) != Some(0) {
                    let text = tail(scanner);
                    self.misdeeds.push(format!(
                        "{} ended with {status:?} when all was quiet; {text}",
                        Self::name(replica)
                    ));
                }
                // The threads that read its output are through in a moment.
                std::thread::sleep(Duration::from_millis(50));
                self.bury(replica, true);
            }
        }
    }
}

/// What a replica has in flight, by its own account, which is up to a second old.
struct InFlight {
    /// Read, and not answered; with exactly-once delivery not committed.
    records: u64,
    /// Results that the broker has not acknowledged.
    sends: u64,
    partitions: u64,
    answered: u64,
}

impl InFlight {
    fn of(scanner: &Scanner) -> Option<Self> {
        let (_, page) = scanner
            .get("/metrics")
            .filter(|(status, _)| *status == 200)?;
        let value = |name: &str| {
            let lines = page.lines().filter(|line| !line.starts_with('#'));
            let of = lines.filter(|line| line.split(['{', ' ']).next() == Some(name));
            let values = of.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            values.sum::<f64>() as u64
        };
        Some(Self {
            records: value("scanner_inflight_messages"),
            sends: value("scanner_producer_queue_messages"),
            partitions: value("scanner_assigned_partitions"),
            answered: value("scanner_results_produced_total"),
        })
    }

    fn unknown() -> String {
        "nothing in flight that it could tell: it has only just started".to_owned()
    }
}

impl fmt::Display for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} records in flight of {} partitions, {} results unacknowledged, {} records answered",
            self.records, self.partitions, self.sends, self.answered
        )
    }
}

/// When a log line was written.
fn timestamp_ms(line: &str) -> Option<i64> {
    let line: Value = serde_json::from_str(line).ok()?;
    let format = &time::format_description::well_known::Rfc3339;
    let at = time::OffsetDateTime::parse(line["ts"].as_str()?, format).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

/// The last lines that it printed.
fn tail(scanner: &Scanner) -> String {
    let lines = [scanner.stdout(), scanner.stderr()].concat();
    lines[lines.len().saturating_sub(6)..].join("\n    ")
}
