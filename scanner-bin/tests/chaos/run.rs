//! One seed: churn, calm, and everything that was seen of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::cast::{Cast, Probes, Setup};
use crate::oracle::{Delivery, Evidence, Judgement, Look, Place, Seen, judge};
use crate::schedule::{REPLICAS, Step, is_isolated};
use crate::support::broker::Broker;
use crate::support::client::{Record, Watcher};
use crate::support::judgement::{detector, judged_by_service, judged_offline};
use crate::support::now_ms;
use crate::support::scene::{Answer, LARGE, Scene};
use crate::{load, support};

const PARTITIONS: i32 = 6;
/// More than one, so that acknowledgements of one input partition come out of order.
const OUTPUT_PARTITIONS: i32 = 3;
const PATIENCE: Duration = Duration::from_secs(120);
/// Nothing moves for so long: nothing will.
const STILL: Duration = Duration::from_secs(40);
/// Time between two looks at what is committed.
const LOOK: Duration = Duration::from_millis(60);

/// What a seed has come to.
pub(crate) struct Outcome {
    pub(crate) judgement: Judgement,
    pub(crate) faults: BTreeMap<&'static str, usize>,
    /// What replicas did that they may not, or that nothing moved any more.
    pub(crate) misdeeds: Vec<String>,
    pub(crate) probes: Probes,
    pub(crate) seconds: f64,
}

impl Outcome {
    /// What speaks against the scanner, if anything does.
    pub(crate) fn charge(&self) -> Option<String> {
        let mut charges = self.misdeeds.clone();
        if !self.judgement.findings.is_empty() {
            charges.insert(0, self.judgement.summary());
        }
        (!charges.is_empty()).then(|| charges.join("; "))
    }
}

