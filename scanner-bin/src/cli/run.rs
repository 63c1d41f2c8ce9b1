//! `run`: the service, from its configuration to its exit status.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use scanlib::{DetectorSlot, Isolation, IsolationError};

use crate::config::{self, Config, IsolationMode, RunFlags, SaslMechanism, ScanConfig};
use crate::confine;
use crate::log;
use crate::ops::health::{Health, Limits};
use crate::ops::metrics::Metrics;
use crate::ops::server::Server;
use crate::reload::{self, Loader, Reloading};
use crate::service::{self, Watch};
use crate::shutdown::Shutdown;

/// Runs the service until it is asked to stop.
pub fn run(flags: &RunFlags) -> ExitCode {
    // It runs for months, meets megabytes now and then, and loads signatures again and again.
    scanlib::hold_little_memory();
    // Before any thread, and before any secret is read.
    let isolation = Isolation::start();
    let config = match config::load(flags, &config::process_environment()) {
        Ok(config) => config,
        Err(error) => return super::fail(&error),
    };
    if let Err(error) = log::init(&config.ops.log, config.kafka.secrets()) {
        return super::fail(&*error);
    }
    let isolation = match wanted(isolation, &config) {
        Ok(isolation) => isolation,
        Err(error) => return super::fail(&error),
    };
    if isolation.is_some() {
        let confinement = confine::main_process(&config).to_string();
        tracing::info!(confinement, "The main process is confined");
    }
    match serve(&config, isolation) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tracing::error!("The service ends: {error}");
            super::fail(&*error)
        }
    }
}

/// The processes for libclamav, if the configuration wants them; else they end.
///
/// # Errors
/// They are wanted, and could not be started.
pub fn wanted(
    isolation: Result<Isolation, IsolationError>,
    config: &Config,
) -> Result<Option<Isolation>, IsolationError> {
    match config.scan.isolation {
        IsolationMode::None => Ok(None),
        IsolationMode::Process => isolation.map(Some),
    }
}

fn serve(config: &Config, isolation: Option<Isolation>) -> Result<u8, Box<dyn std::error::Error>> {
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    let hangup = Shutdown::hangups()?;
    let watch = watch(config);
    // Before the signatures: the probes have to say that they are being loaded.
    let server = Server::start(
        config.ops.listen,
        Arc::clone(&watch.health),
        Arc::clone(&watch.metrics),
    )?;
    let _detections = log::DetectionLog::limit(
        config.ops.log_detections_per_second,
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
    if let Some(why) = config.kafka.properties.unverified() {
        tracing::warn!("Brokers are not verified: {why}; use kafka.tls");
    }
    if let (Some(sasl), None) = (&config.kafka.sasl, &config.kafka.tls)
        && sasl.mechanism == SaslMechanism::Plain
    {
        tracing::warn!(
            "SASL PLAIN without TLS sends the password for everybody to read; enable kafka.tls or use SCRAM"
        );
    }
    let loader = Loader::keeping(&config.scan, &watch)?.isolated(isolation.clone());
    // Before the load: what changes while it goes on is a change.
    let files = reload::watched(&config.scan);
    let slot = DetectorSlot::new(loader.first()?);
    let reloading = Reloading::start(loader, slot.clone(), files, hangup, shutdown.clone())?;
    let ended = service::run(config, &slot, &watch, &shutdown);
    shutdown.request();
    reloading.wait();
    let report = ended?;
    if isolation.is_some_and(|isolation| isolation.is_lost()) {
        return Err("the process that starts scanning processes ended; see the system's log for who ended it".into());
    }
    tracing::info!(
        abandoned = report.abandoned,
        committed = report.committed,
        "Scanner stopped"
    );
    Ok(report.exit_code())
}

/// How much longer than its limit libclamav may take for one call: it looks at the clock only between two steps.
const OVERRUN: Duration = Duration::from_secs(60);

/// The time after which a worker that is still at the same record counts as stuck: the record's own time, which ends between two
/// views, and one more scan.
fn longest_record(scan: &ScanConfig) -> Duration {
    scan.max_record_time + scan.limits.max_scan_time + OVERRUN
}

/// Probes and metrics for a service with this configuration.
pub fn watch(config: &Config) -> Watch {
    let limits = Limits {
        poll_loop: config.kafka.max_poll_interval / 2,
        worker: longest_record(&config.scan),
    };
    let health = Arc::new(Health::new(limits));
    let metrics = Arc::new(Metrics::new(Arc::clone(health.poll_loop())));
    Watch { health, metrics }
}
