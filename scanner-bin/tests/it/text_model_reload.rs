//! Counts of the user's own messages are a file like the signatures: another one is loaded, by itself and on SIGHUP.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use scanlib::prefilter::DisabledReason;
use scanlib::{Detector, DetectorSlot};
use scanner_bin::cli::run;
use scanner_bin::config::Config;
use scanner_bin::reload::{self, Loader, Reloading};
use scanner_bin::service::Watch;
use scanner_bin::shutdown::Shutdown;

const PATIENCE: Duration = Duration::from_secs(60);

/// "needle" and "http", of which the counts say how often they are met.
const SIGNATURES: &str = "My.Needle:0:*:6e6565646c65\nMy.Common:0:*:68747470\n";

/// A model in which "http" is rare, and one in which it is not.
const RARE: &str = "abc 1000000\nhtt 10\nttp 10\n";
const COMMON: &str = "abc 1000000\nhtt 900000\nttp 900000\n";

/// How often the prefilter expects to propose a signature.
fn expected(detector: &Detector) -> f32 {
    detector.prefilter().summary().expected
}

struct Service {
    dir: tempfile::TempDir,
    watch: Watch,
    slot: DetectorSlot,
    hangup: Arc<AtomicBool>,
    shutdown: Shutdown,
    reloading: Reloading,
}

impl Service {
    fn start(interval: Duration) -> Service {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("db")).unwrap();
        fs::write(path("db/a.ndb"), SIGNATURES).unwrap();
        fs::write(path("model"), RARE).unwrap();
        let mut config = Config::default();
        config.scan.database = vec![path("db")];
        config.scan.text_model = Some(path("model"));
        config.scan.reload_interval = interval;
        let watch = run::watch(&config);
        let loaded = reload::watched(&config.scan);
        let loader = Loader::new(&config.scan, &watch);
        let slot = DetectorSlot::new(loader.first().unwrap());
        let (hangup, shutdown) = (Arc::new(AtomicBool::new(false)), Shutdown::default());
        let reloading = Reloading::start(
            loader,
            slot.clone(),
            loaded,
            Arc::clone(&hangup),
            shutdown.clone(),
        );
        Service {
            dir,
            watch,
            slot,
            hangup,
            shutdown,
            reloading: reloading.unwrap(),
        }
    }

    /// As an updater does it: written beside, then renamed.
    fn put(&self, name: &str, text: &str) {
        let to = self.dir.path().join(name);
        let partial = self.dir.path().join("partial");
        fs::write(&partial, text).unwrap();
        fs::rename(partial, to).unwrap();
    }

    fn reloads(&self, result: &str) -> u64 {
        let series = format!("scanner_engine_reloads_total{{result=\"{result}\"}} ");
        let page = self.watch.metrics.encode();
        let line = page.lines().find_map(|line| line.strip_prefix(&*series));
        line.map_or(0, |value| value.parse().unwrap())
    }

    fn sighup_until(&self, result: &str, count: u64) {
        self.hangup.store(true, Ordering::Release);
        self.wait_for(result, count);
    }

    fn wait_for(&self, result: &str, count: u64) {
        support::wait_for(
            &format!("{count} reloads that end {result}"),
            PATIENCE,
            || (self.reloads(result) >= count).then_some(()),
        );
    }

    fn stop(self) {
        self.shutdown.request();
        self.reloading.wait();
    }
}

#[test]
fn sighup_takes_other_counts_though_the_signatures_are_the_same() {
    let service = Service::start(Duration::ZERO);
    let before = service.slot.load();
    service.sighup_until("unchanged", 1);
    assert_eq!(service.slot.load().generation(), before.generation());

    service.put("model", COMMON);
    service.sighup_until("ok", 1);
    let after = service.slot.load();
    assert!(
        expected(&after) > 2.0 * expected(&before),
        "{} {}",
        expected(&before),
        expected(&after)
    );
    service.sighup_until("unchanged", 2);

    // What is no model changes nothing.
    service.put("model", "no model");
    service.sighup_until("failed", 1);
    assert_eq!(service.slot.load().generation(), after.generation());
    service.stop();
}

#[test]
fn a_text_model_that_changes_is_seen_like_a_signature_file() {
    let service = Service::start(Duration::from_millis(100));
    let before = expected(&service.slot.load());
    service.put("model", COMMON);
    service.wait_for("ok", 1);
    assert!(expected(&service.slot.load()) > 2.0 * before);
    service.stop();
}

/// The cure is other signatures, or another release.
#[test]
fn a_prefilter_that_was_wrong_is_not_trusted_again_for_other_counts() {
    let service = Service::start(Duration::ZERO);
    let before = service.slot.load();
    before
        .prefilter()
        .report_false_negative(b"a message", &["My.Needle".to_owned()]);
    service.put("model", COMMON);
    service.sighup_until("unchanged", 1);
    let off = service.slot.load().prefilter().off().cloned();
    assert!(
        matches!(off, Some(DisabledReason::FalseNegative { .. })),
        "{off:?}"
    );
    service.put(
        "db/a.ndb",
        &format!("{SIGNATURES}My.Other:0:*:6f74686572\n"),
    );
    service.sighup_until("ok", 1);
    assert_eq!(service.slot.load().prefilter().off(), None);
    service.stop();
}

#[test]
fn without_a_text_model_only_the_signatures_are_watched() {
    let scan = &mut Config::default().scan;
    let none = reload::watched(scan);
    scan.text_model = Some(Path::new("/no/such/model").to_owned());
    assert_ne!(reload::watched(scan), none);
}
