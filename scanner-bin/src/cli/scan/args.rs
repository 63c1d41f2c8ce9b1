//! The flags of `scan`: clamscan's where there is one for it, with its name and its meaning.

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use regex::bytes::Regex;
use scanlib::{Limits, ScanOptions, View, ViewSet};

use super::super::engine::ProfileArg;
use super::color::ColorChoice;
use super::foreign::ForeignFlags;
use crate::config::max_threads;

/// Scan files, or lines of files, with the engine of the service and no Kafka.
#[derive(Args, Debug)]
#[command(
    args_override_self = true,
    after_help = "\
Exit status: 1 a threat, else 2 not everything could be examined, else 0.
More flags, and what differs from clamscan: --help

Examples:
  scanner-bin scan -ri /srv/uploads --database /var/lib/clamav
  scanner-bin scan --lines --format jsonl --infected /var/log/syslog
  find /home -newer stamp -type f | scanner-bin scan -i --files-from -",
    after_long_help = "\
clamscan's flags mean what they mean there, and lines look as they do there: PATH: NAME FOUND, PATH: OK.
What differs from clamscan:
  - What met a limit is PARTIAL, with exit status 2, and not OK; what cannot be read is ERROR.
  - Nothing is loaded that is not named: without --database, only the built-in test signature.
  - The summary goes to standard error; with --stdout it follows the results, as clamscan's does.
  - Directories are entered to any depth, unless --max-dir-recursion is given.
  - --file-list adds to the paths of the command line, and may be standard input.
  - --move, --copy and --remove act on the very file that was scanned, or on none if it changed or
    another has its name; nothing is overwritten. A terminal obeys no name, as all are escaped.
  - A file that changes while it is scanned is PARTIAL.
  - --lines unpacks gzip, bzip2, xz and zstd; what is compressed otherwise is ERROR.
  - Another flag of clamscan is refused if it changes what is examined or done, and ignored with a
    warning if it changes what is shown or kept.

Exit status: 1 if a threat was found (whatever else happened), else 2 if something could not be
examined in full, else 0.

Examples:
  scanner-bin scan -ri /srv/uploads --database /var/lib/clamav
  scanner-bin scan -r --exclude '\\.iso$' --exclude-dir '/\\.git$' --move /srv/quarantine /srv/uploads
  scanner-bin scan --lines --format jsonl --infected /var/log/syslog
  journalctl -f | scanner-bin scan --lines -
  find /home -newer stamp -type f | scanner-bin scan -i --files-from -
  scanner-bin scan -r --quiet --log scan.log --stats json /srv 2>stats.json"
)]
pub struct ScanArgs {
    /// Files and directories; - reads standard input
    #[arg(required_unless_present = "file_list", value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Descend into directories
    #[arg(short, long, value_name = "yes|no", value_parser = yes_no, action = ArgAction::Set, num_args = 0..=1,
          require_equals = true, default_value = "no", default_missing_value = "yes", hide_default_value = true)]
    pub recursive: bool,

    /// Treat each line as a message of its own: all views, with rules
    ///
    /// Files and standard input that hold gzip, bzip2, xz or zstd data are unpacked, whatever their names. Data that is compressed in
    /// another way is an error.
    #[arg(long, conflicts_with_all = ["move_to", "copy_to"])]
    pub lines: bool,

    /// Signature file or directory, not the built-in signature; repeatable
    #[arg(short, long, value_name = "PATH")]
    pub database: Vec<PathBuf>,

    /// Print only what is infected or could not be examined in full
    #[arg(short, long)]
    pub infected: bool,

    /// Report every signature that matches, not the first one only
    #[arg(short = 'z', long, value_name = "yes|no", value_parser = yes_no, action = ArgAction::Set, num_args = 0..=1,
          require_equals = true, default_value = "no", default_missing_value = "yes", hide_default_value = true)]
    pub allmatch: bool,

    /// `PATH: NAME FOUND` as clamscan does, or a JSON object for each
    #[arg(long, value_enum, default_value_t = Format::Table, value_name = "table|jsonl",
          hide_possible_values = true, hide_default_value = true)]
    pub format: Format,

    /// Views to examine, from raw,body,decoded,guarded [default: raw,guarded; all with --lines]
    #[arg(long, value_name = "VIEWS", hide_short_help = true)]
    pub views: Option<ViewSet>,

    /// Match severity rules [default: off; on with --lines]
    #[arg(long, value_enum, value_name = "on|off", hide_possible_values = true)]
    pub rules: Option<Switch>,

    /// Skip libclamav where it is proven that it would find nothing
    #[arg(long, value_enum, default_value_t = Switch::On, value_name = "on|off", hide_possible_values = true, hide_short_help = true)]
    pub prefilter: Switch,

    /// Which signatures of the databases are loaded: all, or those that can match a log message
    #[arg(long, value_enum, default_value_t = ProfileArg::Full, value_name = "full|log-only", hide_possible_values = true, hide_short_help = true)]
    pub profile: ProfileArg,

    /// Keep the signature of this name out of the engine: what only it finds is not found; repeatable
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    pub leave_out: Vec<String>,

    /// Counts of your own log lines, as `db tune` writes them, for the prefilter to choose by
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub text_model: Option<PathBuf>,

    /// Scanning threads, at most 64 or 4 for each processor [default: one for each]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<NonZeroUsize>,

    /// Directory for libclamav's temporary files [default: on memory where there is room]
    #[arg(long, alias = "tempdir", value_name = "DIR", hide_short_help = true)]
    pub tmp_dir: Option<PathBuf>,

    /// Which files of the paths are scanned.
    #[command(flatten)]
    pub files: FileArgs,

    /// What is said, and where.
    #[command(flatten)]
    pub output: OutputArgs,

    /// What libclamav looks for.
    #[command(flatten)]
    pub signatures: SignatureArgs,

    /// How much of one object is examined.
    #[command(flatten)]
    pub limits: LimitArgs,

    /// What clamscan has and `scan` has not.
    #[command(flatten)]
    pub foreign: ForeignFlags,
}

