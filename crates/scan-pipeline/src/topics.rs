//! Before the group is joined: are the brokers there, and do the topics exist?
//!
//! A topic that is missing is said and waited for. It is created only on request, because a typing
//! error in a name should not make a topic.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

use super::client::{self, Role};
use crate::config::{KafkaConfig, Secrets};
use crate::health::{Check, Health};
use crate::metrics::{CodeLabel, Metrics};
use crate::shutdown::Shutdown;

/// How long one question to the brokers may take.
const ASK: Duration = Duration::from_secs(2);
/// What a client has to say about one failed question, at the most.
const MAX_SAYINGS: usize = 32;
/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// The same trouble is logged again only after this long.
const REPEAT: Duration = Duration::from_secs(30);

/// What is known of the cluster once all topics are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster's own identity; empty if the brokers do not tell.
    pub id: String,
    /// Partitions of the input topic.
    pub input_partitions: usize,
}

struct Asking {
    errors: client::Errors,
    /// What the client logged last about a connection that failed: a call that fails for want of one
    /// cannot tell why.
    reason: Mutex<Option<String>>,
    /// What must not be in it: the probes and `config check` show it.
    secrets: Secrets,
}

impl Asking {
    fn new(config: &KafkaConfig, metrics: &Arc<Metrics>) -> Asking {
        Asking {
            errors: client::Errors::new(Arc::clone(metrics)),
            reason: Mutex::default(),
            secrets: config.secrets(),
        }
    }
}

/// Why the brokers could not be asked, in the words that help most.
fn explain(asking: &BaseConsumer<Asking>, error: &KafkaError) -> String {
    // Serves what the client has to say, one thing at a time.
    for _ in 0..MAX_SAYINGS {
        let _no_record = asking.poll(Duration::ZERO);
    }
    let reason = &asking.context().reason;
    let reason = reason.lock().unwrap_or_else(PoisonError::into_inner);
    let reason = reason.as_ref().map(|reason| format!("; {reason}"));
    format!("{error}{}", reason.unwrap_or_default())
}

/// What librdkafka says about a connection, without its thread and without a time that differs with
/// each attempt.
fn connection_error(message: &str) -> &str {
    let message = match message.strip_prefix("[thrd:") {
        Some(rest) => rest.split_once("]: ").map_or(message, |(_, rest)| rest),
        None => message,
    };
    message.split(" (after ").next().unwrap_or(message)
}

impl ClientContext for Asking {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "FAIL" {
            let mut reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
            let message = self.secrets.hide(connection_error(message));
            *reason = Some(message.into_owned());
        }
        client::log("metadata", level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.errors.note("metadata", &error, reason);
    }
}

impl ConsumerContext for Asking {}

