//! One scan: the call, what the callbacks saw, and what that means.

use std::any::Any;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clamav_sys as sys;

use super::code::string;
use super::engine::EngineScan;
use super::handle::CompiledEngine;
use super::limits::Limits;
use super::log::{self, Log};
use super::map::MemoryMap;
use super::request::Request;
use super::tmp::ScratchDir;
use crate::report::{FileFamily, Incomplete};

/// The type of objects that libclamav does not examine.
const IGNORED_TYPE: &CStr = c"CL_TYPE_IGNORED";
/// The name that libclamav gives to a layer which one of our callbacks refused.
const REFUSED_BY_US: &str = "Detected.By.Callback";
const LIMIT_PREFIX: &str = "Heuristics.Limits.Exceeded";

const CONTINUE: c_int = sys::CLAMSHIM_CONTINUE as c_int;
const STOP: c_int = sys::CLAMSHIM_STOP as c_int;

/// Bytes to scan, alive and open for the length of the borrow.
pub(super) enum Input<'i> {
    Memory(&'i MemoryMap<'i>),
    File(&'i File),
}

/// What a scan is done with.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'s> {
    pub(super) engine: &'s CompiledEngine,
    pub(super) limits: &'s Limits,
    pub(super) scratch: &'s ScratchDir,
    /// libclamav remembers clean objects.
    pub(super) caches: bool,
}

/// What the callbacks of one scan write to, and what they decide by.
struct Observation<'s> {
    with: Surroundings<'s>,
    request: &'s Request<'s>,
    started: Instant,
    /// What [`ScratchDir::troubles`] said at the start.
    troubles: u64,
    /// libclamav came as far as to look at something.
    looked: bool,
    /// The outermost object is of a type that is not examined.
    type_ignored: bool,
    /// The family of the layer that was examined last, or at the first error.
    family: FileFamily,
    /// Every name that was reported.
    names: Vec<String>,
    /// Why we asked to stop.
    stop: Option<Incomplete>,
    /// Why libclamav's answer cannot be relied on, as far as its log does not tell.
    doubt: Option<String>,
    /// The doubt is that there was too little room for temporary files.
    short_of_room: bool,
    /// We made libclamav call something infected, to stop it.
    refused: bool,
    /// A panic on its way around C.
    panic: Option<Box<dyn Any + Send>>,
}

/// What one call came to.
#[derive(Debug)]
struct Outcome {
    /// Without [`EngineScan::incomplete`] if there is a failure.
    scan: EngineScan,
    failure: Option<Failure>,
}

/// The object was not examined in full, and no limit is the reason. Whether its content or the environment is at fault, the call
/// alone does not show: libclamav returns the same codes and logs the same lines for both. [`works`] tells.
#[derive(Debug)]
struct Failure {
    code: Option<i32>,
    log: Vec<String>,
    room: Room,
}

/// Whether there was room for temporary files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
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
    fn may_be_environment(&self) -> bool {
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
    fn content(self) -> Incomplete {
        let Failure { code, log, .. } = self;
        Incomplete::Malformed { code, log }
    }

    /// The environment is at fault.
    fn environment(self) -> Incomplete {
        let Failure { code, log, .. } = self;
        Incomplete::EngineError { code, log }
    }
}

/// Scans one object, and finds out whose fault a failure is.
pub(super) fn examine(
    with: Surroundings<'_>,
    input: &Input<'_>,
    name: Option<&str>,
    request: &Request<'_>,
) -> EngineScan {
    let mut is_repeated = false;
    loop {
        let Outcome { scan, failure } = scan(with, input, name, request);
        let Some(failure) = failure else {
            return scan;
        };
        // A trial costs more than the scan of most objects, and whoever writes these decides how many there are.
        let has_all_it_needs = match failure.may_be_environment() {
            true => works(with),
            false => with.scratch.check().is_ok(),
        };
        let incomplete = if !has_all_it_needs {
            failure.environment()
        } else {
            match failure.room {
                Room::Enough => failure.content(),
                // Who took the room shows when it is tried once more.
                _ if !is_repeated => {
                    is_repeated = true;
                    continue;
                }
                Room::Short => Incomplete::TemporaryRoom,
                Room::ShortElsewhere => failure.environment(),
            }
        };
        return EngineScan {
            incomplete: Some(incomplete),
            ..scan
        };
    }
}

