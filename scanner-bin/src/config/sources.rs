//! The layers and where each setting came from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use config::{ConfigError as LayerError, File, FileFormat, Map, Source, Value, ValueKind};
use scan_pipeline::config::properties::{instead_of_flag, is_secret};
use scan_pipeline::config::{HIDDEN, text};

use super::Environment;
use super::error::{ConfigError, Problem};
use super::flags::{RunFlags, SHORT_NAMES};
use super::raw::{Raw, known_paths};

/// Path of a setting → where its value was set.
pub type Origins = BTreeMap<String, String>;

/// All layers put together.
pub(super) struct Layers {
    pub(super) raw: Raw,
    pub(super) origins: Origins,
}

/// No configuration is longer.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The map of librdkafka properties: below it every key is allowed here.
const PROPERTIES: &str = "kafka.properties";
/// Variables that are not settings: the path of the file, and where tests find their data.
const EXEMPT: &[&str] = &["SCANNER_CONFIG", "SCANNER_TEST_DATA"];

pub(super) fn collect(flags: &RunFlags, environment: &Environment) -> Result<Layers, ConfigError> {
    let mut layers = Vec::new();
    let mut problems = Vec::new();
    if let Some((path, origin)) = file_path(flags, environment) {
        layers.push(file_layer(path, origin, &mut problems)?);
    }
    layers.push(environment_layer(environment, &mut problems));
    layers.push(flag_layer(flags, &mut problems));
    ConfigError::from_problems(problems)?;

    let mut origins = Origins::new();
    let mut builder = config::Config::builder();
    for layer in layers {
        for (path, value) in &layer.0 {
            let origin = value.origin().unwrap_or_default();
            origins.insert(path.clone(), origin.to_owned());
            if let ValueKind::Table(properties) = &value.kind {
                for (name, value) in properties {
                    let origin = value.origin().unwrap_or(origin);
                    origins.insert(format!("{path}.{name}"), origin.to_owned());
                }
            }
        }
        builder = builder.add_source(layer);
    }
    let merged = builder.build().and_then(|all| all.try_deserialize::<Raw>());
    match merged {
        Ok(raw) => Ok(Layers { raw, origins }),
        Err(error) => Err(wrong_type(error, &origins).into()),
    }
}

fn file_path(flags: &RunFlags, environment: &Environment) -> Option<(PathBuf, &'static str)> {
    let from_flag = flags.config.clone().map(|path| (path, "flag --config"));
    from_flag.or_else(|| {
        let path = environment
            .get("SCANNER_CONFIG")
            .filter(|path| !path.is_empty())?;
        Some((PathBuf::from(path), "variable SCANNER_CONFIG"))
    })
}

/// One layer, flat: a value for each dotted path. Properties stay one map, as their names hold dots.
#[derive(Clone, Debug, Default)]
struct Layer(BTreeMap<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, LayerError> {
        Ok(self.0.clone().into_iter().collect())
    }
}

impl Layer {
    fn set(&mut self, path: &str, origin: &str, kind: impl Into<ValueKind>) {
        self.0
            .insert(path.to_owned(), Value::new(Some(&origin.to_owned()), kind));
    }

    fn set_property(&mut self, name: &str, origin: &str, value: &str) {
        let properties = self
            .0
            .entry(PROPERTIES.to_owned())
            .or_insert_with(|| Value::new(Some(&origin.to_owned()), ValueKind::Table(Map::new())));
        if let ValueKind::Table(table) = &mut properties.kind {
            table.insert(name.to_owned(), Value::new(Some(&origin.to_owned()), value));
        }
    }
}

