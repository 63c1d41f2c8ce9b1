//! `run`: the service, from its configuration to its exit status.

use std::process::ExitCode;
use std::sync::Arc;

use scanlib::{Detector, DetectorSlot, RuleSet};

use crate::config::{self, Config, RunFlags};
use crate::engine::{self, EngineSettings};
use crate::log;
use crate::ops::health::{Check, Health, Limits};
use crate::ops::metrics::Metrics;
use crate::ops::server::Server;
use crate::service::{self, Watch};
use crate::shutdown::Shutdown;

/// Runs the service until it is asked to stop.
pub fn run(flags: &RunFlags) -> ExitCode {
    let config = match config::load(flags, &config::process_environment()) {
        Ok(config) => config,
        Err(error) => return super::fail(&error),
    };
    if let Err(error) = log::init(&config.ops.log) {
        return super::fail(&*error);
    }
    match serve(&config) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tracing::error!("The service ends: {error}");
            super::fail(&*error)
        }
    }
}

fn serve(config: &Config) -> Result<u8, Box<dyn std::error::Error>> {
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    let watch = watch(config);
    // Before the signatures: the probes have to say that they are being loaded.
    let server = Server::start(
        config.ops.listen,
        Arc::clone(&watch.health),
        Arc::clone(&watch.metrics),
    )?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        instance = config.ops.instance,
        brokers = config.kafka.brokers,
        group = config.kafka.group,
        input_topic = config.kafka.input_topic,
        output_topic = config.kafka.output_topic,
        listen = %server.address(),
        "Scanner starts"
    );
    let detector = detector(config, &watch)?;
    let report = service::run(config, &DetectorSlot::new(detector), &watch, &shutdown)?;
    tracing::info!(
        abandoned = report.abandoned,
        committed = report.committed,
        "Scanner stopped"
    );
    Ok(report.exit_code())
}

/// Probes and metrics for a service with this configuration.
pub fn watch(config: &Config) -> Watch {
    let limits = Limits {
        poll_loop: config.kafka.max_poll_interval / 2,
        // Above libclamav's own limit for one scan, which is what ends a long one.
        worker: scanlib::Limits::default().max_scan_time * 2,
    };
    let health = Arc::new(Health::new(limits));
    let metrics = Arc::new(Metrics::new(Arc::clone(health.poll_loop())));
    Watch { health, metrics }
}

/// Loads what records are scanned with, tries it out, and says so to probes, metrics and log.
fn detector(config: &Config, watch: &Watch) -> Result<Detector, Box<dyn std::error::Error>> {
    let scan = &config.scan;
    let engine = engine::build(&EngineSettings {
        database: scan.database.clone(),
        bytecode_unsigned: scan.bytecode_unsigned,
        tmp_dir: scan.tmp_dir.clone(),
        ..EngineSettings::default()
    })?;
    let info = engine.info();
    for line in &info.load_log {
        tracing::warn!(libclamav = line, "A signature file is not perfect");
    }
    if info.builtin_only {
        tracing::warn!(
            db_mode = "builtin",
            "No signature database is configured: libclamav knows the built-in EICAR signature \
             only; set scan.database"
        );
    }
    tracing::info!(
        signatures = info.signatures,
        digest = %info.digest,
        libclamav = info.library.text,
        tmp_dir = %info.tmp_dir.display(),
        "Signatures loaded"
    );
    let version = if info.builtin_only {
        "builtin".to_owned()
    } else {
        info.digest.to_string()
    };
    watch.metrics.set_signatures(&version, info.signatures);
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    watch.metrics.set_build(&librdkafka, &info.library.text);
    watch.health.pass(Check::Engine);

    let rules = scan.rules.then(RuleSet::builtin);
    let detector = Detector::builder()
        .engine(engine)
        .rules(rules)
        .views(scan.views)
        .build()?;
    watch.health.pass(Check::Rules);
    engine::self_scan(&detector)?;
    watch.health.pass(Check::SelfScan);
    watch.metrics.engine_ready.set(1);
    Ok(detector)
}
