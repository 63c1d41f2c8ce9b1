//! `config`: what `run` would do with a configuration, without doing it.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::TcpListener;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use scanlib::Isolation;

use crate::config::{self, Config, RunFlags};
use crate::reload;
use crate::reload::room::{self, Plan};
use scan_pipeline::memory::Memory;
use scan_pipeline::topics;

/// How long brokers may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Exit status of `config check` if something is not as the service needs it.
const EXIT_FOUND: u8 = 1;

/// What to do with the configuration. File, environment and flags count as for `run`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the configuration in effect, with where each value was set; secrets are hidden
    Show(Box<RunFlags>),
    /// Try signatures, brokers, topics and listen address, and say what was found
    ///
    /// Nothing is changed and nothing is read from a topic. Exit status: 0 if the service could start,
    /// 1 if something is not as it needs it, 2 if the configuration cannot be used.
    Check(Box<RunFlags>),
    /// Print a commented file with every setting and its default
    Sample,
}

/// Runs the subcommand.
pub fn run(command: &ConfigCommand) -> ExitCode {
    let (flags, is_check) = match command {
        ConfigCommand::Sample => return super::print(config::SAMPLE.as_bytes()),
        ConfigCommand::Show(flags) => (flags, false),
        ConfigCommand::Check(flags) => (flags, true),
    };
    // As `run` does it, before anything is read; of use for a check only.
    let isolation = Isolation::start();
    match config::load_with_origins(flags, &config::process_environment()) {
        Err(error) => super::fail(&error),
        Ok((config, _)) if is_check => match super::run::wanted(isolation, &config) {
            Ok(isolation) => check(&config, isolation.as_ref()),
            Err(error) => super::fail(&error),
        },
        Ok((config, origins)) => super::print(config::show(&config, &origins).as_bytes()),
    }
}

/// One line for each thing that was tried.
#[derive(Default)]
struct Findings {
    is_bad: bool,
}

impl Findings {
    fn good(&self, what: &str, text: impl Display) {
        Self::line("ok", what, &text.to_string());
    }

    fn note(&self, what: &str, text: impl Display) {
        Self::line("note", what, &text.to_string());
    }

    fn bad(&mut self, what: &str, text: impl Display) {
        self.is_bad = true;
        Self::line("FAIL", what, &text.to_string());
    }

    fn line(word: &str, what: &str, text: &str) {
        let text = text.replace(char::is_control, " ");
        // Somebody who closed the pipe still wants the exit status.
        let _closed = writeln!(io::stdout(), "{word:<5}{what:<10}{text}");
    }
}

fn check(config: &Config, isolation: Option<&Isolation>) -> ExitCode {
    let mut found = Findings::default();
    found.good("settings", "the configuration can be used");
    database(config, isolation, &mut found);
    brokers(config, &mut found);
    match TcpListener::bind(config.ops.listen) {
        Ok(_) => found.good("listen", format_args!("{} is free", config.ops.listen)),
        Err(error) => found.bad(
            "listen",
            format_args!(
                "{} cannot be used: {error}; set ops.listen",
                config.ops.listen
            ),
        ),
    }
    ExitCode::from(if found.is_bad { EXIT_FOUND } else { 0 })
}

fn database(config: &Config, isolation: Option<&Isolation>, found: &mut Findings) {
    let held = room::held();
    let detector = match reload::detector(&config.scan, isolation) {
        Ok(detector) => detector,
        Err(error) => return found.bad("database", error),
    };
    let apart = detector.engine().and_then(|engine| engine.isolation());
    let engine_bytes = apart.map_or(0, |status| status.engine_bytes);
    let engine = room::held().saturating_sub(held) + engine_bytes;
    // While they are loaded: what is free now is what records and a reload can have.
    memory(config, engine, room::free(), found);
    let Some(engine) = detector.engine() else {
        return;
    };
    let info = engine.info();
    found.good(
        "database",
        format_args!(
            "{} signatures, digest {}, libclamav {}; the self-scan found what it has to",
            info.signatures, info.digest, info.library.text
        ),
    );
    if info.builtin_only {
        found.note(
            "database",
            "none is configured: only the built-in EICAR signature; set scan.database",
        );
    }
    for line in &info.load_log {
        found.note("database", line);
    }
    match apart.map(|status| status.confinement) {
        None => found.note(
            "isolation",
            "none: a record that makes libclamav crash ends the service; set scan.isolation to \"process\"",
        ),
        Some(confinement) if confinement.is_complete() => found.good("isolation", confinement),
        Some(confinement) => found.note(
            "isolation",
            format_args!("{confinement}: this kernel confines scanning processes only in part"),
        ),
    }
    match detector.prefilter().off() {
        None => found.good("prefilter", "on: libclamav is spared most messages"),
        Some(why) => found.note(
            "prefilter",
            format_args!("off, so libclamav is asked about every message: {why}"),
        ),
    }
}

