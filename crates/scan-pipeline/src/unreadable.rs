//! Batches that cannot be read.
//!
//! librdkafka decompresses a batch as a whole, and fetches the same batch again when that fails: for ever, without a sign but an error of the
//! partition. A batch may also decompress to more than this process has memory for, which ends the process. In both cases the partition
//! is paused, and the `Prober` fetches the offset with a client of its own: it finds out whether the batch can be read
//! by now and, if it is to be skipped, at which offset the next batch begins. Where memory is in doubt it fetches in a child
//! process whose memory is limited.
//!
//! The broker answers every offset of a batch with the whole batch, so the first offset behind it is found by bisection. No answer is
//! taken on trust: an offset counts as behind the batch only if it was fetched, or is the end of the partition.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::sequencer::Lease;

/// How long one fetch may take to come to something.
const FETCH: Duration = Duration::from_secs(20);
/// The same for the child process: it may have gigabytes to decompress before it runs out of memory.
const CHILD: Duration = Duration::from_secs(90);
/// How long the brokers may take to tell an offset.
const ASK: Duration = Duration::from_secs(10);
/// Largest description of a fetch that the child process takes, in bytes.
const MAX_JOB: u64 = 1 << 20;
/// Memory that a client takes besides what it fetches, in bytes: stacks and buffers.
const CLIENT_BYTES: u64 = 96 << 20;
/// What the first argument of the child process is.
pub const CHILD_COMMAND: &str = "fetch-probe";

/// True for errors that say that what is at an offset cannot be read, and not that it cannot be fetched.
pub(super) fn is_unreadable(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BadCompression
            | RDKafkaErrorCode::BadMessage
            | RDKafkaErrorCode::NotImplemented
            | RDKafkaErrorCode::InvalidMessage
            | RDKafkaErrorCode::InvalidMessageSize
            | RDKafkaErrorCode::MessageSizeTooLarge
    )
}

/// The offset of a batch in librdkafka's words for why it cannot be read. rdkafka passes on nothing else that holds it.
pub(super) fn offset_in(reason: &str) -> Option<i64> {
    let (_, after) = ["message at ", "at offset "]
        .iter()
        .find_map(|words| reason.split_once(words))?;
    after.split([' ', ',', ')']).next()?.parse().ok()
}

/// A batch to look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) lease: Lease,
    /// The offset that is wanted and cannot be read; `None` for the committed one.
    pub(super) from: Option<i64>,
    /// The offset of the batch, which counts where nothing is committed.
    pub(super) base: Option<i64>,
    /// Find out where the next batch begins.
    pub(super) to_skip: bool,
    /// Bytes that a batch may take; `None` if memory is not in doubt.
    pub(super) memory: Option<u64>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It can be read now, from this offset on.
    Readable { from: i64 },
    /// It cannot.
    Unreadable {
        from: i64,
        /// The offset at which the next batch begins, if that was asked.
        next: Option<i64>,
        why: String,
    },
}

/// What there was at an offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Fetched {
    /// A record, or the end of the partition.
    Readable,
    /// A batch that begins at `base`, if that is known.
    Unreadable { base: Option<i64>, why: String },
}

/// Fetches with a client of its own, on a thread of its own.
pub(super) struct Prober {
    questions: Sender<Question>,
    answers: Receiver<(Lease, Result<Found, String>)>,
}

impl Prober {
    /// `settings` are the consumer's.
    pub(super) fn start(settings: ClientConfig, topic: String) -> io::Result<Prober> {
        let (questions, asked) = bounded::<Question>(1);
        let (found, answers) = bounded(1);
        let probe = Probe::new(settings, topic);
        // It holds nothing that anybody waits for, and ends with the process or when nobody asks any more.
        thread::Builder::new()
            .name("prober".to_owned())
            .spawn(move || {
                for question in asked {
                    if found
                        .send((question.lease, probe.answer(&question)))
                        .is_err()
                    {
                        return;
                    }
                }
            })?;
        Ok(Prober { questions, answers })
    }

    /// False if it has enough to do.
    pub(super) fn ask(&self, question: Question) -> bool {
        !matches!(
            self.questions.try_send(question),
            Err(TrySendError::Full(_))
        )
    }

    pub(super) fn answer(&self) -> Option<(Lease, Result<Found, String>)> {
        self.answers.try_recv().ok()
    }
}

/// A client that fetches one offset and nothing more.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Probe {
    /// Of librdkafka; passwords are among them.
    settings: BTreeMap<String, String>,
    /// A group that has committed nothing begins at the end.
    from_end: bool,
    topic: String,
}

/// A fetch for the child process.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    probe: Probe,
    partition: i32,
    offset: i64,
    memory: u64,
}

