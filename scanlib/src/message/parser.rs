use std::borrow::Cow;

use ::time::OffsetDateTime;
use serde::Deserialize;

use super::json::{self, Value};
use super::{Fields, Format, Message, Pri, syslog, time};

/// Names of the members of a JSON record. The defaults are those of a common syslog-ng template.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FieldNames {
    /// The text of the message. A record without it is plain text.
    pub message: String,
    /// Address of the peer that delivered the message to the collector.
    pub source_ip: String,
    /// Host as the collector names it.
    pub source_host: String,
    /// Port of that peer.
    pub source_port: String,
    /// Facility.
    pub facility: String,
    /// Priority.
    pub priority: String,
    /// Severity.
    pub level: String,
    /// Program as the collector names it.
    pub program: String,
    /// Process id.
    pub pid: String,
    /// Time as the collector gives it.
    pub timestamp: String,
}

impl Default for FieldNames {
    fn default() -> Self {
        FieldNames {
            message: "message".into(),
            source_ip: "source_ip".into(),
            source_host: "source_host".into(),
            source_port: "source_port".into(),
            facility: "facility".into(),
            priority: "priority".into(),
            level: "level".into(),
            program: "program".into(),
            pid: "pid".into(),
            timestamp: "timestamp".into(),
        }
    }
}

/// Turns records into [`Message`]s. Total: any bytes give a message.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    names: FieldNames,
}

impl Parser {
    /// A parser for JSON records with these member names, for syslog and for plain text.
    pub fn new(names: FieldNames) -> Parser {
        Parser { names }
    }

    /// The member names it looks for.
    pub fn field_names(&self) -> &FieldNames {
        &self.names
    }

    /// Parses a record; see [`parse_received`](Parser::parse_received).
    pub fn parse<'r>(&self, record: &'r [u8]) -> Message<'r> {
        self.parse_received(record, None)
    }

    /// Parses a record that was received at a known time, in milliseconds since 1970 in UTC.
    ///
    /// BSD syslog has times without year. The year becomes the one that makes the time the last
    /// not more than a day after `received_ms`, or after the record's own field `timestamp`; with
    /// neither, `event_time` stays `None`. A time without zone is taken as UTC; one with a zone
    /// that has no single meaning stays `None`.
    pub fn parse_received<'r>(&self, record: &'r [u8], received_ms: Option<i64>) -> Message<'r> {
        let json = self.json(record);
        let is_json = json.is_some();
        let (mut fields, text) = json.unwrap_or((Fields::default(), Cow::Borrowed(record)));

        let stated = fields
            .timestamp
            .as_ref()
            .and_then(|t| time::parse_rfc3339(t.as_bytes()));
        let reference = received_ms.and_then(time::from_unix_ms).or(stated);
        // Words borrow from the record where the text does, else they are copied.
        let header = match &text {
            Cow::Borrowed(text) => Header::of(text, reference),
            Cow::Owned(text) => Header::of(text, reference).into_owned(),
        };
        fields.event_time = header.time.or(stated).map(time::format);
        fields.origin_host = header.host;
        fields.origin_app = header.app;
        fields.origin_pid = header.pid;
        let in_program = || Some(Pri::read(fields.program.as_deref()?.as_bytes())?.0);
        let pri = header.pri.or_else(in_program);
        if let Some(pri) = pri {
            fields.facility.get_or_insert(Cow::Borrowed(pri.facility()));
            fields.level.get_or_insert(Cow::Borrowed(pri.level()));
        }
        Message {
            raw: record,
            format: if is_json { Format::Json } else { header.format },
            text_format: header.format,
            pri,
            fields,
            text,
            body_start: header.body_start,
        }
    }

    /// Metadata and text of a JSON record that has a message.
    fn json<'r>(&self, record: &'r [u8]) -> Option<(Fields<'r>, Cow<'r, [u8]>)> {
        let names = &self.names;
        let mut fields = Fields::default();
        let mut message = None;
        json::object(record, |name, value| {
            let name = name.unescape();
            let named = |wanted: &str| wanted.as_bytes() == name.as_ref();
            let text = || match value {
                Value::String(text) => Some(text.unescape()),
                Value::Word(word) => Some(Cow::Borrowed(word)),
                Value::Other => None,
            };
            if named(&names.message) {
                message = text();
                return;
            }
            // Any of them may bear the name of another in some deployment, so each is asked.
            for (wanted, field) in [
                (&names.source_ip, &mut fields.source_ip),
                (&names.source_host, &mut fields.source_host),
                (&names.source_port, &mut fields.source_port),
                (&names.facility, &mut fields.facility),
                (&names.priority, &mut fields.priority),
                (&names.level, &mut fields.level),
                (&names.program, &mut fields.program),
                (&names.pid, &mut fields.pid),
                (&names.timestamp, &mut fields.timestamp),
            ] {
                if named(wanted) {
                    *field = text().map(lossy_cow);
                }
            }
        })?;
        Some((fields, message?))
    }
}

/// A syslog header with its words as text.
struct Header<'t> {
    format: Format,
    pri: Option<Pri>,
    time: Option<OffsetDateTime>,
    host: Option<Cow<'t, str>>,
    app: Option<Cow<'t, str>>,
    pid: Option<Cow<'t, str>>,
    body_start: usize,
}

impl<'t> Header<'t> {
    fn of(text: &'t [u8], reference: Option<OffsetDateTime>) -> Header<'t> {
        let found = syslog::parse(text);
        Header {
            format: found.format,
            pri: found.pri,
            time: found.stamp.and_then(|stamp| stamp.resolve(reference)),
            host: found.host.map(lossy),
            app: found.app.map(lossy),
            pid: found.pid.map(lossy),
            body_start: found.body_start,
        }
    }

    fn into_owned<'r>(self) -> Header<'r> {
        let owned = |word: Option<Cow<'t, str>>| word.map(|word| Cow::Owned(word.into_owned()));
        Header {
            format: self.format,
            pri: self.pri,
            time: self.time,
            host: owned(self.host),
            app: owned(self.app),
            pid: owned(self.pid),
            body_start: self.body_start,
        }
    }
}

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn lossy_cow(bytes: Cow<'_, [u8]>) -> Cow<'_, str> {
    match bytes {
        Cow::Borrowed(bytes) => lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(lossy(&bytes).into_owned()),
    }
}
