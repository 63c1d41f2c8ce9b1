//! Log lines: one JSON object each, on standard output.
//!
//! `message` comes first, then the fields in the order of the call, then `level` and `ts` (RFC 3339,
//! UTC, milliseconds). Untrusted text is a JSON string, so no line can be forged and no escape
//! sequence reaches a terminal. A field is not written a second time under a name of ours. Secrets of the configuration are hidden.
//! Texts are cut, those that come from records at 256 characters.

mod format;

use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

use crate::config::Secrets;

pub use format::JsonLines;
pub use scan_pipeline::log::{
    DetectionLimit, DetectionLog, LONGEST_RECORD_TEXT, LONGEST_TEXT, MAX_KEYS, Suppressed,
    Throttle, cut, threat_detected,
};

/// A subscriber that writes what passes the filter to a writer, for `tracing::subscriber::set_*` or
/// `with_default`, in which the secrets are hidden. The filter is `LEVEL` or `TARGET=LEVEL`, several separated by commas.
///
/// # Errors
///
/// If the filter is not written so.
pub fn subscriber<W>(
    filter: &str,
    writer: W,
    secrets: Secrets,
) -> Result<impl tracing::Subscriber + Send + Sync + use<W>, ParseError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter: Targets = filter.parse()?;
    Ok(Registry::default().with(JsonLines::new(writer, secrets).with_filter(filter)))
}

/// Makes log lines go to standard output, for the whole process.
///
/// # Errors
///
/// If the filter is wrong, or a subscriber was set before.
pub fn init(
    filter: &str,
    secrets: Secrets,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    tracing::subscriber::set_global_default(subscriber(filter, std::io::stdout, secrets)?)?;
    Ok(())
}
