//! The flags that say what is loaded, for the commands that look into an engine instead of scanning much with it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use scanlib::{Engine, Profile};

use super::{Escaped, MAX_MESSAGE_BYTES};
use crate::config::ScanConfig;
use crate::engine::{self, EngineError, EngineSettings};

/// What is loaded.
#[derive(Args, Debug)]
pub struct EngineArgs {
    /// Signature file or directory, not the built-in signature; repeatable
    #[arg(short, long, value_name = "PATH")]
    pub database: Vec<PathBuf>,

    /// Load bytecode signatures that are not signed: only from sources you trust
    #[arg(long)]
    pub bytecode_unsigned: bool,

    /// Use signatures of possibly unwanted applications too
    #[arg(long)]
    pub detect_pua: bool,

    /// Which signatures of the files are loaded: all, or those that can match a log message
    #[arg(long, value_enum, default_value_t = ProfileArg::Full, value_name = "full|log-only", hide_possible_values = true)]
    pub profile: ProfileArg,

    /// Keep the signature of this name out of the engine; repeatable
    #[arg(long, value_name = "NAME")]
    pub leave_out: Vec<String>,

    /// Counts of your own log lines, as `db tune` writes them, for the prefilter to choose by
    #[arg(long, value_name = "FILE")]
    pub text_model: Option<PathBuf>,
}

impl EngineArgs {
    /// Loads it.
    ///
    /// # Errors
    /// Those of [`engine::build`].
    pub(super) fn load(&self) -> Result<Engine, EngineError> {
        let engine = engine::build(&EngineSettings {
            database: self.database.clone(),
            bytecode_unsigned: self.bytecode_unsigned,
            pua: self.detect_pua,
            profile: self.profile.for_lines(),
            leave_out: self.leave_out.clone(),
            text_model: self.text_model.clone(),
            limits: ScanConfig::default().limits,
            ..EngineSettings::default()
        })?;
        for line in &engine.info().load_log {
            super::say(format_args!("scanner-bin: {}", Escaped(line.as_bytes())));
        }
        say_not_there(&engine);
        if self.database.is_empty() {
            super::say(format_args!("{BUILTIN_ONLY}"));
        }
        Ok(engine)
    }
}

/// Which signatures are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProfileArg {
    /// All.
    Full,
    /// Those that can match a log message.
    LogOnly,
}

impl ProfileArg {
    /// For the longest lines that the commands scan.
    pub(super) fn for_lines(self) -> Profile {
        match self {
            ProfileArg::Full => Profile::Full,
            ProfileArg::LogOnly => Profile::LogOnly {
                max_message_bytes: MAX_MESSAGE_BYTES as u64,
            },
        }
    }
}

/// Says which names of `--leave-out` are not there.
pub(super) fn say_not_there(engine: &Engine) {
    for name in &engine.info().unmatched_exclusions {
        let said = name.to_string();
        super::say(format_args!(
            "scanner-bin: warning: {}",
            Escaped(said.as_bytes())
        ));
    }
}

/// Said where signatures are missing.
pub(super) const BUILTIN_ONLY: &str =
    "scanner-bin: no --database given: libclamav knows the built-in test signature only";
