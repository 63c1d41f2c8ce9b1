//! The configuration of `run`: file < environment < flags, then checked as a whole.
//!
//! [`load`] is a pure function of its arguments and the file: the environment comes in as a map.
//! Every setting is known under one dotted path (`kafka.brokers`), which is its place in the file,
//! its long name in the environment (`SCANNER_KAFKA__BROKERS`) and its name in error messages.
//! Settings that have a flag (`--brokers`) have a short name in the environment too
//! (`SCANNER_BROKERS`). `docs/scanner.toml` shows every setting with its default; a test keeps it true.

mod checked;
mod error;
mod flags;
mod raw;
mod security;
mod show;
mod sources;
mod units;

pub(crate) use checked::max_threads;
pub use checked::{Config, IsolationMode, OpsConfig, Profile, ReloadMode, ScanConfig};
pub use error::{ConfigError, Problem};
pub use flags::RunFlags;
pub(crate) use scan_pipeline::config::text;
pub use scan_pipeline::config::{
    ClientCertificate, Compression, Delivery, Emit, Environment, GroupProtocol, KafkaConfig,
    Properties, ResultFormat, ResultKey, SaslConfig, SaslMechanism, Secret, SecretSource, Secrets,
    TlsConfig, UnreadableBatch,
};
pub use show::show;
pub use sources::Origins;

/// The variables of this process; those that are not UTF-8 are left out, as no setting of ours can
/// be among them.
pub fn process_environment() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Reads and checks the configuration.
///
/// # Errors
///
/// Everything that is wrong, not only the first: each problem says which setting, where it was set
/// and what to do.
pub fn load(flags: &RunFlags, environment: &Environment) -> Result<Config, ConfigError> {
    load_with_origins(flags, environment).map(|(config, _)| config)
}

/// The same, and where each setting that is not a default was set.
///
/// # Errors
/// Those of [`load`].
pub fn load_with_origins(
    flags: &RunFlags,
    environment: &Environment,
) -> Result<(Config, Origins), ConfigError> {
    let layers = sources::collect(flags, environment)?;
    let config = Config::check(layers.raw, &layers.origins, environment)?;
    Ok((config, layers.origins))
}

/// A commented file that holds every setting with its default.
pub const SAMPLE: &str = include_str!("../../../docs/scanner.toml");

/// The dotted path of every setting, for example `kafka.brokers`.
pub fn settings() -> Vec<String> {
    raw::known_paths()
}
