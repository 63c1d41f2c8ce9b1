//! What a scan came to: names, a limit, or a failure of the content or the environment.

use clamav_sys as sys;

use super::observation::Observation;
use crate::clam::engine::EngineScan;
use crate::clam::limits::Limits;
use crate::clam::log::Log;
use crate::report::Incomplete;

/// The name that libclamav gives to a layer which one of our callbacks refused.
const REFUSED_BY_US: &str = "Detected.By.Callback";
const LIMIT_PREFIX: &str = "Heuristics.Limits.Exceeded";

/// What one call came to.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Without [`EngineScan::incomplete`] if there is a failure.
    pub(super) scan: EngineScan,
    pub(super) failure: Option<Failure>,
}

/// The object was not examined in full, and no limit is the reason. Whether its content or the environment is at fault, the call
/// alone does not show: libclamav returns the same codes and logs the same lines for both. [`works`] tells.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: Option<i32>,
    pub(super) log: Vec<String>,
    pub(super) room: Room,
}

/// Whether there was room for temporary files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// As far as anybody noticed.
    Enough,
    /// This scan ran short of it.
    Short,
    /// Another scan ran short of it meanwhile.
    ShortElsewhere,
}

/// libclamav's codes for files that it could not open, create, read, write or map, and for a lack of memory: `CL_EOPEN` to `CL_EMEM`.
const RESOURCE_CODES: std::ops::RangeInclusive<i32> = sys::CL_EOPEN as i32..=sys::CL_EMEM as i32;

/// What libclamav's lines about files, memory and room contain, in lower case. A line about content may contain one as well: then a trial
/// is made in vain.
const RESOURCE_WORDS: [&str; 15] = [
    "alloc",
    "creat",
    "descriptor",
    "director",
    "dup",
    "errno",
    "map",
    "memory",
    "open",
    "permission",
    "room",
    "space",
    "temp",
    "tmp",
    "writ",
];

impl Failure {
    /// Whether a code or a line is about something that the environment lacks. If none is, a damaged object is what libclamav
    /// reports, and a look at the directory for temporary files is enough to be sure.
    pub(super) fn may_be_environment(&self) -> bool {
        let is_about_resources = |line: &String| {
            let line = line.to_ascii_lowercase();
            RESOURCE_WORDS.iter().any(|word| line.contains(word))
        };
        self.room != Room::Enough
            || self.log.is_empty()
            || self.code.is_some_and(|code| RESOURCE_CODES.contains(&code))
            || self.log.iter().any(is_about_resources)
    }

    /// The object is at fault.
    pub(super) fn content(self) -> Incomplete {
        let Failure { code, log, .. } = self;
        Incomplete::Malformed { code, log }
    }

    /// The environment is at fault.
    pub(super) fn environment(self) -> Incomplete {
        let Failure { code, log, .. } = self;
        Incomplete::EngineError { code, log }
    }
}

/// Examined, or why not. The more specific reason goes first.
pub(super) fn conclude(
    seen: Observation<'_>,
    code: sys::cl_error_t,
    last_name: Option<String>,
    log: Log,
) -> Outcome {
    let mut names: Vec<String> = Vec::new();
    let mut limit = None;
    // The last name again, should libclamav ever return one that it did not report.
    let last_name = last_name.filter(|_| code == sys::CL_VIRUS);
    for name in seen.names.into_iter().chain(last_name) {
        if seen.refused && name == REFUSED_BY_US {
            continue;
        }
        match name.strip_prefix(LIMIT_PREFIX) {
            Some(which) => {
                limit = limit.or_else(|| Some(limit_met(which, &name, seen.with.limits)));
            }
            None if names.contains(&name) => {}
            None => names.push(name),
        }
    }

    // Infected, but by what?
    let unnamed = code == sys::CL_VIRUS && names.is_empty() && !seen.refused;
    let trouble = log.error || seen.doubt.is_some() || seen.refused || !seen.looked;
    let limit = seen.stop.or(limit).or(match code {
        sys::CL_ETIMEOUT => Some(Incomplete::EngineTimeLimit),
        sys::CL_EMAXREC => Some(Incomplete::Recursion),
        sys::CL_EMAXFILES => Some(Incomplete::FileCount),
        sys::CL_EMAXSIZE => Some(Incomplete::ScanBytes),
        _ => None,
    });
    let failed = match code {
        sys::CL_CLEAN | sys::CL_VIRUS => trouble || unnamed,
        _ => true,
    };
    let failure = (limit.is_none() && failed).then(|| Failure {
        code: (code != sys::CL_CLEAN && (code != sys::CL_VIRUS || unnamed)).then_some(code as i32),
        room: match seen.doubt {
            _ if seen.short_of_room => Room::Short,
            Some(_) => Room::ShortElsewhere,
            None => Room::Enough,
        },
        log: log.lines.into_iter().chain(seen.doubt).collect(),
    });
    Outcome {
        scan: EngineScan {
            names,
            incomplete: limit,
            type_ignored: seen.type_ignored,
            failed_in: failure.is_some().then_some(seen.family),
        },
        failure,
    }
}

