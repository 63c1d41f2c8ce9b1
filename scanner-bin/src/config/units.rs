//! Values with units, as people write them: `25s`, `64MiB`, `/db/a:/db/b`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use scanlib::message::ViewSet;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time: `250ms`, `25s`, `5m`, `1h`. A bare number is refused, as its unit is a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

/// A size in bytes: a number, or one with `KiB`, `MiB` or `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) u64);

/// A list of paths: an array, or one string divided as `PATH` is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Paths(pub(super) Vec<PathBuf>);

/// A list of words: an array, or one string of them separated by commas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Words(pub(super) Vec<String>);

/// A list of TCP ports: an array, one port, or one string of them separated by commas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Ports(pub(super) Vec<u16>);

/// Views: an array, or one string of names separated by commas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Views(pub(super) ViewSet);

impl Serialize for Views {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&write_span(self.0))
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&write_bytes(self.0))
    }
}

/// In the largest unit that leaves nothing over.
fn write_span(span: Duration) -> String {
    let (seconds, millis) = (span.as_secs(), span.subsec_millis());
    match seconds {
        _ if millis > 0 => format!("{}ms", span.as_millis()),
        0 => "0s".to_owned(),
        _ if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

fn write_bytes(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units
        .iter()
        .find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    unit.map_or_else(
        || bytes.to_string(),
        |(shift, name)| format!("{}{name}", bytes >> shift),
    )
}

fn parse_span(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim()))
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || {
            D::Error::custom(format!(
                "{text:?} is not a duration such as 250ms, 25s, 5m or 1h"
            ))
        };
        parse_span(&text).map(Span).ok_or_else(wrong)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        // A number of the file reaches this as text too: one way in, one message.
        let text = String::deserialize(deserializer)?;
        let wrong = || {
            D::Error::custom(format!(
                "{text:?} is not a size such as 1048576, 512KiB or 64MiB"
            ))
        };
        parse_bytes(&text).map(Bytes).ok_or_else(wrong)
    }
}

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Paths, D::Error> {
        struct PathsVisitor;

        impl<'de> Visitor<'de> for PathsVisitor {
            type Value = Paths;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of paths")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Paths, E> {
                Ok(Paths(
                    std::env::split_paths(text)
                        .filter(|p| !p.as_os_str().is_empty())
                        .collect(),
                ))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Paths, A::Error> {
                let mut paths = Vec::new();
                while let Some(path) = seq.next_element::<PathBuf>()? {
                    paths.push(path);
                }
                Ok(Paths(paths))
            }
        }

        deserializer.deserialize_any(PathsVisitor)
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Words, D::Error> {
        struct WordsVisitor;

        impl<'de> Visitor<'de> for WordsVisitor {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of words")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Words, E> {
                let words = text.split(',').map(str::trim);
                Ok(Words(
                    words
                        .filter(|word| !word.is_empty())
                        .map(str::to_owned)
                        .collect(),
                ))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Words, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = seq.next_element::<String>()? {
                    words.push(word);
                }
                Ok(Words(words))
            }
        }

        deserializer.deserialize_any(WordsVisitor)
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ports, D::Error> {
        struct PortsVisitor;

        fn port<E: Error>(number: impl fmt::Display + TryInto<u16>) -> Result<u16, E> {
            let shown = number.to_string();
            let port = number.try_into().ok().filter(|port| *port > 0);
            port.ok_or_else(|| E::custom(format!("{shown} is not a TCP port (1 to 65535)")))
        }

        impl<'de> Visitor<'de> for PortsVisitor {
            type Value = Ports;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of TCP ports")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Ports, E> {
                Ok(Ports(vec![port(number)?]))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Ports, E> {
                Ok(Ports(vec![port(number)?]))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Ports, E> {
                let ports = text.split(',').map(str::trim);
                let ports = ports.filter(|port| !port.is_empty());
                let number = |text: &str| {
                    let wrong = || E::custom(format!("{text:?} is not a TCP port (1 to 65535)"));
                    text.parse::<i64>().map_err(|_| wrong()).and_then(port)
                };
                Ok(Ports(ports.map(number).collect::<Result<_, E>>()?))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Ports, A::Error> {
                let mut ports = Vec::new();
                while let Some(number) = seq.next_element::<i64>()? {
                    ports.push(port(number)?);
                }
                Ok(Ports(ports))
            }
        }

        deserializer.deserialize_any(PortsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(number in 0u64..1 << 40, unit in 0usize..4) {
            let span = Duration::from_millis(number * [1, 1000, 60_000, 3_600_000][unit]);
            prop_assert_eq!(parse_span(&write_span(span)), Some(span));
            let bytes = ((number << (10 * unit)) >> 20).max(number % 5000);
            prop_assert_eq!(parse_bytes(&write_bytes(bytes)), Some(bytes));
        }
    }

    #[test]
    fn durations_need_a_unit_and_sizes_may_have_one() {
        assert_eq!(parse_span("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_span(" 25 s "), Some(Duration::from_secs(25)));
        assert_eq!(parse_span("5m"), Some(Duration::from_secs(300)));
        assert_eq!(parse_span("1h"), Some(Duration::from_secs(3600)));
        for wrong in ["", "25", "s", "-1s", "1.5s", "5d", "18446744073709551615h"] {
            assert_eq!(parse_span(wrong), None, "{wrong}");
        }
        assert_eq!(parse_bytes("1048576"), Some(1 << 20));
        assert_eq!(parse_bytes("64MiB"), Some(64 << 20));
        assert_eq!(parse_bytes("2 GiB"), Some(2 << 30));
        for wrong in ["", "MiB", "1MB", "-1", "18446744073709551615GiB"] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
    }
}