/// Waits until all three topics exist, creating them if the configuration says so. `None` if a stop
/// was requested first.
///
/// # Errors
/// The configuration does not make a client.
pub fn wait(
    config: &KafkaConfig,
    health: &Health,
    metrics: &Arc<Metrics>,
    shutdown: &Shutdown,
) -> KafkaResult<Option<Cluster>> {
    let settings = client::config(config, Role::Admin);
    // A consumer without a group: unlike a producer, it never makes a broker create what it asks for.
    let asking: BaseConsumer<Asking> =
        settings.create_with_context(Asking::new(config, metrics))?;
    let mut said: Option<(String, Instant)> = None;
    while !shutdown.is_requested() {
        // Serves the client's log and errors.
        let _no_record = asking.poll(Duration::ZERO);
        let trouble = match look(&asking, config) {
            Ok(cluster) => {
                health.pass(Check::InputTopic);
                tracing::info!(
                    cluster = cluster.id,
                    partitions = cluster.input_partitions,
                    topic = config.input_topic,
                    "Topics found"
                );
                return Ok(Some(cluster));
            }
            Err(Trouble::Unreachable(error)) => format!(
                "the brokers {} cannot be asked for their topics: {}",
                config.brokers,
                explain(&asking, &error)
            ),
            Err(Trouble::Missing(missing)) if config.create_topics => {
                match create(config, &missing) {
                    Ok(()) => {
                        tracing::info!(topics = ?missing, "Topics created");
                        continue;
                    }
                    Err(error) => format!(
                        "topics {} are missing and cannot be created: {error}",
                        missing.join(", ")
                    ),
                }
            }
            Err(Trouble::Missing(missing)) => {
                metrics
                    .client_errors
                    .get_or_create(&CodeLabel {
                        code: "UnknownTopicOrPartition".to_owned(),
                    })
                    .inc();
                format!(
                    "topics are missing on {}: {}; create them, or let the service do so with --create-topics",
                    config.brokers,
                    missing.join(", ")
                )
            }
        };
        health.fail(Check::InputTopic, trouble.clone());
        if said
            .as_ref()
            .is_none_or(|(last, at)| *last != trouble || at.elapsed() >= REPEAT)
        {
            tracing::warn!("Not ready: {trouble}");
            said = Some((trouble, Instant::now()));
        }
        let until = Instant::now() + PAUSE;
        while Instant::now() < until && !shutdown.is_requested() {
            thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(None)
}

enum Trouble {
    Unreachable(KafkaError),
    Missing(Vec<String>),
}

fn look(asking: &BaseConsumer<Asking>, config: &KafkaConfig) -> Result<Cluster, Trouble> {
    let mut missing = Vec::new();
    let mut input_partitions = 0;
    for name in [
        &config.input_topic,
        &config.output_topic,
        &config.dead_letter_topic,
    ] {
        let metadata = match asking.fetch_metadata(Some(name), ASK) {
            Ok(metadata) => metadata,
            Err(error) if error.rdkafka_error_code().is_some_and(is_unknown) => {
                missing.push(name.clone());
                continue;
            }
            Err(error) => return Err(Trouble::Unreachable(error)),
        };
        let topic = metadata.topics().iter().find(|topic| topic.name() == name);
        match topic {
            Some(topic) if topic.error().is_none() && !topic.partitions().is_empty() => {
                if *name == config.input_topic {
                    input_partitions = topic.partitions().len();
                }
            }
            // Just created, or its leader is being elected, or we may not see it.
            Some(topic) if topic.error().is_some_and(|e| !is_unknown_raw(e)) => {
                let code = topic.error().map_or(RDKafkaErrorCode::Unknown, Into::into);
                return Err(Trouble::Unreachable(KafkaError::MetadataFetch(code)));
            }
            _ => missing.push(name.clone()),
        }
    }
    if !missing.is_empty() {
        return Err(Trouble::Missing(missing));
    }
    let id = asking.client().fetch_cluster_id(ASK).unwrap_or_default();
    Ok(Cluster {
        id,
        input_partitions,
    })
}

/// What is there of a configuration, asked once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The cluster's own identity; empty if the brokers do not tell.
    pub id: String,
    /// Brokers of the cluster.
    pub brokers: usize,
    /// Each of the three topics and its number of partitions, or why it cannot be used.
    pub topics: Vec<(String, Result<usize, String>)>,
    /// The input topic's `compression.type`, or why it is not known.
    pub input_compression: Result<String, String>,
}

/// Asks the brokers once, for up to `patience`.
///
/// # Errors
/// Why they could not be asked.
pub fn survey(config: &KafkaConfig, patience: Duration) -> Result<Survey, String> {
    let metrics = Arc::new(Metrics::new(Arc::default()));
    let settings = client::config(config, Role::Admin);
    let asking: BaseConsumer<Asking> = settings
        .create_with_context(Asking::new(config, &metrics))
        .map_err(|error| error.to_string())?;
    let until = Instant::now() + patience;
    let metadata = loop {
        match asking.fetch_metadata(Some(&config.input_topic), ASK) {
            Ok(metadata) => break Some(metadata),
            Err(error) if error.rdkafka_error_code().is_some_and(is_unknown) => break None,
            Err(error) => {
                let reason = explain(&asking, &error);
                if Instant::now() >= until {
                    return Err(reason);
                }
            }
        }
    };
    let topic = |name: &str| match asking.fetch_metadata(Some(name), ASK) {
        Ok(metadata) => match metadata.topics().iter().find(|topic| topic.name() == name) {
            Some(topic) => match topic.error().map(RDKafkaErrorCode::from) {
                None => Ok(topic.partitions().len()),
                Some(code) => Err(code.to_string()),
            },
            None => Err("not there".to_owned()),
        },
        Err(error) => Err(explain(&asking, &error)),
    };
    let names = [
        &config.input_topic,
        &config.output_topic,
        &config.dead_letter_topic,
    ];
    Ok(Survey {
        id: asking.client().fetch_cluster_id(ASK).unwrap_or_default(),
        brokers: metadata.map_or(1, |metadata| metadata.brokers().len()),
        topics: names.map(|name| (name.clone(), topic(name))).into(),
        input_compression: compression(&settings, &config.input_topic),
    })
}

/// A topic's `compression.type`. Needs the right `DescribeConfigs` on it.
fn compression(settings: &ClientConfig, topic: &str) -> Result<String, String> {
    let text = |error: KafkaError| error.to_string();
    let admin = AdminClient::from_config_and_context(settings, Quiet).map_err(text)?;
    let options = AdminOptions::new().request_timeout(Some(ASK));
    let topic = [ResourceSpecifier::Topic(topic)];
    let found = block_on(admin.describe_configs(&topic, &options)).map_err(text)?;
    let resource = found.into_iter().next().ok_or("no answer")?;
    let resource = resource.map_err(|code| code.to_string())?;
    let entry = resource.get("compression.type");
    let value = entry.and_then(|entry| entry.value.clone());
    value.ok_or_else(|| "not there".to_owned())
}

fn is_unknown(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
    )
}

fn is_unknown_raw(code: RDKafkaRespErr) -> bool {
    is_unknown(code.into())
}

/// Creates topics with the broker's own defaults for partitions and replicas.
fn create(config: &KafkaConfig, missing: &[String]) -> KafkaResult<()> {
    let settings = client::config(config, Role::Admin);
    let admin = AdminClient::from_config_and_context(&settings, Quiet)?;
    let topics: Vec<NewTopic<'_>> = missing
        .iter()
        .map(|name| NewTopic::new(name, -1, TopicReplication::Fixed(-1)))
        .collect();
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
    for result in block_on(admin.create_topics(&topics, &options))? {
        match result {
            // Another replica was faster.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(KafkaError::AdminOp(code)),
        }
    }
    Ok(())
}

/// The outcome of each call tells what went wrong.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log("admin", level, facility, message);
    }

    fn error(&self, _: KafkaError, _: &str) {}
}

/// Waits for a future that another thread completes.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