/// Scans one object.
fn scan(
    with: Surroundings<'_>,
    input: &Input<'_>,
    name: Option<&str>,
    request: &Request<'_>,
) -> Outcome {
    let mut seen = Observation {
        with,
        request,
        started: Instant::now(),
        troubles: with.scratch.troubles(),
        looked: false,
        type_ignored: false,
        family: FileFamily::Other,
        names: Vec::new(),
        stop: stop_reason(request),
        doubt: None,
        short_of_room: false,
        refused: false,
        panic: None,
    };
    if seen.stop.is_some() {
        return Outcome {
            scan: EngineScan::nothing(seen.stop),
            failure: None,
        };
    }

    let name = name.map(c_name);
    let (code, last_name, log) = call(with.engine, input, name.as_deref(), &mut seen);
    if let Some(panic) = seen.panic.take() {
        panic::resume_unwind(panic);
    }
    seen.check_room();
    seen.short_of_room |= lost_a_file(code, &log);
    if seen.short_of_room {
        // Whoever scans at the same time has to doubt its own files as well.
        with.scratch.report_trouble();
    }
    conclude(seen, code, last_name, log)
}

/// Attempts of a trial scan beside which another scan runs short of room.
const TRIALS: usize = 3;

/// Whether a harmless object can be examined now: it is unpacked three times over, so that libclamav makes directories and temporary files,
/// and holds several of them open, as for most objects that hold others.
pub(super) fn works(with: Surroundings<'_>) -> bool {
    for _ in 0..TRIALS {
        let object = trial_object();
        let Some(map) = MemoryMap::new(&object) else {
            return false;
        };
        let outcome = scan(with, &Input::Memory(&map), None, &Request::new());
        match outcome.failure {
            None => return true,
            Some(failure) if failure.room == Room::ShortElsewhere => {}
            Some(_) => return false,
        }
    }
    false
}

/// A text of more than a page, which an engine with a cache has not seen before, in three layers of gzip.
pub(super) fn trial_object() -> Vec<u8> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let text = format!("trial scan {number:020}\n").repeat(150);
    (0..3).fold(text.into_bytes(), |object, _| stored_gzip(&object))
}

/// The data, of at most 64 KiB, as a gzip file that does not compress it.
fn stored_gzip(data: &[u8]) -> Vec<u8> {
    let length = data.len() as u16;
    let mut file = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01".to_vec();
    file.extend(length.to_le_bytes());
    file.extend((!length).to_le_bytes());
    file.extend(data);
    let checksum = data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    });
    file.extend((!checksum).to_le_bytes());
    file.extend(u32::from(length).to_le_bytes());
    file
}

/// True if libclamav says that it could not write. Its log is in English: no locale is set.
fn lost_a_file(code: sys::cl_error_t, log: &Log) -> bool {
    matches!(
        code,
        sys::CL_EWRITE | sys::CL_ECREAT | sys::CL_ETMPFILE | sys::CL_ETMPDIR
    ) || log
        .lines
        .iter()
        .any(|line| line.contains("No space left on device"))
}

/// Calls libclamav. Everything it is lent is a local of this function or a borrow held by it.
fn call(
    engine: &CompiledEngine,
    input: &Input<'_>,
    name: Option<&CStr>,
    seen: &mut Observation<'_>,
) -> (sys::cl_error_t, Option<String>, Log) {
    let (map, fd) = match input {
        Input::Memory(map) => (map.as_ptr(), -1),
        Input::File(file) => (ptr::null_mut(), file.as_raw_fd()),
    };
    let input = sys::clamshim_input {
        map,
        fd,
        name: name.map_or(ptr::null(), CStr::as_ptr),
    };
    let options = seen.request.options.to_c();
    let mut observer = sys::clamshim_observer {
        layer: Some(on_layer),
        done: Some(on_done),
        found: Some(on_found),
        user: ptr::from_mut(seen).cast(),
    };
    let mut last_name: *const c_char = ptr::null();
    let (code, log) = log::capture(|| {
        // SAFETY: the engine is alive, compiled and not changed by anyone; map or descriptor, name,
        // options and observer outlive the call; `seen` is reached through `observer.user` only,
        // by the callbacks, one at a time and on this thread, until the call returns.
        unsafe {
            sys::clamshim_scan(
                engine.as_ptr(),
                &input,
                &options,
                &mut observer,
                &mut last_name,
            )
        }
    });
    // Copied before anything else is asked of the library.
    (code, string(last_name), log)
}

impl Observation<'_> {
    /// A layer of this type is about to be examined.
    fn layer(&mut self, layer_type: Option<&CStr>) -> c_int {
        if !self.looked {
            self.looked = true;
            self.type_ignored = layer_type == Some(IGNORED_TYPE);
        }
        if !log::error_so_far() {
            let name = layer_type.map(CStr::to_string_lossy).unwrap_or_default();
            self.family = FileFamily::of(&name);
        }
        if self.stop.is_none() {
            self.stop = stop_reason(self.request).or_else(|| self.time_limit());
        }
        // The temporary file that holds this layer still exists: if it lost its end, that shows now.
        self.check_room();
        self.answer(self.stop.is_some() || self.panic.is_some())
    }

    /// libclamav's own time limit ends the examination of each further layer, but some unpackers go on to unpack: a mail of
    /// 300,000 parts takes ten times the limit. Ours comes a little earlier, and ends everything at once.
    fn time_limit(&self) -> Option<Incomplete> {
        let is_over = self.started.elapsed() >= self.with.limits.max_scan_time;
        is_over.then_some(Incomplete::EngineTimeLimit)
    }

    /// A layer was examined; unless we refuse, it may now be remembered as clean.
    fn done(&mut self) -> c_int {
        if !self.with.caches {
            // Nothing is remembered, and a later layer may hold something.
            return CONTINUE;
        }
        self.check_room();
        self.answer(self.doubt.is_some() || log::error_so_far())
    }

    /// Looks whether temporary files may have been lost.
    fn check_room(&mut self) {
        if self.doubt.is_none() {
            self.doubt = self.with.scratch.shortage();
            self.short_of_room = self.doubt.is_some();
        }
        if self.doubt.is_none() && self.with.scratch.troubles() != self.troubles {
            self.doubt = Some("another scan ran short of room for temporary files".to_owned());
        }
    }

    fn answer(&mut self, stop: bool) -> c_int {
        self.refused |= stop;
        if stop { STOP } else { CONTINUE }
    }
}

