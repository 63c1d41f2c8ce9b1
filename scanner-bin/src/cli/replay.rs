//! `replay`: a part of the topic once more, with the signatures and rules of today.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use scanlib::{DetectorSlot, Isolation};
use serde_json::{Value, json};

use crate::config::{self, Config, RunFlags};
use crate::log;
use crate::ops::metrics::{Metrics, VerdictLabel};
use crate::ops::server::Server;
use crate::reload::Loader;
use crate::service;
use crate::shutdown::Shutdown;
use scan_pipeline::replay::{self, Point, Span};

/// Status if it was stopped before it was through, as that of `run` if the drain ran out of time.
const EXIT_INCOMPLETE: u8 = 3;

/// What to read again, and as whom.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Where to begin: beginning, committed, an offset or an RFC 3339 time
    #[arg(long, value_name = "POINT", default_value = "beginning")]
    pub from: Point,
    /// Before which point to end: end, an offset, or a time
    #[arg(long, value_name = "POINT", default_value = "end")]
    pub to: Point,
    /// Replay in the group of the service, moving what it has committed
    #[arg(long)]
    pub force: bool,
    /// The settings, as for `run` but for the group.
    #[command(flatten)]
    pub run: RunFlags,
}

/// Reads it, answers it, prints a tally.
pub fn run(args: &ReplayArgs) -> ExitCode {
    scanlib::hold_little_memory();
    // Before any thread, and before any secret is read.
    let isolation = Isolation::start();
    let config = match configure(args) {
        Ok(config) => config,
        Err(error) => return super::fail(&*error),
    };
    let isolation = match super::run::wanted(isolation, &config) {
        Ok(isolation) => isolation,
        Err(error) => return super::fail(&error),
    };
    match serve(&config, args, isolation) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tracing::error!("The replay ends: {error}");
            super::fail(&*error)
        }
    }
}

type Failure = Box<dyn std::error::Error>;

/// The configuration of the service, with a group and a transactional id of the replay's own.
fn configure(args: &ReplayArgs) -> Result<Config, Failure> {
    let mut flags = args.run.clone();
    let own = flags.group.take();
    let mut config = config::load(&flags, &config::process_environment())?;
    let live = std::mem::take(&mut config.kafka.group);
    let own = own.unwrap_or_else(|| match args.force {
        true => live.clone(),
        false => format!("{live}-replay"),
    });
    if own.is_empty() {
        return Err("--group is empty: name the replay's group".into());
    }
    if own == live && !args.force {
        return Err(format!(
            "{live} is the group of the service itself: a replay would move what it has committed; name another with --group, \
             or stop the service and give --force"
        )
        .into());
    }
    config.kafka.group = own;
    if let Some(prefix) = &mut config.kafka.transactional_id_prefix {
        // Or it would put the service's own producer out of business.
        prefix.push_str("-replay");
    }
    let subscriber = log::subscriber(&config.ops.log, std::io::stderr, config.kafka.secrets())?;
    tracing::subscriber::set_global_default(subscriber)?;
    Ok(config)
}

fn serve(config: &Config, args: &ReplayArgs, isolation: Option<Isolation>) -> Result<u8, Failure> {
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    let watch = super::run::watch(config);
    let _detections = log::DetectionLog::limit(
        config.ops.log_detections_per_second,
        Arc::clone(&watch.metrics),
    )?;
    // Only if it is asked for: the service on this host has the default address.
    let _server = match &args.run.listen {
        Some(_) => Some(Server::start(
            config.ops.listen,
            Arc::clone(&watch.health),
            Arc::clone(&watch.metrics),
        )?),
        None => None,
    };
    let slot = DetectorSlot::new(
        Loader::new(&config.scan, &watch)
            .isolated(isolation)
            .first()?,
    );
    let spans = replay::plan(&config.kafka, args.from, args.to)?;
    tracing::info!(
        from = %args.from,
        to = %args.to,
        group = config.kafka.group,
        input_topic = config.kafka.input_topic,
        output_topic = config.kafka.output_topic,
        partitions = spans.len(),
        offsets = spans.iter().map(|span| span.to - span.from).sum::<i64>(),
        "Replay starts"
    );
    let since = Instant::now();
    let report = service::replay(config, &slot, &watch, &shutdown, spans.clone())?;
    let is_complete = report.exit_code() == 0 && spans.iter().all(Span::is_through);
    let tally = json!({
        "complete": is_complete,
        "topic": config.kafka.input_topic,
        "group": config.kafka.group,
        "records": spans.iter().map(Span::records).sum::<u64>(),
        "seconds": since.elapsed().as_secs_f64(),
        "verdicts": verdicts(&watch.metrics),
        "dead_letters": watch.metrics.dead_letters(),
        "abandoned": report.abandoned,
        "partitions": spans.iter().map(partition).collect::<Vec<_>>(),
    });
    super::print(format!("{tally}\n").as_bytes());
    Ok(if is_complete { 0 } else { EXIT_INCOMPLETE })
}

fn partition(span: &Span) -> Value {
    json!({
        "partition": span.partition,
        "from": span.from,
        "to": span.to,
        "records": span.records(),
        "complete": span.is_through(),
    })
}

fn verdicts(metrics: &Metrics) -> Value {
    let count = |verdict: &'static str| {
        let label = VerdictLabel { verdict };
        (
            verdict.to_owned(),
            metrics.scans.get_or_create(&label).get().into(),
        )
    };
    Value::Object(
        ["clean", "threat", "partial", "skipped", "error"]
            .map(count)
            .into_iter()
            .collect(),
    )
}
