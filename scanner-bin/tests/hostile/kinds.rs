//! The kinds of hostile records: one file each in `tests/hostile` of the workspace.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use config::{Config, File, FileFormat};
use serde::Deserialize;

use crate::support::client::Outgoing;
use crate::support::workspace;

/// What a record costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// About what an ordinary record does.
    #[default]
    Light,
    /// It is large, or libclamav has to work.
    Heavy,
    /// Seconds, unless a limit ends it.
    Bomb,
}

/// How a record is made that is too large to stand in a file.
#[derive(Debug, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
enum Make {
    /// A text in base64, so many times over, behind the beginning of a log line.
    Base64 { text: String, times: usize },
    /// So many payloads in base64, each another one.
    Payloads { count: usize },
    /// A text so many times, between two others.
    Repeat {
        before: String,
        text: String,
        count: usize,
        after: String,
    },
    /// A JSON record.
    Json {
        source_host: String,
        message: String,
    },
    /// No value at all.
    Tombstone,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    about: String,
    status: Vec<String>,
    #[serde(default)]
    limits: Vec<String>,
    dead_letter: Option<String>,
    isolation: Option<String>,
    #[serde(default)]
    weight: Weight,
    text: Option<String>,
    #[serde(default)]
    texts: Vec<String>,
    base64: Option<String>,
    make: Option<Make>,
}

/// A kind of record, and what may come of it.
#[derive(Debug)]
pub struct Kind {
    /// Name of its file.
    pub name: String,
    /// Statuses that its result may have.
    status: Vec<String>,
    /// Limits that a partial result names.
    limits: Vec<String>,
    /// The reason of its dead letter; there is none without one.
    pub dead_letter: Option<String>,
    /// The only isolation that it is for.
    isolation: Option<String>,
    pub weight: Weight,
    /// Values of its records; `None` for a tombstone.
    variants: Vec<Option<Vec<u8>>>,
}

/// Puts the test string where its name stands.
fn with_eicar(text: &str) -> String {
    text.replace("EICAR", &scanlib::eicar::text())
}

impl Make {
    fn record(&self) -> Option<Vec<u8>> {
        const HEADER: &str = "<13>Oct 20 02:44:02 web app: data=";
        match self {
            Make::Base64 { text, times } => {
                let wrapped =
                    (0..*times).fold(with_eicar(text), |text, _| BASE64_STANDARD.encode(text));
                Some(format!("{HEADER}{wrapped}").into_bytes())
            }
            Make::Payloads { count } => {
                let payloads = (0..*count).map(|number| {
                    BASE64_STANDARD.encode(format!("payload {number} of a line that has many"))
                });
                let payloads: Vec<String> = payloads.collect();
                Some(format!("{HEADER}{}", payloads.join(" ")).into_bytes())
            }
            Make::Repeat {
                before,
                text,
                count,
                after,
            } => Some(
                [
                    before.clone(),
                    with_eicar(text).repeat(*count),
                    after.clone(),
                ]
                .concat()
                .into_bytes(),
            ),
            Make::Json {
                source_host,
                message,
            } => {
                let message = with_eicar(message);
                let record = serde_json::json!({"source_host": source_host, "message": message});
                Some(record.to_string().into_bytes())
            }
            Make::Tombstone => None,
        }
    }
}

impl Kind {
    fn read(path: &Path) -> Kind {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(path).unwrap();
        let read = Config::builder()
            .add_source(File::from_str(&text, FileFormat::Toml))
            .build()
            .and_then(Config::try_deserialize::<Written>);
        let written = read.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut variants: Vec<Option<Vec<u8>>> = written
            .texts
            .into_iter()
            .chain(written.text)
            .map(|text| Some(text.into_bytes()))
            .collect();
        if let Some(bytes) = written.base64 {
            variants.push(Some(BASE64_STANDARD.decode(bytes).unwrap()));
        }
        if let Some(make) = written.make {
            variants.push(make.record());
        }
        assert!(!variants.is_empty(), "{name}: no record");
        assert!(!written.status.is_empty(), "{name}: no status");
        assert!(!written.about.is_empty(), "{name}: not said what it is");
        Kind {
            name,
            status: written.status,
            limits: written.limits,
            dead_letter: written.dead_letter,
            isolation: written.isolation,
            weight: written.weight,
            variants,
        }
    }

    /// All that are there, in order of names.
    pub fn all() -> Vec<Kind> {
        let entries = fs::read_dir(workspace().join("tests/hostile")).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
        paths.sort();
        assert!(!paths.is_empty(), "no kinds");
        paths.iter().map(|path| Kind::read(path)).collect()
    }

    /// Whether it can be sent to a service with this isolation.
    pub fn is_for(&self, isolation: &str) -> bool {
        self.isolation
            .as_deref()
            .is_none_or(|only| only == isolation)
    }

    /// One of its records.
    pub fn record(&self, number: usize) -> Outgoing {
        match &self.variants[number % self.variants.len()] {
            Some(value) => Outgoing::of(value.clone()),
            None => Outgoing::tombstone(),
        }
    }

    /// What is wrong with a result.
    pub fn objection(&self, status: &str, limits: &[String]) -> Option<String> {
        if !self.status.iter().any(|allowed| allowed == status) {
            return Some(format!("{status} {limits:?} instead of {:?}", self.status));
        }
        let missing = self.limits.iter().find(|limit| !limits.contains(limit));
        match missing {
            Some(limit) if status == "partial" => Some(format!("{limits:?} lacks {limit}")),
            _ => None,
        }
    }
}
