//! `demo`: the whole service at work, and a proof of what it did.
//!
//! Three replicas of the real service share the partitions of a topic, on an embedded broker or on
//! a real one. Realistic traffic goes in; the results are read back as any consumer would read
//! them, and compared with what was sent. A claim that the results do not bear out makes the
//! demo fail, so it is the smoke test as well.

mod broker;
mod client;
mod proof;
mod replica;
mod screen;
mod traffic;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use scanlib::{Detector, RuleSet, View, ViewSet};

use crate::config::Config;
use broker::Broker;
use client::Results;
use proof::Evidence;
use replica::Replica;
use screen::Screen;

/// Replicas of the service.
const REPLICAS: usize = 3;
/// Partitions of the input topic: one for each replica.
const PARTITIONS: i32 = 3;
/// Session timeout of the group: short, so that a member that has to join again soon does.
const SESSION: Duration = Duration::from_secs(6);
/// How long the group may take to share the partitions, and after that the answers to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Show the whole service at work: three replicas on an embedded broker, no network needed.
///
/// Exit status: 0 if everything was proven, 1 if a proof is missing, 2 if it could not be run.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Use running brokers instead of the embedded one; topics of its own are created there
    #[arg(long, value_name = "LIST")]
    brokers: Option<String>,

    /// Records of ordinary traffic
    #[arg(long, value_name = "N", default_value_t = 3000)]
    records: usize,

    /// Seed of the traffic
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Leave a part out, to see the demo fail for want of it
    #[arg(long, value_enum, value_name = "PART")]
    without: Option<Part>,
}

/// A part that the demo can do without, and fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// libclamav
    Engine,
    /// The built-in signature
    EicarSignature,
    /// The view that shows libclamav the text inside a JSON record
    BodyView,
}

/// Runs the demo.
pub fn run(args: &DemoArgs) -> ExitCode {
    match demo(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => super::fail(&*error),
    }
}

/// True if every claim was proven.
fn demo(args: &DemoArgs) -> Result<bool, Box<dyn std::error::Error>> {
    let mut screen = Screen::new();
    let detector = detector(args.without)?;
    screen.step(&match detector.engine() {
        Some(engine) => format!(
            "libclamav {} in this process, {} signature(s); {} rules",
            engine.info().library.text,
            engine.info().signatures,
            detector.rules().map_or(0, |rules| rules.rules().len())
        ),
        None => "without libclamav, as asked".to_owned(),
    })?;

    let broker = Broker::start(args.brokers.as_deref())?;
    let config = config(&broker);
    let kafka = &config.kafka;
    broker.create_topics(&[
        (&kafka.input_topic, PARTITIONS),
        (&kafka.output_topic, PARTITIONS),
        (&kafka.dead_letter_topic, 1),
    ])?;
    let kind = if args.brokers.is_some() {
        "brokers"
    } else {
        "an embedded broker"
    };
    screen.step(&format!(
        "{kind} at {}, topic {} with {PARTITIONS} partitions",
        broker.bootstrap, kafka.input_topic
    ))?;

    // All of them before the traffic, so that nothing has to change hands while it flows.
    let replicas: Vec<Replica> = (1..=REPLICAS)
        .map(|number| Replica::start(number, &config, &detector))
        .collect::<Result<_, _>>()?;
    share_out(&replicas, &mut screen)?;

    let records = traffic::records(args.seed, args.records);
    let results = Results::of(&broker.bootstrap, &kafka.output_topic, PARTITIONS)?;
    let mut evidence = Evidence::default();
    let partitions = usize::try_from(PARTITIONS)?;
    let started = Instant::now();
    for (number, place) in
        client::send(&broker.bootstrap, &kafka.input_topic, partitions, &records)?
    {
        evidence.sent(place, records[number].expected);
    }
    screen.step(&format!(
        "{} records sent; what is found:",
        evidence.sent_len()
    ))?;
    read_back(&results, &mut evidence, &mut screen)?;
    let took = started.elapsed();
    screen.step(&format!(
        "{} records answered in {:.1} s by {REPLICAS} replicas of one thread",
        evidence.answered(),
        took.as_secs_f64()
    ))?;
    for replica in replicas {
        let name = replica.name.clone();
        if let Err(error) = replica.stop() {
            screen.line(&format!("  {name}: {error}"))?;
        }
    }

    let proofs = evidence.proofs(REPLICAS);
    screen.proofs(&proofs)?;
    let missing = proofs.iter().filter(|proof| !proof.holds).count();
    screen.line(&match missing {
        0 => format!("\nAll {} claims are proven.", proofs.len()),
        _ => format!(
            "\n{missing} of {} claims are NOT proven; they are marked MISSING above.",
            proofs.len()
        ),
    })?;
    Ok(missing == 0)
}