/// Which files of the paths are scanned.
#[derive(Args, Debug)]
#[command(next_help_heading = "Which files")]
pub struct FileArgs {
    /// Scan also the paths in FILE, one a line; - is standard input
    #[arg(short, long, alias = "files-from", value_name = "FILE")]
    pub file_list: Option<PathBuf>,

    /// Leave out files whose path matches; repeatable
    ///
    /// The path of a file is its real one here: absolute and without symbolic links, as with clamscan.
    #[arg(long, value_name = "REGEX")]
    pub exclude: Vec<Regex>,

    /// Leave out directories whose path matches, and all in them; repeatable
    ///
    /// The path of a directory is the one by which it is reached from the command line. An expression that ends
    /// with / sees a path that ends with one, so `/cache/` matches directories of just that name.
    #[arg(long, value_name = "REGEX")]
    pub exclude_dir: Vec<Regex>,

    /// Scan only files whose path matches one of these; repeatable
    #[arg(long, value_name = "REGEX", hide_short_help = true)]
    pub include: Vec<Regex>,

    /// Enter only directories whose path matches one of these, the first one too; repeatable
    #[arg(long, value_name = "REGEX", hide_short_help = true)]
    pub include_dir: Vec<Regex>,

    /// Enter directories on other file systems
    #[arg(long, value_name = "yes|no", value_parser = yes_no, action = ArgAction::Set, num_args = 0..=1,
          require_equals = true, default_value = "yes", default_missing_value = "yes", hide_short_help = true)]
    pub cross_fs: bool,

    /// Enter at most N directories deep; what lies deeper is reported as PARTIAL [default: no limit]
    #[arg(long, value_name = "N", hide_short_help = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_dir_recursion: Option<u32>,

    /// Move infected files into DIR; nothing there is overwritten
    #[arg(
        long = "move",
        id = "move_to",
        value_name = "DIR",
        conflicts_with = "copy_to"
    )]
    pub move_to: Option<PathBuf>,

    /// Copy infected files into DIR; nothing there is overwritten
    #[arg(
        long = "copy",
        id = "copy_to",
        value_name = "DIR",
        hide_short_help = true
    )]
    pub copy_to: Option<PathBuf>,

    /// Remove infected files: there is no way back
    #[arg(long, value_name = "yes|no", value_parser = yes_no, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "no", default_missing_value = "yes", hide_default_value = true, hide_short_help = true)]
    pub remove: bool,
}