impl Probe {
    fn new(settings: ClientConfig, topic: String) -> Probe {
        let mut settings: BTreeMap<String, String> = settings
            .config_map()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let reset = settings.get("auto.offset.reset").map(String::as_str);
        let from_end = matches!(reset, Some("latest" | "largest" | "end"));
        for name in [
            "group.instance.id",
            "group.protocol",
            "group.remote.assignor",
        ] {
            settings.remove(name);
        }
        let own = [
            // An offset that is not there is no reason to look at another.
            ("auto.offset.reset", "error"),
            ("statistics.interval.ms", "0"),
            ("queued.min.messages", "1"),
            ("queued.max.messages.kbytes", "64"),
            ("fetch.message.max.bytes", "1024"),
        ];
        settings.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
        Probe {
            settings,
            from_end,
            topic,
        }
    }

    fn client(&self) -> Result<BaseConsumer<Reason>, String> {
        let mut client = ClientConfig::new();
        for (name, value) in &self.settings {
            client.set(name, value);
        }
        client
            .create_with_context(Reason(AtomicI64::new(-1)))
            .map_err(|error| error.to_string())
    }

    fn answer(&self, question: &Question) -> Result<Found, String> {
        let partition = question.lease.partition;
        let client = self.client()?;
        let (start, end) = client
            .fetch_watermarks(&self.topic, partition, ASK)
            .map_err(|error| error.to_string())?;
        let from = match question.from {
            Some(from) => from,
            None => match (self.committed(&client, partition)?, question.base) {
                (Some(committed), _) => committed,
                (None, Some(base)) => base,
                (None, None) if self.from_end => end,
                (None, None) => start,
            },
        };
        if from < start {
            // Retention has removed it.
            return Ok(Found::Readable { from: start });
        }
        let fetch = |offset| match question.memory {
            Some(memory) => self.fetch_in_child(partition, offset, memory),
            None => self.fetch(partition, offset),
        };
        let why = match fetch(from)? {
            Fetched::Readable => return Ok(Found::Readable { from }),
            Fetched::Unreadable { why, .. } => why,
        };
        let next = match question.to_skip {
            false => None,
            true => {
                let is_inside = |offset| match fetch(offset)? {
                    Fetched::Readable => Ok(false),
                    // Another one, further on, is looked at when its turn comes.
                    Fetched::Unreadable { base, .. } => Ok(base.is_none_or(|base| base <= from)),
                };
                Some(first_behind(from, end, is_inside)?)
            }
        };
        Ok(Found::Unreadable { from, next, why })
    }

    /// What the group has committed of a partition.
    fn committed(
        &self,
        client: &BaseConsumer<Reason>,
        partition: i32,
    ) -> Result<Option<i64>, String> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        let text = |error: KafkaError| error.to_string();
        let committed = client.committed_offsets(list, ASK).map_err(text)?;
        let element = committed.find_partition(&self.topic, partition);
        match element.map(|element| element.offset()) {
            Some(Offset::Offset(offset)) => Ok(Some(offset)),
            _ => Ok(None),
        }
    }

    /// # Errors
    /// It came to nothing, and why.
    fn fetch(&self, partition: i32, offset: i64) -> Result<Fetched, String> {
        let client = self.client()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))
            .and_then(|()| client.assign(&list))
            .map_err(|error| error.to_string())?;
        let until = Instant::now() + FETCH;
        let mut last = "no answer from the broker".to_owned();
        while Instant::now() < until {
            match client.poll(Duration::from_millis(100)) {
                None => {}
                Some(Ok(message)) if message.offset() >= offset => return Ok(Fetched::Readable),
                Some(Ok(_)) => {}
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(Fetched::Readable),
                Some(Err(error)) => {
                    last = error.to_string();
                    if error.rdkafka_error_code().is_some_and(is_unreadable) {
                        let base = Some(client.context().0.load(Ordering::Relaxed));
                        let base = base.filter(|base| *base >= 0);
                        return Ok(Fetched::Unreadable { base, why: last });
                    }
                }
            }
        }
        Err(format!("offset {offset} could not be fetched: {last}"))
    }

    /// The same in a process that may take so much memory for it.
    fn fetch_in_child(&self, partition: i32, offset: i64, memory: u64) -> Result<Fetched, String> {
        let job = Job {
            probe: self.clone(),
            partition,
            offset,
            memory,
        };
        let text = |error: io::Error| format!("no process to fetch with: {error}");
        let mut child = Command::new("/proc/self/exe")
            .arg(CHILD_COMMAND)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(text)?;
        if let Some(mut input) = child.stdin.take() {
            let job = serde_json::to_vec(&job).map_err(|error| error.to_string())?;
            // One that is gone already says so by how it ended.
            let _gone = input.write_all(&job);
        }
        let until = Instant::now() + CHILD;
        let status = loop {
            match child.try_wait().map_err(text)? {
                Some(status) => break status,
                None if Instant::now() >= until => {
                    let _gone = child.kill();
                    let _reaped = child.wait();
                    return Err(format!(
                        "offset {offset} could not be fetched within {} s",
                        CHILD.as_secs()
                    ));
                }
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        let mut said = Vec::new();
        if let Some(output) = child.stdout.take() {
            output.take(MAX_JOB).read_to_end(&mut said).map_err(text)?;
        }
        if let Ok(outcome) = serde_json::from_slice::<Result<Fetched, String>>(&said) {
            return outcome;
        }
        use std::os::unix::process::ExitStatusExt;
        match status.signal() {
            // It does not handle memory that it does not get: it aborts.
            Some(libc::SIGABRT | libc::SIGKILL | libc::SIGSEGV) => Ok(Fetched::Unreadable {
                base: None,
                why: format!(
                    "it decompresses to more than kafka.fetch_memory_bytes allows ({} MiB)",
                    memory >> 20
                ),
            }),
            _ => Err(format!(
                "the process that fetched offset {offset} ended: {status}"
            )),
        }
    }
}

/// Bisects for the first offset behind the batch that `bad` is in. `end` is the end of the partition.
fn first_behind(
    bad: i64,
    end: i64,
    mut is_inside: impl FnMut(i64) -> Result<bool, String>,
) -> Result<i64, String> {
    if end <= bad {
        return Err(format!(
            "the partition ends at offset {end}, before offset {bad}"
        ));
    }
    let (mut inside, mut behind) = (bad, end);
    let mut step = 1;
    while behind - inside > step {
        let at = inside + step;
        if is_inside(at)? {
            inside = at;
            step *= 2;
        } else {
            behind = at;
        }
    }
    while behind - inside > 1 {
        let at = inside + (behind - inside) / 2;
        if is_inside(at)? {
            inside = at;
        } else {
            behind = at;
        }
    }
    Ok(behind)
}

/// Keeps the offset that an error names.
struct Reason(AtomicI64);

impl ClientContext for Reason {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _: KafkaError, reason: &str) {
        let offset = offset_in(reason).unwrap_or(-1);
        self.0.store(offset, Ordering::Relaxed);
    }
}

