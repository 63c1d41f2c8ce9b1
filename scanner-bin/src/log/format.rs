//! From an event to its line.

use std::fmt;
use std::io::Write as _;

use serde_json::Value;
use time::OffsetDateTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer};

use super::{LONGEST_TEXT, cut};
use crate::config::Secrets;
use crate::{json, times};

/// The layer that writes events as JSON lines. Spans are not written: an event says all it knows. No text is longer than
/// [`LONGEST_TEXT`].
#[derive(Debug)]
pub struct JsonLines<W> {
    writer: W,
    secrets: Secrets,
}

impl<W> JsonLines<W> {
    /// Writes lines to this writer, each in one call. The secrets are hidden wherever they stand.
    pub fn new(writer: W, secrets: Secrets) -> JsonLines<W> {
        JsonLines { writer, secrets }
    }
}

impl<S, W> Layer<S> for JsonLines<W>
where
    S: Subscriber,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = line(event, OffsetDateTime::now_utc(), &self.secrets);
        // A log that cannot be written cannot be complained about either.
        let _unwritten = self
            .writer
            .make_writer_for(event.metadata())
            .write_all(&line);
    }
}

fn line(event: &Event<'_>, now: OffsetDateTime, secrets: &Secrets) -> Vec<u8> {
    let mut fields = Fields {
        secrets,
        message: None,
        others: Vec::new(),
    };
    event.record(&mut fields);
    let level = match *event.metadata().level() {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    };
    let mut line = Vec::with_capacity(256);
    line.push(b'{');
    push(
        &mut line,
        "message",
        &fields.message.unwrap_or_else(|| Value::from("")),
    );
    for (name, value) in &fields.others {
        push(&mut line, name, value);
    }
    push(&mut line, "level", &Value::from(level));
    push(&mut line, "ts", &Value::from(times::rfc3339_millis(now)));
    line.extend_from_slice(b"}\n");
    line
}

fn push(line: &mut Vec<u8>, name: &str, value: &Value) {
    if line.len() > 1 {
        line.push(b',');
    }
    // Names and values are strings, numbers and booleans, written to memory: nothing fails.
    let _infallible = json::append(line, &name);
    line.push(b':');
    let _infallible = json::append(line, value);
}

struct Fields<'s> {
    secrets: &'s Secrets,
    message: Option<Value>,
    others: Vec<(&'static str, Value)>,
}

impl Fields<'_> {
    fn record(&mut self, field: &Field, value: Value) {
        match field.name() {
            "message" => self.message = Some(value),
            // Ours stand at the end of the line; twice the same name is no valid line.
            "level" | "ts" => {}
            name => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let text = self.secrets.hide(value);
        self.record(field, Value::from(cut(&text, LONGEST_TEXT)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.record(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.record(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.record(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.record(field, Value::from(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