/// What is said, and where.
#[derive(Args, Debug)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Do not print what is OK
    #[arg(short = 'o', long)]
    pub suppress_ok_results: bool,

    /// Print only what could not be examined in full, on standard error
    ///
    /// --log still gets everything. With --stats json the summary is still printed.
    #[arg(long)]
    pub quiet: bool,

    /// No summary at the end
    #[arg(long)]
    pub no_summary: bool,

    /// The summary, on standard error, as text or as one JSON object
    ///
    /// Text is as clamscan's, with more lines, and is left out with --format jsonl. The object is the last line.
    #[arg(long, value_enum, default_value_t = Stats::Text, value_name = "text|json",
          hide_possible_values = true, hide_default_value = true)]
    pub stats: Stats,

    /// Print the summary on standard output, after the results
    #[arg(long, hide_short_help = true)]
    pub stdout: bool,

    /// Append results and summary to FILE, as text
    #[arg(short, long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Sound the bell when a threat is found
    #[arg(long, hide_short_help = true)]
    pub bell: bool,

    /// Colours: auto, always or never; auto heeds NO_COLOR, CLICOLOR_FORCE
    #[arg(long, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN",
          hide_possible_values = true, hide_default_value = true)]
    pub color: ColorChoice,

    /// No progress bar (there is one only if standard error is a terminal)
    #[arg(long, hide_short_help = true)]
    pub no_progress: bool,
}

/// What libclamav looks for.
#[derive(Args, Debug)]
#[command(next_help_heading = "Signatures")]
pub struct SignatureArgs {
    /// Use signatures of possibly unwanted applications too
    #[arg(long, value_name = "yes|no", value_parser = yes_no, action = ArgAction::Set, num_args = 0..=1,
          require_equals = true, default_value = "no", default_missing_value = "yes", hide_default_value = true, hide_short_help = true)]
    pub detect_pua: bool,

    /// Use only signatures that ClamAV's publisher has signed
    #[arg(long, value_name = "yes|no", value_parser = yes_no, action = ArgAction::Set, num_args = 0..=1, requires = "database",
          require_equals = true, default_value = "no", default_missing_value = "yes", hide_default_value = true, hide_short_help = true)]
    pub official_db_only: bool,

    /// Load bytecode signatures that are not signed: only from sources you trust
    #[arg(long, value_name = "yes|no", value_parser = yes_no, action = ArgAction::Set, num_args = 0..=1,
          require_equals = true, default_value = "no", default_missing_value = "yes", hide_default_value = true, hide_short_help = true)]
    pub bytecode_unsigned: bool,

    /// Alert on encrypted archives and documents, which cannot be examined
    #[arg(long, value_name = "yes|no", value_parser = yes_no, action = ArgAction::Set, num_args = 0..=1,
          require_equals = true, default_value = "no", default_missing_value = "yes", hide_default_value = true, hide_short_help = true)]
    pub alert_encrypted: bool,

    /// Alert on documents with macros
    #[arg(long, value_name = "yes|no", value_parser = yes_no, action = ArgAction::Set, num_args = 0..=1,
          require_equals = true, default_value = "no", default_missing_value = "yes", hide_default_value = true, hide_short_help = true)]
    pub alert_macros: bool,

    /// Alert on executables and media files that are damaged
    #[arg(long, value_name = "yes|no", value_parser = yes_no, action = ArgAction::Set, num_args = 0..=1,
          require_equals = true, default_value = "no", default_missing_value = "yes", hide_default_value = true, hide_short_help = true)]
    pub alert_broken: bool,
}

/// How much of one object is examined. Whatever meets a limit is PARTIAL. 0 stands for the most that libclamav can do.
#[derive(Args, Debug)]
#[command(
    next_help_heading = "Limits (what meets one is PARTIAL; 0 is the most that libclamav can do)"
)]
pub struct LimitArgs {
    /// Largest file, or file inside one; K, M and G are understood [default: 100M]
    #[arg(long, value_name = "SIZE", value_parser = size, hide_short_help = true)]
    pub max_filesize: Option<u64>,

    /// Most that is examined of one file with all that it contains [default: 400M]
    #[arg(long, value_name = "SIZE", value_parser = size, hide_short_help = true)]
    pub max_scansize: Option<u64>,

    /// Longest scan of one file, in milliseconds [default: 120000]
    #[arg(long, value_name = "MS", hide_short_help = true)]
    pub max_scantime: Option<u32>,

    /// Deepest nesting of archives, 1 to 100 [default: 17]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100), hide_short_help = true)]
    pub max_recursion: Option<u32>,

    /// Most files in one archive [default: 10000]
    #[arg(long, value_name = "N", hide_short_help = true)]
    pub max_files: Option<u32>,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// As clamscan: `PATH: NAME FOUND`
    Table,
    /// One JSON object for each file or line
    Jsonl,
}