fn detector(without: Option<Part>) -> Result<Detector, Box<dyn std::error::Error>> {
    let engine = match without {
        Some(Part::Engine) => None,
        Some(Part::EicarSignature) => Some(replica::engine_without_eicar()?),
        _ => Some(crate::engine::build(&crate::engine::EngineSettings {
            limits: Config::default().scan.limits,
            ..crate::engine::EngineSettings::default()
        })?),
    };
    let views = match without {
        Some(Part::BodyView) => ViewSet::RAW.with(View::Decoded).with(View::Guarded),
        _ => ViewSet::ALL,
    };
    Ok(Detector::builder()
        .engine(engine)
        .rules(RuleSet::builtin())
        .views(views)
        .build()?)
}

/// The default configuration, on this broker. On a broker that others use too, topics and group
/// are the demo's own.
fn config(broker: &Broker) -> Config {
    let mut config = Config::default();
    config.kafka.brokers.clone_from(&broker.bootstrap);
    // When members join at the same moment, the embedded broker may forget to answer one of them; that
    // one joins again when its session has run out.
    config.kafka.session_timeout = SESSION;
    config.scan.crash_journal = None;
    if !broker.is_embedded() {
        let kafka = &mut config.kafka;
        for name in [
            &mut kafka.input_topic,
            &mut kafka.output_topic,
            &mut kafka.dead_letter_topic,
            &mut kafka.group,
        ] {
            *name = format!("{name}-demo-{}", std::process::id());
        }
    }
    config
}

/// Waits until every replica owns its share.
fn share_out(replicas: &[Replica], screen: &mut Screen) -> Result<(), Box<dyn std::error::Error>> {
    let started = Instant::now();
    loop {
        let owned: Vec<i64> = replicas.iter().map(Replica::partitions).collect();
        let shares: Vec<String> = owned.iter().map(ToString::to_string).collect();
        if owned
            .iter()
            .all(|&count| count == i64::from(PARTITIONS) / REPLICAS as i64)
        {
            return Ok(screen.step(&format!(
                "{REPLICAS} replicas in one group own {} partitions",
                shares.join("-")
            ))?);
        }
        if let Some(replica) = replicas.iter().find(|replica| replica.has_ended()) {
            return Err(format!("{} ended before the traffic began", replica.name).into());
        }
        if started.elapsed() > PATIENCE {
            return Err(format!(
                "the group did not share its partitions within {} s: {}",
                PATIENCE.as_secs(),
                shares.join("-")
            )
            .into());
        }
        screen.status(&format!(
            "the group shares its partitions: {}",
            shares.join("-")
        ))?;
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Reads results until every record has one, or none comes any more.
fn read_back(
    results: &Results,
    evidence: &mut Evidence,
    screen: &mut Screen,
) -> std::io::Result<()> {
    let mut last = Instant::now();
    while evidence.answered() < evidence.sent_len() && last.elapsed() < PATIENCE {
        let Some(result) = results.next(Duration::from_millis(100)) else {
            continue;
        };
        last = Instant::now();
        if result["threat_detected"] == true {
            screen.row(&result)?;
        }
        evidence.result(result);
        screen.status(&format!(
            "{} of {} answered",
            evidence.answered(),
            evidence.sent_len()
        ))?;
    }
    Ok(())
}
