//! The flags of `scan`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use scanlib::{View, ViewSet};

/// Scan files, or lines of files, with the engine of the service and no Kafka.
///
/// Exit status: 1 if a threat was found (whatever else happened), else 2 if something could not be
/// examined in full, else 0.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  scanner-bin scan -r /srv/uploads
  scanner-bin scan --lines --format jsonl --infected /var/log/syslog
  journalctl -f | scanner-bin scan --lines -")]
pub struct ScanArgs {
    /// Files and directories; - reads standard input
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Descend into directories
    #[arg(short, long)]
    pub recursive: bool,

    /// Treat each line as a message of its own: all views, with rules
    #[arg(long)]
    pub lines: bool,

    /// Signature file or directory, in place of the built-in signature; may be repeated
    #[arg(short, long, value_name = "PATH")]
    pub database: Vec<PathBuf>,

    /// How to print: `PATH: NAME FOUND` as clamscan does, or one JSON object for each file or line
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,

    /// Print what has a threat or could not be examined in full, not what is clean
    #[arg(short, long)]
    pub infected: bool,

    /// Report every signature that matches, not the first one only
    #[arg(short = 'z', long)]
    pub allmatch: bool,

    /// Views to examine, from raw,body,decoded,guarded [default: raw,guarded; all with --lines]
    #[arg(long, value_name = "VIEWS")]
    pub views: Option<ViewSet>,

    /// Match severity rules [default: off; on with --lines]
    #[arg(long, value_enum)]
    pub rules: Option<Switch>,

    /// Skip libclamav where it is proven that it would find nothing
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub prefilter: Switch,

    /// Scanning threads [default: one for each processor]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,

    /// Load bytecode signatures that are not signed: only from sources you trust
    #[arg(long)]
    pub bytecode_unsigned: bool,

    /// Directory for libclamav's temporary files [default: on memory where there is room]
    #[arg(long, value_name = "DIR")]
    pub tmp_dir: Option<PathBuf>,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// As clamscan: `PATH: NAME FOUND`, and a summary on standard error
    Table,
    /// One JSON object for each file or line
    Jsonl,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Do it.
    On,
    /// Do not.
    Off,
}

impl ScanArgs {
    /// The views to examine.
    pub fn views(&self) -> ViewSet {
        self.views.unwrap_or(if self.lines {
            ViewSet::ALL
        } else {
            ViewSet::RAW.with(View::Guarded)
        })
    }

    /// Whether rules are matched.
    pub fn rules(&self) -> bool {
        self.rules.map_or(self.lines, |switch| switch == Switch::On)
    }
}
