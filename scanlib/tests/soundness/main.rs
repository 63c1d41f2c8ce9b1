//! Whether what the prefilter clears is clean: libclamav is asked.
//!
//! Messages are made from signatures, from what libclamav knows types of files by, from chance and from real logs; databases
//! are published ones, samples of them, and made-up ones. `SCANNER_TEST_SEED` and `SCANNER_TEST_SOUNDNESS` (how many
//! messages) say which and how many; the same numbers give the same messages. From 500,000 messages on, whole published
//! files are loaded as well, and each has its share.
//!
//! A gate that is known to be wrong goes to [`hunt::Quarry::hunt`], which says how many messages it takes to catch it.
//! Should libclamav crash, the database, its round and the message are left in `/dev/shm`.
#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used
)]

mod boundary;
mod bytes;
#[path = "../corpus/mod.rs"]
mod corpus;
mod database;
mod digest;
mod draft;
mod facts;
mod faults;
mod grammar;
mod hunt;
mod judge;
mod logic;
mod mutate;
mod pattern;
mod random;
mod regex;
mod signature;
#[path = "../support/mod.rs"]
mod support;
mod words;
mod yara;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Instant;

use database::Loaded;
use hunt::Quarry;
use judge::{Cleared, Count, Tally};
use scanlib::prefilter::{Gate, Scratch};
use signature::Kind;

/// How many messages a run of all tests can afford.
const SHORT: u64 = 10_000;
const SEED: u64 = 20_260_301;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {text}"))
    })
}

fn quarry() -> &'static Quarry {
    static QUARRY: LazyLock<Quarry> = LazyLock::new(|| {
        let files = [
            "syslog-edge.jsonl.zst",
            "product-logs.jsonl.zst",
            "web-attack-acunetix.log.zst",
            "auth-elastic.log.zst",
        ];
        let lines = files.into_iter().filter_map(corpus::messages).flatten();
        Quarry::new(lines.collect())
    });
    &QUARRY
}

/// A message is judged together with so many that were cleared before it.
const TOGETHER: usize = 4;

/// The prefilter that everybody uses: it has to be right about a message alone, and beside those that came before it.
fn gate(loaded: &Rc<Loaded>) -> Box<Cleared<'static>> {
    let prefilter = loaded.engine.prefilter().clone();
    let state = RefCell::new((Scratch::default(), VecDeque::<Vec<u8>>::new(), Vec::new()));
    Box::new(move |message| {
        let (scratch, messages, gates) = &mut *state.borrow_mut();
        let alone = prefilter.check(message, scratch);
        let mut buffers: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        buffers.push(message);
        // First, last or between the others, by its length.
        let place = message.len() % buffers.len();
        buffers.rotate_left(place);
        let place = buffers.len() - 1 - place;
        prefilter.check_each(&buffers, scratch, gates);
        if alone == Gate::Cleared {
            // Of such a one the digests were taken.
            messages.push_back(message.to_vec());
            if messages.len() > TOGETHER {
                messages.pop_front();
            }
        }
        alone == Gate::Cleared || gates.get(place) == Some(&Gate::Cleared)
    })
}

#[test]
fn what_is_cleared_is_clean() {
    let seed = variable("SCANNER_TEST_SEED", SEED);
    let messages = variable("SCANNER_TEST_SOUNDNESS", SHORT);
    let again = format!("SCANNER_TEST_SEED={seed} SCANNER_TEST_SOUNDNESS={messages}");
    let quarry = quarry();
    let start = Instant::now();
    let mut tally = Tally::default();
    let long = messages >= hunt::LONG;
    for round in quarry.plan(messages as usize, seed) {
        if let Err(report) = quarry.run(round, &gate, &mut tally) {
            let found = format!("caught after {} messages", tally.total.messages);
            panic!("{found}: {report}{again}");
        }
        if round.messages > 1000 {
            let so_far = tally.total.messages;
            println!("{so_far} messages in {:.0?}: {round:?}", start.elapsed());
        }
    }
    let mut kinds: BTreeMap<Kind, Count> = BTreeMap::new();
    for database in &quarry.published {
        let coverage = tally.coverage(database);
        coverage.print(&database.label, long);
        for (kind, count) in coverage.kinds {
            *kinds.entry(kind).or_default() += count;
        }
    }
    println!("{}\nin {:.0?}; {again}", tally.summary(), start.elapsed());

    // Hardly any finding, or nothing else, and this proves little. Made-up databases alone have fewer.
    let share = |count: usize| count * 100 / tally.total.messages.max(1);
    let least = if quarry.published.is_empty() { 20 } else { 25 };
    if messages >= SHORT {
        assert!((least..75).contains(&share(tally.total.reported)));
        assert!(share(tally.total.cleared) >= 25, "little is cleared");
        assert!(tally.refused * 20 <= tally.databases, "many are refused");
    }
    for (kind, count) in kinds {
        let least = if kind == Kind::Body { 95 } else { 85 };
        println!("{kind:?}: {} of {} hit", count.hit, count.possible);
        assert!(
            !long || count.hit * 100 >= count.possible * least,
            "{kind:?}"
        );
    }
    assert!(tally.total.messages as u64 >= messages);
    if long && !quarry.published.is_empty() {
        whole_files_have_their_share(quarry, &tally, messages as usize);
    }
}

/// Each of them was judged, by a prefilter that is on, with the clean cache and without.
fn whole_files_have_their_share(quarry: &Quarry, tally: &Tally, messages: usize) {
    let able = quarry.able().into_iter();
    let mut least: Vec<(&str, usize)> = able
        .map(|file| (quarry.published[file].label.as_str(), messages / 40))
        .collect();
    least.push(("official-*", messages / 10));
    least.push(("everything", messages / 100));
    least.push(("everything provable", messages / 100));
    for (label, least) in least {
        let share = &tally.shares[label];
        assert!(share.messages >= least, "{label}: {share:?}");
        assert!((1..share.messages).contains(&share.remembered), "{label}");
        if label == "everything" {
            // Who loads all of this has no prefilter, because of a few rules.
            assert_eq!((share.cleared, share.off), (0, share.messages));
        } else {
            assert!(share.off == 0 && share.cleared > 0, "{label}: {share:?}");
        }
    }
}
