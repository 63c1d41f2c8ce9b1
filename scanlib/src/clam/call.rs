//! One scan: the call, what the callbacks saw, and what that means.

use std::any::Any;
use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::time::Instant;

use clamav_sys as sys;

use super::code::string;
use super::engine::EngineScan;
use super::handle::RawEngine;
use super::limits::Limits;
use super::log::{self, Log};
use super::map::MemoryMap;
use super::request::Request;
use crate::report::Incomplete;

/// The type of objects that libclamav does not examine.
const IGNORED_TYPE: &CStr = c"CL_TYPE_IGNORED";
/// The name that libclamav gives to a layer which a callback refused.
const STOPPED_BY_US: &str = "Detected.By.Callback";
const LIMIT_PREFIX: &str = "Heuristics.Limits.Exceeded";
/// libclamav makes part of the name part of a file name.
const MAX_NAME_BYTES: usize = 200;

/// Bytes to scan, alive and open for the length of the borrow.
pub(super) enum Input<'i> {
    Memory(&'i MemoryMap<'i>),
    File(&'i File),
}

/// What the callbacks of one scan write to, and what they decide by.
struct Observation<'r> {
    request: &'r Request<'r>,
    /// libclamav came as far as to look at something.
    looked: bool,
    /// The outermost object is of a type that is not examined.
    type_ignored: bool,
    /// Every name that was reported.
    names: Vec<String>,
    /// Why we asked to stop.
    stop: Option<Incomplete>,
    /// A panic on its way around C.
    panic: Option<Box<dyn Any + Send>>,
}

/// Scans, with the engine compiled by [`RawEngine::compile`].
pub(super) fn scan(
    engine: &RawEngine,
    limits: &Limits,
    input: &Input<'_>,
    name: Option<&str>,
    request: &Request<'_>,
) -> EngineScan {
    let mut seen = Observation {
        request,
        looked: false,
        type_ignored: false,
        names: Vec::new(),
        stop: stop_reason(request),
        panic: None,
    };
    if seen.stop.is_some() {
        return EngineScan {
            names: seen.names,
            incomplete: seen.stop,
            type_ignored: false,
        };
    }

    let name = name.map(c_name);
    let (code, last_name, log) = call(engine, input, name.as_deref(), request, &mut seen);
    if let Some(panic) = seen.panic.take() {
        panic::resume_unwind(panic);
    }
    conclude(seen, code, last_name, log, limits)
}

/// Calls libclamav. Everything it is lent is a local of this function or a borrow held by it.
fn call(
    engine: &RawEngine,
    input: &Input<'_>,
    name: Option<&CStr>,
    request: &Request<'_>,
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
    let options = request.options.to_c();
    let mut observer = sys::clamshim_observer {
        layer: Some(on_layer),
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

/// The callbacks' half: a panic is kept for the caller, because it must not cross C.
///
/// # Safety
///
/// `user` is the `Observation` of the running scan, and no other reference to it is in use.
unsafe fn guarded<T>(
    user: *mut c_void,
    default: T,
    f: impl FnOnce(&mut Observation<'_>) -> T,
) -> T {
    // SAFETY: by this function's contract.
    let seen = unsafe { &mut *user.cast::<Observation<'_>>() };
    match panic::catch_unwind(AssertUnwindSafe(|| f(seen))) {
        Ok(answer) => answer,
        Err(panic) => {
            seen.panic.get_or_insert(panic);
            default
        }
    }
}

unsafe extern "C" fn on_layer(layer_type: *const c_char, user: *mut c_void) -> c_int {
    // SAFETY: libclamav hands back the context of this scan, which `call` made.
    unsafe {
        guarded(user, sys::CLAMSHIM_STOP as c_int, |seen| {
            if !seen.looked {
                seen.looked = true;
                seen.type_ignored =
                    !layer_type.is_null() && CStr::from_ptr(layer_type) == IGNORED_TYPE;
            }
            if seen.stop.is_none() {
                seen.stop = stop_reason(seen.request);
            }
            let stop = seen.stop.is_some() || seen.panic.is_some();
            if stop {
                sys::CLAMSHIM_STOP as c_int
            } else {
                sys::CLAMSHIM_CONTINUE as c_int
            }
        })
    }
}

unsafe extern "C" fn on_found(name: *const c_char, user: *mut c_void) {
    // SAFETY: as above.
    unsafe { guarded(user, (), |seen| seen.names.extend(string(name))) }
}

fn stop_reason(request: &Request<'_>) -> Option<Incomplete> {
    if request.cancel.is_some_and(|token| token.is_cancelled()) {
        Some(Incomplete::Cancelled)
    } else if request.deadline.is_some_and(|at| Instant::now() >= at) {
        Some(Incomplete::Deadline)
    } else {
        None
    }
}

/// A name without NUL bytes and of a length that fits into a file name.
fn c_name(name: &str) -> Cow<'static, CStr> {
    let end = name.floor_char_boundary(MAX_NAME_BYTES);
    let bytes = name.as_bytes()[..end]
        .iter()
        .map(|&byte| if byte == 0 { b'_' } else { byte });
    CString::new(bytes.collect::<Vec<u8>>()).map_or(Cow::Borrowed(c""), Cow::Owned)
}

/// Examined, or why not. The more specific reason goes first.
fn conclude(
    seen: Observation<'_>,
    code: sys::cl_error_t,
    last_name: Option<String>,
    log: Log,
    limits: &Limits,
) -> EngineScan {
    let mut names: Vec<String> = Vec::new();
    let mut limit = None;
    // The last name again: libclamav reports some alerts only there.
    let last_name = last_name.filter(|_| code == sys::CL_VIRUS);
    for name in seen.names.into_iter().chain(last_name) {
        if seen.stop.is_some() && name == STOPPED_BY_US {
            continue;
        }
        match name.strip_prefix(LIMIT_PREFIX) {
            Some(which) => limit = limit.or_else(|| Some(limit_met(which, &name, limits))),
            None if names.contains(&name) => {}
            None => names.push(name),
        }
    }

    let incomplete = seen.stop.or(limit).or_else(|| {
        let nameless = code == sys::CL_VIRUS && names.is_empty();
        match code {
            sys::CL_CLEAN | sys::CL_VIRUS if !nameless => {
                (!seen.looked || log.error).then_some(Incomplete::EngineError {
                    code: None,
                    log: log.lines,
                })
            }
            sys::CL_ETIMEOUT => Some(Incomplete::EngineTimeLimit),
            sys::CL_EMAXREC => Some(Incomplete::Recursion),
            sys::CL_EMAXFILES => Some(Incomplete::FileCount),
            code => Some(Incomplete::EngineError {
                code: Some(code as i32),
                log: log.lines,
            }),
        }
    });
    EngineScan {
        names,
        incomplete,
        type_ignored: seen.type_ignored,
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