/// Sets a flag when it goes out of scope, also after a failed assertion: a scope would wait for its threads for ever.
struct AtTheEnd<'a>(&'a AtomicBool, &'a AtomicUsize);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        let unknown = usize::MAX;
        let _known = self
            .1
            .compare_exchange(unknown, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// These steps within `length`, then calm until everything is committed.
pub(crate) fn run(
    broker: &Broker,
    program: &Path,
    setup: &Setup,
    steps: &[(Duration, Step)],
    length: Duration,
) -> Outcome {
    let began = Instant::now();
    let mut scene = Scene::without_topics(broker, "chaos");
    scene.program = program.to_owned();
    broker.create_topic(&scene.input, PARTITIONS, &[LARGE]);
    broker.create_topic(&scene.output, OUTPUT_PARTITIONS, &[LARGE]);
    broker.create_topic(&scene.dead_letters, 1, &[LARGE]);
    let scene = &scene;

    let back = Mutex::new(None);
    let mut cast = Cast::new(scene, setup, &back);
    let (stop_load, stop_looks) = (AtomicBool::new(false), AtomicBool::new(false));
    let (enough, unused) = (AtomicUsize::new(usize::MAX), AtomicUsize::new(0));
    (0..REPLICAS - 1).for_each(|replica| cast.start(replica));
    cast.running()
        .for_each(|scanner| scanner.wait_until_ready(PATIENCE));

    let evidence = std::thread::scope(|threads| {
        let load = AtTheEnd(&stop_load, &unused);
        let looking = AtTheEnd(&stop_looks, &enough);
        let writer = threads
            .spawn(|| load::keep_coming(scene, PARTITIONS, is_isolated(setup.seed), &stop_load));
        let watcher = threads.spawn(|| watch(scene, &stop_looks));
        let reader = threads.spawn(|| broker.follow(&scene.output, &enough));

        let started = Instant::now();
        let until = |cast: &mut Cast<'_>, at: Duration| {
            while started.elapsed() < at {
                cast.tend();
                cast.probe();
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        for (at, step) in steps {
            until(&mut cast, *at);
            cast.act(*step, threads);
        }
        until(&mut cast, length);
        cast.calm();
        drop(load);
        let sent = writer.join().expect("the load was written");

        // A transaction of the load that the broker's end has left open hides what stands behind it, from replicas too.
        settle(scene, &scene.input);
        let input = broker.read_all(&scene.input);
        assert_eq!(input.len(), sent, "the input is what was sent");
        let ends = broker.ends_for(&scene.input, "read_committed");
        if let Err(why) = wait_until_committed(scene, &ends, &mut cast) {
            cast.misdeeds.push(why);
        }
        let committed = scene.broker.committed(&scene.group, &scene.input);
        // Whoever was not ready is so again.
        cast.running()
            .for_each(|scanner| scanner.wait_until_ready(PATIENCE));
        cast.dismiss();
        settle(scene, &scene.output);

        // Parsed once: there are many.
        let all = Parsed::of(broker.read_uncommitted(&scene.output));
        let counted = all.seen(broker.read_all(&scene.output));
        enough.store(counted.len(), Ordering::Relaxed);
        let live = all.seen(reader.join().unwrap());
        drop(looking);
        Evidence {
            delivery: setup.delivery,
            records: expected(&input),
            counted,
            all: all.0.into_values().collect(),
            live: live.iter().map(|seen| (seen.at, seen.answers)).collect(),
            letters: letters(scene),
            looks: watcher.join().unwrap(),
            committed,
            ends,
            excuses: std::mem::take(&mut cast.excuses),
        }
    });
    Outcome {
        judgement: judge(&evidence),
        faults: cast.faults,
        misdeeds: cast.misdeeds,
        probes: cast.probes,
        seconds: began.elapsed().as_secs_f64(),
    }
}

/// Looks again and again.
fn watch(scene: &Scene<'_>, stop: &AtomicBool) -> Vec<Look> {
    let watcher = Watcher::new(scene.broker, &scene.group, &scene.input, &scene.output);
    let mut looks = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let at_ms = now_ms();
        if let Some((committed, ends)) = watcher.look() {
            looks.push(Look {
                at_ms,
                committed,
                ends,
            });
        }
        std::thread::sleep(LOOK);
    }
    looks
}

/// Until everything is committed, as long as something moves.
fn wait_until_committed(
    scene: &Scene<'_>,
    ends: &BTreeMap<i32, i64>,
    cast: &mut Cast<'_>,
) -> Result<(), String> {
    let since = Instant::now();
    let (mut last, mut moved) = ((BTreeMap::new(), BTreeMap::new()), since);
    loop {
        cast.tend();
        let committed = scene.broker.committed(&scene.group, &scene.input);
        if committed == *ends {
            return Ok(());
        }
        let now = (committed, scene.broker.ends(&scene.output));
        if now != last {
            (last, moved) = (now, Instant::now());
        }
        if moved.elapsed() > STILL || since.elapsed() > PATIENCE * 2 {
            let states: Vec<_> = cast
                .running()
                .map(|scanner| format!("{:?}", scanner.get("/readyz")))
                .collect();
            return Err(format!(
                "not everything is committed after {:.0?}, and nothing has moved for {:.0?}: committed {:?} of {ends:?}; {states:?}",
                since.elapsed(),
                moved.elapsed(),
                last.0
            ));
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Until no transaction is open on the topic, or there is one that stays.
fn settle(scene: &Scene<'_>, topic: &str) {
    let is_settled = || scene.broker.ends_for(topic, "read_committed") == scene.broker.ends(topic);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_settled() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Every result of the topic by its place there.
struct Parsed(BTreeMap<Place, Seen>);

impl Parsed {
    fn of(records: Vec<Record>) -> Self {
        let place = |record: Record| ((record.partition, record.offset), seen(record));
        Self(records.into_iter().map(place).collect())
    }

    /// The results at the places of these records, which another reader was given.
    fn seen(&self, records: Vec<Record>) -> Vec<Seen> {
        let known = |record: Record| match self.0.get(&(record.partition, record.offset)) {
            Some(known) => known.clone(),
            None => seen(record),
        };
        records.into_iter().map(known).collect()
    }
}

fn seen(record: Record) -> Seen {
    let answer = Answer::of(record);
    let (status, matches) = judged_by_service(&answer);
    Seen {
        at: (answer.record.partition, answer.record.offset),
        answers: answer.place(),
        id: answer.json["scan_id"].as_str().unwrap().to_owned(),
        verdict: verdict(&status, &matches),
        writer: answer.instance().to_owned(),
        written_ms: answer.record.timestamp_ms.unwrap(),
    }
}

fn verdict(status: &str, matches: &BTreeSet<(String, String, String)>) -> String {
    match matches.is_empty() {
        true => status.to_owned(),
        false => format!("{status} {matches:?}"),
    }
}

/// What the library says of each record. Those that differ in digits alone are judged once.
fn expected(input: &[Record]) -> BTreeMap<Place, String> {
    let detector = detector();
    let mut known = HashMap::<Vec<u8>, String>::new();
    let of = |record: &Record| {
        let payload = record.payload.as_deref().unwrap_or_default();
        let kind = payload
            .iter()
            .copied()
            .filter(|byte| !byte.is_ascii_digit())
            .collect();
        let verdict = known.entry(kind).or_insert_with(|| {
            let (status, matches) = judged_offline(&detector, payload);
            verdict(&status, &matches)
        });
        ((record.partition, record.offset), verdict.clone())
    };
    input.iter().map(of).collect()
}

fn letters(scene: &Scene<'_>) -> BTreeSet<Place> {
    let letters = scene.broker.read_all(&scene.dead_letters);
    let place = |letter: &Record| {
        let header = |wanted: &str| {
            let (_, value) = letter.headers.iter().rfind(|(name, _)| name == wanted)?;
            std::str::from_utf8(value.as_deref()?)
                .ok()?
                .parse::<i64>()
                .ok()
        };
        Some((
            i32::try_from(header("source-partition")?).ok()?,
            header("source-offset")?,
        ))
    };
    letters.iter().filter_map(place).collect()
}

/// Which delivery a seed has.
pub(crate) fn delivery(seed: u64) -> Delivery {
    match seed % 2 {
        1 => Delivery::AtLeastOnce,
        _ => Delivery::ExactlyOnce,
    }
}

/// A copy of the binary: cargo may put another one in its place while the seeds run.
pub(crate) fn keep_program() -> std::path::PathBuf {
    let kept = support::process::directory().join("scanner-bin-under-test");
    if !kept.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_scanner-bin"), &kept).unwrap();
    }
    kept
}
