//! One key, or one partition, carries most records: more replicas cannot help then, and the scanner says so.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use scan_pipeline::skew::{Place, Shares, Skew, Watch};
use support::broker::Broker;
use support::client::Outgoing;
use support::process::Scanner;
use support::scene::{Scene, line};
use support::wait_for;

const PARTITIONS: i32 = 6;
const PATIENCE: Duration = Duration::from_secs(120);
const WARNING: &str = "more replicas cannot help";

fn at(partition: i32, offset: i64) -> Place {
    Place { partition, offset }
}

proptest! {
    /// Proves: however many keys there are and however they are mixed, the share is never more than is true, and at most 1/65 less.
    #[test]
    fn the_busiest_key_has_the_share_that_it_has(
        // Many keys that come once, before those that come often.
        first in 0..200_u16,
        then in prop::collection::vec(prop_oneof![0..3_u16, 0..100_u16, any::<u16>()], 1..3_000),
    ) {
        let keys: Vec<u16> = (30_000..30_000 + first).chain(then).collect();
        let mut shares = Shares::default();
        let mut exact = HashMap::<u16, u64>::new();
        for (key, offset) in keys.iter().zip(0..) {
            shares.add(&key.to_le_bytes(), at(0, offset));
            *exact.entry(*key).or_default() += 1;
        }
        prop_assert_eq!(shares.total(), keys.len() as u64);
        let total = keys.len() as f64;
        let most = *exact.values().max().unwrap() as f64 / total;
        let found = shares.busiest();
        let share = found.map_or(0.0, |busiest| busiest.share);
        prop_assert!(share <= most && share >= most - 1.0 / 65.0, "{share} for {most}");
        if let Some(busiest) = found {
            let key = keys[usize::try_from(busiest.place.offset).unwrap()];
            prop_assert!(exact[&key] as f64 / total >= share, "the place is not of a key that has so many");
        }
    }
}

/// A watch that has seen these records, in order, on this many partitions.
fn watched(
    records: impl IntoIterator<Item = (i32, Option<String>)>,
    partitions: i32,
) -> (Watch, Instant) {
    let started = Instant::now();
    let mut watch = Watch::new(started);
    (0..partitions).for_each(|partition| watch.partition(partition, 0));
    for ((partition, key), offset) in records.into_iter().zip(0..) {
        watch.record(key.as_deref().map(str::as_bytes), at(partition, offset));
        watch.partition(partition, 1);
    }
    (watch, started)
}

fn spread(n: i32) -> (i32, Option<String>) {
    (n % PARTITIONS, Some(format!("host-{n}")))
}

fn nat(n: i32) -> (i32, Option<String>) {
    if n % 5 < 3 {
        (2, Some(String::from("192.0.2.1")))
    } else {
        spread(n)
    }
}

#[test]
fn a_key_with_most_records_is_found_with_a_record_of_it() {
    let (mut watch, started) = watched((0..2_000).map(nat), PARTITIONS);
    let seen = watch.look(started + Duration::from_secs(5)).unwrap();
    assert!((seen.key_share - 0.6).abs() <= 1.0 / 65.0, "{seen:?}");
    let Some(Skew::Key(busiest)) = seen.skew else {
        panic!("{seen:?}")
    };
    assert_eq!(busiest.place.partition, 2);
    assert!(
        busiest.place.offset % 5 < 3,
        "not a record of the key: {busiest:?}"
    );
}

#[test]
fn keys_and_partitions_that_are_spread_are_no_skew() {
    let (mut watch, started) = watched((0..2_000).map(spread), PARTITIONS);
    let seen = watch.look(started + Duration::from_secs(5)).unwrap();
    assert_eq!(seen.skew, None);
    assert!(
        seen.key_share <= 0.01 && (seen.partition_share - 1.0 / 6.0).abs() < 0.01,
        "{seen:?}"
    );
}

#[test]
fn records_without_a_key_do_not_count_among_keys() {
    let without = (0..2_000).map(|n| (n % PARTITIONS, None));
    let (mut watch, started) = watched(without.clone(), PARTITIONS);
    let seen = watch.look(started + Duration::from_secs(5)).unwrap();
    assert_eq!((seen.key_share, seen.skew), (0.0, None));
    // A key that has all of the few records with keys is in nobody's way.
    let few = (0..1_500).map(|n| (n % PARTITIONS, Some(String::from("same"))));
    let (mut watch, started) = watched(without.chain(few), PARTITIONS);
    let seen = watch.look(started + Duration::from_secs(5)).unwrap();
    assert_eq!((seen.key_share, seen.skew), (1.0, None));
}