fn file_layer(
    path: PathBuf,
    given_by: &str,
    problems: &mut Vec<Problem>,
) -> Result<Layer, ConfigError> {
    let wrong = |what: String, remedy: &str| Problem {
        subject: path.display().to_string(),
        origin: given_by.to_owned(),
        what,
        remedy: remedy.to_owned(),
    };
    let text = text::read(&path, MAX_FILE_BYTES).map_err(|error| {
        wrong(
            format!("the configuration file cannot be read: {error}"),
            "correct the path or the file's permissions",
        )
    })?;
    let tree = File::from_str(&text, FileFormat::Toml)
        .collect()
        .map_err(|error| {
            wrong(
                format!("not TOML: {}", without_source(&error.to_string())),
                "correct the file",
            )
        })?;

    let origin = format!("file {}", path.display());
    let known = known_paths();
    let mut layer = Layer::default();
    for (name, value) in tree {
        flatten(&name, value, &origin, &known, &mut layer, problems);
    }
    Ok(layer)
}

/// An error of the parser without the line of the file that it shows, which may hold a secret. Where it is stands in the error.
fn without_source(error: &str) -> String {
    let is_said = |line: &&str| {
        let number = line
            .trim_start()
            .trim_start_matches(|c: char| c.is_ascii_digit());
        !number.trim_start().starts_with('|')
    };
    let kept: Vec<&str> = error.trim_end().lines().filter(is_said).collect();
    kept.join(": ")
}

fn flatten(
    path: &str,
    value: Value,
    origin: &str,
    known: &[String],
    layer: &mut Layer,
    problems: &mut Vec<Problem>,
) {
    if known.iter().any(|key| key == path) {
        layer.set(path, origin, value.kind);
        return;
    }
    let is_section = known.iter().any(|key| {
        key.strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    });
    match value.kind {
        ValueKind::Table(table) if is_section => {
            for (name, child) in table {
                flatten(
                    &format!("{path}.{name}"),
                    child,
                    origin,
                    known,
                    layer,
                    problems,
                );
            }
        }
        _ if is_section => problems.push(Problem {
            subject: path.to_owned(),
            origin: origin.to_owned(),
            what: "is a section, not a setting".to_owned(),
            remedy: format!("write [{path}] on a line of its own and the settings below it"),
        }),
        _ => problems.push(Problem {
            subject: path.to_owned(),
            origin: origin.to_owned(),
            what: "unknown key".to_owned(),
            remedy: format!("the nearest known key is {}", nearest(path, known)),
        }),
    }
}

fn environment_layer(environment: &Environment, problems: &mut Vec<Problem>) -> Layer {
    let known = known_paths();
    let mut layer = Layer::default();
    // Long name or short name → path.
    let mut names: BTreeMap<String, &str> = known
        .iter()
        .map(|path| (long_variable(path), path.as_str()))
        .collect();
    names.extend(
        SHORT_NAMES
            .iter()
            .map(|(path, short)| (short_variable(short), *path)),
    );
    let property_prefix = format!("{}__", long_variable(PROPERTIES));

    for (name, value) in environment {
        if !name.starts_with("SCANNER_") || EXEMPT.contains(&name.as_str()) {
            continue;
        }
        let origin = format!("variable {name}");
        if let Some(property) = name.strip_prefix(&property_prefix) {
            layer.set_property(
                &property.to_ascii_lowercase().replace('_', "."),
                &origin,
                value,
            );
            continue;
        }
        let Some(&path) = names.get(name).filter(|path| **path != PROPERTIES) else {
            problems.push(unknown_variable(name, &names));
            continue;
        };
        if let Some(other) = layer
            .0
            .get(path)
            .filter(|other| other.kind != ValueKind::String(value.clone()))
        {
            problems.push(Problem {
                subject: path.to_owned(),
                origin: format!("{} and {origin}", other.origin().unwrap_or_default()),
                what: "set twice with different values".to_owned(),
                remedy: "unset one of the two".to_owned(),
            });
        }
        layer.set(path, &origin, value.as_str());
    }
    layer
}

