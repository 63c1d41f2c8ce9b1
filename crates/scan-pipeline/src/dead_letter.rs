//! A record that could not be judged, on its way to the dead-letter topic: the original, byte for
//! byte, and headers that say why it is there and where it came from.

use rdkafka::message::{Header, OwnedHeaders};
use sha2::{Digest, Sha256};

use super::batch::Record;

/// Longest `error` header in bytes; the log has the whole text.
const MAX_ERROR_BYTES: usize = 1024;

/// Why a record is a dead letter, as its header `reason` and the metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The scan failed, and failed again.
    ScanError,
    /// The scan panicked.
    Panic,
    /// libclamav could not look.
    EngineError,
    /// Scanning it is what seems to have brought the process down.
    CrashSuspect,
    /// The process that scanned it crashed, and a second one that scanned it alone.
    Crash,
    /// It is in a batch that cannot be read, and there is no original.
    UnreadableBatch,
}

impl Reason {
    /// Every one of them.
    pub const ALL: [Reason; 6] = [
        Reason::ScanError,
        Reason::Panic,
        Reason::EngineError,
        Reason::CrashSuspect,
        Reason::Crash,
        Reason::UnreadableBatch,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::ScanError => "scan_error",
            Reason::Panic => "panic",
            Reason::EngineError => "engine_error",
            Reason::CrashSuspect => "crash_suspect",
            Reason::Crash => "crash",
            Reason::UnreadableBatch => "unreadable_batch",
        }
    }
}

/// Where a record was read.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The consumer group.
    pub group: &'a str,
}

/// The original of a record, owned.
#[derive(Debug)]
pub struct DeadLetter {
    /// Why it is here.
    pub reason: Reason,
    error: String,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    timestamp_ms: Option<i64>,
    headers: Option<OwnedHeaders>,
    partition: i32,
    offset: i64,
    /// Of the last record, where the letter is for several.
    last_offset: Option<i64>,
}

impl DeadLetter {
    /// Copies the record. Control characters of `error` are replaced: whoever lists the topic's
    /// headers may do so on a terminal.
    pub fn new(record: &Record<'_>, partition: i32, reason: Reason, error: &str) -> DeadLetter {
        let printable = error.chars().map(|c| if c.is_control() { ' ' } else { c });
        let mut clean = String::new();
        for c in printable {
            if clean.len() + c.len_utf8() > MAX_ERROR_BYTES {
                break;
            }
            clean.push(c);
        }
        DeadLetter {
            reason,
            error: clean,
            key: record.key.map(<[u8]>::to_vec),
            payload: record.payload.map(<[u8]>::to_vec),
            timestamp_ms: record.timestamp_ms,
            headers: record.headers.cloned(),
            partition,
            offset: record.offset,
            last_offset: None,
        }
    }

    /// For the records from `first` to `last`, which could not be read: offsets, and no payload.
    pub fn unreadable(partition: i32, first: i64, last: i64, error: &str) -> DeadLetter {
        let record = Record {
            offset: first,
            timestamp_ms: None,
            key: None,
            payload: None,
            headers: None,
        };
        DeadLetter {
            last_offset: Some(last),
            ..DeadLetter::new(&record, partition, Reason::UnreadableBatch, error)
        }
    }

    /// The record's key.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// The record's payload.
    pub fn payload(&self) -> Option<&[u8]> {
        self.payload.as_deref()
    }

    /// The record's timestamp.
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.timestamp_ms
    }

    /// The record's own headers, then `reason`, `error`, `source-topic`, `source-partition`, `source-offset` and `source-group`. A letter for
    /// several records has `source-last-offset` too.
    pub fn headers(&self, source: Source<'_>) -> OwnedHeaders {
        let text = |key: &'static str, value: &str, headers: OwnedHeaders| {
            headers.insert(Header {
                key,
                value: Some(value),
            })
        };
        let headers = self.headers.clone().unwrap_or_default();
        let headers = text("reason", self.reason.as_str(), headers);
        let headers = text("error", &self.error, headers);
        let headers = text("source-topic", source.topic, headers);
        let headers = text("source-partition", &self.partition.to_string(), headers);
        let headers = text("source-offset", &self.offset.to_string(), headers);
        let headers = text("source-group", source.group, headers);
        match self.last_offset {
            Some(offset) => text("source-last-offset", &offset.to_string(), headers),
            None => headers,
        }
    }

    /// For a topic that refuses the original's size: the headers, and in place of the payload its
    /// length and SHA-256. The original is still at its source.
    pub fn digest_headers(&self, source: Source<'_>) -> OwnedHeaders {
        let payload = self.payload.as_deref().unwrap_or_default();
        let digest = hex::encode(Sha256::digest(payload));
        self.headers(source)
            .insert(Header {
                key: "truncated",
                value: Some("true"),
            })
            .insert(Header {
                key: "payload-bytes",
                value: Some(&payload.len().to_string()),
            })
            .insert(Header {
                key: "payload-sha256",
                value: Some(&digest),
            })
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers;

    use super::*;

    fn letter(headers: Option<&OwnedHeaders>, error: &str) -> DeadLetter {
        let record = Record {
            offset: 42,
            timestamp_ms: Some(7),
            key: Some(b""),
            payload: Some(b"abc"),
            headers,
        };
        DeadLetter::new(&record, 3, Reason::ScanError, error)
    }

    const SOURCE: Source<'_> = Source {
        topic: "in",
        group: "us",
    };

    fn seen(headers: &OwnedHeaders) -> Vec<(String, Option<Vec<u8>>)> {
        headers
            .iter()
            .map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec)))
            .collect()
    }

    #[test]
    fn the_original_is_kept_byte_for_byte_and_its_headers_come_first() {
        let original = OwnedHeaders::new()
            .insert(Header {
                key: "reason",
                value: Some(b"\xff\x00"),
            })
            .insert(Header {
                key: "reason",
                value: None::<&[u8]>,
            });
        let letter = letter(Some(&original), "broken");
        assert_eq!(
            (letter.key(), letter.payload(), letter.timestamp_ms()),
            (Some(&b""[..]), Some(&b"abc"[..]), Some(7))
        );
        let headers = seen(&letter.headers(SOURCE));
        assert_eq!(headers[0], ("reason".into(), Some(b"\xff\x00".to_vec())));
        assert_eq!(headers[1], ("reason".into(), None));
        assert_eq!(headers[2], ("reason".into(), Some(b"scan_error".to_vec())));
        assert_eq!(headers[3], ("error".into(), Some(b"broken".to_vec())));
        assert_eq!(headers[5], ("source-partition".into(), Some(b"3".to_vec())));
        assert_eq!(headers[6], ("source-offset".into(), Some(b"42".to_vec())));
        assert_eq!(headers[7], ("source-group".into(), Some(b"us".to_vec())));
    }

    #[test]
    fn a_refused_payload_is_named_by_length_and_digest() {
        let headers = seen(&letter(None, "x").digest_headers(SOURCE));
        let value = |key: &str| {
            headers
                .iter()
                .find(|(k, _)| k == key)
                .and_then(|(_, v)| v.clone())
        };
        assert_eq!(value("payload-bytes"), Some(b"3".to_vec()));
        let sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(value("payload-sha256"), Some(sha.as_bytes().to_vec()));
    }

    #[test]
    fn an_error_text_is_short_and_has_no_control_characters() {
        let letter = letter(None, &format!("a\x1b[31m\n{}", "é".repeat(2000)));
        assert!(letter.error.len() <= MAX_ERROR_BYTES);
        assert!(letter.error.starts_with("a [31m é"));
    }
}