/// `which` is what follows the prefix in `name`.
fn limit_met(which: &str, name: &str, limits: &Limits) -> Incomplete {
    match which {
        // The object itself was measured before the call, so this is about something inside it.
        ".MaxFileSize" => Incomplete::MemberTooLarge {
            max: limits.max_file_bytes,
        },
        ".MaxScanSize" => Incomplete::ScanBytes,
        ".MaxFiles" => Incomplete::FileCount,
        ".MaxRecursion" => Incomplete::Recursion,
        ".MaxScanTime" => Incomplete::EngineTimeLimit,
        _ => Incomplete::OtherLimit(name.to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use std::time::Instant;

    use super::*;
    use crate::clam::Library;
    use crate::clam::call::Surroundings;
    use crate::clam::handle::RawEngine;
    use crate::clam::request::Request;
    use crate::clam::tmp::ScratchDir;
    use crate::report::FileFamily;

    pub(in crate::clam::call) fn observe<T>(f: impl FnOnce(Observation<'_>) -> T) -> T {
        let engine = RawEngine::new(Library::init().unwrap()).unwrap().compiled();
        let scratch = ScratchDir::create(&std::env::temp_dir()).unwrap();
        let limits = Limits::default();
        let with = Surroundings {
            engine: &engine,
            limits: &limits,
            scratch: &scratch,
            caches: false,
        };
        f(Observation {
            with,
            request: &Request::new(),
            started: Instant::now(),
            troubles: scratch.troubles(),
            looked: true,
            type_ignored: false,
            family: FileFamily::Other,
            names: Vec::new(),
            stop: None,
            doubt: None,
            short_of_room: false,
            refused: false,
            panic: None,
        })
    }

    fn concluded(code: sys::cl_error_t, change: impl FnOnce(&mut Observation<'_>)) -> Outcome {
        observe(|mut seen| {
            change(&mut seen);
            conclude(seen, code, None, Log::default())
        })
    }

    #[test]
    fn infected_without_a_name_is_incomplete() {
        let failure = concluded(sys::CL_VIRUS, |_| ()).failure.unwrap();
        assert_eq!(failure.code, Some(sys::CL_VIRUS as i32));
    }

    #[test]
    fn every_code_but_clean_and_infected_is_incomplete() {
        for code in 0..sys::CL_ELAST_ERROR {
            let outcome = concluded(code, |seen| seen.names.push("A.Name".to_owned()));
            let examined = code == sys::CL_CLEAN || code == sys::CL_VIRUS;
            let is_complete = outcome.failure.is_none() && outcome.scan.incomplete.is_none();
            assert_eq!(is_complete, examined, "{code}: {outcome:?}");
            assert_eq!(outcome.scan.names, ["A.Name"], "what was found is kept");
        }
    }

    #[test]
    fn clean_needs_a_look() {
        let unseen = concluded(sys::CL_CLEAN, |seen| seen.looked = false);
        assert!(matches!(unseen.failure, Some(Failure { code: None, .. })));
    }

    #[test]
    fn every_alert_about_a_limit_is_a_reason_and_no_name() {
        let max = Limits::default().max_file_bytes;
        for (name, reason) in [
            (".MaxFileSize", Incomplete::MemberTooLarge { max }),
            (".MaxScanSize", Incomplete::ScanBytes),
            (".MaxFiles", Incomplete::FileCount),
            (".MaxRecursion", Incomplete::Recursion),
            (".MaxScanTime", Incomplete::EngineTimeLimit),
            (
                ".New",
                Incomplete::OtherLimit("Heuristics.Limits.Exceeded.New".to_owned()),
            ),
            (
                "",
                Incomplete::OtherLimit("Heuristics.Limits.Exceeded".to_owned()),
            ),
        ] {
            let name = format!("Heuristics.Limits.Exceeded{name}");
            let scan = concluded(sys::CL_VIRUS, |seen| {
                seen.names = vec!["Real".to_owned(), name, "Real".to_owned()];
            })
            .scan;
            assert_eq!(
                (scan.names, scan.incomplete),
                (vec!["Real".to_owned()], Some(reason))
            );
        }
    }

    /// Only the one that we caused: a signature may have any name.
    #[test]
    fn the_name_of_a_refused_layer_is_left_out() {
        let found = |refused| {
            concluded(sys::CL_VIRUS, |seen| {
                seen.refused = refused;
                seen.names = vec![REFUSED_BY_US.to_owned()];
            })
        };
        assert!(found(true).scan.names.is_empty() && found(true).failure.is_some());
        let unhindered = found(false);
        assert_eq!(unhindered.scan.names.len(), 1);
        assert!(unhindered.failure.is_none());
    }

    #[test]
    fn trouble_of_one_scan_is_a_doubt_to_those_beside_it() {
        let outcome = concluded(sys::CL_CLEAN, |seen| {
            seen.with.scratch.report_trouble();
            seen.check_room();
            assert!(!seen.short_of_room, "or it would spread without an end");
        });
        let failure = outcome.failure.unwrap();
        assert_eq!((failure.code, failure.room), (None, Room::ShortElsewhere));
        assert!(failure.log[0].contains("another scan"), "{failure:?}");
    }
}
