//! From a record's bytes to what there is to scan.
//!
//! A syslog line hides what it carries: behind a header, inside a JSON string, as base64. This
//! folder promises that every record, whatever its bytes, becomes a [`Message`] — never an error,
//! never a panic — whose [text](Message::text) and [body](Message::body) are the record's own
//! bytes (a JSON string is unescaped, nothing else changes), and that [`ViewBuffers`] lists each
//! different buffer of it once. What cannot be understood is plain text with less metadata.
//!
//! ```
//! use scanlib::View;
//! use scanlib::message::{Format, Parser, ViewBuffers, ViewSet};
//!
//! let record = br#"{"source_ip":"10.42.2.1","message":"<38>Oct 11 22:14:15 web su[7]: hello"}"#;
//! let message = Parser::default().parse(record);
//! assert_eq!(message.format, Format::Json);
//! assert_eq!(message.body(), b"hello");
//! assert_eq!(message.fields.origin_host.as_deref(), Some("web"));
//! assert_eq!(message.fields.source_ip.as_deref(), Some("10.42.2.1"));
//!
//! let mut buffers = ViewBuffers::default();
//! let views: Vec<_> = buffers.views(&message, ViewSet::ALL).collect();
//! assert_eq!(views[0].data, record);
//! assert_eq!(views[2].view, View::Body);
//! assert_eq!(views[2].data, b"hello");
//! ```

mod base64;
#[cfg(feature = "syslog")]
mod cursor;
mod decode;
#[cfg(feature = "syslog")]
mod json;
#[cfg(feature = "syslog")]
mod parser;
mod pri;
#[cfg(feature = "syslog")]
mod syslog;
#[cfg(feature = "syslog")]
mod time;
mod views;

use std::borrow::Cow;

pub use decode::{DecodeLimits, MAX_DECODED_BYTES};
#[cfg(feature = "syslog")]
pub use parser::{FieldNames, Parser};
pub use pri::Pri;
pub use views::{ViewBuffers, ViewRef, ViewSet, ViewSetError, Views};

/// How a record, or the text inside a JSON record, is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// A JSON object that holds the message in one of its fields.
    Json,
    /// Syslog with a version after the priority.
    Rfc5424,
    /// BSD syslog, or something close to it.
    Rfc3164,
    /// Anything else.
    Plain,
}

impl Format {
    /// The lower-case word used in results and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Rfc5424 => "rfc5424",
            Format::Rfc3164 => "rfc3164",
            Format::Plain => "plain",
        }
    }
}

/// One record, parsed. It borrows the record and owns only what had to be unescaped.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Message<'r> {
    /// The record's bytes as they came.
    pub raw: &'r [u8],
    /// How the record is laid out.
    pub format: Format,
    /// How the [text](Message::text) is laid out; differs from `format` for JSON only.
    pub text_format: Format,
    /// The syslog priority, if the text has one (or the field `program` of a JSON record, where a
    /// collector that did not parse leaves it).
    pub pri: Option<Pri>,
    /// Metadata.
    pub fields: Fields<'r>,
    text: Cow<'r, [u8]>,
    body_start: usize,
}

impl<'r> Message<'r> {
    /// A record that is not parsed: all of it is text, and there is no metadata.
    pub fn plain(record: &'r [u8]) -> Message<'r> {
        Message {
            raw: record,
            format: Format::Plain,
            text_format: Format::Plain,
            pri: None,
            fields: Fields::default(),
            text: Cow::Borrowed(record),
            body_start: 0,
        }
    }

    /// The text of the message: the unescaped message field of a JSON record, else all of
    /// [`raw`](Message::raw).
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The MSG part of the text: what follows the syslog header, without the white space before
    /// it. A suffix of [`text`](Message::text), and all of it where there is no header.
    pub fn body(&self) -> &[u8] {
        self.text.get(self.body_start..).unwrap_or_default()
    }
}

/// What is known about a message besides its text. A field that is not there is `None`; bytes that
/// are not UTF-8 are replaced.
///
/// The first ten come from a JSON record as they are; `facility` and `level` are filled in from
/// the priority where the record does not give them. The `origin_*` are read from the text itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fields<'r> {
    /// Address of the peer that delivered the message to the collector.
    pub source_ip: Option<Cow<'r, str>>,
    /// Host as the collector names it; may be a gateway.
    pub source_host: Option<Cow<'r, str>>,
    /// Port of that peer.
    pub source_port: Option<Cow<'r, str>>,
    /// Facility, for example `daemon`.
    pub facility: Option<Cow<'r, str>>,
    /// Priority as the collector gives it.
    pub priority: Option<Cow<'r, str>>,
    /// Severity, for example `notice`.
    pub level: Option<Cow<'r, str>>,
    /// Program as the collector names it.
    pub program: Option<Cow<'r, str>>,
    /// Process id as the collector gives it.
    pub pid: Option<Cow<'r, str>>,
    /// Time as the collector gives it.
    pub timestamp: Option<Cow<'r, str>>,
    /// Host that the text names.
    pub origin_host: Option<Cow<'r, str>>,
    /// Program that the text names.
    pub origin_app: Option<Cow<'r, str>>,
    /// Process id that the text names; RFC 5424 allows any word.
    pub origin_pid: Option<Cow<'r, str>>,
    /// When it happened, RFC 3339 in UTC with milliseconds. See [`Parser::parse_received`] for
    /// what becomes of a time without year or zone.
    pub event_time: Option<String>,
}