/// Runs a callback. A panic is kept for the caller of libclamav, because it must not cross C.
///
/// # Safety
///
/// `user` is the [`Observation`] of the running scan, and no other reference to it is in use.
unsafe fn guarded<T>(
    user: *mut c_void,
    after_panic: T,
    f: impl FnOnce(&mut Observation<'_>) -> T,
) -> T {
    // SAFETY: by this function's contract.
    let seen = unsafe { &mut *user.cast::<Observation<'_>>() };
    match panic::catch_unwind(AssertUnwindSafe(|| f(seen))) {
        Ok(answer) => answer,
        Err(panic) => {
            seen.refused = true;
            seen.panic.get_or_insert(panic);
            after_panic
        }
    }
}

unsafe extern "C" fn on_layer(layer_type: *const c_char, user: *mut c_void) -> c_int {
    // SAFETY: NULL or a string constant of libclamav.
    let layer_type = (!layer_type.is_null()).then(|| unsafe { CStr::from_ptr(layer_type) });
    // SAFETY: libclamav hands back the context of this scan, which `call` made.
    unsafe { guarded(user, STOP, |seen| seen.layer(layer_type)) }
}

unsafe extern "C" fn on_done(user: *mut c_void) -> c_int {
    // SAFETY: as above.
    unsafe { guarded(user, STOP, |seen| seen.done()) }
}

unsafe extern "C" fn on_found(name: *const c_char, user: *mut c_void) {
    // SAFETY: as above.
    unsafe { guarded(user, (), |seen| seen.names.extend(string(name))) }
}

/// Why a scan is not wanted any more, if it is not.
pub(super) fn stop_reason(request: &Request<'_>) -> Option<Incomplete> {
    if request.is_cancelled() {
        Some(Incomplete::Cancelled)
    } else if request.deadline.is_some_and(|at| Instant::now() >= at) {
        Some(Incomplete::Deadline)
    } else {
        None
    }
}

/// The name up to its first NUL byte.
fn c_name(name: &str) -> CString {
    let bytes: Vec<u8> = name.bytes().take_while(|&byte| byte != 0).collect();
    CString::new(bytes).unwrap_or_default()
}

/// Examined, or why not. The more specific reason goes first.
fn conclude(
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
mod tests {
    use super::*;
    use crate::clam::Library;
    use crate::clam::handle::RawEngine;

    fn observe<T>(f: impl FnOnce(Observation<'_>) -> T) -> T {
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
    fn a_panic_is_carried_around_c_and_stops_the_scan() {
        observe(|mut seen| {
            let user: *mut c_void = ptr::from_mut(&mut seen).cast();
            // SAFETY: `seen` is alive and used by nobody else meanwhile.
            let answer = unsafe { guarded(user, STOP, |_| panic!("on purpose")) };
            assert_eq!(answer, STOP);
            // SAFETY: as above.
            let answer = unsafe { on_layer(c"CL_TYPE_TEXT_ASCII".as_ptr(), user) };
            assert_eq!(answer, STOP);
            let panic = seen.panic.take().unwrap();
            assert_eq!(
                panic.downcast_ref::<&str>(),
                Some(&"on purpose"),
                "the first one is kept"
            );
        });
    }

    #[test]
    fn a_callback_survives_null() {
        observe(|mut seen| {
            let user: *mut c_void = ptr::from_mut(&mut seen).cast();
            // SAFETY: `seen` is alive and used by nobody else meanwhile.
            unsafe { on_found(ptr::null(), user) };
            // SAFETY: as above.
            assert_eq!(unsafe { on_layer(ptr::null(), user) }, CONTINUE);
            assert!(seen.names.is_empty() && !seen.type_ignored);
        });
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

    #[test]
    fn a_name_ends_at_its_first_nul() {
        assert_eq!(c_name("a\0b").as_c_str(), c"a");
        assert_eq!(c_name("").as_c_str(), c"");
    }
}