#[test]
fn a_partition_with_most_records_is_found_where_others_are_owned_to_compare_with() {
    let one = |n: i32| (if n % 10 == 0 { n % PARTITIONS } else { 4 }, None);
    let (mut watch, started) = watched((0..2_000).map(one), PARTITIONS);
    let seen = watch.look(started + Duration::from_secs(5)).unwrap();
    assert!(
        matches!(seen.skew, Some(Skew::Partition { partition: 4, share }) if share > 0.9),
        "{seen:?}"
    );
    let alone = (0..2_000).map(|_| (0, None));
    let (mut watch, started) = watched(alone.clone(), 1);
    let seen = watch.look(started + Duration::from_secs(5)).unwrap();
    assert_eq!(
        (seen.partition_share, seen.skew),
        (0.0, None),
        "it is the only one"
    );
    // Of two, one always has half or more.
    let (mut watch, started) = watched(
        alone
            .zip(0..)
            .map(|((_, key), n)| (i32::from(n % 10 < 3), key)),
        2,
    );
    assert_eq!(
        watch.look(started + Duration::from_secs(5)).unwrap().skew,
        None
    );
}

#[test]
fn a_window_is_over_after_5_s_and_1000_records_and_the_next_begins_anew() {
    let (mut watch, started) = watched((0..999).map(nat), PARTITIONS);
    assert_eq!(
        watch.look(started + Duration::from_secs(60)),
        None,
        "too few records"
    );
    watch.partition(0, 1);
    assert_eq!(
        watch.look(started + Duration::from_millis(4_999)),
        None,
        "too early"
    );
    let over = started + Duration::from_secs(60);
    assert!(watch.look(over).is_some());
    assert_eq!(
        watch.look(over + Duration::from_secs(60)),
        None,
        "nothing was read since"
    );
    // What was seen with other partitions does not count.
    let (mut watch, started) = watched((0..2_000).map(nat), PARTITIONS);
    watch.restart(started);
    assert_eq!(watch.look(started + Duration::from_secs(60)), None);
}

fn shares(scanner: &Scanner) -> (f64, f64) {
    let scrape = scanner.scrape();
    (
        scrape.get("scanner_busiest_key_share"),
        scrape.get("scanner_busiest_partition_share"),
    )
}

/// Proves: on a broker, one key that has most records is warned of once, with a record of it, and its share is a metric; where
/// keys differ nothing is said.
#[test]
fn one_key_with_most_records_is_warned_of_and_measured() {
    let broker = Broker::shared();
    let even = Scene::new(broker, "skew-even", PARTITIONS);
    let hot = Scene::new(broker, "skew-hot", PARTITIONS);
    let (at_ease, warned) = (
        even.ready_replica("scanner-0"),
        hot.ready_replica("scanner-0"),
    );
    let records = |key: fn(i32) -> (i32, Option<String>)| {
        (0..1_200).map(move |n| {
            let (partition, key) = key(n);
            Outgoing::of(line(usize::try_from(n).unwrap()))
                .key(key.unwrap())
                .partition(partition)
        })
    };
    even.produce(records(spread));
    let places = hot.produce(records(nat));
    let said = warned.wait_for_line(PATIENCE, |line| line.contains(WARNING));
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&said["level"], &said["partition"]),
        (&"warn".into(), &2.into()),
        "{said}"
    );
    // A window may end in the middle of what was sent; how exact a share is, the tests above say.
    let share = said["share"].as_f64().unwrap();
    assert!((0.5..=1.0).contains(&share), "{said}");
    let named = (2, said["offset"].as_i64().unwrap());
    let number = places.iter().position(|place| *place == named).unwrap();
    assert_eq!(
        nat(i32::try_from(number).unwrap()),
        (2, Some(String::from("192.0.2.1"))),
        "the record does not have the key"
    );
    let key = shares(&warned).0;
    assert!(
        (key - share).abs() < 0.01,
        "the log says {share}, the metric {key}"
    );

    // Windows that are as they should be, and then another bad one, which is not warned of again so soon.
    let until = |is_so: fn(f64) -> bool, key: fn(i32) -> (i32, Option<String>)| {
        wait_for("another share of the busiest key", PATIENCE, || {
            // Not faster than it is answered, or what was sent before is what windows are about.
            hot.produce(records(key));
            let sent: i64 = broker.ends(&hot.input).values().sum();
            wait_for("results", PATIENCE, || {
                let answered = warned.scrape().sum("scanner_results_produced_total");
                (answered >= sent as f64).then_some(())
            });
            is_so(shares(&warned).0).then_some(())
        });
    };
    until(|share| share > 0.0 && share < 0.5, spread);
    until(|share| share > 0.5, nat);
    let (key, partition) = wait_for("a window with keys that differ", PATIENCE, || {
        let shares = shares(&at_ease);
        (shares.1 > 0.0).then_some(shares)
    });
    assert!(key < 0.1 && partition < 0.4, "{key} {partition}");
    let times = |scanner: &Scanner| {
        scanner
            .stderr()
            .iter()
            .chain(&scanner.stdout())
            .filter(|line| line.contains(WARNING))
            .count()
    };
    assert_eq!(
        (times(&warned), times(&at_ease)),
        (1, 0),
        "{}",
        at_ease.output()
    );
}