impl ConsumerContext for Reason {}

/// The child process: reads a fetch from standard input, limits its memory, and prints what came of it.
pub fn child() -> ExitCode {
    let mut text = Vec::new();
    let read = io::stdin().take(MAX_JOB).read_to_end(&mut text);
    let Ok(job) = read
        .map_err(|error| error.to_string())
        .and_then(|_| serde_json::from_slice::<Job>(&text).map_err(|error| error.to_string()))
    else {
        eprintln!("scanner-bin: this command is for the service's own use");
        return ExitCode::from(2);
    };
    // Should memory end before the limit does, this process is the one to go.
    let _refused = std::fs::write("/proc/self/oom_score_adj", "1000");
    let limit = |bytes: u64| Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    let _refused = setrlimit(Resource::Core, limit(0));
    let outcome = match setrlimit(Resource::Data, limit(job.memory + CLIENT_BYTES)) {
        Ok(()) => job.probe.fetch(job.partition, job.offset),
        Err(error) => Err(format!("memory cannot be limited: {error}")),
    };
    let printed = serde_json::to_writer(io::stdout(), &outcome);
    ExitCode::from(u8::from(printed.is_err()))
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Readable { from } => write!(f, "offset {from} can be read"),
            Found::Unreadable { from, why, .. } => write!(f, "offset {from}: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_offset_behind_a_batch_is_found_and_nothing_beyond_the_end_is_fetched() {
        for end in 1..70 {
            for bad in 0..end {
                for behind in bad + 1..=end {
                    let mut fetches = 0;
                    let found = first_behind(bad, end, |at| {
                        assert!(bad < at && at < end, "{at} of {bad}..{end}");
                        fetches += 1;
                        Ok(at < behind)
                    });
                    assert_eq!(found, Ok(behind), "{bad}, {end}");
                    assert!(fetches <= 14, "{fetches} for {bad}..{behind}, {end}");
                }
            }
        }
        let large = first_behind(5, 1 << 40, |at| Ok(at < 1_000_005));
        assert_eq!(large, Ok(1_000_005));
        assert!(first_behind(5, 5, |_| Ok(true)).is_err());
        let failed = first_behind(0, 100, |_| Err("away".to_owned()));
        assert_eq!(failed, Err("away".to_owned()), "no guess is made");
    }

    #[test]
    fn the_offset_of_a_batch_is_read_off_every_form_of_the_error() {
        for (reason, offset) in [
            (
                "Decompression (codec 0x4) of message at 1234 of 9000 bytes failed: Local: Invalid compressed data",
                Some(1234),
            ),
            (
                "MessageSet at offset 77 (512 bytes) failed CRC32C check (original 0x1 != calculated 0x2)",
                Some(77),
            ),
            (
                "Unsupported Message(Set) MagicByte 7 at offset 12",
                Some(12),
            ),
            ("Message at offset 9 might be too large to fetch", Some(9)),
            ("something else", None),
        ] {
            assert_eq!(offset_in(reason), offset, "{reason}");
        }
    }
}