/// Whether what the service may take has room in the control groups' limits and in the machine. `engine` is what signatures and rules took.
fn memory(config: &Config, engine: u64, free: Option<u64>, found: &mut Findings) {
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let records = Memory::of(&config.kafka).total();
    let Some(free) = free else {
        return found.note("memory", "nothing says how much there is");
    };
    let taken = format!(
        "signatures and rules take {}, records and results up to {}, {} are free besides",
        mib(engine),
        mib(records),
        mib(free)
    );
    let Some(left) = free.checked_sub(records) else {
        return found.bad(
            "memory",
            format_args!(
                "{taken}: raise the limit, or lower kafka.fetch_memory_bytes and kafka.inflight_bytes"
            ),
        );
    };
    let has_state = config.scan.state_dir.is_some();
    match room::plan(config.scan.reload, has_state, engine, Some(left)) {
        Plan::Drain => found.good(
            "memory",
            format_args!("{taken}; to load new signatures those in use are freed first, and records wait"),
        ),
        Plan::Swap if left < room::second(engine) => found.note(
            "memory",
            format_args!(
                "{taken}, and new signatures beside those in use {}: raise the limit, or set scan.state_dir and leave scan.reload at auto",
                mib(room::second(engine))
            ),
        ),
        Plan::Swap => found.good(
            "memory",
            format_args!("{taken}; new signatures have room beside those in use"),
        ),
    }
}

fn brokers(config: &Config, found: &mut Findings) {
    let kafka = &config.kafka;
    if let Some(why) = kafka.properties.unverified() {
        found.note(
            "brokers",
            format_args!("not verified: {why}; use kafka.tls"),
        );
    }
    let survey = match topics::survey(kafka, PATIENCE) {
        Ok(survey) => survey,
        Err(reason) => {
            return found.bad("brokers", format_args!("{}: {reason}", kafka.brokers));
        }
    };
    found.good(
        "brokers",
        format_args!(
            "{} answers: cluster {}, brokers {}",
            kafka.brokers, survey.id, survey.brokers
        ),
    );
    let is_there = survey
        .topics
        .first()
        .is_some_and(|(_, state)| state.is_ok());
    for (topic, state) in survey.topics {
        match state {
            Ok(partitions) => {
                found.good("topic", format_args!("{topic}: {partitions} partitions"));
            }
            Err(reason) if kafka.create_topics => found.note(
                "topic",
                format_args!("{topic}: {reason}; the service will try to create it"),
            ),
            Err(reason) => found.bad(
                "topic",
                format_args!("{topic}: {reason}; create it, or set kafka.create_topics"),
            ),
        }
    }
    if is_there {
        compression(&kafka.input_topic, survey.input_compression, found);
    }
}

/// Whether the broker knows how much memory a batch of the input topic takes.
fn compression(topic: &str, setting: Result<String, String>, found: &mut Findings) {
    const ADVICE: &str = "a batch of some kilobytes may decompress to more than a replica has memory for; with compression.type=uncompressed on \
         the topic the broker decompresses it first and refuses more than max.message.bytes";
    match setting {
        Ok(word) if word == "uncompressed" => found.good(
            "topic",
            format_args!(
                "{topic}: compression.type=uncompressed bounds what a batch takes in memory"
            ),
        ),
        Ok(word) => found.note(
            "topic",
            format_args!("{topic}: compression.type={word}: {ADVICE}"),
        ),
        Err(reason) => found.note(
            "topic",
            format_args!("{topic}: compression.type is not known ({reason}): {ADVICE}"),
        ),
    }
}
