//! Flags of clamscan that `scan` does not have.
//!
//! One that changes what is examined, or what is done with a file, is refused: to go on without it
//! would be another scan than the one that was asked for. One that changes only what is shown or
//! kept is ignored with a warning, as clamdscan does.

use clap::{Arg, ArgAction, ArgMatches, Args, Command};

/// A flag of clamscan.
#[derive(Debug)]
struct Foreign {
    long: &'static str,
    short: Option<char>,
    /// The values that mean what `scan` does anyway; a flag without a value has the value `yes`.
    already_so: &'static [&'static str],
    /// `None`: it is ignored. `Some`: it is refused, and why or what to do instead.
    refused: Option<&'static str>,
}

const fn ignored(long: &'static str) -> Foreign {
    Foreign {
        long,
        short: None,
        already_so: &["no"],
        refused: None,
    }
}

const fn refused(
    long: &'static str,
    already_so: &'static [&'static str],
    why: &'static str,
) -> Foreign {
    Foreign {
        long,
        short: None,
        already_so,
        refused: Some(why),
    }
}

const PARSERS: &str = "every parser of libclamav is always on";
const LINKS: &str = "symbolic links are followed where they are named, and not inside directories";
const FIXED: &str = "libclamav's own default is used";
const HEURISTIC: &str = "this heuristic of libclamav is always off";

const FLAGS: &[Foreign] = &[
    Foreign {
        short: Some('v'),
        ..ignored("verbose")
    },
    Foreign {
        short: Some('a'),
        ..ignored("archive-verbose")
    },
    ignored("debug"),
    ignored("leave-temps"),
    ignored("force-to-disk"),
    ignored("gen-json"),
    ignored("dumpcerts"),
    Foreign {
        already_so: &["none"],
        ..ignored("statistics")
    },
    // There is no cache that could be turned off.
    Foreign {
        already_so: &["yes"],
        ..ignored("disable-cache")
    },
    refused(
        "cvdcertsdir",
        &[],
        "libclamav takes the certificates' directory from the environment variable CVD_CERTS_DIR, and 1.4 has none",
    ),
    refused(
        "fail-if-cvd-older-than",
        &[],
        "the age of a database is not judged here; see the file's header with sigtool --info",
    ),
    refused(
        "bytecode",
        &["yes"],
        "bytecode signatures are always loaded",
    ),
    refused("bytecode-timeout", &[], FIXED),
    refused("follow-dir-symlinks", &["1"], LINKS),
    refused("follow-file-symlinks", &["1"], LINKS),
    refused("exclude-pua", &[], "--detect-pua takes all categories"),
    refused("include-pua", &[], "--detect-pua takes all categories"),
    refused("detect-structured", &["no"], HEURISTIC),
    refused("structured-ssn-format", &[], HEURISTIC),
    refused("structured-ssn-count", &[], HEURISTIC),
    refused("structured-cc-count", &[], HEURISTIC),
    refused("structured-cc-mode", &[], HEURISTIC),
    refused(
        "phishing-sigs",
        &["yes"],
        "phishing signatures are always on",
    ),
    refused(
        "phishing-scan-urls",
        &["yes"],
        "links in mail are always checked",
    ),
    refused(
        "heuristic-alerts",
        &["yes"],
        "libclamav's heuristics are always on",
    ),
    refused(
        "heuristic-scan-precedence",
        &["no"],
        "a heuristic never ends a scan early; see --allmatch",
    ),
    refused("normalize", &["yes"], PARSERS),
    refused("scan-mail", &["yes"], PARSERS),
    refused("scan-pe", &["yes"], PARSERS),
    refused("scan-elf", &["yes"], PARSERS),
    refused("scan-ole2", &["yes"], PARSERS),
    refused("scan-pdf", &["yes"], PARSERS),
    refused("scan-swf", &["yes"], PARSERS),
    refused("scan-html", &["yes"], PARSERS),
    refused("scan-xmldocs", &["yes"], PARSERS),
    refused("scan-hwp3", &["yes"], PARSERS),
    refused("scan-onenote", &["yes"], PARSERS),
    refused("scan-archive", &["yes"], PARSERS),
    refused("scan-image", &["yes"], PARSERS),
    refused("scan-image-fuzzy-hash", &["yes"], PARSERS),
    refused(
        "alert-broken-media",
        &["no"],
        "--alert-broken covers media too",
    ),
    refused(
        "alert-encrypted-archive",
        &["no"],
        "--alert-encrypted covers archives and documents",
    ),
    refused(
        "alert-encrypted-doc",
        &["no"],
        "--alert-encrypted covers archives and documents",
    ),
    // An object that meets a limit is reported as PARTIAL, never as OK.
    refused(
        "alert-exceeds-max",
        &["yes", "no"],
        "limits are always reported",
    ),
    refused("alert-phishing-ssl", &["no"], HEURISTIC),
    refused("alert-phishing-cloak", &["no"], HEURISTIC),
    refused("alert-partition-intersection", &["no"], HEURISTIC),
    refused(
        "nocerts",
        &["no"],
        "certificates in executables are always checked",
    ),
    refused("max-embeddedpe", &[], FIXED),
    refused("max-htmlnormalize", &[], FIXED),
    refused("max-htmlnotags", &[], FIXED),
    refused("max-scriptnormalize", &[], FIXED),
    refused("max-ziptypercg", &[], FIXED),
    refused("max-partitions", &[], FIXED),
    refused("max-iconspe", &[], FIXED),
    refused("max-rechwp3", &[], FIXED),
    refused("pcre-match-limit", &[], FIXED),
    refused("pcre-recmatch-limit", &[], FIXED),
    refused("pcre-max-filesize", &[], FIXED),
];

/// The flags of clamscan that were given and that `scan` does not have.
#[derive(Clone, Debug, Default)]
pub struct ForeignFlags {
    ignored: Vec<&'static str>,
    refused: Vec<(&'static str, &'static str)>,
}

impl ForeignFlags {
    /// Names of flags that are ignored.
    pub(super) fn ignored(&self) -> &[&'static str] {
        &self.ignored
    }

    /// The first flag that asks for another scan than this one.
    ///
    /// # Errors
    /// What is refused, and why.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.refused.first() {
            None => Ok(()),
            Some((long, why)) => Err(format!("clamscan's --{long} is not supported: {why}")),
        }
    }
}

impl clap::FromArgMatches for ForeignFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<ForeignFlags, clap::Error> {
        let mut given = ForeignFlags::default();
        given.update_from_arg_matches(matches)?;
        Ok(given)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for flag in FLAGS {
            let values = matches.get_many::<String>(flag.long).unwrap_or_default();
            for value in values {
                match flag.refused {
                    _ if flag.already_so.contains(&value.as_str()) => {}
                    None => self.ignored.push(flag.long),
                    Some(why) => self.refused.push((flag.long, why)),
                }
            }
        }
        Ok(())
    }
}

impl Args for ForeignFlags {
    fn augment_args(command: Command) -> Command {
        command.args(FLAGS.iter().map(|flag| {
            let arg = Arg::new(flag.long)
                .long(flag.long)
                .hide(true)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("yes")
                .action(ArgAction::Append);
            match flag.short {
                Some(short) => arg.short(short),
                None => arg,
            }
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        ForeignFlags::augment_args(command)
    }
}