fn unknown_variable(name: &str, names: &BTreeMap<String, &str>) -> Problem {
    let known: Vec<String> = names.keys().cloned().collect();
    // Kubernetes gives every pod SCANNER_PORT and the like if a service is called "scanner".
    let service_link = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"]
        .iter()
        .any(|part| name.contains(part));
    let hint = if service_link {
        ", or set enableServiceLinks: false if Kubernetes made it"
    } else {
        ""
    };
    Problem {
        subject: name.to_owned(),
        origin: "environment".to_owned(),
        what: "unknown variable".to_owned(),
        remedy: format!(
            "unset it{hint}; the nearest known one is {}",
            nearest(name, &known)
        ),
    }
}

fn flag_layer(flags: &RunFlags, problems: &mut Vec<Problem>) -> Layer {
    let mut layer = Layer::default();
    for (short, value) in flags.given() {
        if let Some((path, _)) = SHORT_NAMES.iter().find(|(_, name)| *name == short) {
            layer.set(path, &format!("flag --{short}"), value);
        }
    }
    for property in &flags.properties {
        match property.split_once('=') {
            Some((name, value)) if !name.is_empty() && is_secret(name, value) => {
                problems.push(Problem {
                    subject: format!("{PROPERTIES}.{name}"),
                    origin: "flag --property".to_owned(),
                    what: "may hold a secret, and whoever lists the processes of this machine reads its command line".to_owned(),
                    remedy: instead_of_flag(name),
                });
            }
            Some((name, value)) if !name.is_empty() => {
                layer.set_property(name, "flag --property", value)
            }
            _ => problems.push(Problem {
                // What was meant to be a value may be a secret.
                subject: property_name(property),
                origin: "flag --property".to_owned(),
                what: "not a property".to_owned(),
                remedy: "write NAME=VALUE".to_owned(),
            }),
        }
    }
    layer
}

/// The beginning of a text that looks like a property's name, as far as it can be shown.
fn property_name(text: &str) -> String {
    const LONGEST: usize = 64;
    let is_name = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
    let name: String = text.chars().take_while(is_name).take(LONGEST).collect();
    match is_secret(text, text) || name.len() < text.len() {
        true if is_secret(&name, "") => HIDDEN.to_owned(),
        true => format!("{name}…"),
        false => name,
    }
}

fn long_variable(path: &str) -> String {
    format!("SCANNER_{}", path.replace('.', "__").to_ascii_uppercase())
}

fn short_variable(short: &str) -> String {
    format!("SCANNER_{}", short.replace('-', "_").to_ascii_uppercase())
}

/// The known name that looks most like this one, as a whole or by its last part: a key in the wrong
/// section is found in the right one.
fn nearest(name: &str, known: &[String]) -> String {
    let name = name.replace("__", ".");
    let distance = |key: &String| {
        let key = key.replace("__", ".");
        let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
        let whole = strsim::osa_distance(&name, &key);
        (
            whole.min(strsim::osa_distance(&last(&name), &last(&key))),
            whole,
        )
    };
    known
        .iter()
        .min_by_key(|key| distance(key))
        .cloned()
        .unwrap_or_default()
}

/// A value of the wrong type, in the words of all other problems.
fn wrong_type(error: LayerError, origins: &Origins) -> Problem {
    let (key, what) = match error {
        LayerError::At { error, key, .. } => (key, error.to_string()),
        LayerError::Type {
            unexpected,
            expected,
            key,
            ..
        } => (key, format!("{unexpected} is not {expected}")),
        other => (None, other.to_string()),
    };
    let subject = key.unwrap_or_else(|| "the configuration".to_owned());
    let what = match subject == PROPERTIES {
        // The value may hold a secret.
        true => "not a section of NAME = \"VALUE\"".to_owned(),
        false => what,
    };
    // A list's element is `path[0]`, a property `kafka.properties.name`: their origin is the whole's.
    let whole = subject.split('[').next().unwrap_or_default();
    let whole = if whole.starts_with(PROPERTIES) {
        PROPERTIES
    } else {
        whole
    };
    Problem {
        origin: origins.get(whole).cloned().unwrap_or_default(),
        subject,
        what,
        remedy: "correct the value".to_owned(),
    }
}
