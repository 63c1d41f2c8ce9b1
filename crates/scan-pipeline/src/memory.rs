//! What records and results may take in memory, and the limits of librdkafka that keep it so.
//!
//! One thing these limits do not bound: librdkafka decompresses a whole batch at once, and of gzip, snappy and lz4 to whatever size (of zstd to
//! `receive.message.max.bytes`). How many batches that are is bounded by what one answer may bring. How large each is, only the broker can bound,
//! where the topic has `compression.type=uncompressed`; see [`unreadable`](super::unreadable) for what happens otherwise.
//!
//! librdkafka counts the bytes of the records it holds ready, and nothing else: neither the structure that it makes for each, nor
//! what one more fetch brings, which is compressed until it has arrived. A partition's share therefore has room for all three.

use crate::config::{KafkaConfig, MIN_FETCH_BYTES_PER_PARTITION};

/// Records of a partition that are held ready before no more is fetched: at 1,000 in each of six partitions, a scanner of 100,000 records
/// a second has 60 ms until the next fetch, which takes some milliseconds.
const QUEUED_RECORDS: u64 = 1_000;
/// A fetch is such a part of the share, compressed: logs shrink to a tenth, or less if they repeat themselves.
const FETCH_PART: u64 = 64;
const FETCH_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 20;
/// Results that wait for the broker.
pub(super) const RESULT_BYTES: u64 = 96 << 20;

/// What the way from Kafka to Kafka is planned to hold, in bytes, and holds unless a batch decompresses to more. Signatures, libclamav's own work and librdkafka's connections come on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Records fetched and not yet taken, if as many partitions are owned as are planned for.
    pub fetched: u64,
    /// Records taken and not yet answered, those that wait for libclamav among them: as bytes of the record, or of the result made of it.
    pub in_flight: u64,
    /// Results that the broker has not acknowledged.
    pub results: u64,
}

impl Memory {
    /// What this configuration allows.
    pub fn of(config: &KafkaConfig) -> Memory {
        Memory {
            fetched: config.fetch_memory_bytes,
            in_flight: config.inflight_bytes,
            results: RESULT_BYTES,
        }
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.fetched
            .saturating_add(self.in_flight)
            .saturating_add(self.results)
    }
}

/// librdkafka's limits for each partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Bytes, and records, above which no more is fetched.
    pub(super) queued_bytes: u64,
    pub(super) queued_records: u64,
    /// What a fetch may bring, compressed. A larger batch comes alone.
    pub(super) fetch_bytes: u64,
    /// What the answer to a fetch of many partitions may bring, compressed. The first batch in it is whole, however large.
    pub(super) response_bytes: u64,
}

impl Share {
    pub(super) fn of(config: &KafkaConfig) -> Share {
        let share = config.fetch_memory_bytes / u64::from(config.max_partitions.max(1));
        let share = share.max(MIN_FETCH_BYTES_PER_PARTITION);
        Share {
            queued_bytes: share / 4,
            queued_records: QUEUED_RECORDS,
            fetch_bytes: (share / FETCH_PART).clamp(*FETCH_BYTES.start(), *FETCH_BYTES.end()),
            response_bytes: (config.fetch_memory_bytes / FETCH_PART).clamp(1 << 20, 50 << 20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What librdkafka takes for each record beside its bytes. Measured.
    const RECORD_BYTES: u64 = 320;
    /// How far a fetch of log lines expands, and how long they are at the least, on average.
    const EXPANSION: u64 = 16;
    const RECORD: u64 = 200;

    #[test]
    fn a_share_has_room_for_the_queue_a_fetch_and_the_structures_of_both() {
        for mib in [4, 5, 8, 64, 1024] {
            let config = KafkaConfig {
                fetch_memory_bytes: mib << 20,
                max_partitions: 1,
                ..KafkaConfig::default()
            };
            let share = Share::of(&config);
            let fetched = share.fetch_bytes * EXPANSION;
            let structures = (share.queued_records + fetched / RECORD) * RECORD_BYTES;
            let needed = share.queued_bytes + fetched + structures;
            assert!(needed <= mib << 20, "{mib} MiB: {share:?} needs {needed}");
        }
    }
}