/// How the summary is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stats {
    /// As clamscan's, with more lines; not with --format jsonl
    Text,
    /// One JSON object on one line
    Json,
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
    /// What the flags mean only together.
    ///
    /// # Errors
    /// A sentence for the user.
    pub(super) fn check(&self) -> Result<(), String> {
        self.foreign.check()?;
        let stdin = |path: &PathBuf| path.as_os_str() == OsStr::new("-");
        let uses = self.paths.iter().filter(|path| stdin(path)).count()
            + usize::from(self.files.file_list.as_ref().is_some_and(stdin));
        if uses > 1 {
            return Err("standard input can be read only once: name - only once".to_owned());
        }
        if self.files.remove {
            let with = [
                ("--move", self.files.move_to.is_some()),
                ("--copy", self.files.copy_to.is_some()),
                ("--lines", self.lines),
            ];
            if let Some((with, _)) = with.iter().find(|(_, given)| *given) {
                return Err(format!(
                    "--remove cannot be used with {with}: leave one out"
                ));
            }
        }
        if self.format == Format::Jsonl && self.output.stdout {
            return Err(
                "--stdout would put the summary among the JSON objects: leave it out".to_owned(),
            );
        }
        if self.format == Format::Jsonl && self.output.quiet {
            return Err("--quiet with --format jsonl would print nothing".to_owned());
        }
        Ok(())
    }

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

    /// What each scan looks for.
    pub(super) fn scan_options(&self) -> ScanOptions {
        ScanOptions {
            all_matches: self.allmatch,
            alert_encrypted: self.signatures.alert_encrypted,
            alert_macros: self.signatures.alert_macros,
            alert_broken: self.signatures.alert_broken,
            ..ScanOptions::default()
        }
    }
}

impl LimitArgs {
    /// The limits that libclamav is given. A limit above what it can do is that much: what is larger is PARTIAL, too.
    pub(super) fn limits(&self) -> Limits {
        let or_most = |given: u64, most: u64| if given == 0 { most } else { given.min(most) };
        let or_all = |given: u32| if given == 0 { u32::MAX } else { given };
        let default = Limits::default();
        Limits {
            max_file_bytes: self.max_filesize.map_or(default.max_file_bytes, |n| {
                or_most(n, Limits::MAX_FILE_BYTES)
            }),
            max_scan_bytes: self
                .max_scansize
                .map_or(default.max_scan_bytes, |n| or_most(n, i64::MAX as u64)),
            max_scan_time: self.max_scantime.map_or(default.max_scan_time, |ms| {
                Duration::from_millis(or_all(ms).into())
            }),
            max_recursion: self.max_recursion.unwrap_or(default.max_recursion),
            max_files: self.max_files.map_or(default.max_files, or_all),
            ..default
        }
    }
}

/// A number of threads that the machine can make use of.
fn threads(text: &str) -> Result<NonZeroUsize, String> {
    let most = max_threads();
    text.parse()
        .ok()
        .filter(|threads: &NonZeroUsize| *threads <= most)
        .ok_or_else(|| {
            format!("it is between 1 and {most}: 64, or 4 for each processor if that is more")
        })
}

/// A flag's value as clamscan takes it: `--recursive=yes`.
fn yes_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" | "true" | "1" => Ok(true),
        "no" | "false" | "0" => Ok(false),
        _ => Err("yes or no is meant to follow the =".to_owned()),
    }
}

/// A number of bytes as clamscan takes it: `65536`, `64K`, `25M`, `1G`, and as people write it: `64KiB`.
fn size(text: &str) -> Result<u64, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.strip_suffix("iB").unwrap_or(unit) {
        "" if unit.is_empty() => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        _ => return Err("a size is a number of bytes such as 65536, 64K, 25M or 1G".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "a size starts with a number".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "that is more bytes than can be counted".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_clamscans() {
        assert_eq!(size("65536"), Ok(65536));
        assert_eq!(size("64K"), Ok(64 << 10));
        assert_eq!(size("25m"), Ok(25 << 20));
        assert_eq!(size("1G"), Ok(1 << 30));
        assert_eq!(size("64KiB"), Ok(64 << 10));
        for wrong in ["", "K", "1X", "-1", "1.5M", "iB", "1iB", "99999999999G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn zero_is_the_most_that_libclamav_can_do_and_no_more_is_asked_of_it() {
        let limits = |max_filesize| {
            let args = LimitArgs {
                max_filesize: Some(max_filesize),
                max_scansize: Some(0),
                max_scantime: Some(0),
                max_recursion: None,
                max_files: Some(0),
            };
            args.limits()
        };
        assert_eq!(limits(0).max_file_bytes, Limits::MAX_FILE_BYTES);
        assert_eq!(limits(3 << 30).max_file_bytes, Limits::MAX_FILE_BYTES);
        assert_eq!(limits(5).max_file_bytes, 5);
        assert_eq!(limits(0).max_files, u32::MAX);
        assert_eq!(limits(0).max_recursion, Limits::default().max_recursion);
    }
}
