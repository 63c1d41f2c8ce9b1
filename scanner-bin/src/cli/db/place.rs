//! Where signatures come from and where a replica keeps them: as `run` would have it, or as flags say.

use std::error::Error;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use crate::cli::format::Format;
use crate::config::{self, RunFlags, ScanConfig};
use crate::generation::state::State;
use crate::json;

/// What goes wrong is told once, to a person.
pub(super) type Failure = Box<dyn Error>;

/// Flags of every command about generations.
#[derive(Args, Debug)]
pub struct PlaceArgs {
    /// Configuration file of `run` (TOML) [env: SCANNER_CONFIG]
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,

    /// Signature file or directory, not what the configuration says; repeatable
    #[arg(short, long, value_name = "PATH")]
    pub database: Vec<PathBuf>,

    /// Where the replica keeps signatures, not what the configuration says
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Which signatures of the files are loaded, not what the configuration says
    #[arg(long, value_name = "full|log-only")]
    pub profile: Option<String>,

    /// Text for people, or a JSON object
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "text|json",
          hide_possible_values = true, hide_default_value = true)]
    pub format: Format,
}

impl PlaceArgs {
    /// The settings that `run` would have, with these flags.
    pub(super) fn settings(&self) -> Result<ScanConfig, Failure> {
        let flags = RunFlags {
            config: self.config.clone(),
            database: self.database.clone(),
            state_dir: self.state_dir.clone(),
            profile: self.profile.clone(),
            ..RunFlags::default()
        };
        Ok(config::load(&flags, &config::process_environment())?.scan)
    }

    /// The page in the form that is wanted.
    pub(super) fn page(
        &self,
        text: impl FnOnce() -> String,
        object: &Value,
    ) -> Result<Vec<u8>, Failure> {
        page(self.format, text, object)
    }
}

/// A page of text, or the object on a line.
pub(super) fn page(
    format: Format,
    text: impl FnOnce() -> String,
    object: &Value,
) -> Result<Vec<u8>, Failure> {
    Ok(match format {
        Format::Text => text().into_bytes(),
        Format::Json => {
            let mut page = Vec::new();
            json::append(&mut page, object)?;
            page.push(b'\n');
            page
        }
    })
}

/// The directory that the settings name, to look at.
pub(super) fn state(scan: &ScanConfig) -> Result<State, Failure> {
    let dir = scan
        .state_dir
        .as_ref()
        .ok_or("scan.state_dir is not set, so nothing is kept: set it for the service, or name it with --state-dir")?;
    Ok(State::look(dir)?)
}
