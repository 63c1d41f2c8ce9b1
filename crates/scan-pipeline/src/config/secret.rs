//! What must not be shown: where it comes from, and that it stays hidden.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use super::{Environment, text};

/// No password is longer.
const MAX_SECRET_BYTES: u64 = 64 << 10;
/// Stands in place of a secret wherever the configuration is printed.
pub const HIDDEN: &str = "********";

/// Where a secret is to be read. The configuration names the place and never holds the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A file that holds it, with or without a line feed behind it.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
}

/// A password. It is not shown when it is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    source: SecretSource,
    value: String,
}

impl Secret {
    /// Reads it; an error says why that cannot be done.
    pub fn read(source: SecretSource, environment: &Environment) -> Result<Secret, String> {
        let value = match &source {
            SecretSource::File(path) => {
                let text = text::read(path, MAX_SECRET_BYTES)
                    .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
                let line = text.strip_suffix('\n').unwrap_or(&text);
                line.strip_suffix('\r').unwrap_or(line).to_owned()
            }
            SecretSource::Variable(name) => environment
                .get(name)
                .cloned()
                .ok_or_else(|| format!("the variable {name} is not set"))?,
        };
        match value.is_empty() {
            true => Err("it names an empty secret".to_owned()),
            false => Ok(Secret { source, value }),
        }
    }

    /// Where it was read.
    pub fn source(&self) -> &SecretSource {
        &self.source
    }

    /// The secret itself. Do not log it.
    pub fn expose(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("source", &self.source)
            .field("value", &HIDDEN)
            .finish()
    }
}

/// Shorter values are not searched for: they stand in every other line.
const MIN_HIDDEN_BYTES: usize = 4;

/// Values that must not be shown, to be hidden in text that is made elsewhere, such as the errors and log lines of librdkafka.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// Hides these values. Values shorter than 4 bytes are dropped: they occur in every other line by chance.
    pub fn new<'v>(values: impl IntoIterator<Item = &'v str>) -> Secrets {
        let mut values: Vec<String> = values
            .into_iter()
            .filter(|value| value.len() >= MIN_HIDDEN_BYTES)
            .map(str::to_owned)
            .collect();
        // The longest first: one may be a part of another.
        values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        values.dedup();
        Secrets(values)
    }

    /// The text with every secret in it hidden.
    pub fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for secret in &self.0 {
            if memchr::memmem::find(text.as_bytes(), secret.as_bytes()).is_some() {
                text = Cow::Owned(text.replace(secret.as_str(), HIDDEN));
            }
        }
        text
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}
