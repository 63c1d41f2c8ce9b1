//! The call into libclamav, and its repetition where a failure may be another scan's.

use std::ffi::{CStr, CString, c_char};
use std::os::fd::AsRawFd;
use std::time::Instant;
use std::{panic, ptr};

use clamav_sys as sys;

use super::conclusion::{Outcome, Room, conclude};
use super::observation::{Observation, on_done, on_found, on_layer};
use super::{Input, Surroundings, stop_reason, works};
use crate::clam::code::string;
use crate::clam::engine::EngineScan;
use crate::clam::handle::CompiledEngine;
use crate::clam::log::{self, Log};
use crate::clam::request::Request;
use crate::report::{FileFamily, Incomplete};

/// Scans one object, and finds out whose fault a failure is.
pub(in crate::clam) fn examine(
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
pub(super) fn scan(
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

/// The name up to its first NUL byte.
fn c_name(name: &str) -> CString {
    let bytes: Vec<u8> = name.bytes().take_while(|&byte| byte != 0).collect();
    CString::new(bytes).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_its_first_nul() {
        assert_eq!(c_name("a\0b").as_c_str(), c"a");
        assert_eq!(c_name("").as_c_str(), c"");
    }
}
